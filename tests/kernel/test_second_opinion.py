"""Debian's `nft` as the second opinion: it reads our scripts, lists our tables, and means the same by them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from gatewrit.compile.render import compile_policies
from gatewrit.engine.reconcile import reconcile
from gatewrit.kernel.socket import NftSocket
from gatewrit.kernel.text import script
from gatewrit.kernel.transaction import Transaction, diff, removal
from gatewrit.policy.model import Action, Direction, Transport
from support.strategies import policy_sets, simple

if TYPE_CHECKING:
    from gatewrit.kernel.ruleset import Ruleset
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
    return str(diff(desired, read()).change)


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


def test_our_script_loads_into_the_very_ruleset_that_we_enforce(namespace: Namespace) -> None:
    compiled = compile_policies(everything(), 0, ("forward", "input", "output"), -10)
    namespace.run(enforce, compiled.ruleset)
    ours = namespace.check(LIST)
    namespace.nft(script(compiled.ruleset))
    assert namespace.check(LIST) == ours
    assert namespace.run(remaining, compiled.ruleset) == ""


def test_what_nft_lists_loads_again(namespace: Namespace) -> None:
    compiled = compile_policies(everything(), 0, ("forward", "input", "output"), -10)
    namespace.run(enforce, compiled.ruleset)
    utc = ["env", "TZ=UTC", *LIST]
    listed = namespace.check(utc)
    namespace.nft("flush ruleset")
    namespace.check(["env", "TZ=UTC", "nft", "-f", "-"], stdin=listed)
    assert namespace.check(utc) == listed
    assert namespace.run(remaining, compiled.ruleset) == ""


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
        "flush chain inet gatewrit judge-to",
        "insert rule inet gatewrit forward accept",
        "add rule inet gatewrit refuse ct state new counter",
        "add chain inet gatewrit mine",
        "add set inet gatewrit mine { type ipv4_addr; flags timeout; }",
        "add map inet gatewrit mine { type ipv4_addr : mark; }",
        "add quota inet gatewrit mine over 10 mbytes",
        "add chain inet gatewrit forward { policy drop; }",
        "add table inet gatewrit { flags dormant; }",
        "delete element inet gatewrit to.ports { tcp . 3101 }",
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
