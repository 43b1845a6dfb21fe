"""Interval algebra over addresses in bulk: sorted, disjoint, inclusive ranges of one family as NumPy arrays.

Inside, a position is a number in 0..2**32 (IPv4) or 0..2**128 (IPv6): an address, or the one after the last. IPv6
positions are three arrays (top, high and low 64 bits), because NumPy has no wider integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gatewrit.policy.model import IPV4_DTYPE, IPV6_DTYPE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from gatewrit.policy.model import Family, Ranges

    Addresses = NDArray[Any]
    Indices = NDArray[np.intp]


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
            return exact_sum(self.last.astype(np.uint64)) - exact_sum(self.first.astype(np.uint64)) + len(self)
        high = exact_sum(self.last["hi"]) - exact_sum(self.first["hi"])
        low = exact_sum(self.last["lo"]) - exact_sum(self.first["lo"])
        return (high << 64) + low + len(self)


def exact_sum(values: NDArray[np.uint64]) -> int:
    """Add up 64-bit numbers without overflow."""
    half = np.uint64(0xFFFFFFFF)
    return (int((values >> np.uint64(32)).sum()) << 32) + int((values & half).sum())


def merge(family: Family, ranges: Iterable[Ranges | Spans]) -> Spans:
    """Unite ranges in any order, overlapping, nested, duplicate or adjacent, into spans."""
    parts = [each for each in ranges if each.family == family]
    dtype = IPV4_DTYPE if family == 4 else IPV6_DTYPE
    first = np.concatenate([each.first for each in parts] or [np.zeros(0, dtype)])
    last = np.concatenate([each.last for each in parts] or [np.zeros(0, dtype)])
    if not len(first):
        return Spans(family, first, last)
    positions, starts, ends = rank(family, first, last)
    depth = np.zeros(len(positions), np.int64)
    np.add.at(depth, starts, 1)
    np.subtract.at(depth, ends, 1)
    covered = np.cumsum(depth) > 0
    return Spans(family, *runs(positions, covered.astype(np.int64) - 1)[:2])


def rank(family: Family, first: Addresses, last: Addresses) -> tuple[Positions, Indices, Indices]:
    """Give the distinct boundaries in order, and for each range the index of its start and of the one after its end."""
    if family == 4:
        both = np.concatenate([first.astype(np.uint64), last.astype(np.uint64) + np.uint64(1)])
        distinct, index = np.unique(both, return_inverse=True)
        positions = Positions(family, np.zeros(0, np.uint8), np.zeros(0, np.uint64), distinct)
    else:
        low_after = last["lo"] + np.uint64(1)
        high_after = last["hi"] + (low_after == 0)
        top_after = (low_after == 0) & (high_after == 0)
        top = np.concatenate([np.zeros(len(first), np.uint8), top_after.astype(np.uint8)])
        high = np.concatenate([first["hi"], high_after])
        low = np.concatenate([first["lo"], low_after])
        chosen, index = distinct_rows(low, high, top)
        positions = Positions(family, top[chosen], high[chosen], low[chosen])
    return positions, index[: len(first)], index[len(first) :]


def distinct_rows(*keys: NDArray[Any]) -> tuple[Indices, Indices]:
    """Give an index of each distinct row, in order, and each row's place among them; the last key counts first."""
    order = np.lexsort(keys)
    changes = np.zeros(len(order), np.bool_)
    changes[:1] = True
    for key in keys:
        ordered = key[order]
        changes[1:] |= ordered[1:] != ordered[:-1]
    place = np.empty(len(order), np.intp)
    place[order] = np.cumsum(changes) - 1
    return order[changes], place


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """Distinct boundaries in ascending order; `top` and `high` are empty for IPv4."""

    family: Family
    top: NDArray[np.uint8]
    high: NDArray[np.uint64]
    low: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.low)

    def at(self, index: Indices) -> Addresses:
        """Give the addresses at these boundaries."""
        if self.family == 4:
            return self.low[index].astype(IPV4_DTYPE)
        found = np.empty(len(index), IPV6_DTYPE)
        found["hi"], found["lo"] = self.high[index], self.low[index]
        return found

    def before(self, index: Indices) -> Addresses:
        """Give the addresses just before these boundaries."""
        if self.family == 4:
            return (self.low[index] - np.uint64(1)).astype(IPV4_DTYPE)
        found = np.empty(len(index), IPV6_DTYPE)
        low = self.low[index]
        found["lo"] = low - np.uint64(1)
        found["hi"] = self.high[index] - (low == 0)
        return found


def runs(positions: Positions, label: NDArray[np.int64]) -> tuple[Addresses, Addresses, NDArray[np.int64]]:
    """Give (first, last, label) for each maximal run of elementary ranges with one label; negative ones are left out.

    `label[i]` belongs to the addresses from boundary i up to boundary i + 1; the last one covers nothing.
    """
    starts = np.flatnonzero(np.diff(label, prepend=-1) != 0)
    ends = np.append(starts[1:], len(label) - 1)
    kept = label[starts] >= 0
    starts, ends = starts[kept], ends[kept]
    return positions.at(starts), positions.before(ends), label[starts]
