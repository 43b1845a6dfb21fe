"""Debian's `nft` as the second opinion: it reads our scripts, lists our tables, and means the same by them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from gatewrit.compile.render import compile_policies
from gatewrit.engine.reconcile import reconcile
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.plan import diff
from gatewrit.kernel.ruleset import (
    DPORT,
    IP6_DADDR,
    IP6_SADDR,
    IP_DADDR,
    IP_SADDR,
    IPV4,
    IPV6,
    L4PROTO,
    PORT,
    PROTOCOL,
    SPORT,
    ByMap,
    Chain,
    Hook,
    InSet,
    Masked,
    PortIs,
    Rule,
    Ruleset,
    Set,
    SetSpec,
)
from gatewrit.kernel.socket import NftSocket
from gatewrit.kernel.text import script
from gatewrit.kernel.transaction import Transaction, removal
from gatewrit.policy.model import Transport
from gatewrit.policy.terms import Action, Direction
from support.strategies import policy_sets, simple

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatewrit.kernel.transaction import Actual
    from gatewrit.policy.model import Policy
    from lab import Namespace

LIST = ["nft", "list", "ruleset"]


def enforce(desired: Ruleset) -> None:
    async def work() -> None:
        async with NftSocket() as kernel:
            await reconcile(kernel, desired)

    asyncio.run(work())


def read() -> Actual:
    async def work() -> Actual:
        async with NftSocket() as kernel:
            return await kernel.read()

    return asyncio.run(work())


def remaining(desired: Ruleset) -> str:
    """Give what is still to be done, in nft's words."""
    return str(diff(desired, read()).whole)


def everything() -> list[Policy]:
    """Give policies that make use of every kind of rule, set and verdict that we have."""
    return [
        simple(
            "a-reject",
            ["10.0.0.0-10.0.3.255", "2607:ffc0::-2607:ffc0::ff"],
            [Transport(6, 3101, 3101)],
            action=Action.REJECT,
        ),
        simple(
            "b-both",
            ["10.0.1.7", "255.255.255.0-255.255.255.255", "0.0.0.0-0.0.0.9"],
            [Transport(17)],
            direction=Direction.BOTH,
        ),
        simple("c-any", ["10.0.2.0-10.0.2.9", "2607:ffc0::7"], [Transport(None)], action=Action.OBSERVE),
        simple("d-wide-ports", ["10.0.1.0-10.0.2.255"], [Transport(6, 1, 65535), Transport(132), Transport(1)]),
    ]


def by_length() -> Ruleset:
    """Give a ruleset of hashes looked up by masked addresses, as very large orders have it, for both families."""
    c, keys = Verdict("goto", "c"), {4: (IP_DADDR, IP_SADDR, IPV4), 6: (IP6_DADDR, IP6_SADDR, IPV6)}
    sets, rules = [], []
    for family, (to, source, kind) in keys.items():
        for length in (1, 8, 21, 24, 31) if family == 4 else (1, 29, 32, 64, 100, 112, 127):
            # Every other block of this length, from the lowest to the highest there is.
            keep = 8 * kind.length - length
            rows = [
                ((number << keep).to_bytes(kind.length, "big"),) * 2
                for number in sorted({0, 1, 5 % (1 << length), (1 << length) - 1})
            ]
            for prefix, verdict in (("s", None), ("m", c)):
                spec = SetSpec(f"{prefix}{family}.{length}", (kind,), False, verdict is not None, size=len(rows))
                sets.append(Set(spec, Elements.of(kind.length, [(*row, verdict) for row in rows])))
            name = f"{family}.{length}"
            rules += [
                Rule((InSet((Masked(to, length),), f"s{name}"), Verdict("jump", "c"))),
                Rule((PortIs(6, DPORT, 3101, 3101), InSet((Masked(source, length),), f"s{name}", inverted=True), c)),
                Rule((PortIs(17, SPORT, 5060, 5061), ByMap((Masked(to, length),), f"m{name}")), "a comment"),
                Rule((ByMap((Masked(source, length),), f"m{name}"),)),
            ]
    ports = [
        Rule((PortIs(protocol, field, first, last), Verdict("return")))
        for protocol in (6, 17, 33, 132, 136)
        for field in (DPORT, SPORT)
        for first, last in ((0, 0), (0, 65535), (443, 443), (1024, 65535))
    ]
    pairs = SetSpec("pairs", (PROTOCOL, PORT), interval=False, verdicts=False, size=10)
    ranges = SetSpec("ranges", (PROTOCOL, PORT), interval=True, verdicts=False, size=10)
    key = bytes([6, 0, 0, 0, 0, 80, 0, 0])
    sets += [Set(spec, Elements.of(8, [(key, key, None)])) for spec in (pairs, ranges)]
    gate = (PortIs(6, DPORT, 80, 90), InSet((L4PROTO, DPORT), "pairs", inverted=True), c)
    wide = (InSet((L4PROTO, DPORT), "ranges", inverted=True), c)
    chains = (
        Chain("forward", (Rule(gate), Rule(wide), *rules), Hook("forward", -10)),
        Chain("c", tuple(ports)),
    )
    return Ruleset({chain.name: chain for chain in chains}, {each.spec.name: each for each in sets})


