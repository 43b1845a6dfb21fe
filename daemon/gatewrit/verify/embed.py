"""IPv4 addresses inside IPv6 ones, as NAT64 carries them (RFC 6052, section 2.2), read off the RFC's own figure.

Octet 8 of an address is zero and no part of what is embedded, where that begins before it and goes on behind it or
begins there. What follows the embedded octets may be anything. A range goes from the lowest address that stands for its
first to the highest that stands for its last; what lies between and has another octet 8 stands for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gatewrit.verify.addresses import Stretches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gatewrit.policy.model import Ranges
    from gatewrit.policy.terms import Family
    from gatewrit.verify.addresses import Words


def stretches(parts: Iterable[Ranges], family: Family, nat64: Iterable[Ranges]) -> Stretches:
    """Give all addresses of one family that are meant, the IPv4 ones inside each prefix of a NAT64 too."""
    parts = tuple(parts)
    own = Stretches.of_ranges(parts, family)
    if family == 4:
        return own
    four = Stretches.of_ranges(parts, 4)
    return Stretches.joined([own, *(_inside(four, *prefix) for prefix in _prefixes(nat64))], 6)


def _prefixes(nat64: Iterable[Ranges]) -> Iterator[tuple[int, int]]:
    """Yield each prefix with its length in octets."""
    for part in nat64:
        for first, last in zip(part.first.tolist(), part.last.tolist(), strict=True):
            low, high = (first[0] << 64) + first[1], (last[0] << 64) + last[1]
            yield low, 16 - ((high - low).bit_length() // 8)


def _inside(four: Stretches, prefix: int, octets: int) -> Stretches:
    return Stretches(_placed(four.first, prefix, octets, 0x00), _placed(four.last, prefix, octets, 0xFF))


def _placed(addresses: Words, prefix: int, octets: int, rest: int) -> Words:
    """Put IPv4 addresses behind so many octets of a prefix, and fill up with `rest`."""
    placed = np.full((addresses.shape[1], 16), rest, np.uint8)
    placed[:, :octets] = np.frombuffer(prefix.to_bytes(16, "big")[:octets], np.uint8)
    behind = [*range(octets, octets + 4)]
    if 5 <= octets <= 8:
        placed[:, 8] = 0
        behind = [at for at in range(octets, octets + 5) if at != 8]
    placed[:, behind] = addresses[0].astype(">u4").view(np.uint8).reshape(-1, 4)
    return np.ascontiguousarray(placed.view(">u8").T, np.uint64)
