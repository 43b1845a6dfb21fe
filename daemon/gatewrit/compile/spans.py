"""Interval algebra over addresses in bulk: sorted, disjoint, inclusive ranges of one family as NumPy arrays.

NumPy has no numbers of 128 bits, and compares structured values one by one: so IPv6 addresses are compared, sorted and
found by their two halves here, the high ones first and the low ones only where that leaves ties.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gatewrit.policy.model import IPV4_DTYPE, IPV6_DTYPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from gatewrit.policy.model import Ranges
    from gatewrit.policy.terms import Family

    Addresses = NDArray[Any]
    Indices = NDArray[np.intp]
    Side = Literal["left", "right"]
    #: What puts rows in order; a slice where they are.
    Order = Indices | slice

_AS_THEY_ARE = slice(None)
#: Up to so many sorted lists one after the other are merged rather than sorted.
_RUNS = 64
#: Where there are so many times more addresses than are sought, bisecting costs less than taking their halves apart.
_FEW = 32
#: Up to so many changes are made by putting slices together, more of them one by one: see `Splice`.
_SLICES = 1 << 14


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Sorted, disjoint, non-adjacent inclusive ranges: `first` and `last` of IPV4_DTYPE or IPV6_DTYPE, shape (n,)."""

    family: Family
    first: Addresses
    last: Addresses

    def __len__(self) -> int:
        return len(self.first)

    @property
    def addresses(self) -> int:
        """How many distinct addresses these are."""
        if self.family == 4:
            return int(self.last.sum(dtype=np.uint64)) - int(self.first.sum(dtype=np.uint64)) + len(self)
        high = exact_sum(self.last["hi"]) - exact_sum(self.first["hi"])
        low = exact_sum(self.last["lo"]) - exact_sum(self.first["lo"])
        return (high << 64) + low + len(self)


def exact_sum(values: NDArray[np.uint64]) -> int:
    """Add up 64-bit numbers without overflow."""
    half = np.uint64(0xFFFFFFFF)
    return (int((values >> np.uint64(32)).sum()) << 32) + int((values & half).sum())


def nothing(family: Family) -> Addresses:
    """Give no addresses at all, of the right type."""
    return np.zeros(0, IPV4_DTYPE if family == 4 else IPV6_DTYPE)


def merge(family: Family, ranges: Iterable[Ranges | Spans]) -> Spans:
    """Unite ranges in any order, overlapping, nested, duplicate or adjacent, into spans."""
    parts = [each for each in ranges if each.family == family]
    first, last = _in_order(*_concatenated(family, parts))
    if not len(first):
        return Spans(family, first, last)
    if bool(gaps(last, first).all()):
        return Spans(family, first, last)
    reach = _reach(last)
    # What begins beyond all that came before it, and not just behind, begins a span.
    starts = np.flatnonzero(np.concatenate([[True], gaps(reach, first)]))
    return Spans(family, first[starts], reach[np.append(starts[1:], len(first)) - 1])


def _concatenated(family: Family, parts: list[Ranges | Spans]) -> tuple[Addresses, Addresses]:
    if len(parts) == 1:
        return parts[0].first, parts[0].last
    none = nothing(family)
    first = np.concatenate([each.first for each in parts] or [none])
    return first, np.concatenate([each.last for each in parts] or [none])


def _in_order(first: Addresses, last: Addresses) -> tuple[Addresses, Addresses]:
    """Sort ranges by where they begin."""
    if first.dtype != IPV4_DTYPE:
        order = order_of(first["hi"], first["lo"])
        return first[order], last[order]
    if bool((first[1:] >= first[:-1]).all()):
        return first, last
    both = np.sort(first.astype(np.uint64) << np.uint64(32) | last)
    return (both >> np.uint64(32)).astype(IPV4_DTYPE), both.astype(IPV4_DTYPE)


