"""Faults made in the kernel by hand with `nft`, one by one: `verify` finds each, and names the policy."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gatewrit.compile.cells import DEFAULT_SIZES
from gatewrit.compile.render import compile_policies
from gatewrit.engine.reconcile import reconcile
from gatewrit.kernel.socket import NftSocket
from gatewrit.policy.model import Transport
from gatewrit.policy.terms import Action, Direction, Effective, Instant
from gatewrit.verify.proof import Asked, Proof, prove
from support.strategies import simple

if TYPE_CHECKING:
    from gatewrit.policy.model import Policy
    from lab import Namespace

NOW, HOOKS, PRIORITY = 500, ("forward",), -10
#: Ports in maps, however few they are, for faults in maps; those in rules are in tests/unit/test_verify_blocks.py.
MAPS = replace(DEFAULT_SIZES, ports=0)

#: The rungs of the two ladders, as they stand: of the addresses of a-reject alone, and of those that b-drop shares.
BEFORE = "< 1000 return"
A_REJECT = "< 2000 counter name by.a-reject goto refuse"
A_ALONE = "< 1500 counter name by.a-reject goto refuse"
TOGETHER = "< 2000 counter name {both} drop"
B_ALONE = "counter name by.b-drop drop"


def lost(name: str, elements: str) -> str:
    """Take elements out."""
    return f"delete element inet gatewrit {name} {{{{ {elements} }}}}"


def found(name: str, elements: str) -> str:
    """Put elements in."""
    return f"add element inet gatewrit {name} {{{{ {elements} }}}}"


def ladder(which: str, *rungs: str) -> list[str]:
    """Write a ladder anew."""
    chain = {"low": "to.by.a-reject", "high": "to.{both}"}[which]
    rules = (f"meta time {rung}" if rung.startswith("<") else rung for rung in rungs)
    return [f"flush chain inet gatewrit {chain}", *(f"add rule inet gatewrit {chain} {rule}" for rule in rules)]


def orders() -> tuple[Policy, ...]:
    """Give two orders that overlap, one with an end, one that isn't limited to ports."""
    made = (
        simple(
            "a-reject",
            ["206.51.26.0-206.51.26.255", "2607:ffc0::-2607:ffc0::ff"],
            [Transport(6, 3101, 3101), Transport(17, 5060, 5061)],
            action=Action.REJECT,
        ),
        simple("b-drop", ["206.51.26.128-206.51.26.255"], [Transport(6, 3101, 3101)]),
        simple("c-both", ["198.51.100.7"], [Transport(None)], direction=Direction.BOTH, action=Action.OBSERVE),
    )
    times = (Effective(Instant(1000, ""), Instant(2000, "")), Effective(Instant(1500, "")), Effective(Instant(400, "")))
    return tuple(replace(each, effective=when) for each, when in zip(made, times, strict=True))


def enforce() -> dict[str, str]:
    """Enforce the orders, and give the names that the compiler found, by what they are for."""

    async def work() -> None:
        async with NftSocket() as kernel:
            await reconcile(kernel, compile_policies(orders(), NOW, ("forward",), PRIORITY, sizes=MAPS).ruleset)

    asyncio.run(work())
    compiled = compile_policies(orders(), NOW, ("forward",), PRIORITY, sizes=MAPS)
    elements = compiled.ruleset.sets["to4"].elements
    targets = {first[-1]: str(said) for first, _, said in elements.rows() if first[:1] == b"\xce"}
    both = next(name for name, members in compiled.counters.items() if len(members) == 2)
    dispatch = targets[0].removeprefix("goto ")
    return {"low": targets[0], "high": targets[128], "both": both, "map": f"{dispatch}.ports"}


def proof() -> Proof:
    async def work() -> Proof:
        async with NftSocket() as kernel:
            return prove(await kernel.read(), Asked(orders(), HOOKS, PRIORITY), NOW)

    return asyncio.run(work())


