"""Which lines of which files cover an address.

All ranges of all policies lie in one array per family, and a question looks at every one of them: comparing a million
numbers takes a millisecond, and there is nothing to build that could be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

import numpy as np

from gatewrit.policy.model import IPV4_DTYPE, IPV6_DTYPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from gatewrit.engine.answer import Address
    from gatewrit.policy.model import Endpoint, Policy, Ranges
    from gatewrit.policy.terms import Family


@dataclass(frozen=True, slots=True)
class Hit:
    """One endpoint of one policy (by its place in the list) with the line that covers the address."""

    policy: int
    endpoint: Endpoint
    place: str


class Index:
    """The endpoints of some policies, to be asked for one address."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        # Policies share services, so that each endpoint is looked at once, whoever names it.
        users: dict[int, tuple[Endpoint, list[int]]] = {}
        for number, policy in enumerate(policies):
            for service in policy.services.values():
                for endpoint in service.endpoints:
                    users.setdefault(id(endpoint), (endpoint, []))[1].append(number)
        self._users = list(users.values())
        self._tables = {family: _Table(family, self._users) for family in (4, 6)}

    def covering(self, ways: Iterable[Address]) -> list[Hit]:
        """Give the endpoints that cover an address in any of the ways it can be read, each once."""
        found: dict[int, str] = {}
        for address in ways:
            for endpoint, place in self._tables[address.version].covering(address):
                found.setdefault(endpoint, place)
        hits = []
        for endpoint, place in found.items():
            value, policies = self._users[endpoint]
            hits += [Hit(policy, value, place) for policy in policies]
        return hits

    def beginnings(self, family: Family, low: int, high: int, most: int) -> list[int]:
        """Give where from `low` to `high` an address may be covered otherwise than the one before.

        Where there are more than `most`, some of them are left out, but more than `most` are given.
        """
        return self._tables[family].beginnings(low, high, most)


class _Table:
    """All ranges of one family with whose they are."""

    def __init__(self, family: Family, users: Sequence[tuple[Endpoint, list[int]]]) -> None:
        parts = [
            (part, number)
            for number, (endpoint, _) in enumerate(users)
            for part in endpoint.ranges
            if part.family == family
        ]
        dtype = IPV4_DTYPE if family == 4 else IPV6_DTYPE
        nothing = [np.zeros(0, dtype)]
        self._first: NDArray[Any] = np.concatenate([part.first for part, _ in parts] or nothing)
        self._last: NDArray[Any] = np.concatenate([part.last for part, _ in parts] or nothing)
        self._starts = np.cumsum([0, *(len(part) for part, _ in parts)])
        self._parts = parts
        self._family: Family = family

    def covering(self, address: Address) -> Iterable[tuple[int, str]]:
        for row in np.flatnonzero(within(self._first, self._last, address)).tolist():
            at = int(np.searchsorted(self._starts, row, side="right")) - 1
            part, endpoint = self._parts[at]
            yield endpoint, f"{part.file}:{int(part.line[row - self._starts[at]])}"

    def beginnings(self, low: int, high: int, most: int) -> list[int]:
        touching = overlapping(self._first, self._last, self._family, low, high)
        # Those that begin before `low` stand first, those that end behind `high` last.
        firsts, lasts = np.unique(self._first[touching])[-most - 1 :], np.unique(self._last[touching])[: most + 1]
        return sorted(_inside(firsts, lasts, self._family, low, high))


def beginnings(parts: Iterable[Ranges], family: Family, low: int, high: int) -> set[int]:
    """Give where, from `low` on to `high`, some of the ranges begin, and where they have just ended."""
    found: set[int] = set()
    for part in parts:
        if part.family == family:
            touching = overlapping(part.first, part.last, family, low, high)
            found |= _inside(part.first[touching], part.last[touching], family, low, high)
    return found


def _inside(firsts: NDArray[Any], lasts: NDArray[Any], family: Family, low: int, high: int) -> set[int]:
    begun = {max(low, number(each, family)) for each in firsts}
    return begun | {number(each, family) + 1 for each in lasts if number(each, family) < high}


def overlapping(first: NDArray[Any], last: NDArray[Any], family: Family, low: int, high: int) -> NDArray[np.bool_]:
    """Say for each range whether it has an address from `low` to `high`."""
    if family == 4:
        touched: NDArray[np.bool_] = (first <= np.uint32(high)) & (last >= np.uint32(low))
        return touched
    (high_hi, high_lo), (low_hi, low_lo) = (
        (np.uint64(value >> 64), np.uint64(value & (1 << 64) - 1)) for value in (high, low)
    )
    begun = (first["hi"] < high_hi) | ((first["hi"] == high_hi) & (first["lo"] <= high_lo))
    ended = (last["hi"] < low_hi) | ((last["hi"] == low_hi) & (last["lo"] < low_lo))
    open_: NDArray[np.bool_] = begun & ~ended
    return open_


def within(first: NDArray[Any], last: NDArray[Any], address: Address) -> NDArray[np.bool_]:
    """Say for each range whether it covers an address of its family."""
    value = int(address)
    if address.version == 4:
        number = np.uint32(value)
        covered: NDArray[np.bool_] = (first <= number) & (number <= last)
        return covered
    high, low = np.uint64(value >> 64), np.uint64(value & (1 << 64) - 1)
    begun = (first["hi"] < high) | ((first["hi"] == high) & (first["lo"] <= low))
    ended = (last["hi"] < high) | ((last["hi"] == high) & (last["lo"] < low))
    open_: NDArray[np.bool_] = begun & ~ended
    return open_


def line_of(parts: Iterable[Ranges], ways: Iterable[Address]) -> tuple[Ranges, int] | None:
    """Give the first range (and its row) that covers an address in any of the ways it can be read."""
    known = list(ways)
    for part in parts:
        for address in known:
            if part.family == address.version:
                rows = np.flatnonzero(within(part.first, part.last, address))
                if len(rows):
                    return part, int(rows[0])
    return None


def readings(address: Address, nat64: Iterable[Ranges]) -> tuple[Address, ...]:
    """Give what an address is: itself, and what a NAT64 with such a prefix makes of it (RFC 6052, section 2.2)."""
    ways: list[Address] = [address]
    if isinstance(address, IPv6Address):
        for part in nat64:
            for row in np.flatnonzero(within(part.first, part.last, address)).tolist():
                size = number(part.last[row], 6) - number(part.first[row], 6) + 1
                embedded = _extract(address.packed, (129 - size.bit_length()) // 8)
                ways += [IPv4Address(embedded)] if embedded is not None else []
    return tuple(ways)


def _extract(octets: bytes, length: int) -> bytes | None:
    """Take four octets behind a prefix of `length` octets, passing over the ninth, which must be zero there."""
    if length in {4, 12}:
        return octets[length : length + 4]
    return None if octets[8] else (octets[length:8] + octets[9:])[:4]


def number(value: Any, family: Family) -> int:
    """Give an element of an address array as a number."""
    return int(value) if family == 4 else (int(value["hi"]) << 64) + int(value["lo"])
