"""Packets on their way while a transaction is carried out meet what was or what is, wherever it overtakes them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from gatewrit.compile.cells import Sizes
from gatewrit.compile.render import compile_policies
from gatewrit.engine.reconcile import reconcile
from gatewrit.kernel.elements import Elements
from gatewrit.kernel.plan import AT_ONCE, diff
from gatewrit.kernel.ruleset import Set
from gatewrit.kernel.shortcuts import without_shortcuts
from gatewrit.kernel.transaction import Actual, ActualChain, AddChain, DeleteSet, Transaction
from gatewrit.policy.model import Transport
from support.fake import FakeKernel
from support.paper import Fate, Packet, by_rules
from support.strategies import SIZES, policy, policy_sets, ranges_of, services_of, tcp_packets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatewrit.compile.render import Compiled
    from gatewrit.policy.model import Policy
    from gatewrit.policy.terms import Family

    #: The policies that each counter counts for.
    Names = Mapping[str, Sequence[str]]


def overtaken(before: Actual, after: Actual, transaction: Transaction, packet: Packet, names: Names) -> list[Fate]:
    """Give every fate that a packet can have while a transaction is carried out.

    It is under the rules of before or of after, and finds each set as it was or as it will be: intervals change a
    little later than hashes, and whoever stays for long finds new elements under old rules.
    """
    deleted = {each.name for each in transaction.operations if isinstance(each, DeleteSet)}
    made = {each.chain.name for each in transaction.operations if isinstance(each, AddChain)}
    # A chain that is new has no rule under the old generation; a map that is deleted has no element for anybody.
    chains = {**{name: ActualChain(name, (), None, None) for name in made}, **before.chains}
    lost = {name: Set(before.sets[name].spec, NO_ELEMENTS) for name in deleted if before.sets[name].spec.verdicts}
    changed = [
        name
        for name, each in before.sets.items()
        if lost.get(name) or (name in after.sets and after.sets[name].elements is not each.elements)
    ]
    found = list[Fate]()
    for old in _subsets(changed):
        sets = {
            **after.sets,
            **before.sets,
            **{name: lost.get(name, after.sets.get(name)) for name in changed if name not in old},
        }
        found += [fate(replace(before, chains=chains, sets=sets), packet, names)]
        sets = {**after.sets, **{name: before.sets[name] for name in old if name in after.sets}}
        found += [fate(replace(after, sets=sets, counters={**before.counters, **after.counters}), packet, names)]
    return found


def _subsets(names: list[str]) -> list[set[str]]:
    """Give all ways in which these can be parted if they are few, else those where one is unlike all the others."""
    if len(names) <= 4:
        return [{*each} for size in range(len(names) + 1) for each in combinations(names, size)]
    return [set(), {*names}, *({name} for name in names), *({*names} - {name} for name in names)]


NO_ELEMENTS = Elements.of(4, [])
NOBODY = Actual(0, 0, {"forward": ActualChain("forward", (), None, None)})


def fate(actual: Actual, packet: Packet, names: Names) -> Fate:
    return by_rules(actual if "forward" in actual.chains else NOBODY, names, packet, "forward", 1500)


def third(found: Fate, before: Fate, after: Fate) -> bool:
    """Whether a fate is neither; who is stopped on the way may miss an order that stops it as well, never the blame."""
    passes = {each.verdict == "pass" for each in (before, after)}
    meant = before.counts.keys() | after.counts.keys()
    return (found.verdict == "pass") not in passes or not found.counts.keys() <= meant


def ruled(made: list[Policy], sizes: Sizes) -> Compiled:
    return compile_policies(made, 0, ("forward",), -10, sizes=sizes)


#: Subscribers whom no policy names: one end is judged after the other, each by itself.
OUTSIDE: dict[Family, int] = {4: 0x0B000001, 6: 0x0B000001 << 96}
sent = tcp_packets(lambda family: st.just(OUTSIDE[family]), 10, 30)


def lean(compiled: Compiled) -> Compiled:
    """Give what a daemon enforces while shortcuts are still to come."""
    return replace(compiled, ruleset=without_shortcuts(compiled.ruleset, {}, 0))


async def check(one: Compiled, two: Compiled, packets: list[Packet], at_once: int) -> None:
    """Go from one ruleset to the other, each packet being overtaken anywhere on its way by each transaction."""
    kernel, fresh, names = FakeKernel(), FakeKernel(), {**one.counters, **two.counters}
    await reconcile(kernel, one.ruleset)
    await reconcile(fresh, two.ruleset)
    before, after = await kernel.read(), await fresh.read()
    allowed = [(fate(before, packet, names), fate(after, packet, names)) for packet in packets]
    plan = diff(two.ruleset, before, at_once=at_once)
    for step in (*plan.prepare.batches(1000), *plan.steps, *plan.clear.batches(1000)):
        now = await kernel.read()
        await kernel.commit(step)
        then = await kernel.read()
        for packet, fates in zip(packets, allowed, strict=True):
            for found in overtaken(now, then, step, packet, names):
                assert not third(found, *fates), (packet, found, fates, str(step))


@settings(max_examples=25)
@given(policy_sets(3), policy_sets(3), st.sampled_from(SIZES), sent, st.sampled_from([0, AT_ONCE]))
def test_whatever_changes(
    one: list[Policy], two: list[Policy], sizes: Sizes, packets: list[Packet], at_once: int
) -> None:
    asyncio.run(check(ruled(one, sizes), ruled(two, sizes), packets, at_once))


#: So that a list of some dozens is looked up by hashes of prefixes and by intervals, in one block or in several.
DENSE = [
    Sizes(plain=0, block=block, hashed=hashed, bulk=bulk)
    for block in (1000, 16)
    for hashed in (1, 4)
    for bulk in (1, 99)
]
BOTTOM: dict[Family, int] = {4: 206 << 24 | 51 << 16 | 26 << 8, 6: 0x2607FFC0 << 96}


@settings(max_examples=60)
@given(st.data(), st.sampled_from([4, 6]), st.sampled_from(DENSE), st.sampled_from([0, AT_ONCE]))
def test_a_little_of_two_dense_lists(data: st.DataObject, family: Family, sizes: Sizes, at_once: int) -> None:
    """Addresses come and go in a list behind one port and one behind all, and move from one to the other.

    Shortcuts may be left out before or after that.
    """
    runs = st.lists(st.tuples(st.integers(0, 127), st.integers(1, 6)), max_size=4)
    lists = [data.draw(st.sets(st.integers(0, 127), min_size=20, max_size=90)) for _ in range(2)]
    changed = [{each for first, count in data.draw(runs) for each in range(first, first + count)} for _ in range(2)]

    # Apart and of several lengths, so that a shortcut is worth it; or side by side.
    apart = data.draw(st.booleans(), label="apart")

    def places(number: int) -> tuple[int, int]:
        first = BOTTOM[family] + number * (64 if apart else 1)
        return first, first + (number % 4 if apart else 0)

    def ruleset(lists: list[set[int]]) -> Compiled:
        made = []
        for name, numbers, transport in zip("ab", lists, (Transport(6, 3101, 3101), Transport(None)), strict=True):
            parts = [ranges_of(family, [places(each) for each in sorted(numbers)])]
            made.append(policy(name, services_of(name, parts, [transport]), start=0))
        return ruled(made, sizes)

    near = sorted({each + by for part in changed for each in part for by in (-1, 0, 1)})
    packets = [Packet(family, OUTSIDE[family], places(each)[1], 6, 4000, port) for each in near for port in (3101, 1)]
    two = [numbers ^ change for numbers, change in zip(lists, changed, strict=True)]
    before, after = (
        data.draw(st.sampled_from([each, lean(each)]), label="shortcuts") for each in (ruleset(lists), ruleset(two))
    )
    asyncio.run(check(before, after, packets, at_once))
