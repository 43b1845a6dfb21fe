"""How near what must continue is to what is blocked: on the same addresses at other ports, or in the same small prefix.

That they don't overlap is proved when a policy is loaded (`rails`). This is for people, who want to know before they
apply a change which neighbours a slip would hit: the founding case has all three services in the same prefixes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.named import policy_spans
from gatewrit.compile.overlap import FAMILIES, ports_of
from gatewrit.compile.prefixes import WIDTHS, Bits, ends_of, starts_of
from gatewrit.compile.spans import Spans, intersect, merge
from gatewrit.policy.faults import first_of

if TYPE_CHECKING:
    from gatewrit.policy.model import Policy
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
                f"{first_of(self.ports, _SHOWN)} (blocked: {first_of(self.blocked, _SHOWN)})"
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
    blocked = ports_of(policy.services.values())
    own = {family: policy_spans(family, policy) for family in FAMILIES} if policy.must_continue else {}
    for name, service in sorted(policy.must_continue.items()):
        same: dict[Family, int] = {}
        prefixes: dict[Family, int] = {}
        for family in FAMILIES:
            theirs = merge(family, service.ranges)
            same[family] = intersect(own[family], theirs).addresses
            prefixes[family] = _shared(own[family], theirs)
        if any(same.values()) or any(prefixes.values()):
            found.append(Near(name, same, prefixes, ports_of([service]), blocked))
    return tuple(found)


def counted(number: int) -> str:
    """Write a number of addresses for people: those of IPv6 have up to 39 digits, of which two tell enough."""
    return f"{number:,}" if number < _LARGE else f"{number:.1e}".replace("e+", "e")


def _shared(one: Spans, other: Spans) -> int:
    """Count the prefixes in which both have an address."""
    both = intersect(_widened(one), _widened(other))
    return both.addresses >> WIDTHS[one.family] - NEIGHBOURS[one.family]


def _widened(spans: Spans) -> Spans:
    """Fill up each prefix in which any address is; filled up, neighbours may come to overlap."""
    family = spans.family
    hosts = np.uint64((1 << 64 - NEIGHBOURS[family]) - 1)
    first, last = starts_of(family, spans.first), ends_of(family, spans.last)
    low = Bits(first.high & ~hosts, np.zeros_like(first.low))
    high = Bits(last.high | hosts, np.full_like(last.low, 2**64 - 1))
    return merge(family, [Spans(family, low.addresses(family), high.addresses(family))])
