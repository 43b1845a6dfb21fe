"""Every packet at once through the rules as the kernel runs them (net/netfilter/nf_tables_core.c).

A box of packets goes in; wherever they part, the box is cut. What comes out are disjoint boxes that are together all
packets, each with what becomes of it and what it was counted on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from gatewrit.verify.space import (
    DESTINATION,
    FRAGMENT,
    INCOMING,
    MEMBER,
    OUTGOING,
    SOURCE,
    TIME,
    joined,
    narrowed,
    span,
)
from gatewrit.verify.steps import CountOn, During, Find, Keep, Names, Refuse, Say, Unclear

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatewrit.kernel.elements import Verdict
    from gatewrit.verify.reading import Program
    from gatewrit.verify.space import Box, Space
    from gatewrit.verify.steps import Step

#: The kernel nests no deeper (NFT_JUMP_STACK_SIZE), and refuses circles.
_DEPTH = 16
_NAMED = {INCOMING, OUTGOING, MEMBER}


@dataclass(frozen=True, slots=True)
class Leaf:
    """What becomes of a box of packets: `pass` (nothing more was said), `accept`, `drop`, `reset`, `prohibited`.

    `unclear` says why that can't be known. `chain` is where it was decided.
    """

    box: Box
    verdict: str
    counted: tuple[str, ...]
    chain: str
    unclear: str | None = None


@dataclass(frozen=True, slots=True)
class _At:
    """Where packets are on their way: next is rule `rule` of chain `chain`."""

    chain: str
    rule: int
    stack: tuple[tuple[str, int], ...] = ()
    counted: tuple[str, ...] = ()


Rows = list[tuple[tuple[int, ...], "Verdict | None"]]


@dataclass(slots=True)
class Walker:
    """Walks one family's packets through one reading of the table."""

    program: Program
    space: Space
    _tables: dict[Find, Rows] = field(default_factory=dict)
    _order: dict[str, int] = field(default_factory=dict)

    def walk(self, box: Box, chain: str, first: int = 0, last: int | None = None) -> Iterator[Leaf]:
        """Send a box through the rules `first` to before `last` of a base chain.

        Whatever leads to a rule comes before the rule itself, so that packets that come from many places go on as one.
        """
        end = len(self.program.chains[chain]) if last is None else last
        if not self._order and not self._sort():
            yield Leaf(box, "unclear", (), chain, "its chains lead in a circle")
            return
        queue = _Queue(self._order)
        queue.put(_At(chain, first), box)
        for at, boxes in queue:
            rules = self.program.chains[at.chain]
            if at.rule < (len(rules) if at.stack or at.chain != chain else end):
                for each in boxes:
                    for found in self._rule(at, each, rules[at.rule]):
                        if isinstance(found, Leaf):
                            yield found
                        else:
                            queue.put(*found)
            elif at.stack:
                for each in boxes:
                    queue.put(_At(*at.stack[-1], at.stack[:-1], at.counted), each)
            else:
                # Whoever left a base chain by `goto` doesn't come back to it: its policy accepts.
                said = "pass" if at.chain == chain else "accept"
                yield from (Leaf(each, said, at.counted, at.chain) for each in boxes)

    def _sort(self) -> bool:
        """Put the chains in an order in which each comes before those that it leads to; say whether there is one."""
        sorter: TopologicalSorter[str] = TopologicalSorter()
        for name, rules in self.program.chains.items():
            sorter.add(name)
            for step in (step for rule in rules for step in rule):
                said: tuple[Verdict, ...] = (step.verdict,) if isinstance(step, Say) else ()
                if isinstance(step, Find) and step.verdict:
                    said = self.program.sets[step.name].elements.verdicts
                for verdict in said:
                    if verdict.chain is not None:
                        sorter.add(verdict.chain, name)
        try:
            self._order = {name: place for place, name in enumerate(sorter.static_order())}
        except CycleError:
            return False
        return True

    def _rule(self, at: _At, box: Box, steps: tuple[Step, ...]) -> Iterator[tuple[_At, Box] | Leaf]:
        """Take one rule's steps; what fails one of them goes on with the next rule."""
        here: list[tuple[Box, tuple[str, ...]]] = [(box, at.counted)]
        for step in steps:
            if isinstance(step, Say | Refuse | Unclear):
                yield from (self._end(at, each, counted, step) for each, counted in here)
                return
            if isinstance(step, CountOn):
                here = [(each, (*counted, step.name)) for each, counted in here]
                continue
            there: list[tuple[Box, tuple[str, ...]]] = []
            for each, counted in here:
                for part, hit, taken in self._test(step, each):
                    if not hit:
                        yield _At(at.chain, at.rule + 1, at.stack, counted), part
                    elif taken is None:
                        there.append((part, counted))
                    else:
                        yield self._obey(at, part, counted, taken)
            here = there
        for each, counted in here:
            yield _At(at.chain, at.rule + 1, at.stack, counted), each

    def _end(self, at: _At, box: Box, counted: tuple[str, ...], step: Say | Refuse | Unclear) -> tuple[_At, Box] | Leaf:
        """Take a step after which the rule is over."""
        match step:
            case Say(verdict):
                return self._obey(at, box, counted, verdict)
            case Refuse(answer):
                return Leaf(box, answer, counted, at.chain)
            case Unclear(reason):
                return Leaf(box, "unclear", counted, at.chain, f"rule {at.rule + 1} of {at.chain}: {reason}")

    def _obey(self, at: _At, box: Box, counted: tuple[str, ...], verdict: Verdict) -> tuple[_At, Box] | Leaf:
        if verdict.kind in {"drop", "accept"}:
            return Leaf(box, verdict.kind, counted, at.chain)
        if verdict.kind == "return":
            if not at.stack:
                # Nobody to go back to: the base chain's policy accepts.
                return Leaf(box, "accept", counted, at.chain)
            return _At(*at.stack[-1], at.stack[:-1], counted), box
        if verdict.chain is None or verdict.chain not in self.program.chains:
            return Leaf(box, "unclear", counted, at.chain, f"{at.chain} leads to {verdict.chain}, which isn't there")
        stack = (*at.stack, (at.chain, at.rule + 1)) if verdict.kind == "jump" else at.stack
        if len(stack) > _DEPTH:
            return Leaf(box, "unclear", counted, at.chain, f"{at.chain} nests deeper than the kernel allows")
        return _At(verdict.chain, 0, stack, counted), box

    def _test(self, step: Keep | Names | During | Find, box: Box) -> Iterator[tuple[Box, bool, Verdict | None]]:
        """Cut a box by a test: yield each part, whether it passes, and the verdict that it takes with it."""
        match step:
            case Keep(dimension, mask):
                yield from _cut(box, dimension, mask)
            case Names(dimension, first, last, inverted):
                mask = self.space.names.where(first, last)
                yield from _cut(box, dimension, ~mask if inverted else mask)
            case During(start, end):
                clock = self.space.clock
                mask = clock.everything if start is None else clock.since(start)
                # What ended before now leaves no slice to act in.
                mask &= clock.everything if end is None else ~clock.since(end)
                yield from _cut(box, TIME, mask)
            case Find():
                if step.dimensions[0] in {SOURCE, DESTINATION}:
                    found = self._addresses(step, box)
                else:
                    found = self._keys(step, box)
                for part, hit, verdict in found:
                    yield part, hit != step.inverted, verdict if step.verdict else None

    def _addresses(self, step: Find, box: Box) -> Iterator[tuple[Box, bool, Verdict | None]]:
        """Cut by a set that is keyed by an address alone."""
        dimension, verdicts = step.dimensions[0], self.program.sets[step.name].elements.verdicts
        classes = self.space.destinations if dimension == DESTINATION else self.space.sources
        for label, among in classes.by_label(step.layer, box[dimension]):
            part = (*box[:dimension], among, *box[dimension + 1 :])
            yield part, label >= 0, verdicts[label] if label >= 0 and verdicts else None

    def _keys(self, step: Find, box: Box) -> Iterator[tuple[Box, bool, Verdict | None]]:
        """Cut by a set of anything else, one part of the key after the other."""
        if step not in self._tables:
            self._tables[step] = self._rows(step)
        yield from _resolve(box, step.dimensions, self._tables[step])

    def _rows(self, step: Find) -> Rows:
        """Give a set's elements as values in each dimension; those that differ in the last one only are joined."""
        found = self.program.sets[step.name]
        joined: dict[tuple[tuple[int, ...], Verdict | None], int] = {}
        for first, last, verdict in found.elements.rows():
            masks, at = [], 0
            for part, dimension, shift in zip(found.spec.key, step.dimensions, step.shifts, strict=True):
                ends = first[at : at + part.length], last[at : at + part.length]
                masks.append(self._between(dimension, shift, *ends))
                at += part.length + -part.length % 4
            key = (tuple(masks[:-1]), verdict if step.verdict else None)
            joined[key] = joined.get(key, 0) | masks[-1]
        return [((*masks, last), verdict) for (masks, verdict), last in joined.items()]

    def _between(self, dimension: int, shift: int, first: bytes, last: bytes) -> int:
        if dimension in _NAMED:
            return self.space.names.where(first, last)
        low, high = int.from_bytes(first, "big"), int.from_bytes(last, "big")
        return span(low << shift, (high + 1 << shift) - 1)


