"""Inside a segment: which policies a packet meets by its protocol and port.

A dispatch is the whole answer for one segment, in three steps from the most particular to the least: a port of a
protocol, a protocol, anything. Each step's answer already includes the policies of the wider ones, so a packet needs
only the first that fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatewrit.policy.model import Transport

#: The policies that one packet meets: their ids, sorted. The key of a cell.
Cell = tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """Inclusive ports of one IP protocol."""

    protocol: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, eq=False)
class Dispatch:
    """The cells of a segment. `ports` are disjoint and sorted; an empty `other` means: nobody.

    There are tens of thousands of them, which count by identity where something is kept for each.
    """

    ports: tuple[tuple[PortRange, Cell], ...]
    protocols: tuple[tuple[int, Cell], ...]
    other: Cell

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell that a packet can meet here."""
        return tuple({*(cell for _, cell in self.ports), *(cell for _, cell in self.protocols), self.other} - {()})

    @property
    def asked(self) -> list[Cell]:
        """The cells in the order in which they are asked for: of ports, of protocols, of the rest."""
        rest = [self.other] if self.other else []
        return [*(cell for _, cell in self.ports), *(cell for _, cell in self.protocols), *rest]

    @property
    def policies(self) -> Cell:
        """All policies in them."""
        return tuple(sorted({policy for cell in self.cells for policy in cell}))

    @property
    def portless(self) -> Dispatch:
        """What is left of it for packets whose port nobody limits."""
        return Dispatch((), self.protocols, self.other)


def dispatch(owners: Iterable[tuple[str, Transport]]) -> Dispatch:
    """Give the dispatch for a segment that these policies cover with these transports."""
    pairs = sorted(set(owners), key=lambda pair: (pair[0], str(pair[1])))
    other = {policy for policy, transport in pairs if transport.protocol is None}
    numbers = sorted({transport.protocol for _, transport in pairs if transport.protocol is not None})
    ports: list[tuple[PortRange, Cell]] = []
    protocols: list[tuple[int, Cell]] = []
    for number in numbers:
        mine = [(policy, transport) for policy, transport in pairs if transport.protocol == number]
        whole = other | {policy for policy, transport in mine if not transport.port_limited}
        if whole != other:
            protocols.append((number, tuple(sorted(whole))))
        ports += _slice(number, [pair for pair in mine if pair[1].port_limited], whole)
    return Dispatch(tuple(ports), tuple(protocols), tuple(sorted(other)))


def _slice(number: int, pairs: list[tuple[str, Transport]], whole: set[str]) -> list[tuple[PortRange, Cell]]:
    """Cut overlapping port ranges of one protocol into disjoint ones, neighbours with one cell joined."""
    opening: dict[int, list[str]] = {}
    closing: dict[int, list[str]] = {}
    for policy, transport in pairs:
        if transport.first is not None and transport.last is not None:
            opening.setdefault(transport.first, []).append(policy)
            closing.setdefault(transport.last + 1, []).append(policy)
    bounds = sorted({*opening, *closing})
    open_now: dict[str, int] = {}
    found: list[tuple[PortRange, Cell]] = []
    for begin, end in pairwise(bounds):
        for policy in opening.get(begin, ()):
            open_now[policy] = open_now.get(policy, 0) + 1
        for policy in closing.get(begin, ()):
            open_now[policy] -= 1
            if not open_now[policy]:
                del open_now[policy]
        cell = open_now.keys() | whole
        if cell == whole:
            continue
        piece = (PortRange(number, begin, end - 1), tuple(sorted(cell)))
        if found and found[-1][1] == piece[1] and found[-1][0].last + 1 == begin:
            piece = (PortRange(number, found.pop()[0].first, end - 1), piece[1])
        found.append(piece)
    return found


def union(ranges: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """Unite port ranges in any order into sorted, disjoint, non-adjacent ones."""
    found: list[PortRange] = []
    for each in sorted(set(ranges)):
        if found and found[-1].protocol == each.protocol and each.first <= found[-1].last + 1:
            found[-1] = PortRange(each.protocol, found[-1].first, max(found[-1].last, each.last))
        else:
            found.append(each)
    return tuple(found)
