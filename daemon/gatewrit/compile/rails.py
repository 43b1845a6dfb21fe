"""The guard rails: what no policy may do, whoever ordered it, proved before it is compiled (contract, section 2).

An order that breaks one is refused as it stands, with the exact overlap: half an order that nobody asked for would be
worse than none. Judged is what an active policy says; one that is suspended or rescinded may always take effect.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.nat64 import translated, translated_service
from gatewrit.compile.overlap import FAMILIES, SHOWN, Atlas, listed, meetings, texts
from gatewrit.compile.rows import Touching, meeting, meets
from gatewrit.compile.segments import subtract
from gatewrit.compile.spans import intersect, merge
from gatewrit.policy.faults import cap, fault
from gatewrit.policy.ranges import Span, span_text, to_ranges
from gatewrit.policy.terms import SETTINGS, Action, Direction, Place, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from gatewrit.compile.overlap import Meeting
    from gatewrit.compile.spans import Addresses, Spans
    from gatewrit.policy.document import PolicyDocument
    from gatewrit.policy.model import Policy, Ranges, Service
    from gatewrit.policy.terms import Family, Fault

_BITS: Mapping[Family, int] = MappingProxyType({4: 32, 6: 128})


@dataclass(frozen=True, slots=True)
class Protected:
    """Addresses that no policy may take in, and why."""

    span: Span
    why: str | None = None

    def __str__(self) -> str:
        return span_text(self.span) + (f" ({self.why})" if self.why else "")


@dataclass(frozen=True, slots=True)
class Rails:
    """What the settings say: the contract's defaults.

    `widest_ipv4` and `widest_ipv6` are the shortest prefix lengths that one entry may have, `total_share` the share of
    a family's address space that one policy may block.
    """

    protected: tuple[Protected, ...] = ()
    widest_ipv4: int = 16
    widest_ipv6: int = 32
    total_share: float = 0.01
    #: Prefixes in which IPv4 endpoints match too (RFC 6052), and so may meet what is protected or must continue.
    nat64: tuple[Ranges, ...] = field(default=(), compare=False)

    def widest(self, family: Family) -> int:
        """Give the shortest prefix length of a family."""
        return self.widest_ipv4 if family == 4 else self.widest_ipv6

    @property
    def ranges(self) -> tuple[Ranges, ...]:
        """The protected addresses in bulk."""
        return to_ranges(((each.span, 1) for each in self.protected), SETTINGS)


@dataclass(slots=True, eq=False)
class Judge:
    """Judges policies by one set of rails; what concerns a service is worked out once, whoever names it."""

    rails: Rails
    atlas: Atlas = field(default_factory=Atlas)
    _protected: dict[Family, Spans] = field(default_factory=dict)
    _wide: dict[str, bool] = field(default_factory=dict)
    _touches: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ranges = self.rails.ranges
        self._protected = {family: merge(family, ranges) for family in FAMILIES}

    def faults(self, policy: Policy, document: PolicyDocument) -> tuple[Fault, ...]:
        """Give what speaks against a policy; `document` knows where it names its services."""
        if policy.state is not State.ACTIVE:
            return ()
        # Without NAT64, or without IPv6 addresses to keep clear of, this would be work for nothing.
        meant = bool(self.rails.nat64) and (bool(policy.must_continue) or len(self._protected[6]) > 0)
        seen = translated(policy, self.rails.nat64) if meant else policy
        found = [*self._hits(policy, seen, document), *self._touching(seen)]
        if policy.allow_wide is None:
            found += [*self._too_wide(policy), *self._too_large(policy, document.references[0])]
        return cap(sorted(found))

    def _hits(self, policy: Policy, seen: Policy, document: PolicyDocument) -> Iterator[Fault]:
        """Say which service is to continue and yet is dropped or rejected, as it is or behind a NAT64."""
        places = document.references[len(document.block.services) :]
        for name, place in zip(document.must_continue, places, strict=True):
            service = policy.must_continue[name]
            found = meetings(seen, service, self.atlas)
            if not found and self.rails.nat64:
                found = meetings(policy, translated_service(service, self.rails.nat64), self.atlas)
            if found:
                yield fault(place, "must_continue_hit", _hit(policy, policy.must_continue[name], found))

    def _touching(self, policy: Policy) -> Iterator[Fault]:
        """Say which protected addresses a policy takes in, whatever it does with them and at which ports."""
        if not any(self._near(service) for service in policy.services.values()):
            return
        for protected in self.rails.protected:
            family = protected.span.family
            one = merge(family, to_ranges([(protected.span, 1)], SETTINGS))
            near = [meeting(part, one) for part in _parts(policy, family)]
            met = intersect(subtract(one, merge(family, policy.exceptions.prefixes)), merge(family, near))
            if len(met):
                more = f" and {len(met) - SHOWN:,} more" if len(met) > SHOWN else ""
                message = (
                    f"{policy.id} takes in {', '.join(texts(met, SHOWN))}{more} of {protected}, which is protected "
                    "in the settings: no policy may touch it; narrow this entry, or except these addresses"
                )
                yield fault(_first_line(policy, met), "protected_hit", message)

    def _near(self, service: Service) -> bool:
        if service.digest not in self._touches:
            self._touches[service.digest] = any(
                meets(part.first, part.last, self._protected[part.family]).any() for part in _entries(service)
            )
        return self._touches[service.digest]

    def _too_wide(self, policy: Policy) -> Iterator[Fault]:
        """Say which entries take in more than the widest prefix allowed."""
        for service in policy.services.values():
            if service.digest not in self._wide:
                self._wide[service.digest] = any(self._wider(part).any() for part in _entries(service))
            for part in _entries(service) if self._wide[service.digest] else ():
                length = self.rails.widest(part.family)
                for index in np.flatnonzero(self._wider(part)).tolist():
                    said = span_text(_span(part, index))
                    message = (
                        f"{said} is wider than a /{length}, the widest that limits.widest_ipv{part.family} allows; "
                        f"name what the service uses, or say why in {policy.id}: `allow_wide: REASON`"
                    )
                    yield fault(Place(part.file, int(part.line[index]), 1), "too_wide", message)

    def _wider(self, part: Ranges) -> NDArray[np.bool_]:
        """Say which entries have more addresses than the widest prefix: a range is as wide as it is long."""
        first: Addresses = part.first
        last: Addresses = part.last
        host = _BITS[part.family] - self.rails.widest(part.family)
        # A range has more than 2**host addresses if last - first, which is one less, needs more than `host` bits.
        if part.family == 4:
            return _over(last.astype(np.uint64) - first.astype(np.uint64), host)
        low = last["lo"] - first["lo"]
        high = last["hi"] - first["hi"] - (last["lo"] < first["lo"])
        return _over(high, host - 64) if host >= 64 else _over(high, 0) | _over(low, host)

    def _too_large(self, policy: Policy, place: Place) -> Iterator[Fault]:
        """Say in which family a policy blocks too large a share of all addresses."""
        for family in FAMILIES:
            bits = _BITS[family]
            most = self.rails.total_share * 2**bits
            parts = _parts(policy, family)
            # Quick, and in floating point: whatever comes near the limit is counted exactly.
            if sum(map(_at_most, parts)) < most / 2:
                continue
            blocked = subtract(merge(family, parts), merge(family, policy.exceptions.prefixes)).addresses
            if blocked > most:
                share, allowed = (f"{100 * part:.3g} %" for part in (blocked / 2**bits, self.rails.total_share))
                message = (
                    f"{policy.id} blocks {share} of all IPv{family} addresses; limits.total_share allows {allowed}: "
                    "name what the order means, or say why here: `allow_wide: REASON`"
                )
                yield fault(place, "share_too_large", message)


class Carver:
    """Takes protected addresses out of policies by one set of rails, and remembers which services need it at all."""

    def __init__(self, rails: Rails) -> None:
        self._rails = rails
        self._protected = rails.ranges
        self._touching = Touching(self._protected)
        behind = rails.nat64 and len(self._touching.spans[6])
        self._seen = partial(translated_service, nat64=rails.nat64) if behind else None

    def carved(self, policies: Iterable[Policy]) -> list[Policy]:
        """Give policies without the protected addresses that they take in.

        A new one would be refused; one that was in force before they were protected stays, and leaves them alone.
        """
        return [self._carved(policy) for policy in policies] if self._protected else list(policies)

    def _carved(self, policy: Policy) -> Policy:
        if not any(self._touching(service, self._seen) for service in policy.services.values()):
            return policy
        prefixes = (*policy.exceptions.prefixes, *self._protected)
        return replace(policy, exceptions=replace(policy.exceptions, prefixes=prefixes))


def carved(policies: Iterable[Policy], rails: Rails) -> list[Policy]:
    """Do for once what a `Carver` does."""
    return Carver(rails).carved(policies)


def _over(values: NDArray[np.uint64], bits: int) -> NDArray[np.bool_]:
    over: NDArray[np.bool_] = (values >> np.uint64(bits)) > 0
    return over


def _hit(policy: Policy, service: Service, found: list[Meeting]) -> str:
    does = "rejects" if policy.block.action is Action.REJECT else "drops"
    # A `from` overlap at another port than the service's own isn't obvious.
    own = {part for end in service.endpoints for part in end.transports}
    foreign = any(each.direction is Direction.FROM and each.transport not in own for each in found)
    hint = "; `from` also hits what its hosts open themselves from that port, so `to` may be meant" if foreign else ""
    return (
        f"{policy.id} {does} what it says must continue, {service.name}: {listed(found)}; "
        f"narrow what it blocks, or except these addresses{hint}"
    )


def _entries(service: Service) -> Iterator[Ranges]:
    for endpoint in service.endpoints:
        yield from endpoint.ranges


def _parts(policy: Policy, family: Family) -> list[Ranges]:
    return [part for service in policy.services.values() for part in _entries(service) if part.family == family]


def _first_line(policy: Policy, spans: Spans) -> Place:
    """Give where the first entry stands that meets the spans."""
    for service in policy.services.values():
        for part in _entries(service):
            if part.family == spans.family and (met := meets(part.first, part.last, spans)).any():
                return Place(part.file, int(part.line[int(np.argmax(met))]), 1)
    return policy.place


def _span(part: Ranges, index: int) -> Span:
    first, last = (
        int(end[index]) if part.family == 4 else (int(end[index]["hi"]) << 64) + int(end[index]["lo"])
        for end in (part.first, part.last)
    )
    return Span(part.family, first, last)


def _at_most(part: Ranges) -> float:
    """Give how many addresses entries can have together, counting twice what two of them have."""
    first: Addresses = part.first
    last: Addresses = part.last
    if part.family == 4:
        return float((last.astype(np.float64) - first.astype(np.float64) + 1).sum())
    high = last["hi"].astype(np.float64) - first["hi"].astype(np.float64)
    return float(((high + 1) * 2.0**64).sum())
