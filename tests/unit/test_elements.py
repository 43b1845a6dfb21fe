from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.kernel import expressions, wire
from gatewrit.kernel.codec import LIST_BYTES, decode, encode
from gatewrit.kernel.elements import Elements, Verdict, decode_verdict, encode_verdict
from gatewrit.kernel.expressions import (
    Byteorder,
    Cmp,
    CounterRef,
    Expression,
    Immediate,
    Lookup,
    Meta,
    Payload,
    Reject,
    Unknown,
)

VERDICTS = [Verdict("drop"), Verdict("return"), Verdict("goto", "a"), Verdict("goto", "to4.0123456789")]
names = st.text("abc.-0", min_size=1, max_size=20)
verdicts = st.one_of(
    st.sampled_from([Verdict("drop"), Verdict("accept"), Verdict("return")]),
    st.builds(Verdict, st.sampled_from(["jump", "goto"]), names),
)


@st.composite
def element_sets(draw: st.DrawFn, width: int, *, ranges: bool) -> Elements:
    """Give disjoint ranges, touching and at both ends of the key space included."""
    top = 256**width - 1
    near = st.one_of(st.integers(0, 20), st.integers(top - 20, top), st.integers(0, top))
    cuts = sorted(draw(st.sets(near, max_size=20)))
    kinds = [None] if draw(st.booleans()) else VERDICTS
    if ranges and len(cuts) % 2:
        cuts = cuts[:-1]
    pairs = zip(cuts[::2], cuts[1::2], strict=True) if ranges else ((cut, cut) for cut in cuts)
    return Elements.of(
        width,
        [
            (low.to_bytes(width, "big"), high.to_bytes(width, "big"), draw(st.sampled_from(kinds)))
            for low, high in pairs
        ],
    )


@pytest.mark.parametrize("width", [1, 4, 8, 16])
@given(data=st.data())
def test_intervals_come_back_as_they_went(width: int, data: st.DataObject) -> None:
    elements = data.draw(element_sets(width, ranges=True))
    lists = list(encode(elements, interval=True, concatenated=False))
    assert list(decode(lists, width, interval=True, concatenated=False).rows()) == list(elements.rows())


@given(element_sets(8, ranges=True))
def test_concatenated_intervals_come_back_as_they_went(elements: Elements) -> None:
    lists = list(encode(elements, interval=True, concatenated=True))
    assert list(decode(lists, 8, interval=True, concatenated=True).rows()) == list(elements.rows())


@given(element_sets(8, ranges=False))
def test_exact_keys_come_back_as_they_went(elements: Elements) -> None:
    lists = list(encode(elements, interval=False, concatenated=True))
    assert list(decode(lists, 8, interval=False, concatenated=True).rows()) == list(elements.rows())


def test_every_range_below_the_top_is_closed() -> None:
    """A start without its end would swallow everything up to the next one."""
    elements = Elements.of(4, [(bytes(4), bytes(4), None), (bytes([255] * 4), bytes([255] * 4), None)])
    payload = b"".join(encode(elements, interval=True, concatenated=False))
    marks = [wire.attributes(element) for _, element in wire.walk(payload)]
    assert [(wire.attributes(mark[1])[1].hex(), 3 in mark) for mark in marks] == [
        ("00000000", False),
        ("00000001", True),
        ("ffffffff", False),
    ]


def test_large_sets_are_cut_into_lists_that_fit_an_attribute() -> None:
    rows = [((2 * n).to_bytes(4, "big"), (2 * n).to_bytes(4, "big"), Verdict("goto", "x" * 30)) for n in range(5000)]
    lists = list(encode(Elements.of(4, rows), interval=True, concatenated=False))
    assert len(lists) > 1
    assert all(len(payload) <= LIST_BYTES for payload in lists)
    assert list(decode(lists, 4, interval=True, concatenated=False).rows()) == rows


def test_overlaps_never_reach_the_kernel() -> None:
    with pytest.raises(ValueError, match="sorted and disjoint"):
        Elements.of(4, [(bytes(4), bytes([0, 0, 0, 9]), None), (bytes([0, 0, 0, 9]), bytes([0, 0, 1, 0]), None)])