def by_policies() -> Ruleset:
    """Give the ruleset of policies that make use of whatever they can."""
    return compile_policies(everything(), 0, ("forward", "input", "output"), -10).ruleset


each_shape = pytest.mark.parametrize("make", [by_policies, by_length])


@each_shape
def test_our_script_loads_into_the_very_ruleset_that_we_enforce(
    namespace: Namespace, make: Callable[[], Ruleset]
) -> None:
    desired = make()
    namespace.run(enforce, desired)
    ours = namespace.check(LIST)
    namespace.nft(script(desired))
    assert namespace.check(LIST) == ours
    assert namespace.run(remaining, desired) == ""


@each_shape
def test_what_nft_lists_loads_again(namespace: Namespace, make: Callable[[], Ruleset]) -> None:
    desired = make()
    namespace.run(enforce, desired)
    utc = ["env", "TZ=UTC", *LIST]
    listed = namespace.check(utc)
    namespace.nft("flush ruleset")
    namespace.check(["env", "TZ=UTC", "nft", "-f", "-"], stdin=listed)
    assert namespace.check(utc) == listed
    assert namespace.run(remaining, desired) == ""


def test_a_transaction_printed_is_a_transaction_done(namespace: Namespace) -> None:
    """What `plan --verbose` prints, nft carries out to the same end."""
    before = compile_policies(everything()[:2], 0, ("forward",), -10)
    after = compile_policies(everything()[1:], 0, ("forward",), -10)
    namespace.run(enforce, before.ruleset)
    namespace.nft(namespace.run(remaining, after.ruleset))
    assert namespace.run(remaining, after.ruleset) == ""


@settings(max_examples=15)
@given(made=policy_sets(3, conditions=True))
def test_any_script_of_ours_means_to_nft_what_it_means_to_us(namespace: Namespace, made: list[Policy]) -> None:
    compiled = compile_policies(made, 0, ("prerouting",), -10)
    namespace.nft(script(compiled.ruleset))
    assert namespace.run(remaining, compiled.ruleset) == ""


@pytest.mark.parametrize(
    "meddling",
    [
        "flush chain inet gatewrit to.ports",
        "insert rule inet gatewrit forward accept",
        "add rule inet gatewrit refuse ct state new counter",
        "add chain inet gatewrit mine",
        "add set inet gatewrit mine { type ipv4_addr; flags timeout; }",
        "add map inet gatewrit mine { type ipv4_addr : mark; }",
        "add quota inet gatewrit mine over 10 mbytes",
        "add chain inet gatewrit forward { policy drop; }",
        "add table inet gatewrit { flags dormant; }",
        "flush map inet gatewrit to4",
        "delete table inet gatewrit",
    ],
)
def test_whatever_somebody_did_to_the_table_a_pass_undoes(namespace: Namespace, meddling: str) -> None:
    compiled = compile_policies(everything()[:1], 0, ("forward",), -10)
    namespace.run(enforce, compiled.ruleset)
    listed = namespace.check(LIST)
    namespace.nft(meddling)
    assert namespace.run(remaining, compiled.ruleset)
    namespace.run(enforce, compiled.ruleset)
    assert namespace.check(LIST) == listed


def test_other_tables_are_never_touched(namespace: Namespace) -> None:
    namespace.nft("table inet other { chain c { type filter hook forward priority 0; counter accept; }; }")
    other = namespace.check([*LIST[:1], "list", "table", "inet", "other"])
    namespace.run(enforce, compile_policies(everything(), 0, ("forward",), -10).ruleset)
    namespace.run(take_away)
    assert namespace.check(LIST) == other


def take_away() -> None:
    async def work() -> None:
        async with NftSocket() as kernel:
            change: Transaction = removal(await kernel.read())
            await kernel.commit(change)

    asyncio.run(work())
