"""What was ordered, as typed, immutable values: the vocabulary that every other package shares.

Nothing here reads a file, a clock or the kernel. Addresses are held in bulk as NumPy arrays, because a service may
name a million of them; everything else is plain dataclasses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gatewrit.policy.terms import Direction

if TYPE_CHECKING:
    from collections.abc import Mapping
    from weakref import ref

    from numpy.typing import NDArray

    from gatewrit.policy.terms import Action, Effective, Family, Order, Place, State

#: IPv6 addresses in bulk: two host-order halves, so that NumPy can sort and compare them.
IPV6_DTYPE = np.dtype([("hi", np.uint64), ("lo", np.uint64)])
#: IPv4 addresses in bulk, host order.
IPV4_DTYPE = np.dtype(np.uint32)


@dataclass(frozen=True, slots=True, order=True)
class Transport:
    """What a packet's transport header must say: an IP protocol, and ports where the protocol has them.

    `protocol` is the IANA number, None for any protocol at all, and 1 for `icmp`, which means ICMPv4 in IPv4 and
    ICMPv6 in IPv6. `first` and `last` are inclusive ports, both None where any port (or none) will do.
    """

    protocol: int | None
    first: int | None = None
    last: int | None = None

    @property
    def port_limited(self) -> bool:
        """Whether a port decides; later fragments, which carry none, then pass."""
        return self.first is not None


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Ranges:
    """Inclusive address ranges of one family in the order of their source, overlaps and duplicates included.

    `first` and `last` are arrays of shape (n,) of IPV4_DTYPE or IPV6_DTYPE, `line` of int32: the line each range
    stands on in `file`. All are read-only. `digest` is over what the entries mean (`canonical.entries_digest`),
    or empty where nobody has worked it out yet. `since` says how they came from others, as far as that is known.
    """

    family: Family
    first: NDArray[np.generic]
    last: NDArray[np.generic]
    line: NDArray[np.int32]
    file: str
    digest: bytes = b""
    since: Since | None = None

    def __len__(self) -> int:
        return len(self.first)


class Since(NamedTuple):
    """What made ranges of `old`: rows that went and rows that came; a row may be among both."""

    old: ref[Ranges]
    gone: Ranges
    fresh: Ranges


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """Addresses together with the transports that reach the service there: every pair of the two is meant."""

    ranges: tuple[Ranges, ...]
    transports: tuple[Transport, ...]
    place: Place


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Service:
    """A named set of endpoints. `digest` is over the parsed meaning, lists included."""

    name: str
    title: str
    endpoints: tuple[Endpoint, ...]
    digest: str
    place: Place

    @property
    def ranges(self) -> tuple[Ranges, ...]:
        """All addresses that it has, whatever their transports."""
        return tuple(part for endpoint in self.endpoints for part in endpoint.ranges)


@dataclass(frozen=True, slots=True)
class Block:
    """Which services, what happens to their packets, judged at which end."""

    services: tuple[str, ...]
    action: Action
    direction: Direction = Direction.TO


@dataclass(frozen=True, slots=True, eq=False)
class Exceptions:
    """What a policy leaves alone: `prefixes` on the service's side of a packet, `sources` on the subscriber's."""

    prefixes: tuple[Ranges, ...] = ()
    sources: tuple[Ranges, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """Where a policy applies; None means everywhere.

    `gateways` are case-sensitive globs on a gateway's name and tags. `interfaces` are on the service's side of a
    packet (outgoing for `to`, incoming for `from`), a trailing `*` standing for anything. `sources` are on the
    subscriber's side (source for `to`, destination for `from`); a family that they don't name isn't blocked.
    """

    gateways: tuple[str, ...] | None = None
    interfaces: tuple[str, ...] | None = None
    sources: tuple[Ranges, ...] | None = None


NOTHING_EXCEPTED = Exceptions()
EVERYWHERE = Scope()


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Policy:
    """One revision of one order, as its file says it.

    `meaning` is a digest over everything parsed (comments and layout aside): two revisions with equal meaning are
    the same order. `services` holds what `block.services` names, resolved; `must_continue` likewise. `allow_wide` is
    why the limits of width and share don't count for it.
    """

    id: str
    title: str
    revision: int
    order: Order
    effective: Effective
    state: State
    block: Block
    services: Mapping[str, Service]
    labels: Mapping[str, str]
    meaning: str
    place: Place
    exceptions: Exceptions = NOTHING_EXCEPTED
    scope: Scope = EVERYWHERE
    must_continue: Mapping[str, Service] = field(default_factory=lambda: MappingProxyType({}))
    allow_wide: str | None = None

    @property
    def ranges(self) -> tuple[Ranges, ...]:
        """All addresses that it names, exceptions or not."""
        return tuple(part for service in self.services.values() for part in service.ranges)
