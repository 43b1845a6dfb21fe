"""A memo changes nothing but how long a compile takes, and it keeps no more than the last one used."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewrit.compile import recut
from gatewrit.compile import spans as algebra
from gatewrit.compile.cells import Sizes
from gatewrit.compile.conflicts import conflicts
from gatewrit.compile.memo import Drawer, Memo
from gatewrit.compile.recut import segmented
from gatewrit.compile.render import compile_policies
from gatewrit.compile.segments import segment, sweep
from gatewrit.compile.spans import Places, Spans, Splice, intersect, meets, merge, met_by, unlike
from gatewrit.compile.surroundings import Surroundings
from gatewrit.engine.around import overlaps
from gatewrit.kernel.text import script
from gatewrit.policy.model import Policy, Transport
from support.strategies import (
    INSTANTS,
    MASTERS,
    SIZES,
    TOPS,
    addresses,
    policies,
    ranges,
    ranges_of,
    services,
    services_of,
    simple,
)
from support.strategies import policy as policy_of

if TYPE_CHECKING:
    from gatewrit.compile.conflicts import Conflict
    from gatewrit.compile.render import Compiled
    from gatewrit.compile.segments import Segments
    from gatewrit.kernel.ruleset import Set
    from gatewrit.policy.terms import Family

FAMILIES: tuple[Family, Family] = (4, 6)
NAT64 = (ranges_of(6, [(0x64_FF9B << 96, (0x64_FF9B << 96) + 2**32 - 1)]),)
AROUND = [Surroundings(), Surroundings(NAT64, MASTERS, (ranges_of(4, [(0, 3)]),))]
HOOKS = [("forward",), ("prerouting",), ("input",), ("forward", "input", "output")]
NAMES = [f"order-{letter}" for letter in "abcde"]


@pytest.fixture(params=[1 / 3, 100.0], ids=["a third", "always"])
def share(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Cut again either where the change is small, as gateways do, or wherever there is anything from before."""
    monkeypatch.setattr(recut, "_MOST", request.param)
    monkeypatch.setattr(recut, "_SMALL", 1)
    return request.param


@st.composite
def histories(draw: st.DrawFn) -> list[list[Policy]]:
    """Give sets of policies that follow each other: what isn't changed is the same object, whole or in part."""
    known = draw(st.lists(policies("x", conditions=True), min_size=1, max_size=3))
    standing: dict[str, Policy] = {}
    found = []
    for _ in range(draw(st.integers(2, 5))):
        for name in draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True)):
            drawn = draw(st.none() | st.sampled_from(known) | policies("x", conditions=True))
            if drawn is None:
                standing.pop(name, None)
            else:
                standing[name] = replace(drawn, id=name)
        found.append(list(standing.values()))
    return found


def same(one: Compiled, other: Compiled) -> None:
    assert script(one.ruleset) == script(other.ruleset)
    assert list(one.ruleset.chains.items()) == list(other.ruleset.chains.items())
    assert list(one.ruleset.sets) == list(other.ruleset.sets)
    for name, each in one.ruleset.sets.items():
        assert each.spec == other.ruleset.sets[name].spec
        assert list(each.elements.rows()) == list(other.ruleset.sets[name].elements.rows())
    assert one.counters == other.counters
    assert one.segments == other.segments
    assert one.addresses == other.addresses


@pytest.mark.usefixtures("share")
@settings(max_examples=150)
@given(
    histories(),
    st.lists(st.tuples(st.sampled_from([0, *INSTANTS]), st.sampled_from(HOOKS), st.sampled_from(AROUND)), min_size=5),
    st.sampled_from(SIZES),
)
def test_with_a_memo_everything_is_as_without(made: list[list[Policy]], how: list, sizes: Sizes) -> None:
    memo = Memo()
    for several, (now, hooks, around) in zip(made, how, strict=False):
        with_it = compile_policies(several, now, hooks, -10, around, sizes, memo)
        same(with_it, compile_policies(several, now, hooks, -10, around, sizes))
        again = compile_policies(several, now, hooks, -10, around, sizes, memo)
        same(again, with_it)


@given(histories(), st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0, 1500, 2500])), min_size=5), st.data())
def test_conflicts_and_overlaps_are_told_as_without(made: list[list[Policy]], how: list, data: st.DataObject) -> None:
    memo, held = Memo(), [data.draw(services(f"held-{at}")) for at in range(3)]
    around = data.draw(st.lists(st.builds(lambda *parts: Surroundings(spared=parts), ranges(4), ranges(6)), min_size=2))
    for several, (at, now) in zip(made, how, strict=False):
        # Some say that one of these services must continue, and the next time perhaps another one.
        chosen = [
            replace(policy, must_continue={each.name: each for each in held[at : at + 2]}) if number % 2 else policy
            for number, policy in enumerate(several)
        ]
        here = around[at % len(around)]
        assert told(conflicts(chosen, now, memo)) == told(conflicts(chosen, now))
        assert overlaps(chosen, here, memo) == overlaps(chosen, here)


