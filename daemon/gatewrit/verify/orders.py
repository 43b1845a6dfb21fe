"""What the policies say of every packet, read off the contract's section 2: who matches, what then becomes of it.

An order is a set of boxes for each class of addresses. `judge` cuts a box of packets until all packets in a part are
matched by the same policies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from gatewrit.policy.terms import Action, Direction, State
from gatewrit.verify.addresses import Stretches, members
from gatewrit.verify.embed import stretches
from gatewrit.verify.space import (
    DESTINATION,
    FIRST_WORD,
    FRAGMENT,
    HEADER,
    INCOMING,
    MEMBER,
    NANOSECONDS,
    NO_FRAGMENT_HEADER,
    OUTGOING,
    PROTOCOL,
    READABLE,
    SECOND_WORD,
    SOURCE,
    TIME,
    meet,
    narrowed,
    span,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from gatewrit.policy.model import Endpoint, Policy, Ranges, Transport
    from gatewrit.policy.terms import Family
    from gatewrit.verify.addresses import Classes
    from gatewrit.verify.space import Box, Space

#: Which ends each hook judges, in order.
ENDS: Mapping[str, tuple[str, ...]] = {
    "prerouting": ("to", "from"),
    "forward": ("to", "from"),
    "input": ("from",),
    "output": ("to",),
}
#: Where a packet carries the service's address, the subscriber's, and the service's port, seen from each end.
_SIDES = {"to": (DESTINATION, SOURCE, SECOND_WORD), "from": (SOURCE, DESTINATION, FIRST_WORD)}
_ICMP, _ICMPV6, _TCP = 1, 58, 6
_DISCOVERY = (133, 137)


@dataclass(frozen=True, slots=True)
class Part:
    """One endpoint of one policy, as the service's side of a packet."""

    policy: str
    number: int


@dataclass(frozen=True, slots=True)
class Aside:
    """Addresses that a policy names elsewhere than in its endpoints.

    `what`: `excepted` on the service's side; `sources` and `excepted sources` on the subscriber's. `spared` are the
    gateway's, and `protected` the operator's, and of no policy.
    """

    what: str
    policy: str = ""


SPARED, PROTECTED = Aside("spared"), Aside("protected")


