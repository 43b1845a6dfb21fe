"""Packets that are on their way while a transaction is carried out: they must meet what was, or what is, never a third.

A packet runs through the rules as they were when it came to the hook, for `nft_do_chain()` reads the generation once.
But each look-up finds the elements as they are at that very moment: hashes change with the generation
(`nft_genmask_cur()`), intervals a little later, one set after the other, when `nft_set_commit_update()` comes to them
(up to 70 µs for a thousand elements). So whatever the rules, some sets may be found as they were and others as they
will be, and an address that moves between two of them in neither. Hence

* what moves stays in the old set until the new one surely has it (`Crossing.late`), or comes into the new one before
  anything else changes, if its verdict is the same (`early`);
* where neither will do, because parts of it go different ways, because the rules that ask change as well, or because
  its verdict leads to rules that change, sets are made anew beside those in use (`anew`): then packets meet all that
  was, or all that is.

A set that only gains what wasn't blocked, or loses what won't be, is simply changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gatewrit.kernel import keys
from gatewrit.kernel.expressions import LOOKUP_INVERTED, NETWORK_HEADER, Bitwise, Immediate, Lookup, Payload

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gatewrit.kernel.elements import Elements, Verdict
    from gatewrit.kernel.expressions import Expression

    Mask = NDArray[np.bool_]
    Indices = NDArray[np.intp]


class Asked(NamedTuple):
    """One look-up of a rule: of which set, and by what.

    `address` is where the address stands in the network header, and how long it is; None for other keys. `verdict` is
    what the rule itself says of whoever is found, if it does. A guard is `inverted`: who isn't found is done with.
    """

    name: str
    address: tuple[int, int] | None
    mask: bytes | None
    inverted: bool
    verdict: Verdict | None

    def renamed(self, name: str) -> Asked:
        """Give it under another name of the set."""
        return self if name == self.name else self._replace(name=name)


def look_ups(expressions: Sequence[Expression]) -> Iterator[Asked]:
    """Yield what one rule looks up."""
    address: tuple[int, int] | None = None
    mask: bytes | None = None
    for at, part in enumerate(expressions):
        match part:
            case Payload(base, offset, length):
                address, mask = (offset, length) if base == NETWORK_HEADER and length in {4, 16} else None, None
            case Bitwise(bits, _):
                mask = bits
            case Lookup(name, _, _, flags):
                said = next((each.verdict for each in expressions[at:] if isinstance(each, Immediate)), None)
                yield Asked(name, address, mask, bool(flags & LOOKUP_INVERTED), said)
            case _:
                pass


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What a set that is `asked` like this gains and loses.

    `anew`: it isn't changed in place in any case, but made, given up, or another set. `spare` is how many elements more
    than now it can take; None if any number.
    """

    asked: Sequence[Asked]
    gained: Elements
    lost: Elements
    anew: bool = False
    spare: int | None = None

    @property
    def address(self) -> tuple[int, int] | None:
        """Where the address stands, if it is one and always the same, and if it isn't only that of a guard."""
        found = {each.address for each in self.asked if not each.inverted}
        return found.pop() if len(found) == 1 else None

    @property
    def guards(self) -> bool:
        """Whether only guards ask for it: whoever isn't found there is nowhere behind it."""
        return all(each.inverted for each in self.asked)

    @property
    def leads(self) -> set[str]:
        """The chains to which what changes leads."""
        found = {each.verdict for each in self.asked}
        for each in (self.gained, self.lost):
            found |= {each.verdicts[number] for number in np.unique(each.verdict).tolist()} if each.verdicts else set()
        return {verdict.chain for verdict in found if verdict is not None and verdict.chain is not None}

    def extent(self, elements: Elements) -> _Extent:
        """Give the addresses that are found in elements of it."""
        mask = self.asked[0].mask
        first, last = elements.first, elements.last
        if mask is not None:
            ones = np.frombuffer(mask, np.uint8) ^ np.uint8(0xFF)
            last = keys.of_matrix(keys.matrix(first, elements.width) | ones)
        return _Extent(keys.comparable(first, elements.width), keys.comparable(last, elements.width))

    def verdict(self, elements: Elements, at: int) -> Verdict | None:
        """Give what becomes of whoever is found in an element."""
        return elements.verdicts[int(elements.verdict[at])] if elements.verdicts else self.asked[0].verdict


