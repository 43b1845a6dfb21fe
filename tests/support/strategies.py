"""Policies made up by hypothesis: few addresses, ports and instants, so that everything overlaps everything."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from gatewrit.compile.cells import DEFAULT_SIZES, Sizes
from gatewrit.policy.model import (
    IPV4_DTYPE,
    IPV6_DTYPE,
    Block,
    Endpoint,
    Exceptions,
    Policy,
    Ranges,
    Scope,
    Service,
    Transport,
)
from gatewrit.policy.terms import Action, Direction, Effective, Instant, Order, Place, State
from support.paper import Packet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gatewrit.policy.terms import Family

PLACE = Place("policies/made-up.yaml", 1, 1)
TOPS: dict[Family, int] = {4: 2**32 - 1, 6: 2**128 - 1}
#: Near the bottom, in the middle, around a 64-bit boundary, and at the very top.
ANCHORS: dict[Family, list[int]] = {
    4: [0, int(IPv4Address("206.51.26.0")), TOPS[4] - 15],
    6: [0, int(IPv6Address("2607:ffc0::")), (1 << 64) - 8, TOPS[6] - 15],
}
TRANSPORTS = [
    Transport(None),
    Transport(6, 3101, 3101),
    Transport(6, 3000, 3200),
    Transport(6, 3150, 65535),
    Transport(6),
    Transport(17, 1, 2),
    Transport(17, 0, 65535),
    Transport(1),
    Transport(132),
    Transport(132, 9, 9),
]
#: Names and beginnings of names that contain each other; `vrf-red` is a VRF's device, the gi are members of others.
INTERFACES = ["gi0", "gi1", "gi10", "g", "ppp0", "vrf-red", "vrf-blue"]
PATTERNS = [*INTERFACES, "gi*", "gi1*", "g*", "vrf-*", "nowhere0"]
MASTERS = {"vrf-red": ("gi0", "ppp0"), "vrf-blue": ("gi1",)}
INSTANTS = [1000, 2000, 3000, 4000]
#: So that a handful of ranges takes every shape that a million does: blocks, hashes, guards, sets of one verdict.
SIZES = [
    DEFAULT_SIZES,
    Sizes(plain=0, block=1000, hashed=1, bulk=1, ports=0),
    Sizes(plain=0, block=2, hashed=1, bulk=2, ports=3),
    Sizes(plain=1, block=3, hashed=2, bulk=1000, ports=1),
    Sizes(plain=0, block=1, hashed=1000, bulk=1000, ports=0),
]


def addresses(family: Family) -> st.SearchStrategy[int]:
    return st.builds(
        lambda anchor, offset: min(TOPS[family], anchor + offset),
        st.sampled_from(ANCHORS[family]),
        st.integers(0, 15),
    )


def ranges_of(family: Family, pairs: Iterable[tuple[int, int]]) -> Ranges:
    """Make Ranges of plain integers."""
    rows = list(pairs)
    half = (1 << 64) - 1

    def column(values: list[int]) -> np.ndarray:
        if family == 4:
            return np.array(values, IPV4_DTYPE)
        return np.array([(value >> 64, value & half) for value in values], IPV6_DTYPE)

    return Ranges(
        family,
        column([first for first, _ in rows]),
        column([last for _, last in rows]),
        np.arange(1, len(rows) + 1, dtype=np.int32),
        "policies/services/made-up.txt",
    )


@st.composite
def ranges(draw: st.DrawFn, family: Family, least: int = 0) -> Ranges:
    pairs = draw(st.lists(st.tuples(addresses(family), addresses(family)).map(sorted), min_size=least, max_size=4))
    return ranges_of(family, [(first, last) for first, last in pairs])


def tcp_packets(
    source: Callable[[Family], st.SearchStrategy[int]], least: int, most: int
) -> st.SearchStrategy[list[Packet]]:
    """Give TCP packets to what policies may name, behind ports that some of them limit."""

    def one(family: Family) -> st.SearchStrategy[Packet]:
        return st.builds(
            lambda source, destination, port: Packet(family, source, destination, 6, 4000, port),
            source(family),
            addresses(family),
            st.sampled_from([1, 3101, 3150]),
        )

    return st.lists(st.sampled_from([4, 6]).flatmap(one), min_size=least, max_size=most)


@st.composite
def services(draw: st.DrawFn, name: str) -> Service:
    endpoints = tuple(
        Endpoint(
            (draw(ranges(4)), draw(ranges(6))),
            tuple(draw(st.lists(st.sampled_from(TRANSPORTS), min_size=1, max_size=3))),
            PLACE,
        )
        for _ in range(draw(st.integers(1, 2)))
    )
    return Service(name, name, endpoints, name, PLACE)


def _both(draw: st.DrawFn) -> tuple[Ranges, ...]:
    return tuple(draw(ranges(family)) for family in draw(st.sampled_from([(4,), (6,), (4, 6)])))


@st.composite
def exceptions(draw: st.DrawFn) -> Exceptions:
    prefixes, sources = draw(st.sampled_from([(False, False), (True, False), (False, True), (True, True)]))
    return Exceptions(_both(draw) if prefixes else (), _both(draw) if sources else ())


@st.composite
def scopes(draw: st.DrawFn) -> Scope:
    interfaces, sources = draw(st.sampled_from([(False, False), (True, False), (False, True), (True, True)]))
    patterns = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3, unique=True).map(tuple)
    return Scope(None, draw(patterns) if interfaces else None, _both(draw) if sources else None)


@st.composite
def policies(draw: st.DrawFn, name: str, *, conditions: bool = False) -> Policy:
    start = draw(st.sampled_from(INSTANTS))
    until = draw(st.sampled_from([None, *(instant for instant in INSTANTS if instant > start)]))
    plain = policy(
        name,
        draw(services(f"service-of-{name}")),
        action=draw(st.sampled_from(Action)),
        direction=draw(st.sampled_from(Direction)),
        start=start,
        until=until,
        state=draw(st.sampled_from([State.ACTIVE, State.ACTIVE, State.ACTIVE, State.SUSPENDED, State.RESCINDED])),
    )
    return replace(plain, exceptions=draw(exceptions()), scope=draw(scopes())) if conditions else plain


def policy_sets(most: int = 4, *, conditions: bool = False) -> st.SearchStrategy[list[Policy]]:
    names = [f"order-{letter}" for letter in "abcdefgh"[:most]]
    made = [policies(name, conditions=conditions) for name in names]
    return st.integers(0, most).flatmap(lambda size: st.tuples(*made[:size]).map(list))


def policy(
    name: str,
    service: Service,
    *,
    action: Action = Action.DROP,
    direction: Direction = Direction.TO,
    start: int = 1000,
    until: int | None = None,
    state: State = State.ACTIVE,
) -> Policy:
    """Make one policy over one service."""
    end = None if until is None else Instant(until, str(until))
    return Policy(
        id=name,
        title=name,
        revision=1,
        order=Order("an authority", "a reference", "2015-07-24"),
        effective=Effective(Instant(start, str(start)), end),
        state=state,
        block=Block((service.name,), action, direction),
        services={service.name: service},
        labels={},
        meaning=name,
        place=PLACE,
    )


def services_of(name: str, parts: Iterable[Ranges], transports: Iterable[Transport]) -> Service:
    """Make a service of one endpoint."""
    return Service(name, name, (Endpoint(tuple(parts), tuple(transports), PLACE),), name, PLACE)


def simple(name: str, entries: Iterable[str], transports: Iterable[Transport], **options: object) -> Policy:
    """Make a policy over addresses and first-last ranges given as text."""
    pairs: dict[Family, list[tuple[int, int]]] = {4: [], 6: []}
    for entry in entries:
        first, _, last = entry.partition("-")
        low, high = ip_address(first), ip_address(last or first)
        pairs[low.version].append((int(low), int(high)))
    endpoint = Endpoint((ranges_of(4, pairs[4]), ranges_of(6, pairs[6])), tuple(transports), PLACE)
    made = policy(name, Service("s", "s", (endpoint,), name, PLACE))
    block = replace(made.block, **{key: options[key] for key in ("action", "direction") if key in options})
    return replace(made, block=block)