@given(element_sets(4, ranges=True), element_sets(4, ranges=True))
def test_minus_keeps_what_the_other_has_not_in_just_this_form(one: Elements, two: Elements) -> None:
    mine, theirs = list(one.rows()), list(two.rows())
    assert [list(each.rows()) for each in one.apart(two)] == [
        [row for row in mine if row not in theirs],
        [row for row in theirs if row not in mine],
    ]
    assert list(one.minus(two).rows()) == list(one.apart(two)[0].rows())


def test_minus_looks_at_both_ends_and_the_verdict() -> None:
    a, b, c = (bytes([0, 0, 0, n]) for n in (1, 2, 3))
    go, stop = Verdict("goto", "c"), Verdict("drop")
    for one, two in [
        ((a, b, go), (a, c, go)),
        ((a, b, go), (a, b, stop)),
        ((a, b, go), (a, b, None)),
        ((a, a, go), (a, b, go)),
    ]:
        for mine, theirs in ((one, two), (two, one)):
            assert list(Elements.of(4, [mine]).minus(Elements.of(4, [theirs])).rows()) == [mine]
    numbered = Elements(4, np.array([a, b]), np.array([a, b]), np.array([0, 1], np.int32), (go, go))
    other = Elements(4, np.array([a, b]), np.array([a, b]), np.array([1, 1], np.int32), (stop, go))
    assert (len(numbered.minus(other)), len(other.minus(numbered))) == (0, 0)
    assert numbered.digest() == other.digest()


rows = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([None, *VERDICTS])), max_size=4)


@given(rows, rows)
def test_digests_are_equal_where_rows_are(one: list[tuple[int, Verdict]], two: list[tuple[int, Verdict]]) -> None:
    def make(said: list[tuple[int, Verdict]]) -> Elements:
        mapped = all(verdict for _, verdict in said)
        items = [
            ((9 * at).to_bytes(4, "big"), (9 * at + wide).to_bytes(4, "big"), verdict if mapped else None)
            for at, (wide, verdict) in enumerate(said)
        ]
        return Elements.of(4, items)

    first, second = make(one), make(two)
    assert (first.digest() == second.digest()) == (list(first.rows()) == list(second.rows()))


@given(verdicts)
def test_verdicts_come_back_as_they_went(verdict: Verdict) -> None:
    assert decode_verdict(encode_verdict(verdict)) == verdict


registers = st.sampled_from([1, 2, 8, 9, 10])
small = st.integers(0, 255)
expression: st.SearchStrategy[Expression] = st.one_of(
    st.builds(Meta, small, registers),
    st.builds(Payload, small, small, small, registers),
    st.builds(Cmp, st.integers(0, 5), st.binary(min_size=1, max_size=16), registers),
    st.builds(lambda size, times: Byteorder(size, size * times), st.sampled_from([2, 4, 8]), st.integers(1, 2)),
    st.builds(Lookup, names, st.booleans(), registers, st.integers(0, 1)),
    st.builds(Immediate, verdicts),
    st.builds(CounterRef, names),
    st.builds(Reject, st.integers(0, 2), small),
    st.builds(Unknown, st.sampled_from(["ct", "log", "quota"]), st.just(wire.be32(1, 7))),
)


@given(st.lists(expression, max_size=6).map(tuple))
def test_expressions_come_back_as_they_went(rule: tuple[Expression, ...]) -> None:
    assert expressions.decode(expressions.encode(rule)) == rule


@given(st.binary(max_size=200))
def test_no_bytes_from_the_kernel_do_worse_than_an_error(data: bytes) -> None:
    for attempt in (
        lambda: list(wire.walk(data)),
        lambda: expressions.decode(data),
        lambda: decode([data], 4, interval=True, concatenated=False),
    ):
        with suppress(wire.WireError):
            attempt()


def test_registers_follow_each_other_as_the_kernel_numbers_them() -> None:
    assert [expressions.next_register(1, 4), expressions.next_register(9, 4), expressions.next_register(1, 16)] == [
        9,
        10,
        2,
    ]
    assert expressions.next_register(11, 4) == 2