@dataclass(frozen=True, slots=True, eq=False)
class Crossing:
    """What can't be changed in place, and what is gained before, or lost after, everything else."""

    anew: frozenset[str] = frozenset()
    early: Mapping[str, Elements] = field(default_factory=dict)
    late: Mapping[str, Elements] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """The rules that packets are under: the look-ups of each chain that they can come to.

    `rewritten` says whether a chain gets other rules if these sets are made anew, `unsteady` which of some chains lead
    to rules that change.
    """

    chains: Mapping[str, Sequence[Asked]]
    rewritten: Callable[[str, Collection[str]], bool]
    unsteady: Callable[[Collection[str]], Collection[str]]


def crossing(way: Way, changes: Mapping[str, Change]) -> Crossing:
    """Say how these changes, by the name of each set, can be made."""
    here = {name: each for name, each in changes.items() if not each.anew}
    where: dict[str, set[str]] = {name: set() for name in here}
    for chain, asked in way.chains.items():
        for each in asked:
            if each.name in here:
                where[each.name].add(chain)
    asking = {chain for chains in where.values() for chain in chains}
    anew = _on_unsteady_ground(way, here)
    if len(changes) > 1:
        # Ports and interfaces, few ever: who moves with them is hard to tell.
        anew |= {name for name, each in here.items() if each.address is None and not each.guards}
    moves = [*_moves(changes)]
    while True:
        before = len(anew)
        rewritten = {chain for chain in asking if way.rewritten(chain, anew)}
        anew |= {name for name in here if not rewritten.isdisjoint(where[name])}
        for move in moves:
            given_up = changes[move.loser].anew or move.loser in anew
            too_late = move.early.any() and (changes[move.gainer].anew or move.gainer in anew)
            if move.torn or given_up or too_late:
                anew |= {move.loser, move.gainer} & here.keys()
        early, late = _together(moves, changes, anew)
        for name in here.keys() - anew:
            spare, more = here[name].spare, len(early.get(name, ())) + len(late.get(name, ()))
            if spare is not None and more > spare:
                anew.add(name)
        if len(anew) == before:
            return Crossing(frozenset(anew), early, late)


def _on_unsteady_ground(way: Way, here: Mapping[str, Change]) -> set[str]:
    """Give the sets that gain or lose something whose verdict leads to rules that change."""
    leads = {name: each.leads for name, each in here.items()}
    unsteady = way.unsteady({chain for each in leads.values() for chain in each})
    return {name for name, each in leads.items() if not each.isdisjoint(unsteady)}


@dataclass(frozen=True, slots=True, eq=False)
class _Move:
    """Addresses that one set loses and another gains; `torn` if that can't be done in place.

    `early` are those of what is gained that must be there before, `late` those of what is lost that must stay on.
    """

    loser: str
    gainer: str
    torn: bool
    early: Mask
    late: Mask


def _together(
    moves: Sequence[_Move], changes: Mapping[str, Change], anew: Collection[str]
) -> tuple[dict[str, Elements], dict[str, Elements]]:
    """Give what each set that is changed in place gains early, and loses late."""
    early: dict[str, Mask] = {}
    late: dict[str, Mask] = {}
    for move in moves:
        if move.loser not in anew and not changes[move.loser].anew:
            for masks, name, mask in ((early, move.gainer, move.early), (late, move.loser, move.late)):
                masks[name] = mask | masks[name] if name in masks else mask
    gained = {name: changes[name].gained.take(mask) for name, mask in early.items() if mask.any()}
    lost = {name: changes[name].lost.take(mask) for name, mask in late.items() if mask.any()}
    # Guards know of more than there is behind them all the while, never of less.
    guards = {name: each for name, each in changes.items() if each.guards and not each.anew and name not in anew}
    if gained:
        gained |= {name: each.gained for name, each in guards.items() if len(each.gained)}
    if lost:
        lost |= {name: each.lost for name, each in guards.items() if len(each.lost)}
    return gained, lost


