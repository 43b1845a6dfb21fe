"""Boundaries of ranges in bulk: where something begins or has just ended, each once, in order.

A position is a number in 0..2**32 (IPv4) or 0..2**128 (IPv6): an address, or the one after the last. IPv6 positions
are three arrays (top, high and low 64 bits), because NumPy has no wider integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.spans import addresses_of, order_of
from gatewrit.policy.model import IPV4_DTYPE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatewrit.compile.spans import Addresses, Indices
    from gatewrit.policy.terms import Family

#: An IPv4 position and the index of what it belongs to are sorted as one number; the index has so many bits of it.
_INDEX = np.uint64(31)


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """Distinct boundaries in ascending order; `high` is empty for IPv4, and what is beyond IPv6 is zero again."""

    family: Family
    high: NDArray[np.uint64]
    low: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.low)

    def at(self, index: Indices) -> Addresses:
        """Give the addresses at these boundaries."""
        low = self.low[index]
        return low.astype(IPV4_DTYPE) if self.family == 4 else addresses_of(self.high[index], low)

    def before(self, index: Indices) -> Addresses:
        """Give the addresses just before these boundaries."""
        low = self.low[index]
        if self.family == 4:
            return (low - np.uint64(1)).astype(IPV4_DTYPE)
        return addresses_of(self.high[index] - (low == 0), low - np.uint64(1))


def rank(family: Family, first: Addresses, last: Addresses) -> tuple[Positions, Indices, Indices]:
    """Give the distinct boundaries in order, and for each range the index of its start and of the one after its end."""
    if family == 4:
        both = np.concatenate([first.astype(np.uint64), last.astype(np.uint64) + np.uint64(1)])
        packed = np.sort(both << _INDEX | np.arange(len(both), dtype=np.uint64))
        order = (packed & np.uint64((1 << 31) - 1)).astype(np.intp)
        low = packed >> _INDEX
        changes = _changes(low)
        positions = Positions(family, low[:0], low[changes])
    else:
        low_after = last["lo"] + np.uint64(1)
        high_after = last["hi"] + (low_after == 0)
        high, low = np.concatenate([first["hi"], high_after]), np.concatenate([first["lo"], low_after])
        beyond = len(first) + np.flatnonzero((low_after == 0) & (high_after == 0))
        order = _order(high, low, beyond)
        high, low = high[order], low[order]
        changes = _changes(low) | _changes(high)
        if len(beyond):
            # It looks like the first address, which may be the one boundary before it.
            changes[-len(beyond)] = True
        positions = Positions(family, high[changes], low[changes])
    index = np.empty(len(order), np.intp)
    index[order] = np.cumsum(changes) - 1
    return positions, index[: len(first)], index[len(first) :]


def _order(high: NDArray[np.uint64], low: NDArray[np.uint64], beyond: Indices) -> Indices:
    """Sort IPv6 boundaries: those `beyond` the last address, which look like the first one, come last."""
    found = np.arange(len(high))
    if not len(beyond):
        return found[order_of(high, low)]
    within = np.delete(found, beyond)
    return np.concatenate([within[order_of(high[within], low[within])], beyond])


def _changes(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Say where a value isn't the one before."""
    changes = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=changes[1:])
    return changes


def distinct_pairs(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> tuple[Indices, Indices]:
    """Give an index of each distinct pair, and each pair's number."""
    ordered = np.sort(one)
    distinct = ordered[_changes(ordered)]
    place = np.searchsorted(distinct, one)
    sample = np.empty(len(distinct), np.intp)
    sample[place] = np.arange(len(place))
    if np.array_equal(other[sample][place], other):
        return sample, place
    # Pairs that are alike in one half only: sorted by both.
    order = np.lexsort((other, one))
    changes = _changes(one[order]) | _changes(other[order])
    place = np.empty(len(order), np.intp)
    place[order] = np.cumsum(changes) - 1
    return order[changes], place


def runs(positions: Positions, label: NDArray[np.int64]) -> tuple[Addresses, Addresses, NDArray[np.int64]]:
    """Give (first, last, label) for each maximal run of elementary ranges with one label; negative ones are left out.

    `label[i]` belongs to the addresses from boundary i up to boundary i + 1; the last one covers nothing.
    """
    starts = np.flatnonzero(np.diff(label, prepend=-1) != 0)
    ends = np.append(starts[1:], len(label) - 1)
    kept = label[starts] >= 0
    starts, ends = starts[kept], ends[kept]
    return positions.at(starts), positions.before(ends), label[starts]