FAULTS = [
    ("an element missing", [lost("to4", "206.51.26.0/25")], "missing", "a-reject"),
    ("one too many", [found("to4", "203.0.113.9 : {low}")], "excess", "a-reject"),
    (
        "one address lost at the lower end",
        [lost("to4", "206.51.26.0/25"), found("to4", "206.51.26.1-206.51.26.127 : {low}")],
        "missing",
        "a-reject",
    ),
    (
        "one address too many at the upper end",
        [lost("to4", "206.51.26.128/25"), found("to4", "206.51.26.128-206.51.27.0 : {high}")],
        "excess",
        "b-drop",
    ),
    (
        "one address given to the neighbour",
        [
            lost("to4", "206.51.26.0/25, 206.51.26.128/25"),
            found("to4", "206.51.26.0-206.51.26.126 : {low}, 206.51.26.127-206.51.26.255 : {high}"),
        ],
        "excess",
        "b-drop",
    ),
    ("all of IPv6 lost", [lost("to6", "2607:ffc0::/120")], "missing", "a-reject"),
    ("a port lost at the gate", [lost("to.ports", "tcp . 3101")], "missing", "b-drop"),
    ("a port lost in one dispatch", [lost("{map}", "udp . 5061")], "missing", "a-reject"),
    ("a start later by a second", ladder("low", "< 1001 return", A_REJECT), "missing", "a-reject"),
    ("a start earlier by a second", ladder("low", "< 999 return", A_REJECT), "excess", "a-reject"),
    ("an end later by a second", ladder("low", BEFORE, A_REJECT.replace("2000", "2001")), "excess", "a-reject"),
    ("an end earlier by a second", ladder("low", BEFORE, A_REJECT.replace("2000", "1999")), "missing", "a-reject"),
    ("two rules out of order", ladder("high", BEFORE, TOGETHER, A_ALONE, B_ALONE), "excess", "b-drop"),
    (
        "a counter object shared",
        ladder("high", BEFORE, A_ALONE, TOGETHER.replace("{both}", "by.b-drop"), B_ALONE),
        "missing",
        "a-reject",
    ),
    (
        "a counter object of both used for one",
        ladder("high", BEFORE, A_ALONE, TOGETHER, B_ALONE.replace("by.b-drop", "{both}")),
        "excess",
        "a-reject",
    ),
    (
        "a reject that only drops",
        ladder("low", BEFORE, A_REJECT.replace("goto refuse", "drop")),
        "excess",
        "a-reject",
    ),
    ("a rule that counts no more", ladder("low", BEFORE, "< 2000 goto refuse"), "missing", "a-reject"),
    ("a chain emptied", ["flush chain inet gatewrit to.ports"], "missing", "a-reject"),
    ("a base chain emptied", ["flush chain inet gatewrit forward"], "missing", "c-both"),
    ("everything accepted first", ["insert rule inet gatewrit forward accept"], "missing", "b-drop"),
    ("everything dropped at last", ["add rule inet gatewrit forward drop"], "excess", None),
    ("a rule of another kind", ["insert rule inet gatewrit forward ct state established accept"], "excess", None),
    ("the table asleep", ["add table inet gatewrit {{ flags dormant; }}"], "missing", "a-reject"),
    ("the table gone", ["delete table inet gatewrit"], "missing", "a-reject"),
]


@pytest.mark.parametrize(("fault", "kind", "policy"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_fault_made_in_the_kernel_is_found(
    namespace: Namespace, fault: list[str], kind: str, policy: str | None
) -> None:
    names = namespace.run(enforce)
    before = namespace.run(proof)
    assert before.equal, before
    namespace.nft("\n".join(fault).format(**names))
    after = namespace.run(proof)
    assert not after.equal
    assert policy in {each.policy for each in getattr(after, kind)}, after


@pytest.mark.parametrize(
    "same",
    [
        ladder("low", BEFORE, A_REJECT),
        ladder("high", BEFORE, A_ALONE, TOGETHER, B_ALONE),
        # The gate only lets through to the maps, which decide.
        [found("to.ports", "tcp . 3102")],
        [lost("to4", "206.51.26.0/25"), found("to4", "206.51.26.0/26 : {low}, 206.51.26.64/26 : {low}")],
        ["add chain inet gatewrit idle", "add rule inet gatewrit idle drop"],
    ],
    ids=["ladder", "longer ladder", "gate", "an element in two", "a chain that nothing leads to"],
)
def test_what_does_the_same_is_equal(namespace: Namespace, same: list[str]) -> None:
    names = namespace.run(enforce)
    namespace.nft("\n".join(same).format(**names))
    after = namespace.run(proof)
    assert after.equal, after