def told(found: list[Conflict]) -> list[tuple[str, str, str]]:
    return [(each.policy.id, each.other.id, str(each)) for each in found]


@pytest.mark.usefixtures("share")
@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_segments_cut_again_are_those_cut_anew(family: Family, data: st.DataObject) -> None:
    drawer = Drawer()
    standing: dict[str, Spans] = {}
    for _ in range(data.draw(st.integers(2, 6))):
        for name in data.draw(st.lists(st.sampled_from("abcdef"), max_size=3)):
            drawn = data.draw(st.none() | ranges(family) | st.sampled_from("abcdef"))
            if isinstance(drawn, str):
                # Owners that share their spans: several ports of one list.
                standing[name] = standing.get(drawn, merge(family, []))
            elif drawn is None:
                standing.pop(name, None)
            else:
                standing[name] = merge(family, [drawn])
        found = segmented(drawer, "test", family, standing)
        anew = segment(family, list(standing.values()))
        assert found.first.tolist() == anew.first.tolist()
        assert found.last.tolist() == anew.last.tolist()
        assert found.group.tolist() == anew.group.tolist()
        assert found.owners == anew.owners
        assert segmented(drawer, "test", family, standing) is found
        drawer.turn()


@pytest.mark.parametrize("family", FAMILIES)
def test_one_who_has_everything_is_cut_too(family: Family) -> None:
    everything = merge(family, [ranges_of(family, [(0, TOPS[family])])])
    cut = sweep(family, everything.first, everything.last, np.zeros(1, np.intp))
    assert rows_of(cut) == [(0, TOPS[family])]
    assert cut.owners == ((0,),)


@pytest.mark.parametrize("most", [0, 1000])
@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_arrays_are_spliced_as_lists_are(family: Family, most: int, data: st.DataObject) -> None:
    rows = sorted(data.draw(st.sets(addresses(family), max_size=20)))
    out = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1)))) if rows else []
    kept = [each for at, each in enumerate(rows) if at not in out]
    into = sorted(data.draw(st.sets(addresses(family), max_size=10)) - {*kept})
    old, new = (ranges_of(family, [(each, each) for each in some]) for some in (rows, into))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(algebra, "_SLICES", most)
        change = Splice(old.first, np.array(out, np.intp), new.first)
        found = change.apply(old.first, new.first)
    assert [low for low, _ in rows_of(Spans(family, found, found))] == sorted([*kept, *into])
    assert found[change.at].tolist() == new.first.tolist()


@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_addresses_are_found_where_bisection_finds_them(family: Family, few: int, data: st.DataObject) -> None:
    among = sorted(data.draw(st.lists(addresses(family), max_size=30)))
    wanted = data.draw(st.lists(addresses(family), max_size=10))
    hay, needles = (ranges_of(family, [(each, each) for each in rows]).first for rows in (among, wanted))
    places = Places(hay)
    with pytest.MonkeyPatch.context() as patch:
        # Fewer than are worth taking halves apart for, or more.
        patch.setattr(algebra, "_FEW", few)
        assert places.find(needles).tolist() == [sum(each < one for each in among) for one in wanted]
        assert places.find(needles, "right").tolist() == [sum(each <= one for each in among) for one in wanted]


def rows_of(some: Spans | Segments) -> list[tuple[int, int]]:
    def numbers(array: np.ndarray) -> list[int]:
        return array.tolist() if some.family == 4 else [(high << 64) + low for high, low in array.tolist()]

    return list(zip(numbers(some.first), numbers(some.last), strict=True))


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_what_meets_and_what_differs_is_told_row_by_row(family: Family, data: st.DataObject) -> None:
    one, two = (merge(family, data.draw(st.lists(ranges(family), max_size=3))) for _ in range(2))
    mine, theirs = rows_of(one), rows_of(two)
    met = [any(low <= end and start <= high for low, high in theirs) for start, end in mine]
    assert meets(one.first, one.last, two).tolist() == met
    assert met_by(one.first, one.last, two).tolist() == [at for at, each in enumerate(met) if each]
    both = sorted((max(a, c), min(b, d)) for a, b in mine for c, d in theirs if max(a, c) <= min(b, d))
    assert rows_of(intersect(one, two)) == rows_of(intersect(two, one)) == both
    different = set(mine) ^ set(theirs)
    # Exactly these rows, united.
    assert rows_of(unlike(one, two)) == rows_of(merge(family, [ranges_of(family, sorted(different))]))


