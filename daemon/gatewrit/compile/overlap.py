"""Where two things meet: what one policy blocks and what must be left alone, by address, protocol, port and direction.

A policy that judges `to` stops packets by destination address and destination port. One that judges `from` stops them
by source address and source port: the service's answers, and also whatever its hosts open themselves from that port.
So what continues of a service is, in these terms: packets *to* its addresses at its protocols and ports, and packets
*from* its addresses with its protocols, whatever the source port.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.rows import meeting, meets
from gatewrit.compile.segments import subtract
from gatewrit.compile.spans import intersect, merge
from gatewrit.policy.model import Transport
from gatewrit.policy.ranges import Span, span_text
from gatewrit.policy.terms import Action, Direction
from gatewrit.policy.values import WITH_PORTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gatewrit.compile.spans import Addresses, Indices, Spans
    from gatewrit.policy.model import Endpoint, Policy, Ranges, Service
    from gatewrit.policy.terms import Family

FAMILIES: tuple[Family, Family] = (4, 6)
#: So many overlaps are named in a message; the rest are counted.
SHOWN = 3
_NAMES = {number: name for name, number in WITH_PORTS.items()} | {1: "icmp"}


@dataclass(frozen=True, slots=True, eq=False)
class Meeting:
    """Addresses at which two things meet at one end of a packet, and the protocol and ports that they share there."""

    direction: Direction
    transport: Transport
    spans: Spans


class Atlas:
    """The addresses of policies and services by transport, each worked out once, however many ask."""

    def __init__(self) -> None:
        self._services: dict[tuple[str, Family], dict[Transport, Spans]] = {}

    def service(self, service: Service, family: Family) -> Mapping[Transport, Spans]:
        """Give the addresses of a service by transport."""
        key = (service.digest, family)
        if key not in self._services:
            self._services[key] = by_transport(service.endpoints, family)
        return self._services[key]


def by_transport(endpoints: Iterable[Endpoint], family: Family) -> dict[Transport, Spans]:
    """Unite the addresses of one family by transport; a transport without any is left out."""
    parts: dict[Transport, list[Ranges]] = defaultdict(list)
    for endpoint in endpoints:
        for transport in endpoint.transports:
            parts[transport] += [each for each in endpoint.ranges if each.family == family]
    # Many transports often have the same addresses, which are then united once.
    merged: dict[tuple[int, ...], Spans] = {}
    found: dict[Transport, Spans] = {}
    for transport, ranges in parts.items():
        key = tuple(map(id, ranges))
        if key not in merged:
            merged[key] = merge(family, ranges)
        if len(merged[key]):
            found[transport] = merged[key]
    return found


def ends(policy: Policy) -> tuple[Direction, ...]:
    """Give the ends of a packet at which a policy stops it; none for one that only observes."""
    block = policy.block
    if block.action is Action.OBSERVE:
        return ()
    return (Direction.TO, Direction.FROM) if block.direction is Direction.BOTH else (block.direction,)


def common(one: Transport, other: Transport) -> Transport | None:
    """Give what two transports share; None if that is nothing."""
    if one.protocol is None or other.protocol is None:
        return other if one.protocol is None else one
    if one.protocol != other.protocol:
        return None
    if one.first is None or one.last is None or other.first is None or other.last is None:
        return other if one.first is None else one
    first, last = max(one.first, other.first), min(one.last, other.last)
    return Transport(one.protocol, first, last) if first <= last else None


def shared(policy: Policy, service: Service) -> list[tuple[Direction, Transport, Transport, Transport]]:
    """Give (end, what of the policy, what of the service, what both have), whatever the addresses are."""
    mine = {part for each in policy.services.values() for end in each.endpoints for part in end.transports}
    theirs = {part for end in service.endpoints for part in end.transports}
    found = []
    for end in ends(policy):
        for one in mine:
            for other in theirs:
                reached = other if end is Direction.TO else Transport(other.protocol)
                if both := common(one, reached):
                    found.append((end, one, other, both))
    return found


def meetings(policy: Policy, service: Service, atlas: Atlas) -> list[Meeting]:
    """Give everything of a service that a policy drops or rejects, after its excepted prefixes; in a fixed order.

    Scope and excepted sources free nothing: they say whose packets are judged, and the service is to continue for all.
    """
    pairs = shared(policy, service)
    found: list[Meeting] = []
    for family in FAMILIES if pairs else ():
        held = atlas.service(service, family)
        theirs = [held[other] for other in {other for _, _, other, _ in pairs} if other in held]
        if not theirs:
            continue
        blocked = _blocked_near(policy, {one for _, one, _, _ in pairs}, unite(family, theirs))
        parts: dict[tuple[Direction, Transport], list[Spans]] = defaultdict(list)
        for end, one, other, both in pairs:
            if one in blocked and other in held:
                met = intersect(blocked[one], held[other])
                if len(met):
                    parts[end, both].append(met)
        found += [Meeting(*key, unite(family, spans)) for key, spans in parts.items()]
    return sorted(found, key=_order)


def _blocked_near(policy: Policy, transports: set[Transport], spans: Spans) -> dict[Transport, Spans]:
    """Give the addresses that a policy means, by transport, after its excepted prefixes: all that are in the spans."""
    family = spans.family
    endpoints = [
        replace(endpoint, ranges=tuple(meeting(each, spans) for each in endpoint.ranges if each.family == family))
        for service in policy.services.values()
        for endpoint in service.endpoints
        if not transports.isdisjoint(endpoint.transports)
    ]
    excepted = merge(family, policy.exceptions.prefixes)
    return {transport: subtract(spans, excepted) for transport, spans in by_transport(endpoints, family).items()}


def _order(meeting: Meeting) -> tuple[bool, int, list[int], str]:
    first, last = meeting.spans.first[:1].tolist(), meeting.spans.last[:1].tolist()
    return meeting.direction is Direction.FROM, meeting.spans.family, [*first, *last], str(meeting.transport)


def listed(found: Sequence[Meeting]) -> str:
    """Name the first few overlaps for a sentence, and count the rest."""
    shown: list[str] = []
    for each in found:
        wanted = SHOWN - len(shown)
        shown += [f"{each.direction} {text} {transport_text(each.transport)}" for text in texts(each.spans, wanted)]
    more = sum(len(each.spans) for each in found) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def texts(spans: Spans, most: int) -> list[str]:
    """Write the first spans as people do."""
    pairs = zip(spans.first[:most].tolist(), spans.last[:most].tolist(), strict=True)
    return [span_text(Span(spans.family, _number(first), _number(last))) for first, last in pairs]


def _number(address: int | tuple[int, int]) -> int:
    return address if isinstance(address, int) else (address[0] << 64) + address[1]


def transport_text(transport: Transport) -> str:
    """Write a transport as a policy does."""
    if transport.protocol is None:
        return "any"
    name = _NAMES.get(transport.protocol, f"protocol {transport.protocol}")
    if transport.protocol not in WITH_PORTS.values():
        return name
    if transport.first is None:
        return f"{name}/any"
    return f"{name}/{transport.first}" + (f"-{transport.last}" if transport.last != transport.first else "")


def ports_of(services: Iterable[Service]) -> tuple[str, ...]:
    """Write every protocol and port that services name, in order."""
    named = {part for service in services for endpoint in service.endpoints for part in endpoint.transports}
    return tuple(sorted(map(transport_text, named)))


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """All entries of policies in bulk, whatever their transports: `owner` is the index of the policy of each."""

    policies: Sequence[Policy]
    first: dict[Family, Addresses]
    last: dict[Family, Addresses]
    owner: dict[Family, Indices]

    @classmethod
    def of(cls, policies: Sequence[Policy]) -> Entries:
        """Collect them."""
        found = cls(policies, {}, {}, {})
        for family in FAMILIES:
            parts = [
                (index, part)
                for index, policy in enumerate(policies)
                for service in policy.services.values()
                for endpoint in service.endpoints
                for part in endpoint.ranges
                if part.family == family
            ]
            if parts:
                found.first[family] = np.concatenate([part.first for _, part in parts])
                found.last[family] = np.concatenate([part.last for _, part in parts])
                found.owner[family] = np.repeat([index for index, _ in parts], [len(part) for _, part in parts])
        return found

    def meeting(self, spans: Spans) -> set[int]:
        """Give the indices of the policies of which an entry meets any of these spans."""
        family = spans.family
        if family not in self.first:
            return set()
        return set(self.owner[family][meets(self.first[family], self.last[family], spans)].tolist())


# -- addresses ---------------------------------------------------------------------------------------------------------


def unite(family: Family, parts: Sequence[Spans]) -> Spans:
    """Unite spans of one family."""
    return parts[0] if len(parts) == 1 else merge(family, parts)
