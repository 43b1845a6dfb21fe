"""An address that moves between two sets, over and over, under a flood: no packet to it finds it in neither."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest

from gatewrit.engine.reconcile import ALONE, Around, reconcile
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.ruleset import IP_DADDR, IPV4, ByMap, Chain, Hook, InSet, Rule, Ruleset, Set, SetSpec
from gatewrit.kernel.socket import NftSocket
from lab.flood import Flood
from support.flows import flow

if TYPE_CHECKING:
    from lab import Lab

BLOCKED = IPv4Address("81.2.69.142")
FLOW = flow(str(BLOCKED))
#: So many others that the kernel takes a while to put them in order: it is then that packets slip through.
OTHERS = 1000
MOVES = 40


def ruleset(kinds: str, at: int) -> Ruleset:
    """Give look-ups in a row, of which that `at` has the address: `h` is a hash, `i` intervals, in capitals maps."""
    rules, sets = list[Rule](), dict[str, Set]()
    for number, kind in enumerate(kinds):
        spec = SetSpec(f"s{number}", (IPV4,), interval=kind in "iI", verdicts=kind.isupper(), size=None)
        drop = Verdict("drop")
        keys = [bytes([9, other >> 8, other & 255, 0]) for other in range(OTHERS)]
        keys += [BLOCKED.packed] if number == at else []
        sets[spec.name] = Set(spec, Elements.of(4, [(key, key, drop if spec.verdicts else None) for key in keys]))
        ask = ByMap((IP_DADDR,), spec.name) if spec.verdicts else InSet((IP_DADDR,), spec.name)
        rules.append(Rule((ask,) if isinstance(ask, ByMap) else (ask, drop)))
    return Ruleset({"forward": Chain("forward", tuple(rules), Hook("forward", -10))}, sets)


@pytest.mark.parametrize("kinds", ["hh", "hi", "HI", "ii", "II"])
def test_an_address_moves_between_two_sets(lab: Lab, kinds: str) -> None:
    here, there = ruleset(kinds, 0), ruleset(kinds, 1)

    async def enforce(*rulesets: Ruleset) -> None:
        async with NftSocket() as kernel:
            around = ALONE
            for each in rulesets:
                around = Around((await reconcile(kernel, each, around)).actual)

    lab.gateway.start(lambda: asyncio.run(enforce(here))).result(60)
    with Flood(lab, [FLOW]) as flood:
        lab.gateway.start(lambda: asyncio.run(enforce(*[there, here] * (MOVES // 2)))).result(60)
    assert flood.sent[FLOW] > 10_000
    assert flood.arrived[FLOW] == 0
