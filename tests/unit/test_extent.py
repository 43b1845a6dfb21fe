"""Only what differs is looked at, and the answer is the same as if everything were: rows, regions, shares."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.compile import rows
from gatewrit.compile.rows import apart, meeting, meets
from gatewrit.compile.spans import Spans, merge
from gatewrit.engine import extent, holds
from gatewrit.engine.extent import Delta, least, measure, region, total
from gatewrit.policy.model import Endpoint, Policy, Ranges, Transport
from support import plainly
from support.strategies import PLACE, TRANSPORTS, policy, policy_sets, ranges, ranges_of, services, services_of

if TYPE_CHECKING:
    from gatewrit.policy.terms import Family

FAMILIES = st.sampled_from([4, 6])


@pytest.fixture(autouse=True, params=[False, True], ids=["as it is", "every shape with few rows"])
def _shapes(request: pytest.FixtureRequest) -> object:
    """Let a handful of rows go the ways that a million do."""
    with ExitStack() as stack:
        if request.param:
            for module, name, value in ((rows, "_MANY_ROWS", 0), (rows, "_MANY_SPANS", 2), (extent, "_SAMPLE", 2)):
                stack.enter_context(patch.object(module, name, value))
            stack.enter_context(patch.object(rows, "meeting", picky))
            stack.enter_context(patch.object(extent, "meeting", picky))
        yield


def picky(part: Ranges, spans: Spans) -> Ranges:
    return rows.pick(part, meets(part.first, part.last, spans))


def pairs(part: Ranges | Spans) -> list[tuple[int, int]]:
    def number(value: object) -> int:
        return value if isinstance(value, int) else (value[0] << 64) + value[1]  # type: ignore[index]

    return [(number(a), number(b)) for a, b in zip(part.first.tolist(), part.last.tolist(), strict=True)]


@given(FAMILIES.flatmap(lambda family: st.tuples(ranges(family), ranges(family))))
def test_what_meets_is_found_whatever_the_order(two: tuple[Ranges, Ranges]) -> None:
    part, other = two
    spans = merge(part.family, [other])
    expected = [any(a <= d and c <= b for c, d in pairs(spans)) for a, b in pairs(part)]
    assert meets(part.first, part.last, spans).tolist() == expected
    kept = meeting(part, spans)
    assert {row for row, met in zip(pairs(part), expected, strict=True) if met} <= set(pairs(kept)) <= set(pairs(part))


@st.composite
def changed_rows(draw: st.DrawFn, family: Family) -> tuple[list[Ranges], list[Ranges]]:
    """Make two lists that have much in common: rows replaced, doubled, in another order, lists left as they are."""
    old, new = [], []
    for _ in range(draw(st.integers(0, 2))):
        part = draw(ranges(family))
        rows_ = pairs(part)
        change = draw(st.sampled_from(["same", "equal", "replaced", "shuffled", "doubled", "other"]))
        if change == "equal":
            part = replace(part, digest=bytes([len(old)]))
        if change == "replaced" and rows_:
            at = draw(st.integers(0, len(rows_) - 1))
            rows_[at : at + 1] = pairs(draw(ranges(family)))[:1]
        elif change == "shuffled":
            rows_ = draw(st.permutations(rows_))
        elif change == "doubled":
            rows_ = [row for row in rows_ for _ in range(draw(st.integers(0, 3)))]
        elif change == "other":
            rows_ = pairs(draw(ranges(family)))
        old.append(part)
        new.append(part if change == "same" else replace(ranges_of(family, rows_), digest=part.digest))
    return old, new


@given(FAMILIES.flatmap(changed_rows))
def test_every_row_that_only_one_has_is_given_and_few_others(both: tuple[list[Ranges], list[Ranges]]) -> None:
    old, new = ({row for part in parts for row in pairs(part)} for parts in both)
    found = {row for part in apart(*both) for row in pairs(part)}
    assert old ^ new <= found <= old | new


@pytest.mark.parametrize("family", [4, 6])
def test_of_many_rows_in_any_order_exactly_those_are_given_that_differ(family: Family) -> None:
    chance = np.random.default_rng(7)
    numbers = [int(each) << (0 if family == 4 else 70) for each in chance.integers(0, 2**31, 5000)]
    old = [(number, number + 3) for number in numbers]
    new = [*old[10:], (5, 9), (5, 9), (6, 9)]
    for order in (list, sorted, lambda each: each[::-1]):
        found = apart([ranges_of(family, order(old))], [ranges_of(family, order(new))])
        assert {row for part in found for row in pairs(part)} == set(old) ^ set(new)


@dataclass
class Change:
    """A policy with the content of before and the new one."""

    old: Policy
    new: Policy

    def region(self, family: Family) -> Spans:
        return region(family, self.old, self.new)


@st.composite
def changes(draw: st.DrawFn, family: Family) -> list[Change]:
    found = []
    for made in draw(policy_sets(2, conditions=True)):
        (name, service), *_ = made.services.items()
        endpoints = []
        for endpoint in service.endpoints:
            before, after = draw(changed_rows(family))
            transports = draw(st.lists(st.sampled_from(TRANSPORTS), min_size=1, max_size=2).map(tuple))
            other = draw(st.sampled_from([endpoint.transports, endpoint.transports, transports]))
            kept = endpoint.ranges if draw(st.booleans()) else ()
            endpoints.append(
                (
                    Endpoint((*kept, *before), endpoint.transports, PLACE),
                    Endpoint((*kept, *after), other, PLACE),
                )
            )
        old = replace(service, endpoints=tuple(one for one, _ in endpoints))
        new = replace(service, endpoints=tuple(two for _, two in endpoints))
        if draw(st.integers(0, 4)) == 0:
            new = draw(services(name))
        found.append(Change(replace(made, services={name: old}), replace(made, services={name: new})))
    return found


@given(FAMILIES.flatmap(lambda family: st.tuples(st.just(family), changes(family))), policy_sets(2, conditions=True))
def test_nothing_differs_outside_of_the_region(change: tuple[Family, list[Change]], steady: list[Policy]) -> None:
    family, fresh = change
    old, new = [*steady, *(each.old for each in fresh)], [*steady, *(each.new for each in fresh)]
    within = merge(family, [each.region(family) for each in fresh])
    expected = plainly.measure(family, old, new)
    assert measure(family, old, new, within) == measure(family, old, new) == expected
    assert max(expected.added, expected.lifted) <= within.addresses


@pytest.mark.parametrize("family", [4, 6])
def test_what_both_lists_have_is_no_difference_where_one_is_much_longer(family: Family) -> None:
    """Of the longer one only rows near the difference are looked at, of the shorter one all."""
    common, longer = [(9, 9), (0, 0)], [(0, 0)] * 8
    before, after = (
        policy("a", services_of("s", [ranges_of(family, rows_)], [Transport(None)]))
        for rows_ in ([*common, (0, 1)], [*common, *longer])
    )
    within = region(family, before, after)
    assert measure(family, [before], [after], within) == Delta(added=0, lifted=1)


@given(
    FAMILIES.flatmap(lambda family: st.tuples(st.just(family), changes(family))),
    policy_sets(2, conditions=True),
    policy_sets(2, conditions=True),
    st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9, 2.0]),
)
def test_what_passes_the_share_is_what_passes_it_measured_plainly(
    change: tuple[Family, list[Change]], steady: list[Policy], others: list[Policy], share: float
) -> None:
    _, fresh = change
    blocked = [*others, *(each.old for each in fresh)]
    found = holds._over(blocked, steady, fresh, share) if fresh else {}  # type: ignore[arg-type]
    for family in (4, 6):
        old, new = [*steady, *(each.old for each in fresh)], [*steady, *(each.new for each in fresh)]
        expected = plainly.over(family, blocked, old, new, share) if fresh else {}
        assert {kind: figures for (of, kind), figures in found.items() if of == family} == expected


@given(FAMILIES, policy_sets(3, conditions=True))
def test_a_part_is_never_more_than_the_whole(family: Family, blocked: list[Policy]) -> None:
    whole = merge(family, [spans for policy in blocked for _, spans in plainly.parts(family, policy)]).addresses
    assert total(family, blocked) == whole
    assert least(family, blocked) <= whole