class _Queue:
    """Packets on their way, taken up where nobody can come to any more: in what is jumped to first."""

    def __init__(self, order: Mapping[str, int]) -> None:
        self._order = order
        self._waiting: dict[_At, list[Box]] = {}
        self._next: list[tuple[int, int, int, int, _At]] = []
        self._count = 0

    def put(self, at: _At, box: Box) -> None:
        """Have packets wait at a rule."""
        if at in self._waiting:
            self._waiting[at].append(box)
            return
        self._waiting[at] = [box]
        self._count += 1
        heappush(self._next, (-len(at.stack), self._order[at.chain], at.rule, self._count, at))

    def __iter__(self) -> Iterator[tuple[_At, list[Box]]]:
        while self._next:
            at = heappop(self._next)[-1]
            boxes = self._waiting.pop(at)
            for dimension in (DESTINATION, SOURCE, FRAGMENT):
                boxes = joined(boxes, dimension) if len(boxes) > 1 else boxes
            yield at, boxes


def _cut(box: Box, dimension: int, mask: int) -> Iterator[tuple[Box, bool, None]]:
    if inside := narrowed(box, dimension, mask):
        yield inside, True, None
    if outside := narrowed(box, dimension, ~mask):
        yield outside, False, None


def _resolve(box: Box, dimensions: tuple[int, ...], rows: Rows) -> Iterator[tuple[Box, bool, Verdict | None]]:
    """Cut a box so that each part meets the same row throughout, or none."""
    if not dimensions or not rows:
        yield box, bool(rows), rows[0][1] if rows else None
        return
    cells: list[tuple[int, Rows]] = [(box[dimensions[0]], [])]
    for (mask, *rest), verdict in rows:
        row = (tuple(rest), verdict)
        cells = [
            (part, [*held, row] if inside else held)
            for cell, held in cells
            for part, inside in ((cell & mask, True), (cell & ~mask, False))
            if part
        ]
    for cell, held in cells:
        if part := narrowed(box, dimensions[0], cell):
            yield from _resolve(part, dimensions[1:], held)
