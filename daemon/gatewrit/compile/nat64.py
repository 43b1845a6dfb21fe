"""IPv4 addresses as IPv6 packets carry them to a NAT64: embedded behind its prefix (RFC 6052, section 2.2).

A range of IPv4 addresses becomes the range from the lowest IPv6 address that stands for its first to the highest that
stands for its last. What follows the embedded address isn't looked at, as a translator doesn't either (section 2.3).
Where the octet at bits 64 to 71 (`u`, always zero) cuts the address in two, addresses in between that have it
otherwise, and so stand for nothing, are in the range too: one range stays one range, however short the prefix.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.spans import Spans, merge
from gatewrit.policy.model import IPV6_DTYPE, Ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from gatewrit.policy.model import Policy, Service
    from gatewrit.policy.terms import Family


def spread(family: Family, ranges: Iterable[Ranges], nat64: Iterable[Ranges]) -> Spans:
    """Unite all addresses of one family, those of IPv4 embedded in each NAT64 prefix too."""
    parts: list[Ranges | Spans] = list(ranges)
    prefixes = list(nat64)
    if family == 6 and prefixes:
        four = merge(4, parts)
        parts += [embed(four, high, low, length) for high, low, length in _prefixes(prefixes)]
    return merge(family, parts)


def translated(policy: Policy, nat64: tuple[Ranges, ...]) -> Policy:
    """Give a policy that names what its IPv4 entries stand for behind each NAT64 prefix, line by line, as well."""
    exceptions = policy.exceptions
    return replace(
        policy,
        services={name: translated_service(each, nat64) for name, each in policy.services.items()},
        exceptions=replace(exceptions, prefixes=_beside(exceptions.prefixes, nat64)),
    )


def translated_service(service: Service, nat64: tuple[Ranges, ...]) -> Service:
    """Give a service, under a digest of its own, that has these IPv6 addresses as well."""
    endpoints = tuple(replace(each, ranges=_beside(each.ranges, nat64)) for each in service.endpoints)
    return replace(service, endpoints=endpoints, digest=f"{service.digest} nat64")


def _beside(ranges: tuple[Ranges, ...], nat64: tuple[Ranges, ...]) -> tuple[Ranges, ...]:
    found = list(ranges)
    for high, low, length in _prefixes(nat64):
        for part in ranges:
            if part.family == 4:
                six = embed(Spans(4, part.first, part.last), high, low, length)
                found.append(Ranges(6, six.first, six.last, part.line, part.file))
    return tuple(found)


def _prefixes(ranges: Iterable[Ranges]) -> Iterator[tuple[int, int, int]]:
    """Give each prefix as its two halves and its length; the settings see to it that it is one of RFC 6052's."""
    for part in ranges:
        for first, last in zip(part.first.tolist(), part.last.tolist(), strict=True):
            size = ((last[0] - first[0]) << 64) + last[1] - first[1] + 1
            yield first[0], first[1], 129 - size.bit_length()


def embed(four: Spans, high: int, low: int, length: int) -> Spans:
    """Give IPv4 spans behind a prefix, whose two 64-bit halves are `high` and `low`; not merged."""
    top, bottom = np.uint64(high), np.uint64(low)
    first, last = four.first.astype(np.uint64), four.last.astype(np.uint64)
    if length == 32:
        return _pack(top | first, np.zeros_like(first), top | last, np.full_like(last, 2**64 - 1))
    if length == 96:
        return _pack(np.full_like(first, high), bottom | first, np.full_like(last, high), bottom | last)
    # So many of the address's bits stand behind the octet `u`, and so many behind the address.
    behind, after = np.uint64(length - 32), np.uint64(56 - (length - 32))
    mask, tail = (np.uint64(1) << behind) - np.uint64(1), (np.uint64(1) << after) - np.uint64(1)
    lowest, highest = (first & mask) << after, (last & mask) << after | tail
    return _pack(top | first >> behind, lowest, top | last >> behind, highest)


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