@dataclass(frozen=True, slots=True, eq=False)
class Gateway:
    """What is true of this gateway, besides the policies, that decides what they mean here.

    `names` are its name and tags; `suspended` says until when (epoch seconds) a policy is suspended by hand; `nat64`
    are the prefixes in which IPv4 addresses count too; `masters` gives the members of each VRF's device; `spared` is
    what its own traffic is never kept from, and `protected` what no policy may touch.
    """

    names: tuple[str, ...] = ()
    suspended: Mapping[str, int] = field(default_factory=dict)
    nat64: tuple[Ranges, ...] = ()
    masters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spared: tuple[Ranges, ...] = ()
    protected: tuple[Ranges, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """A box of packets that the same policies match, and what the strictest of them says."""

    box: Box
    policies: frozenset[str]
    verdict: str


@dataclass(frozen=True, slots=True, eq=False)
class Orders:
    """The policies that act here at a moment or later, and for how long each, in nanoseconds (None: for good)."""

    policies: Mapping[str, Policy]
    parts: Mapping[Part, Endpoint]
    times: Mapping[str, tuple[int, int | None]]
    gateway: Gateway

    @classmethod
    def of(cls, policies: Iterable[Policy], now: int, gateway: Gateway) -> Orders:
        """Take those that count from `now` (nanoseconds) on; a suspension by hand puts the start off to its end."""
        chosen, times = {}, {}
        for policy in policies:
            until = policy.effective.until
            start = max(policy.effective.start.epoch, gateway.suspended.get(policy.id, 0)) * NANOSECONDS
            end = None if until is None else until.epoch * NANOSECONDS
            here = policy.scope.gateways
            if here is not None and not any(fnmatchcase(name, glob) for name in gateway.names for glob in here):
                continue
            if policy.state is State.ACTIVE and (end is None or max(start, now) < end):
                chosen[policy.id], times[policy.id] = policy, (start, end)
        parts = {
            Part(name, number): endpoint
            for name, policy in chosen.items()
            for number, endpoint in enumerate(each for one in policy.services.values() for each in one.endpoints)
        }
        return cls(chosen, parts, times, gateway)

    def instants(self) -> Iterator[int]:
        """Yield when policies start and end, in nanoseconds."""
        return (instant for times in self.times.values() for instant in times if instant is not None)

    def interfaces(self) -> Iterator[bytes]:
        """Yield the names of interfaces, and beginnings of names, that a policy or the gateway knows."""
        for policy in self.policies.values():
            yield from (name.removesuffix("*").encode() for name in policy.scope.interfaces or ())
        for device, its in self.gateway.masters.items():
            yield from (name.encode() for name in (device, *its))

    def stretches(self, family: Family, dimension: int) -> dict[Hashable, Stretches]:
        """Give the addresses that each owner covers at one end of a packet."""
        found: dict[Hashable, list[Ranges]] = {}
        for end, (service, other, _) in _SIDES.items():
            for name, policy in self.policies.items():
                if not self._judges(name, end):
                    continue
                if service == dimension:
                    found[Aside("excepted", name)] = [*policy.exceptions.prefixes]
                if other == dimension:
                    found[Aside("sources", name)] = [*(policy.scope.sources or ())]
                    found[Aside("excepted sources", name)] = [*policy.exceptions.sources]
            for part, endpoint in self.parts.items():
                if service == dimension and self._judges(part.policy, end):
                    found[part] = [*endpoint.ranges]
        found[PROTECTED] = [*self.gateway.protected]
        covered = {owner: stretches(each, family, self.gateway.nat64) for owner, each in found.items() if each}
        return {**covered, SPARED: Stretches.of_ranges(self.gateway.spared, family)}

    def _judges(self, name: str, end: str) -> bool:
        return self.policies[name].block.direction in {Direction(end), Direction.BOTH}


@dataclass(slots=True)
class Judge:
    """Judges one family's packets by the orders, one end at a time."""

    orders: Orders
    space: Space
    _boxes: dict[tuple[Part, str], tuple[Box, ...]] = field(default_factory=dict)
    _frees: dict[str, tuple[Box, ...]] = field(default_factory=dict)
    _owns: dict[tuple[int, Aside], int] = field(default_factory=dict)
    _groups: dict[int, tuple[list[tuple[frozenset[Hashable], int]], list[int]]] = field(default_factory=dict)

    def judge(self, box: Box, end: str, hook: str) -> Iterator[Judged]:
        """Yield the parts of a box, each with the policies that match it at this end."""
        service, _, _ = _SIDES[end]
        for free, part in self._freed(box, hook):
            if free:
                yield Judged(part, frozenset(), "pass")
                continue
            for owners, mask in self._alike(service, part[service]):
                here = narrowed(part, service, mask)
                if here is not None:
                    for piece, names in self._match(here, end, owners):
                        yield from self._say(piece, names, end)

    def _freed(self, box: Box, hook: str) -> Iterator[tuple[bool, Box]]:
        """Part what nobody may judge, neighbour discovery and what is spared, from the rest."""
        left = [box]
        if hook not in self._frees:
            self._frees[hook] = tuple(self._free(hook))
        for free in self._frees[hook]:
            yield from ((True, inside) for part in left if (inside := meet(part, free)))
            left = [outside for part in left for outside in _outside(part, free)]
        yield from ((False, part) for part in left)

    def _free(self, hook: str) -> Iterator[Box]:
        if self.space.family == 6:
            everything = list(self.space.everything)
            low, high = _DISCOVERY
            everything[PROTOCOL] = 1 << _ICMPV6
            everything[FIRST_WORD] = span(low << 8, (high << 8) + 255)
            everything[FRAGMENT] = 1 << NO_FRAGMENT_HEADER
            everything[HEADER] = 1 << READABLE
            yield tuple(everything)
        for own, dimension in (("input", SOURCE), ("output", DESTINATION)):
            spared = narrowed(self.space.everything, dimension, self._owned(dimension, SPARED))
            if hook == own and spared:
                yield spared

    def _owned(self, dimension: int, owner: Aside) -> int:
        if (dimension, owner) not in self._owns:
            self._owns[dimension, owner] = self._classes(dimension).of_owner(owner)
        return self._owns[dimension, owner]

    def _alike(self, dimension: int, mask: int) -> Iterator[tuple[frozenset[Hashable], int]]:
        """Yield the classes of addresses in `mask`, those together that the same owners cover."""
        if dimension not in self._groups:
            self._groups[dimension] = _group(self._classes(dimension))
        groups, of_class = self._groups[dimension]
        chosen = {of_class[index] for index in members(mask).tolist()}
        return (groups[index] for index in sorted(chosen))

    def _classes(self, dimension: int) -> Classes:
        return self.space.destinations if dimension == DESTINATION else self.space.sources

    def _match(self, box: Box, end: str, owners: frozenset[Hashable]) -> Iterator[tuple[Box, frozenset[str]]]:
        """Cut a box whose service addresses have the same owners by who of them matches otherwise."""
        pieces: list[tuple[Box, frozenset[str]]] = [(box, frozenset())]
        for name, boxes in self._candidates(owners, end).items():
            cut: list[tuple[Box, frozenset[str]]] = []
            for piece, names in pieces:
                outside = [piece]
                for wanted in boxes:
                    left: list[Box] = []
                    for each in outside:
                        if both := meet(each, wanted):
                            cut.append((both, names | {name}))
                            left += without(each, wanted)
                        else:
                            left.append(each)
                    outside = left
                cut += ((each, names) for each in outside)
            pieces = cut
        return iter(pieces)

    def _candidates(self, owners: frozenset[Hashable], end: str) -> dict[str, list[Box]]:
        found: dict[str, list[Box]] = {}
        if PROTECTED in owners:
            return found
        parts = (owner for owner in owners if isinstance(owner, Part))
        for part in sorted(parts, key=lambda part: (part.policy, part.number)):
            if Aside("excepted", part.policy) in owners:
                continue
            found.setdefault(part.policy, []).extend(self._wanted(part, end))
        return found

    def _wanted(self, part: Part, end: str) -> tuple[Box, ...]:
        """Give what a packet must be, besides its address, to be meant by one endpoint of a policy."""
        if (part, end) not in self._boxes:
            start, until = self.orders.times[part.policy]
            clock = self.space.clock
            acts = clock.since(start) & (clock.everything if until is None else ~clock.since(until))
            transports = self.orders.parts[part].transports
            carried = (narrowed(self._carried(each, end), TIME, acts) for each in transports)
            scoped = (each for box in carried if box for each in self._scoped(box, part.policy, end))
            self._boxes[part, end] = tuple(scoped)
        return self._boxes[part, end]

    def _scoped(self, box: Box, name: str, end: str) -> Iterator[Box]:
        """Yield what is left of a box inside a policy's scope: by the subscriber's address, and by interface."""
        policy, other = self.orders.policies[name], _SIDES[end][1]
        meant = self.space.everything[other] & ~self._owned(other, Aside("excepted sources", name))
        if policy.scope.sources is not None:
            meant &= self._owned(other, Aside("sources", name))
        here = narrowed(box, other, meant)
        if here is None or policy.scope.interfaces is None:
            yield from (here,) if here else ()
            return
        named = 0
        for pattern in policy.scope.interfaces:
            named |= self.space.names.like(pattern)
        if end == "to":
            # By its members a packet leaves a VRF whose device is meant.
            for device, its in self.orders.gateway.masters.items():
                if self.space.names.like(device) & named:
                    for member in its:
                        named |= self.space.names.like(member)
        for dimension in (OUTGOING,) if end == "to" else (INCOMING, MEMBER):
            if inside := narrowed(here, dimension, named):
                yield inside

    def _carried(self, transport: Transport, end: str) -> Box:
        box = list(self.space.everything)
        if transport.protocol is not None:
            icmp = transport.protocol == _ICMP and self.space.family == 6
            box[PROTOCOL] = 1 << (_ICMPV6 if icmp else transport.protocol)
        if transport.first is not None and transport.last is not None:
            box[_SIDES[end][2]] = span(transport.first, transport.last)
            # Ports are in the first fragment only, and where the header is there to be read.
            box[FRAGMENT] &= ~self.space.later_fragments
            box[HEADER] = 1 << READABLE
        return tuple(box)

    def _say(self, box: Box, names: frozenset[str], end: str) -> Iterator[Judged]:
        """Let the strictest act."""
        actions = {self.orders.policies[name].block.action for name in names}
        if Action.DROP in actions or (Action.REJECT in actions and end == "from"):
            yield Judged(box, names, "drop")
        elif Action.REJECT in actions:
            for mask, answer in ((1 << _TCP, "reset"), (~(1 << _TCP), "prohibited")):
                if part := narrowed(box, PROTOCOL, mask):
                    yield Judged(part, names, answer)
        else:
            yield Judged(box, names, "pass")


def _outside(box: Box, other: Box) -> Iterator[Box]:
    return without(box, other) if meet(box, other) else iter((box,))


def _group(classes: Classes) -> tuple[list[tuple[frozenset[Hashable], int]], list[int]]:
    """Give the distinct sets of owners with the classes they own, and for each class which of them it is."""
    numbers: dict[frozenset[Hashable], int] = {}
    of_class = [numbers.setdefault(owners, len(numbers)) for owners in classes.owners]
    masks = [0] * len(numbers)
    for index, number in enumerate(of_class):
        masks[number] |= 1 << index
    return list(zip(numbers, masks, strict=True)), of_class
