"""Ranges to prefixes in bulk, both families in one form.

An address is held left-aligned in 128 bits, as two arrays of 64 (`Bits`): an IPv4 address is the top 32 of them. So a
prefix of length n is the same n leading bits in either family, and everything here is done once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gatewrit.policy.model import IPV4_DTYPE, IPV6_DTYPE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gatewrit.compile.spans import Addresses
    from gatewrit.policy.terms import Family

    Words = NDArray[np.uint64]
    Lengths = NDArray[np.int64]

WIDTHS: dict[Family, int] = {4: 32, 6: 128}
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE, _HALF = np.uint64(1), np.uint64(32)


@dataclass(frozen=True, slots=True, eq=False)
class Bits:
    """Left-aligned addresses: `high` and `low` 64 bits, shape (n,) each."""

    high: Words
    low: Words

    def __len__(self) -> int:
        return len(self.high)

    def take(self, chosen: Any) -> Bits:
        """Give those that an index, slice or mask chooses."""
        return Bits(self.high[chosen], self.low[chosen])

    def field(self, begin: int, width: int) -> Words:
        """Give the `width` (at most 63) bits that follow the first `begin` ones, as numbers."""
        end = begin + width
        mask = np.uint64((1 << width) - 1)
        if end <= 64:
            return self.high >> np.uint64(64 - end) & mask if width else np.zeros_like(self.high)
        low = self.low >> np.uint64(128 - end)
        if begin >= 64:
            return low & mask
        return (self.high << np.uint64(end - 64) | low) & mask

    def addresses(self, family: Family) -> Addresses:
        """Give them as addresses of their family again."""
        if family == 4:
            return (self.high >> _HALF).astype(IPV4_DTYPE)
        found = np.empty(len(self), IPV6_DTYPE)
        found["hi"], found["lo"] = self.high, self.low
        return found


def joined(parts: list[Bits]) -> Bits:
    """Put several one after the other."""
    return Bits(np.concatenate([each.high for each in parts]), np.concatenate([each.low for each in parts]))


def starts_of(family: Family, addresses: Addresses) -> Bits:
    """Align addresses that begin a range."""
    if family == 4:
        return Bits(addresses.astype(np.uint64) << _HALF, np.zeros(len(addresses), np.uint64))
    return Bits(np.ascontiguousarray(addresses["hi"]), np.ascontiguousarray(addresses["lo"]))


def ends_of(family: Family, addresses: Addresses) -> Bits:
    """Align addresses that end a range: all that begins with an IPv4 address belongs to it."""
    if family == 4:
        high = addresses.astype(np.uint64) << _HALF | np.uint64(0xFFFFFFFF)
        return Bits(high, np.full(len(addresses), _ONES))
    return starts_of(family, addresses)


@dataclass(frozen=True, slots=True, eq=False)
class Prefixes:
    """Prefixes: where each begins and ends, its length, and the index of the range that it is a part of."""

    start: Bits
    end: Bits
    length: Lengths
    index: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.length)


def prefixes(first: Bits, last: Bits, most: int) -> tuple[Prefixes, NDArray[np.bool_]]:
    """Cut each range into the fewest prefixes, and say which ranges would need more than `most`: those are left out.

    The prefixes are in the order of the ranges.
    """
    ragged = np.zeros(len(first), np.bool_)
    index, length = _whole(first, last)
    if len(index) == len(first):
        return Prefixes(first, last, length, index), ragged
    found = [Prefixes(first.take(index), last.take(index), length, index)]
    left = np.ones(len(first), np.bool_)
    left[index] = False
    index = np.flatnonzero(left)
    first, last = first.take(index), last.take(index)
    for _ in range(most):
        size = np.minimum(_zeros_behind(first), _size(first, last))
        end = last_of(first, size)
        found.append(Prefixes(first, end, 128 - size, index))
        more = (end.high != last.high) | (end.low != last.low)
        first, last, index = after(end.take(more)), last.take(more), index[more]
        if not len(index):
            break
    ragged[index] = True
    start, end = joined([each.start for each in found]), joined([each.end for each in found])
    length, whose = (np.concatenate([getattr(each, part) for each in found]) for part in ("length", "index"))
    # In the order of the ranges again, so that nobody has to sort what was sorted before.
    order = np.argsort(whose, kind="stable")
    if len(index):
        order = order[~ragged[whose[order]]]
    return Prefixes(start.take(order), end.take(order), length[order], whose[order]), ragged


def _whole(first: Bits, last: Bits) -> tuple[NDArray[np.intp], Lengths]:
    """Say which ranges are one prefix, as most lists have them, and give their lengths: told without cutting."""
    high, low = first.high ^ last.high, first.low ^ last.low
    # All that differs is a run of ones at the end, which begins in one of the two halves.
    above = low == _ONES
    run = np.where(above, high, low)
    one = (above | (high == 0)) & (run & run + _ONE == 0) & (first.high & high == 0) & (first.low & low == 0)
    index = np.flatnonzero(one)
    run, above = run[index], above[index]
    ones = np.frexp((run + _ONE).astype(np.float64))[1].astype(np.int64) - 1
    ones[run == _ONES] = 64
    return index, 128 - ones - 64 * above


def _log2(values: Words) -> Lengths:
    """Give the place of the highest bit that is set; values aren't zero."""
    place = np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1
    # The conversion rounds: what is just below a power of two may have become it.
    over = (place > 63) | (_ONE << np.minimum(place, 63).astype(np.uint64) > values)
    return place - over


def _zeros_behind(bits: Bits) -> Lengths:
    """Count the zero bits at the end; 128 for zero."""
    high = _log2(np.where(bits.high == 0, _ONE, bits.high & (~bits.high + _ONE)))
    above = np.where(bits.high != 0, 64 + high, 128)
    if not bits.low.any():
        # IPv4, and of IPv6 what is no longer than a /64.
        return above
    low = _log2(np.where(bits.low == 0, _ONE, bits.low & (~bits.low + _ONE)))
    return np.where(bits.low != 0, low, above)


def _size(first: Bits, last: Bits) -> Lengths:
    """Give n of the largest 2**n that isn't more than the number of addresses in each range."""
    if not first.low.any() and bool((last.low == _ONES).all()):
        count = last.high - first.high + _ONE
        return np.where(count == 0, 128, 64 + _log2(np.maximum(count, _ONE)))
    low = last.low - first.low
    high = last.high - first.high - (last.low < first.low)
    # One more than the difference: a run of ones becomes the power of two after it.
    count = low + _ONE
    carry = high + (count == 0)
    whole = (count == 0) & (carry == 0)
    sizes = np.where(carry != 0, 64 + _log2(np.maximum(carry, _ONE)), _log2(np.maximum(count, _ONE)))
    return np.where(whole, 128, sizes)


def last_of(first: Bits, size: Lengths) -> Bits:
    """Give the last address of each aligned 2**size."""
    low = np.where(size >= 64, _ONES, (_ONE << np.minimum(size, 63).astype(np.uint64)) - _ONE)
    above = np.clip(size - 64, 0, 63).astype(np.uint64)
    high = np.where(size >= 128, _ONES, (_ONE << above) - _ONE)
    return Bits(first.high | high, first.low | low)


def after(bits: Bits) -> Bits:
    """Give the addresses after these, none of which is the very last."""
    low = bits.low + _ONE
    return Bits(bits.high + (low == 0), low)


def before(bits: Bits) -> Bits:
    """Give the addresses before these, none of which is the very first."""
    return Bits(bits.high - (bits.low == 0), bits.low - _ONE)
