"""IPv4 addresses inside IPv6 ones, as NAT64 carries them (RFC 6052, section 2.2), read off the RFC's own figure.

Octet 8 of an address is zero and no part of what is embedded, where that begins before it and goes on behind it or
begins there. What follows the embedded octets may be anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gatewrit.verify.addresses import Stretches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gatewrit.policy.model import Family, Ranges


def stretches(parts: Iterable[Ranges], family: Family, nat64: Iterable[Ranges]) -> Stretches:
    """Give all addresses of one family that are meant, the IPv4 ones inside each prefix of a NAT64 too."""
    parts = tuple(parts)
    own = Stretches.of_ranges(parts, family)
    if family == 4:
        return own
    four = Stretches.of_ranges(parts, 4)
    spread = [own, *(_inside(four, *prefix) for prefix in _prefixes(nat64))]
    return Stretches(np.concatenate([each.first for each in spread]), np.concatenate([each.last for each in spread]))


def _prefixes(nat64: Iterable[Ranges]) -> Iterator[tuple[int, int]]:
    """Yield each prefix with its length in octets."""
    for part in nat64:
        for first, last in zip(part.first.tolist(), part.last.tolist(), strict=True):
            low, high = (first[0] << 64) + first[1], (last[0] << 64) + last[1]
            yield low, 16 - ((high - low).bit_length() // 8)


def _inside(four: Stretches, prefix: int, octets: int) -> Stretches:
    pairs: list[tuple[int, int]] = []
    for first, last in zip(four.first[:, 1].tolist(), four.last[:, 1].tolist(), strict=True):
        pairs += ((prefix | low, prefix | high) for low, high in _placed(first, last, octets))
    return Stretches.of_pairs(pairs)


def _placed(first: int, last: int, octets: int) -> Iterator[tuple[int, int]]:
    """Yield where the addresses `first` to `last` come to lie behind a prefix of so many octets."""
    if octets in {4, 12}:
        free = 8 * (12 - octets)
        yield first << free, (last << free) + (1 << free) - 1
        return
    # So many octets of the address stand before octet 8; the rest, behind it, is what runs on.
    before = 8 - octets
    rest = 8 * (4 - before)
    free = 56 - rest
    for upper in range(first >> rest, (last >> rest) + 1):
        low = max(first, upper << rest) & (1 << rest) - 1
        high = min(last, (upper + 1 << rest) - 1) & (1 << rest) - 1
        yield (upper << 64) + (low << free), (upper << 64) + (high << free) + (1 << free) - 1
