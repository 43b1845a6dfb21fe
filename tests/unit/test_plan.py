"""What is prepared changes nothing; one small transaction then changes everything; wherever it stops, it converges."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from gatewrit.compile.render import compile_policies
from gatewrit.engine.reconcile import Around, prepare, reconcile
from gatewrit.kernel.draft import TWIN
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.plan import diff, settled
from gatewrit.kernel.ruleset import IP_DADDR, IPV4, Chain, Hook, InSet, Rule, Ruleset, Set, SetSpec
from gatewrit.kernel.transaction import (
    Actual,
    AddElements,
    AddSet,
    AddTable,
    AdoptTable,
    DeleteChain,
    DeleteElements,
    DeleteSet,
    DeleteTable,
    FlushChain,
    Tenure,
    Transaction,
)
from support.fake import FakeKernel
from support.paper import Packet, by_rules
from support.strategies import SIZES, addresses, policy_sets, tcp_packets

if TYPE_CHECKING:
    from gatewrit.compile.cells import Sizes
    from gatewrit.policy.model import Policy

#: So little that the smallest plan is cut into many batches.
ROOM = 1000


def ruled(made: list[Policy], sizes: Sizes) -> Ruleset:
    return compile_policies(made, 0, ("forward",), -10, sizes=sizes).ruleset


def fates(actual: Actual, packets: list[Packet]) -> list[object]:
    """Say what becomes of packets, and on which counters they are counted."""
    names = {name: (name,) for name in actual.counters}
    return [by_rules(actual, names, packet, "forward", 1500) for packet in packets]


packets = tcp_packets(addresses, 5, 15)


@settings(max_examples=40)
@given(policy_sets(3), policy_sets(3), policy_sets(3), st.sampled_from(SIZES), packets, st.integers(0, 30))
def test_preparing_changes_nothing_and_one_transaction_everything(  # noqa: PLR0917 - made up by hypothesis
    one: list[Policy], two: list[Policy], three: list[Policy], sizes: Sizes, sent: list[Packet], stop: int
) -> None:
    async def work() -> None:
        kernel = FakeKernel()
        await reconcile(kernel, ruled(one, sizes))
        before = fates(await kernel.read(), sent)
        plan = diff(ruled(two, sizes), await kernel.read(), at_once=0)
        batches = list(plan.prepare.batches(ROOM))
        for batch in batches[:stop]:
            await kernel.commit(batch)
            assert fates(await kernel.read(), sent) == before
        if stop < len(batches):
            # Whoever prepared this is gone; somebody else wants something else, or the same.
            wanted = ruled(three, sizes)
        else:
            await kernel.commit(plan.change)
            wanted = ruled(two, sizes)
        fresh = FakeKernel()
        await reconcile(fresh, wanted)
        after = fates(await fresh.read(), sent)
        if stop >= len(batches):
            assert fates(await kernel.read(), sent) == after
        await reconcile(kernel, wanted)
        assert fates(await kernel.read(), sent) == after
        assert not diff(wanted, await kernel.read())

    asyncio.run(work())


@settings(max_examples=30)
@given(policy_sets(3), policy_sets(3), policy_sets(3), st.sampled_from(SIZES), packets)
def test_an_urgent_order_does_not_disturb_what_is_being_prepared(
    now: list[Policy], urgent: list[Policy], later: list[Policy], sizes: Sizes, sent: list[Packet]
) -> None:
    async def work() -> None:
        kernel = FakeKernel()
        coming = ruled(later, sizes)
        await reconcile(kernel, ruled(now, sizes))
        for batch in diff(coming, await kernel.read(), at_once=0).prepare.batches(ROOM):
            await kernel.commit(batch)
        await reconcile(kernel, ruled(urgent, sizes), Around(coming=coming))
        fresh = FakeKernel()
        await reconcile(fresh, ruled(urgent, sizes))
        assert fates(await kernel.read(), sent) == fates(await fresh.read(), sent)
        await reconcile(kernel, coming)
        assert not diff(coming, await kernel.read())

    asyncio.run(work())


def test_who_is_in_a_hurry_stops_it_between_batches_and_nothing_is_lost() -> None:
    desired = hosts(range(0, 200_000, 2))

    async def work() -> None:
        kernel = FakeKernel()
        before = (await reconcile(kernel, hosts(range(3)))).actual
        steps: list[tuple[int, int]] = []

        def go_on(done: int, size: int) -> bool:
            steps.append((done, size))
            return len(steps) < 4

        known, finished = await prepare(kernel, desired, Around(before, go_on=go_on))
        assert not finished
        assert steps[0] == (0, 100_001)
        assert "hosts" + TWIN not in known.sets  # it is to be read again
        now = await kernel.read()
        assert len(now.sets["hosts" + TWIN].elements) == steps[-1][0] - 1
        assert now.sets["hosts"].elements is before.sets["hosts"].elements or len(now.sets["hosts"].elements) == 3
        done = await reconcile(kernel, desired)
        assert done.changed < 100_001
        assert "hosts" not in done.actual.sets

    asyncio.run(work())


def test_however_great_the_hurry_each_time_something_is_done() -> None:
    desired = hosts(range(0, 20_000, 2))

    async def work() -> None:
        kernel = FakeKernel()
        await reconcile(kernel, hosts(range(3)))
        times = 0
        while not (await prepare(kernel, desired, Around(go_on=lambda _done, _size: False)))[1]:
            times += 1
            assert times < 1000
        assert not diff(desired, await kernel.read()).prepare

    asyncio.run(work())


def test_what_is_prepared_for_later_is_not_prepared_twice() -> None:
    coming = hosts(range(0, 20_000, 2))

    async def work() -> None:
        kernel = FakeKernel()
        await reconcile(kernel, hosts(range(3)))
        for batch in diff(coming, await kernel.read()).prepare.batches(ROOM):
            await kernel.commit(batch)
        await reconcile(kernel, hosts(range(4)), Around(coming=coming))
        left = diff(coming, await kernel.read())
        assert not left.prepare
        assert left.change.size < 10

    asyncio.run(work())


def hosts(numbers: range, size: int | None = None) -> Ruleset:
    """Give a ruleset that drops what goes to these addresses."""
    keys = [each.to_bytes(4, "big") for each in numbers]
    spec = SetSpec("hosts", (IPV4,), interval=False, verdicts=False, size=size)
    rule = Rule((InSet((IP_DADDR,), "hosts"), Verdict("drop")))
    return Ruleset(
        {"forward": Chain("forward", (rule,), Hook("forward", -10))},
        {"hosts": Set(spec, Elements.of(4, [(key, key, None) for key in keys]))},
    )


def changes(kernel: FakeKernel, desired: Ruleset) -> Transaction:
    async def work() -> Transaction:
        return (await reconcile(kernel, desired)).first

    return asyncio.run(work())


def test_little_is_changed_in_place_and_much_beside() -> None:
    kernel = FakeKernel()
    changes(kernel, hosts(range(1000)))
    few = changes(kernel, hosts(range(100, 1100)))
    assert [type(each) for each in few.operations] == [DeleteElements, AddElements]
    much = changes(kernel, hosts(range(2000, 3000)))
    assert kernel.table is not None
    assert list(kernel.table.sets) == ["hosts" + TWIN]
    assert {type(each) for each in much.operations} >= {AddSet, DeleteSet}
    changes(kernel, hosts(range(1000)))
    assert list(kernel.table.sets) == ["hosts"]


def test_a_set_of_another_size_is_made_beside() -> None:
    kernel = FakeKernel()
    changes(kernel, hosts(range(10), size=16))
    changes(kernel, hosts(range(11), size=32))
    assert kernel.table is not None
    (found,) = kernel.table.sets.values()
    assert (found.spec.name, found.spec.size, len(found.elements)) == ("hosts" + TWIN, 32, 11)


def test_what_is_right_is_kept_once() -> None:
    desired = hosts(range(1000))
    kernel = FakeKernel()
    changes(kernel, desired)
    actual = settled(desired, asyncio.run(kernel.read()))
    assert actual.sets["hosts"].elements is desired.sets["hosts"].elements


@given(st.integers(100, 4000), st.integers(0, 3000))
def test_batches_are_all_of_it_in_order_and_none_too_large(room: int, count: int) -> None:
    desired = hosts(range(count))
    whole = Transaction((AddSet(desired.sets["hosts"].spec), AddElements(*_of(desired)), DeleteSet("other")))
    batches = list(whole.batches(room))
    keys = [
        key for batch in batches for each in batch.operations if isinstance(each, AddElements) for key in _keys(each)
    ]
    assert keys == [each.to_bytes(4, "big") for each in range(count)]
    assert isinstance(batches[0].operations[0], AddSet)
    assert isinstance(batches[-1].operations[-1], DeleteSet)


def _of(desired: Ruleset) -> tuple[SetSpec, Elements]:
    return desired.sets["hosts"].spec, desired.sets["hosts"].elements


def _keys(operation: AddElements) -> list[bytes]:
    return [first for first, _, _ in operation.elements.rows()]


def parted(lists: int, each: int, shift: int = 0) -> Ruleset:
    """Give a ruleset of many sets, each asked in a chain of its own; every other chain has another name if shifted."""
    chains, sets, rules = dict[str, Chain](), dict[str, Set](), []
    for number in range(lists):
        name = f"hosts-{number}-{shift // 100 if number % 2 else 0}"
        keys = [(number * each * 4 + at * 2 + shift).to_bytes(4, "big") for at in range(each)]
        spec = SetSpec(f"hosts-{number}", (IPV4,), interval=False, verdicts=False)
        sets[spec.name] = Set(spec, Elements.of(4, [(key, key, None) for key in sorted(keys)]))
        chains[name] = Chain(name, (Rule((InSet((IP_DADDR,), spec.name), Verdict("drop"))),))
        rules.append(Rule((Verdict("jump", name),)))
    chains["forward"] = Chain("forward", tuple(rules), Hook("forward", -10))
    return Ruleset(chains, sets)


def test_where_a_transaction_is_bounded_little_is_left_for_the_one_that_changes() -> None:
    """Two hundred elements come and go in each of a hundred sets, half of them in place: too many for one buffer."""
    before, after = parted(100, 400), parted(100, 400, 200)
    largest = 200_000

    async def work() -> None:
        kernel = FakeKernel()
        await reconcile(kernel, before)
        plan = diff(after, await kernel.read())
        assert plan.change.weight > largest
        kernel.largest = largest
        bounded = diff(after, await kernel.read(), largest=largest)
        assert bounded.change.weight <= largest
        # Some sets are still changed in place, and what goes out of use goes afterwards.
        assert any(isinstance(each, DeleteElements) for each in bounded.change.operations)
        assert {type(each) for each in bounded.clear.operations} >= {FlushChain, DeleteChain, DeleteSet}
        done = await reconcile(kernel, after)
        assert not diff(after, done.actual)
        # The other way, and out of it in the midst of clearing.
        plan = diff(before, done.actual, largest=largest)
        for batch in (*plan.prepare.batches(kernel.room), plan.change):
            await kernel.commit(batch)
        await kernel.commit(Transaction(plan.clear.operations[:20]))
        done = await reconcile(kernel, before)
        assert not diff(before, done.actual)

    asyncio.run(work())


class Name(str):
    """Counts how often names are looked for: among ten thousand chains, none may be for each of the others."""

    __slots__ = ()
    hashed = 0

    def __hash__(self) -> int:
        Name.hashed += 1
        return super().__hash__()


def test_twice_the_chains_take_twice_the_work() -> None:
    def work(count: int) -> int:
        names = [Name(f"chain-{number}") for number in range(count)]
        chains = {name: Chain(name, (Rule((Verdict("drop"),)),)) for name in names}
        jumps = tuple(Rule((Verdict("jump", name),)) for name in names)
        desired = Ruleset({"forward": Chain("forward", jumps, Hook("forward", -10)), **chains})
        kernel = FakeKernel()
        asyncio.run(reconcile(kernel, desired))
        actual = asyncio.run(kernel.read())
        Name.hashed = 0
        assert not diff(desired, actual)
        return Name.hashed

    assert work(400) < 3 * work(200)


async def test_a_table_is_made_owned_adopted_and_made_anew_if_it_never_was() -> None:
    desired = Ruleset(chains={"forward": Chain("forward", (), Hook("forward", -10))})
    kernel = FakeKernel()
    kernel.owning = True
    assert (await reconcile(kernel, desired)).first.operations[0] == AddTable(owned=True)
    assert kernel.table is not None

    kernel.table.tenure = Tenure.ORPHANED
    adopted = await reconcile(kernel, desired)
    # Whose it is is no drift.
    assert (adopted.first.operations, adopted.changed) == ((AdoptTable(),), 0)
    assert adopted.actual.tenure is Tenure.OURS
    assert not diff(desired, adopted.actual)

    kernel.table.tenure = Tenure.PLAIN
    made = await reconcile(kernel, desired)
    assert made.first.operations[:2] == (DeleteTable(), AddTable(owned=True))
    assert made.actual.tenure is Tenure.OURS


def test_a_large_table_and_one_that_is_not_to_be_owned_stay_whose_they_are() -> None:
    spec = SetSpec("many", (IPV4,), interval=False, verdicts=False)
    rows = [(number.to_bytes(4, "big"), number.to_bytes(4, "big"), None) for number in range(100_001)]
    many = Ruleset(sets={"many": Set(spec, Elements.of(4, rows))})
    there = Actual(1, 1, sets=many.sets, tenure=Tenure.PLAIN)
    assert not diff(many, there)
    few = Ruleset(sets={"many": Set(spec, Elements.of(4, rows[:9]))})
    assert DeleteTable() in diff(few, replace(there, sets=few.sets)).change.operations
    # Where a transaction can't be as large as that, neither.
    assert not diff(few, replace(there, sets=few.sets), largest=900)
    assert not diff(few, replace(there, sets=few.sets, tenure=Tenure.OPEN))