def many(count: int, name: str = "big") -> Policy:
    listed = ranges_of(4, [(at << 8, at << 8) for at in range(count)])
    return policy_of(name, services_of("s", [listed], [Transport(6)]))


def blocks(compiled: Compiled) -> dict[str, Set]:
    return {name: each for name, each in compiled.ruleset.sets.items() if name.startswith("to4.any-port.")}


def wide(most: dict[int, int]) -> Policy:
    listed = ranges_of(4, [(at << 8, (at << 8) + most.get(at, 1)) for at in range(3000)])
    return policy_of("wide", services_of("s", [listed], [Transport(6)]))


def test_a_block_that_differs_in_ends_or_verdicts_alone_is_another_one() -> None:
    memo, sizes = Memo(), Sizes(plain=0, block=500, hashed=8, bulk=1000, ports=3)
    plain, longer = wide({}), wide({1500: 3})
    one, other = (simple("small", [f"0.0.{at}.0-0.0.{at}.1"], [Transport(6)]) for at in (3, 4))
    for several in ([plain], [longer], [plain, one], [plain, other], [longer, other], [plain]):
        with_it = compile_policies(several, 0, ("forward",), -10, sizes=sizes, memo=memo)
        same(with_it, compile_policies(several, 0, ("forward",), -10, sizes=sizes))


def test_who_comes_and_goes_is_judged_beside_those_who_were_there() -> None:
    memo = Memo()
    held = services_of("held", [ranges_of(4, [(1, 9)])], [Transport(6)])
    holder = replace(simple("holder", ["10.0.0.1"], [Transport(6)]), must_continue={"held": held})
    first, second = (simple(name, ["0.0.0.5"], [Transport(6)]) for name in ("first", "second"))
    beside = replace(simple("first", ["0.0.1.5"], [Transport(6)]), id="first")
    around = Surroundings(spared=(ranges_of(4, [(5, 5)]),))
    for several, more in (
        ([holder], None),
        ([holder, first], 0),
        ([holder, first, second], 1),
        ([holder, beside, second], 0),
        ([holder, beside], None),
        ([beside, first], None),
        ([holder, second], 0),
    ):
        assert [each.more for each in conflicts(several, 1500, memo)] == ([] if more is None else [more])
        assert told(conflicts(several, 1500, memo)) == told(conflicts(several, 1500))
        assert overlaps(several, around, memo) == overlaps(several, around)
        assert [each.policy for each in overlaps(several, around, memo)] == [
            each.id for each in several if each in (first, second)
        ]


def test_what_has_not_changed_is_the_same_object() -> None:
    memo, big = Memo(), many(40_000)
    first, second, third = (
        blocks(compile_policies([big, simple("small", [address], [Transport(6)])], 0, ("forward",), -10, memo=memo))
        for address in ("0.0.1.7", "0.0.1.7", "0.0.1.9")
    )
    assert first
    assert all(first[name] is each for name, each in second.items())
    assert 0 < sum(third.get(name) is not each for name, each in second.items()) < len(second) / 2


def test_blocks_are_still_known_after_a_compile_in_which_nothing_was_looked_at() -> None:
    memo, big, small = Memo(), many(40_000), simple("small", ["255.0.0.1"], [Transport(6)])
    made = [blocks(compile_policies([big], now, ("forward",), -10, memo=memo)) for now in (0, 0, 1500)]
    assert made[0]
    assert all(made[0][name] is each for name, each in made[2].items())
    last = blocks(compile_policies([big, small], 0, ("forward",), -10, memo=memo))
    assert sum(made[0].get(name) is each for name, each in last.items()) > len(last) / 2


def test_what_is_not_used_any_more_is_dropped() -> None:
    memo = Memo()
    kept, gone = many(600), many(700, "gone")
    watched = weakref.ref(gone.services["s"].endpoints[0].ranges[0].first)
    compile_policies([kept, gone], 0, ("forward",), -10, memo=memo)
    compile_policies([kept], 0, ("forward",), -10, memo=memo)
    size = len(memo.compile)
    del gone
    gc.collect()
    assert watched() is None
    assert not [each for each in gc.get_objects() if isinstance(each, Policy) and each.id == "gone"]
    for _ in range(3):
        compile_policies([kept], 0, ("forward",), -10, memo=memo)
    assert len(memo.compile) <= size
