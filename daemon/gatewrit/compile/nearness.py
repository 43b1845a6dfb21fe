"""How near what must continue is to what is blocked: on the same addresses at other ports, or in the same small prefix.

That they don't overlap is proved when a policy is loaded (`rails`). This is for people, who want to know before they
apply a change which neighbours a slip would hit: the founding case has all three services in the same prefixes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.named import policy_spans
from gatewrit.compile.overlap import FAMILIES, transport_text
from gatewrit.compile.spans import Spans, addresses_of, intersect, merge
from gatewrit.policy.model import IPV4_DTYPE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatewrit.compile.spans import Addresses
    from gatewrit.policy.model import Policy, Service
    from gatewrit.policy.terms import Family

#: The prefix lengths within which addresses are neighbours: the longest routed by itself, and one site's (RFC 6177).
NEIGHBOURS: dict[Family, int] = {4: 24, 6: 48}
#: So many ports are named; the rest are counted.
_SHOWN = 4
#: From here on numbers are written in short.
_LARGE = 10**12


@dataclass(frozen=True, slots=True)
class Near:
    """A service that must continue near what a policy blocks.

    By family, `same` counts the addresses that both have, at other ports, and `prefixes` the prefixes in which both
    have some address. `ports` are those that go on, `blocked` those that don't.
    """

    service: str
    same: dict[Family, int]
    prefixes: dict[Family, int]
    ports: tuple[str, ...]
    blocked: tuple[str, ...]

    def __str__(self) -> str:
        if any(self.same.values()):
            counts = [f"{counted(count)} of IPv{family}" for family, count in self.same.items() if count]
            return (
                f"{self.service} must continue on the same addresses ({', '.join(counts)}), at other ports: "
                f"{_listed(self.ports)} (blocked: {_listed(self.blocked)})"
            )
        where = " and ".join(
            f"{count:,} of the same /{NEIGHBOURS[family]}s of IPv{family}"
            for family, count in self.prefixes.items()
            if count
        )
        return f"{self.service} must continue, and has other addresses in {where}"


def near(policy: Policy) -> tuple[Near, ...]:
    """Give the services that a policy says must continue, as far as they are near what it names."""
    found = []
    blocked = _ports(policy.services.values())
    own = {family: policy_spans(family, policy) for family in FAMILIES} if policy.must_continue else {}
    for name, service in sorted(policy.must_continue.items()):
        same: dict[Family, int] = {}
        prefixes: dict[Family, int] = {}
        for family in FAMILIES:
            theirs = merge(family, [part for endpoint in service.endpoints for part in endpoint.ranges])
            same[family] = intersect(own[family], theirs).addresses
            prefixes[family] = _shared(own[family], theirs)
        if any(same.values()) or any(prefixes.values()):
            found.append(Near(name, same, prefixes, _ports([service]), blocked))
    return tuple(found)


def counted(number: int) -> str:
    """Write a number of addresses for people: those of IPv6 have up to 39 digits, of which two tell enough."""
    return f"{number:,}" if number < _LARGE else f"{number:.1e}".replace("e+", "e")


def _ports(services: Iterable[Service]) -> tuple[str, ...]:
    named = {part for service in services for endpoint in service.endpoints for part in endpoint.transports}
    return tuple(sorted(map(transport_text, named)))


def _listed(ports: tuple[str, ...]) -> str:
    more = f" and {len(ports) - _SHOWN:,} more" if len(ports) > _SHOWN else ""
    return ", ".join(ports[:_SHOWN]) + more


def _shared(one: Spans, other: Spans) -> int:
    """Count the prefixes in which both have an address."""
    both = intersect(_widened(one), _widened(other))
    host = (32 if one.family == 4 else 128) - NEIGHBOURS[one.family]
    return both.addresses >> host


def _widened(spans: Spans) -> Spans:
    """Fill up each prefix in which any address is."""
    first, last = _low(spans.first), _high(spans.last)
    # Filled up, neighbours may come to overlap.
    parts = Spans(spans.family, first, last)
    return merge(spans.family, [parts])


def _low(addresses: Addresses) -> Addresses:
    if addresses.dtype == IPV4_DTYPE:
        return addresses & np.uint32(0xFFFFFF00)
    return addresses_of(addresses["hi"] & np.uint64(0xFFFFFFFFFFFF0000), np.zeros(len(addresses), np.uint64))


def _high(addresses: Addresses) -> Addresses:
    if addresses.dtype == IPV4_DTYPE:
        return addresses | np.uint32(0xFF)
    return addresses_of(addresses["hi"] | np.uint64(0xFFFF), np.full(len(addresses), 2**64 - 1, np.uint64))