def order_of(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> Order:
    """Give what sorts numbers that are given as their halves; equal ones may end up either way round."""
    up = high[1:] > high[:-1]
    if bool(up.all()):
        return _AS_THEY_ARE
    if bool((up | ((high[1:] == high[:-1]) & (low[1:] >= low[:-1]))).all()):
        return _AS_THEY_ARE
    # A few sorted lists one after the other are merged, which takes a tenth of sorting them.
    found = np.argsort(high, kind="stable" if len(up) - np.count_nonzero(up) <= _RUNS else None)
    ahead = high[found]
    tied = np.zeros(len(found) + 1, np.bool_)
    tied[1:-1] = ahead[1:] == ahead[:-1]
    within = np.flatnonzero(tied[1:] | tied[:-1])
    rows = found[within]
    found[within] = rows[np.lexsort((low[rows], ahead[within]))]
    return found


def gaps(last: Addresses, first: Addresses) -> NDArray[np.bool_]:
    """Say for each range but the first whether an address is left out between `last` of the one before and it."""
    return apart(last[:-1], first[1:])


def apart(before: Addresses, after: Addresses) -> NDArray[np.bool_]:
    """Say for each pair whether an address is left out between `before`, where a range ends, and `after`."""
    if after.dtype == IPV4_DTYPE:
        return (after > before) & (after - before > 1)
    carried = after["lo"] < before["lo"]
    high = after["hi"] - before["hi"] - carried
    beyond = (after["hi"] > before["hi"]) | ((after["hi"] == before["hi"]) & ~carried)
    found: NDArray[np.bool_] = beyond & ((high > 0) | (after["lo"] - before["lo"] > 1))
    return found


def _reach(last: Addresses) -> Addresses:
    """Give, for each range, the highest address that it or one before it reaches."""
    if last.dtype == IPV4_DTYPE:
        return np.maximum.accumulate(last)
    high = np.maximum.accumulate(last["hi"])
    low = np.where(last["hi"] == high, last["lo"], np.uint64(0))
    # Only among ranges with one high half so far do the low ones tell. That half never falls, so ranks never mix them.
    tied = np.zeros(len(last) + 1, np.bool_)
    tied[1:-1] = high[1:] == high[:-1]
    rows = np.flatnonzero(tied[1:] | tied[:-1])
    order = np.lexsort((low[rows], high[rows]))
    rank = np.empty(len(rows), np.intp)
    rank[order] = np.arange(len(rows))
    low[rows] = low[rows][order][np.maximum.accumulate(rank)]
    return addresses_of(high, low)


def addresses_of(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> Addresses:
    """Give IPv6 addresses of their halves."""
    found = np.empty(len(high), IPV6_DTYPE)
    found["hi"], found["lo"] = high, low
    return found


# -- finding -----------------------------------------------------------------------------------------------------------


class Places:
    """Sorted addresses in which others are found."""

    def __init__(self, addresses: Addresses) -> None:
        self._whole = addresses

    def find(self, wanted: Addresses, side: Side = "left") -> Indices:
        """Give where each of `wanted` would have to be put in: before (`left`) or behind its equals."""
        count = len(self._whole)
        if self._whole.dtype == IPV4_DTYPE:
            return np.searchsorted(self._whole, wanted, side)
        if len(wanted) * _FEW < count:
            return self._halved(np.zeros(len(wanted), np.intp), np.full(len(wanted), count), wanted, side)
        high = np.ascontiguousarray(self._whole["hi"])
        begin: Indices = np.searchsorted(high, wanted["hi"])
        if not count:
            return begin
        # The first one with this high half; only those that are behind it too are sought further.
        at = np.minimum(begin, count - 1)
        sought = np.flatnonzero((high[at] == wanted["hi"]) & (begin == at) & self._behind(at, wanted, side))
        end = np.searchsorted(high, wanted["hi"][sought], "right")
        begin[sought] = self._halved(begin[sought] + 1, end, wanted[sought], side)
        return begin

    def _halved(self, begin: Indices, end: Indices, wanted: Addresses, side: Side) -> Indices:
        """Bisect from each `begin` up to before each `end`."""
        while bool((begin < end).any()):
            middle = np.minimum((begin + end) >> 1, len(self._whole) - 1)
            behind = self._behind(middle, wanted, side) & (begin < end)
            begin, end = np.where(behind, middle + 1, begin), np.where(behind, end, np.minimum(middle, end))
        return begin

    def _behind(self, at: Indices, wanted: Addresses, side: Side) -> NDArray[np.bool_]:
        there = self._whole[at]
        return below(there, wanted) if side == "left" else ~below(wanted, there)


def meets(first: Addresses, last: Addresses, spans: Spans) -> NDArray[np.bool_]:
    """Say for each range, in any order, whether it meets the spans."""
    if not len(first) or not len(spans):
        return np.zeros(len(first), np.bool_)
    return Places(spans.last).find(first) < Places(spans.first).find(last, "right")


def met_by(first: Addresses, last: Addresses, spans: Spans) -> Indices:
    """Give the indices of those of sorted, disjoint ranges that meet any of a few spans."""
    if not len(first) or not len(spans):
        return np.zeros(0, np.intp)
    begin, end = Places(last).find(spans.first), Places(first).find(spans.last, "right")
    # One range may meet several spans: it is given once.
    begin[1:] = np.maximum(begin[1:], end[:-1])
    return expanded(begin, np.maximum(end, begin))[0]


def expanded(begin: Indices, end: Indices) -> tuple[Indices, Indices]:
    """Give all indices from each `begin` up to before each `end`, and which of these each one comes from."""
    counts = end - begin
    whose = np.repeat(np.arange(len(counts)), counts)
    steps = np.arange(len(whose)) - np.repeat(np.cumsum(counts) - counts, counts)
    return begin[whose] + steps, whose


def clip(first: Addresses, last: Addresses, region: Spans) -> tuple[Addresses, Addresses, Indices]:
    """Give what of ranges, in any order, is in the region, and the index of the range that each part is of."""
    begin, end = Places(region.last).find(first), Places(region.first).find(last, "right")
    within, whose = expanded(begin, np.maximum(begin, end))
    return _later(first[whose], region.first[within]), _earlier(last[whose], region.last[within]), whose


def intersect(spans: Spans, region: Spans) -> Spans:
    """Give what of spans is in the region: in no time where either is small."""
    few, many = (spans, region) if len(spans) <= len(region) else (region, spans)
    return Spans(spans.family, *clip(few.first, few.last, many)[:2])


def _later(one: Addresses, other: Addresses) -> Addresses:
    return np.maximum(one, other) if one.dtype == IPV4_DTYPE else np.where(below(one, other), other, one)


def _earlier(one: Addresses, other: Addresses) -> Addresses:
    return np.minimum(one, other) if one.dtype == IPV4_DTYPE else np.where(below(one, other), one, other)


def below(one: Addresses, other: Addresses) -> NDArray[np.bool_]:
    """Say for each address of `one` whether it is below that of `other` in the same place."""
    if one.dtype == IPV4_DTYPE:
        return one < other
    found: NDArray[np.bool_] = (one["hi"] < other["hi"]) | ((one["hi"] == other["hi"]) & (one["lo"] < other["lo"]))
    return found


def alike(one: Addresses, other: Addresses) -> bool:
    """Say whether two arrays hold the same addresses; they are as octets, for NumPy compares halves one by one."""
    if one.dtype == IPV4_DTYPE:
        return np.array_equal(one, other)
    return np.array_equal(one.view(np.uint64), other.view(np.uint64))


def same(one: Addresses, other: Addresses) -> NDArray[np.bool_]:
    """Say for each address of `one` whether it is that of `other` in the same place."""
    found: NDArray[np.bool_]
    found = one == other if one.dtype == IPV4_DTYPE else (one["hi"] == other["hi"]) & (one["lo"] == other["lo"])
    return found


def unlike(one: Spans, other: Spans) -> Spans:
    """Unite the spans that only one of the two has in just this form: all in which they differ."""
    if not len(one) or not len(other):
        return merge(one.family, [one, other])
    place = np.minimum(Places(other.first).find(one.first), len(other) - 1)
    found = same(one.first, other.first[place]) & same(one.last, other.last[place])
    gone, new = np.flatnonzero(~found), np.ones(len(other), np.bool_)
    new[place[found]] = False
    parts = Spans(one.family, one.first[gone], one.last[gone]), Spans(one.family, other.first[new], other.last[new])
    return merge(one.family, parts)


# -- changing ----------------------------------------------------------------------------------------------------------


class Splice:
    """Sorted ranges of which some are taken out, and others put in: for all arrays that say something of them.

    `at` is where those put in are afterwards.
    """

    def __init__(self, first: Addresses, out: Indices, into: Addresses) -> None:
        place = Places(first).find(into)
        before = place - np.searchsorted(out, place)
        self.at: Indices = before + np.arange(len(into))
        self._out, self._before = out, before
        self._slices: list[tuple[bool, int, int]] | None = None
        if len(out) + len(into) <= _SLICES:
            self._slices = list(_slices(len(first), out, place))

    def apply(self, old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
        """Give one array after the change."""
        if self._slices is None:
            return np.insert(np.delete(old, self._out), self._before, new)
        parts = [(new if fresh else old)[begin:end] for fresh, begin, end in self._slices]
        return np.concatenate([old[:0], *parts])


def _slices(count: int, out: Indices, place: Indices) -> Iterator[tuple[bool, int, int]]:
    """Yield what follows each other: whether it is new, and from where up to before where it is taken."""
    edges = np.unique(np.concatenate([[0], out, out + 1, place, [count]]))
    begin, end = np.searchsorted(place, edges), np.searchsorted(place, edges, "right")
    gone = np.isin(edges, out)
    ends = np.append(edges[1:], count)
    for at, stop, first, last, left_out in zip(
        edges.tolist(), ends.tolist(), begin.tolist(), end.tolist(), gone.tolist(), strict=True
    ):
        if first < last:
            yield True, first, last
        if at < stop and not left_out:
            yield False, at, stop
