"""Many given packets at once through the rules as the kernel runs them: which of them are stopped, and who counts them.

The proof walks all packets there could be (`walk`); this walks the ones that somebody has, in bulk: each rule is put
to all packets that get there, as arrays. What only an interface decides can't be told, as nobody knows it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.kernel import keys
from gatewrit.kernel.ruleset import padded
from gatewrit.verify.addresses import flags
from gatewrit.verify.reading import read_chains
from gatewrit.verify.space import (
    DESTINATION,
    FIRST_WORD,
    FRAGMENT,
    HEADER,
    NANOSECONDS,
    NO_FRAGMENT_HEADER,
    PROTOCOL,
    READABLE,
    SECOND_WORD,
    SOURCE,
)
from gatewrit.verify.steps import CountOn, During, Find, Keep, Names, Refuse, Say, Unclear

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gatewrit.kernel.connections import Way
    from gatewrit.kernel.elements import Verdict
    from gatewrit.kernel.transaction import Actual
    from gatewrit.policy.terms import Family
    from gatewrit.verify.steps import Step

    Rows = NDArray[np.intp]
    Values = NDArray[np.int64]

#: The kernel nests no deeper (NFT_JUMP_STACK_SIZE).
_DEPTH = 16
_NONE = np.zeros(0, np.intp)


@dataclass(frozen=True, slots=True, eq=False)
class Fate:
    """What becomes of packets, arrays of shape (n,): whether each is dropped or rejected, and who counts it.

    `counter` is an index into `counters`, -1 where nothing counts. `unclear`: something that nobody knows decides.
    """

    blocked: NDArray[np.bool_]
    unclear: NDArray[np.bool_]
    counter: NDArray[np.int32]
    counters: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Table:
    """The table as packets of one family meet it at `now` (epoch seconds)."""

    actual: Actual
    family: Family
    now: int
    _chains: Mapping[str, tuple[tuple[Step, ...], ...]] = field(init=False)

    def __post_init__(self) -> None:
        self._chains = read_chains(self.actual, self.family)

    def judge(self, hook: str, protocol: NDArray[np.uint8], packets: Way) -> Fate:
        """Send unfragmented packets through the chains on a hook; where there is none, all pass."""
        run = _Run(self.actual, self._chains, self.now * NANOSECONDS, _values(self.family, protocol, packets))
        run.addresses = {SOURCE: packets.source, DESTINATION: packets.destination}
        for name, chain in self.actual.chains.items():
            if chain.hook is not None and chain.hook.name == hook:
                run.chain(name, np.flatnonzero(~run.blocked), 0)
        return Fate(run.blocked, run.unclear & ~run.blocked, run.counter, tuple(run.counters))


def _values(family: Family, protocol: NDArray[np.uint8], packets: Way) -> dict[int, Values]:
    """Give the values of what is held value by value."""
    count = len(protocol)
    return {
        PROTOCOL: protocol.astype(np.int64),
        FIRST_WORD: packets.first.astype(np.int64),
        SECOND_WORD: packets.second.astype(np.int64),
        FRAGMENT: np.full(count, 0 if family == 4 else NO_FRAGMENT_HEADER),
        HEADER: np.full(count, READABLE),
    }


@dataclass(slots=True, eq=False)
class _Run:
    """All packets on their way; rows are indices of packets."""

    actual: Actual
    chains: Mapping[str, tuple[tuple[Step, ...], ...]]
    now: int
    values: Mapping[int, Values]
    addresses: Mapping[int, keys.Keys] = field(default_factory=dict)
    blocked: NDArray[np.bool_] = field(init=False)
    unclear: NDArray[np.bool_] = field(init=False)
    counter: NDArray[np.int32] = field(init=False)
    counters: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.values[PROTOCOL])
        self.blocked, self.unclear = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        self.counter = np.full(count, -1, np.int32)

    def chain(self, name: str, rows: Rows, depth: int) -> Rows:
        """Put packets to the rules of a chain; gives those that go back to where they came from."""
        if name not in self.chains or depth > _DEPTH:
            self.unclear[rows] = True
            return _NONE
        back: list[Rows] = []
        for rule in self.chains[name]:
            if not len(rows):
                break
            on, returned = self._rule(rule, rows, depth)
            rows = on
            back.append(returned)
        return np.concatenate([*back, rows])

    def _rule(self, rule: tuple[Step, ...], rows: Rows, depth: int) -> tuple[Rows, Rows]:
        """Give which packets go on with the next rule, and which return."""
        on: list[Rows] = []
        back: list[Rows] = []
        for step in rule:
            if not len(rows):
                break
            match step:
                case CountOn(name):
                    self.counter[rows] = self.counters.setdefault(name, len(self.counters))
                case Refuse():
                    self.blocked[rows] = True
                    rows = _NONE
                case Unclear() | Names():
                    self.unclear[rows] = True
                    rows = _NONE
                case Say(verdict):
                    self._obey(verdict, rows, depth, on, back)
                    rows = _NONE
                case During(start, end):
                    now = (start is None or self.now >= start) and (end is None or self.now < end)
                    on.append(_NONE if now else rows)
                    rows = rows if now else _NONE
                case Keep(dimension, mask):
                    hit = _holds(mask, self.values[dimension][rows])
                    on.append(rows[~hit])
                    rows = rows[hit]
                case Find():
                    rows = self._find(step, rows, depth, on, back)
        return np.concatenate([*on, rows]), np.concatenate([_NONE, *back])

    def _obey(self, verdict: Verdict, rows: Rows, depth: int, on: list[Rows], back: list[Rows]) -> None:
        match verdict.kind:
            case "drop":
                self.blocked[rows] = True
            case "return":
                back.append(rows)
            case "jump":
                on.append(self.chain(verdict.chain or "", rows, depth + 1))
            case "goto":
                back.append(self.chain(verdict.chain or "", rows, depth + 1))

    def _find(self, step: Find, rows: Rows, depth: int, on: list[Rows], back: list[Rows]) -> Rows:
        """Look packets up in a set; gives those for which the rule goes on."""
        if not {*step.dimensions} <= {*self.values, *self.addresses}:
            self.unclear[rows] = True
            return _NONE
        at = self._among(step, rows)
        hit: NDArray[np.bool_] = (at >= 0) != step.inverted
        on.append(rows[~hit])
        if not step.verdict:
            return rows[hit]
        elements = self.actual.sets[step.name].elements
        taken = elements.verdict[at[hit]]
        for number in np.unique(taken).tolist():
            self._obey(elements.verdicts[number], rows[hit][taken == number], depth, on, back)
        return _NONE

    def _among(self, step: Find, rows: Rows) -> Values:
        """Give which element of a set each packet is in, -1 for none."""
        found = self.actual.sets[step.name]
        if len(found.spec.key) > 1:
            return self._row(step, rows)
        wanted = self._key(step, rows, found.spec.key[0].length)
        elements = found.elements
        first, last = keys.comparable(elements.first, elements.width), keys.comparable(elements.last, elements.width)
        sought = keys.comparable(wanted, elements.width)
        at: Values = np.searchsorted(first, sought, "right") - 1
        if len(first):
            at[sought > last[at]] = -1
        return at

    def _key(self, step: Find, rows: Rows, width: int) -> keys.Keys:
        (dimension,) = step.dimensions
        if dimension in self.addresses:
            octets = keys.matrix(self.addresses[dimension][rows], width)
            if step.mask is not None:
                octets = octets & np.frombuffer(step.mask.to_bytes(width, "big"), np.uint8)
            return keys.of_matrix(octets)
        values = self.values[dimension][rows] >> step.shifts[0]
        return keys.of_matrix(np.stack([values >> 8 * at & 0xFF for at in reversed(range(width))], 1).astype(np.uint8))

    def _row(self, step: Find, rows: Rows) -> Values:
        """Find keys of several parts; each part is in a range of its own."""
        spec, elements = self.actual.sets[step.name].spec, self.actual.sets[step.name].elements
        parts = [self.values[each][rows] >> shift for each, shift in zip(step.dimensions, step.shifts, strict=True)]
        at = np.full(len(rows), -1)
        for number, (first, last, _) in enumerate(elements.rows()):
            inside, place = at < 0, 0
            for part, kind in zip(parts, spec.key, strict=True):
                low, high = (int.from_bytes(end[place : place + kind.length], "big") for end in (first, last))
                inside &= (part >= low) & (part <= high)
                place += padded(kind.length)
            at[inside] = number
        return at


def _holds(mask: int, values: Values) -> NDArray[np.bool_]:
    """Say of each value whether its bit is set."""
    # The last one is clear.
    known = flags(mask, mask.bit_length() + 1)
    return known[np.minimum(values, len(known) - 1)]