def _moves(changes: Mapping[str, Change]) -> Iterator[_Move]:
    """Find the sets of which one loses what another gains, if one of them at least is to be changed in place."""
    for address in {each.address for each in changes.values() if not each.anew} - {None}:
        mine = {name: each for name, each in changes.items() if each.address == address}
        here = {name: each for name, each in mine.items() if not each.anew}
        lost = _Many.of({name: each.extent(each.lost) for name, each in here.items()})
        gained = _Many.of({name: each.extent(each.gained) for name, each in here.items()})
        for name, each in mine.items():
            for loser in lost.meeting(each.extent(each.gained)):
                if loser != name:
                    yield _move(loser, name, changes)
            if each.anew:
                for gainer in gained.meeting(each.extent(each.lost)):
                    yield _Move(name, gainer, True, _NONE, _NONE)


_NONE = np.zeros(0, np.bool_)


def _move(loser: str, gainer: str, changes: Mapping[str, Change]) -> _Move:
    """Say what becomes of the addresses that a set in use loses to another."""
    giving, taking = changes[loser], changes[gainer]
    lost, gained = giving.extent(giving.lost), taking.extent(taking.gained)
    first, last, met = lost.met_by(gained)
    begin, end = gained.first[first], gained.last[last]
    inside = met & (first == last) & (begin <= lost.first) & (lost.last <= end)
    around = met & ~inside
    torn = bool((around & ((begin < lost.first) | (lost.last < end))).any())
    torn |= bool((inside & lost.met_by(giving.extent(giving.gained))[2]).any())
    early = np.zeros(len(gained), np.bool_)
    for at in np.flatnonzero(around).tolist():
        parts = range(int(first[at]), int(last[at]) + 1)
        early[parts.start : parts.stop] = True
        torn |= any(taking.verdict(taking.gained, part) != giving.verdict(giving.lost, at) for part in parts)
    torn |= bool((early & gained.met_by(taking.extent(taking.lost))[2]).any())
    return _Move(loser, gainer, torn, early, inside)


@dataclass(frozen=True, slots=True, eq=False)
class _Extent:
    """Sorted, disjoint ranges of addresses, inclusive."""

    first: NDArray[Any]
    last: NDArray[Any]

    def __len__(self) -> int:
        return len(self.first)

    def met_by(self, other: _Extent) -> tuple[Indices, Indices, Mask]:
        """Give the first and the last range of another that each meets, and whether it meets any at all."""
        if not len(other):
            nowhere = np.zeros(len(self), np.intp)
            return nowhere, nowhere, np.zeros(len(self), np.bool_)
        first = np.searchsorted(other.last, self.first)
        last = np.searchsorted(other.first, self.last, "right") - 1
        return np.minimum(first, len(other) - 1), np.maximum(last, 0), first <= last


@dataclass(frozen=True, slots=True, eq=False)
class _Many:
    """Ranges of several sets, one set's after the other's; `owner` says whose each is."""

    names: Sequence[str]
    owner: NDArray[np.intp]
    ranges: _Extent

    @classmethod
    def of(cls, extents: Mapping[str, _Extent]) -> _Many:
        owner = np.repeat(np.arange(len(extents)), [len(each) for each in extents.values()])
        first = np.concatenate([each.first for each in extents.values()])
        return cls(list(extents), owner, _Extent(first, np.concatenate([each.last for each in extents.values()])))

    def meeting(self, other: _Extent) -> list[str]:
        """Give the sets that have a range that meets one of these."""
        return [self.names[at] for at in np.unique(self.owner[self.ranges.met_by(other)[2]]).tolist()]
