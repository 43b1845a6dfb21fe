"""The space of all packets of one family, as boxes: for each thing that a rule can look at, a set of its values.

A set is a Python integer, bit i for value i, so a box is cut by `&` and nothing is ever sampled: what holds for a box
holds for every packet in it. Addresses and instants come as classes (`addresses`, `Clock`), names of interfaces as one
stand-in for each way to match; all else is value by value.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from time import gmtime, strftime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gatewrit.policy.terms import Family
    from gatewrit.verify.addresses import Classes

#: What a packet is made of, as places in a box. FIRST_WORD and SECOND_WORD are the first four octets behind the network
#: header: ports in TCP, UDP and SCTP, the type in ICMP's first octet, payload in a later fragment.
DESTINATION, SOURCE, PROTOCOL, FIRST_WORD, SECOND_WORD, FRAGMENT, HEADER, TIME, INCOMING, OUTGOING, MEMBER = range(11)
DIMENSIONS = 11

#: IPv4: octets 6 and 7 (flags and offset). IPv6: octets 2 and 3 of the fragment header, or this where there is none.
NO_FRAGMENT_HEADER = 1 << 16
#: Whether the kernel gets at the transport header. In a later fragment both happen: its quick way takes what stands
#: there, its slow way gives up (nft_payload_fast_eval and nft_payload_eval); so both are proved for every packet.
UNREADABLE, READABLE = 0, 1

Box = tuple[int, ...]
NANOSECONDS = 1_000_000_000


def span(first: int, last: int) -> int:
    """Give the set of all values from `first` to `last`."""
    return ((1 << (last - first + 1)) - 1) << first


def lowest(mask: int) -> int:
    """Give the lowest value in a set."""
    return (mask & -mask).bit_length() - 1


def narrowed(box: Box, dimension: int, mask: int) -> Box | None:
    """Give the part of a box whose values are in `mask`; None if there is none."""
    left = box[dimension] & mask
    return (*box[:dimension], left, *box[dimension + 1 :]) if left else None


def meet(box: Box, other: Box) -> Box | None:
    """Give what is in both boxes; None if nothing is."""
    both = []
    for one, two in zip(box, other, strict=True):
        left = one & two
        if not left:
            return None
        both.append(left)
    return tuple(both)


def without(box: Box, other: Box) -> Iterator[Box]:
    """Yield disjoint boxes that are together what is in `box` and not in `other`."""
    for dimension in range(DIMENSIONS):
        if outside := narrowed(box, dimension, ~other[dimension]):
            yield outside
        inside = narrowed(box, dimension, other[dimension])
        if inside is None:
            return
        box = inside


def joined(boxes: Iterable[Box], dimension: int) -> list[Box]:
    """Make one of all disjoint boxes that differ in this dimension only."""
    found: dict[Box, int] = {}
    for box in boxes:
        rest = (*box[:dimension], *box[dimension + 1 :])
        found[rest] = found.get(rest, 0) | box[dimension]
    return [(*rest[:dimension], values, *rest[dimension:]) for rest, values in found.items()]


@dataclass(frozen=True, slots=True)
class Clock:
    """Time from the moment of the proof on, in slices between the instants at which something may change."""

    starts: tuple[int, ...]

    @classmethod
    def of(cls, now: int, instants: Iterable[int]) -> Clock:
        """Cut time, in nanoseconds since 1970, at these instants."""
        return cls((now, *sorted({instant for instant in instants if instant > now})))

    @property
    def everything(self) -> int:
        """All slices."""
        return span(0, len(self.starts) - 1)

    def since(self, instant: int) -> int:
        """Give the slices from an instant on, which must be one of the cuts or past."""
        index = bisect_right(self.starts, instant) - 1
        return self.everything & ~((1 << max(0, index)) - 1)


@dataclass(frozen=True, slots=True)
class Names:
    """Interfaces: one stand-in for each way in which names can be told apart, the empty one (no interface) first."""

    stand_ins: tuple[bytes, ...]

    @classmethod
    def of(cls, patterns: Iterable[bytes]) -> Names:
        """Make stand-ins for patterns: whole names, and beginnings of names, NUL for each octet that is open."""
        stems = sorted({pattern.rstrip(b"\0") for pattern in patterns} - {b""})
        found = {b"", *stems}
        # One that begins alike but isn't named itself; SOH is in no pattern, for `check` refuses it in a name.
        found |= {stem + b"\1" for stem in [*stems, b""] if len(stem) < _LONGEST_NAME}
        return cls(tuple(sorted(found)))

    @property
    def everything(self) -> int:
        """All stand-ins."""
        return span(0, len(self.stand_ins) - 1)

    def where(self, first: bytes, last: bytes) -> int:
        """Give the names from `first` to `last`, as the kernel compares the octets of a name."""
        width = len(first)
        chosen = (first <= name.ljust(16, b"\0")[:width] <= last for name in self.stand_ins)
        return sum(1 << index for index, inside in enumerate(chosen) if inside)

    def like(self, pattern: str) -> int:
        """Give the names that a policy means: one name, or with a trailing `*` all that begin so."""
        stem = pattern.removesuffix("*").encode()
        fits = [name.startswith(stem) if pattern.endswith("*") else name == stem for name in self.stand_ins]
        return sum(1 << index for index, fit in enumerate(fits) if fit and self.stand_ins[index])


#: Which interfaces a packet hasn't got on a hook; a VRF's member is told where the kernel lets a rule ask for it.
_NAMELESS = {"prerouting": (OUTGOING, MEMBER), "input": (OUTGOING,), "forward": (), "output": (INCOMING, MEMBER)}

#: IFNAMSIZ without the closing NUL.
_LONGEST_NAME = 15


@dataclass(frozen=True, eq=False)
class Space:
    """All packets of one family; without slots, so that what is asked for often is kept."""

    family: Family
    destinations: Classes
    sources: Classes
    clock: Clock
    names: Names

    @cached_property
    def everything(self) -> Box:
        """The box of all packets."""
        fragments = span(0, 65535) | (1 << NO_FRAGMENT_HEADER if self.family == 6 else 0)
        names = self.names.everything
        word, header = span(0, 65535), 1 << UNREADABLE | 1 << READABLE
        addresses = (self.destinations.everything, self.sources.everything)
        return (*addresses, span(0, 255), word, word, fragments, header, self.clock.everything, names, names, names)

    def on(self, hook: str) -> Box:
        """Give the box of all packets on one hook: not every interface is known everywhere."""
        box = list(self.everything)
        for dimension in _NAMELESS[hook]:
            # The empty name sorts first.
            box[dimension] = 1
        return tuple(box)

    @property
    def later_fragments(self) -> int:
        """The values of FRAGMENT that a fragment after the first has."""
        return _LATER[self.family]

    def describe(self, box: Box) -> str:
        """Name one packet of a box, and how many addresses and until when it is about."""
        low = {dimension: lowest(box[dimension]) for dimension in range(DIMENSIONS)}
        address = IPv4Address if self.family == 4 else IPv6Address
        source, destination = (
            classes.examples[low[at]] for classes, at in ((self.sources, SOURCE), (self.destinations, DESTINATION))
        )
        transport = _transport(low, box[FRAGMENT] & ~self.later_fragments == 0)
        parts = [f"{transport} from {_range(address, source)} to {_range(address, destination)}"]
        names = self.names
        for at, word in ((INCOMING, "in by"), (OUTGOING, "out by"), (MEMBER, "member")):
            if box[at] not in {names.everything, 1}:
                shown = names.stand_ins[low[at]].replace(b"\1", b"\xe2\x80\xa6").decode()
                parts.append(f"{word} {shown or 'none'}")
        if box[TIME] != self.clock.everything:
            parts.append(f"from {instant(self.clock.starts[low[TIME]])} on")
        return ", ".join(parts)


def sum_of(values: Iterable[int]) -> int:
    """Give the set of these values."""
    raw = bytearray(8193)
    for value in values:
        raw[value >> 3] |= 1 << (value & 7)
    return int.from_bytes(raw, "little")


#: By the bits that hold the offset in each family's field.
_LATER = {
    4: sum_of(value for value in range(65536) if value & 0x1FFF),
    6: sum_of(value for value in range(65536) if value & 0xFFF8),
}


def instant(nanoseconds: int) -> str:
    """Write an instant."""
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(nanoseconds // NANOSECONDS))


def _range(address: type[IPv4Address | IPv6Address], ends: tuple[int, int]) -> str:
    first, last = ends
    return str(address(first)) if first == last else f"{address(first)}-{address(last)}"


_PORTED = {6: "tcp", 17: "udp", 132: "sctp"}
_PLAIN = {1: "icmp", 58: "ipv6-icmp"}


def _transport(low: dict[int, int], later: bool) -> str:  # noqa: FBT001 - private, one caller
    number = low[PROTOCOL]
    name = _PORTED.get(number) or _PLAIN.get(number) or f"protocol {number}"
    if later:
        return f"a later fragment of {name}"
    if number in _PORTED:
        return f"{name} {low[FIRST_WORD]} > {low[SECOND_WORD]}"
    return f"{name} type {low[FIRST_WORD] >> 8}" if number in _PLAIN else name
