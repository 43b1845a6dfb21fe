"""IPv4 addresses as IPv6 packets carry them to a NAT64: embedded behind its prefix (RFC 6052, section 2.2).

The octet at bits 64 to 71 (`u`) is zero where it stands within or before the embedded address. What follows the
address isn't looked at, as a translator doesn't either (section 2.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.spans import Spans, merge
from gatewrit.policy.model import IPV6_DTYPE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from gatewrit.policy.model import Family, Ranges

#: The lengths that a prefix can have, and how many bits of the IPv4 address then stand behind the octet `u`.
_BEHIND_U = {32: 0, 40: 8, 48: 16, 56: 24, 64: 32, 96: 32}
LENGTHS = tuple(_BEHIND_U)


def spread(family: Family, ranges: Iterable[Ranges], nat64: Iterable[Ranges]) -> Spans:
    """Unite all addresses of one family, those of IPv4 embedded in each NAT64 prefix too."""
    parts: list[Ranges | Spans] = list(ranges)
    prefixes = list(nat64)
    if family == 6 and prefixes:
        four = merge(4, parts)
        parts += [embed(four, high, low, length) for high, low, length in _prefixes(prefixes)]
    return merge(family, parts)


def prefix_length(first: int, last: int) -> int | None:
    """Give the length of an IPv6 range that can be a NAT64 prefix; None for any other."""
    size = last - first + 1
    length = 129 - size.bit_length()
    fits = size & (size - 1) == 0 and first % size == 0 and length in LENGTHS
    return length if fits else None


def _prefixes(ranges: Iterable[Ranges]) -> Iterable[tuple[int, int, int]]:
    """Give each prefix as its two halves and its length."""
    for part in ranges:
        for first, last in zip(part.first.tolist(), part.last.tolist(), strict=True):
            length = prefix_length((first[0] << 64) + first[1], (last[0] << 64) + last[1])
            if length is None:
                raise ValueError(f"a NAT64 prefix has one of the lengths {LENGTHS}")
            yield first[0], first[1], length


def embed(four: Spans, high: int, low: int, length: int) -> Spans:
    """Give IPv4 spans behind a prefix, whose two 64-bit halves are `high` and `low`; not merged.

    Where the octet `u` cuts the address in two, each value of its upper part gets a range of its own.
    """
    first, last = four.first.astype(np.uint64), four.last.astype(np.uint64)
    top, bottom = np.uint64(high), np.uint64(low)
    if length == 32:
        return _pack(top | first, np.zeros_like(first), top | last, np.full_like(last, 2**64 - 1))
    if length == 96:
        return _pack(np.full_like(first, high), bottom | first, np.full_like(last, high), bottom | last)
    behind = np.uint64(_BEHIND_U[length])
    counts = ((last >> behind) - (first >> behind) + np.uint64(1)).astype(np.int64)
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    upper = np.repeat(first >> behind, counts) + offsets.astype(np.uint64)
    begin = np.maximum(np.repeat(first, counts), upper << behind)
    end = np.minimum(np.repeat(last, counts), ((upper + np.uint64(1)) << behind) - np.uint64(1))
    mask, shift = (np.uint64(1) << behind) - np.uint64(1), np.uint64(56) - behind
    tail = (np.uint64(1) << shift) - np.uint64(1)
    halves = top | upper
    return _pack(halves, (begin & mask) << shift, halves, (end & mask) << shift | tail)


def _pack(
    first_high: NDArray[np.uint64],
    first_low: NDArray[np.uint64],
    last_high: NDArray[np.uint64],
    last_low: NDArray[np.uint64],
) -> Spans:
    first, last = np.empty(len(first_high), IPV6_DTYPE), np.empty(len(last_high), IPV6_DTYPE)
    first["hi"], first["lo"] = first_high, first_low
    last["hi"], last["lo"] = last_high, last_low
    return Spans(6, first, last)
