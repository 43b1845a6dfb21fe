"""Every packet at once through the rules as the kernel runs them (net/netfilter/nf_tables_core.c).

A box of packets goes in; wherever they part, the box is cut. What comes out are disjoint boxes that are together all
packets, each with what becomes of it and what it was counted on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gatewrit.verify.space import DESTINATION, INCOMING, MEMBER, OUTGOING, SOURCE, TIME, narrowed, span
from gatewrit.verify.steps import CountOn, During, Find, Keep, Names, Refuse, Say, Unclear

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """Packets on their way: next is rule `rule` of chain `chain`."""

    box: Box
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

    def walk(self, box: Box, chain: str, first: int = 0, last: int | None = None) -> Iterator[Leaf]:
        """Send a box through the rules `first` to before `last` of a base chain."""
        end = len(self.program.chains[chain]) if last is None else last
        waiting = [_At(box, chain, first)]
        while waiting:
            at = waiting.pop()
            rules = self.program.chains[at.chain]
            if at.rule >= (len(rules) if at.stack or at.chain != chain else end):
                if at.stack:
                    waiting.append(_At(at.box, *at.stack[-1], at.stack[:-1], at.counted))
                else:
                    # Whoever left a base chain by `goto` doesn't come back to it: its policy accepts.
                    yield Leaf(at.box, "pass" if at.chain == chain else "accept", at.counted, at.chain)
                continue
            for found in self._rule(at, rules[at.rule]):
                if isinstance(found, Leaf):
                    yield found
                else:
                    waiting.append(found)

    def _rule(self, at: _At, steps: tuple[Step, ...]) -> Iterator[_At | Leaf]:
        """Take one rule's steps; what fails one of them goes on with the next rule."""
        here: list[tuple[Box, tuple[str, ...]]] = [(at.box, at.counted)]
        for step in steps:
            if isinstance(step, Say | Refuse | Unclear):
                yield from (self._end(at, box, counted, step) for box, counted in here)
                return
            if isinstance(step, CountOn):
                here = [(box, (*counted, step.name)) for box, counted in here]
                continue
            there: list[tuple[Box, tuple[str, ...]]] = []
            for box, counted in here:
                for part, hit, taken in self._test(step, box):
                    if not hit:
                        yield _At(part, at.chain, at.rule + 1, at.stack, counted)
                    elif taken is None:
                        there.append((part, counted))
                    else:
                        yield self._obey(at, part, counted, taken)
            here = there
        for box, counted in here:
            yield _At(box, at.chain, at.rule + 1, at.stack, counted)

    def _end(self, at: _At, box: Box, counted: tuple[str, ...], step: Say | Refuse | Unclear) -> _At | Leaf:
        """Take a step after which the rule is over."""
        match step:
            case Say(verdict):
                return self._obey(at, box, counted, verdict)
            case Refuse(answer):
                return Leaf(box, answer, counted, at.chain)
            case Unclear(reason):
                return Leaf(box, "unclear", counted, at.chain, f"rule {at.rule + 1} of {at.chain}: {reason}")

    def _obey(self, at: _At, box: Box, counted: tuple[str, ...], verdict: Verdict) -> _At | Leaf:
        if verdict.kind in {"drop", "accept"}:
            return Leaf(box, verdict.kind, counted, at.chain)
        if verdict.kind == "return":
            if not at.stack:
                # Nobody to go back to: the base chain's policy accepts.
                return Leaf(box, "accept", counted, at.chain)
            return _At(box, *at.stack[-1], at.stack[:-1], counted)
        if verdict.chain is None or verdict.chain not in self.program.chains:
            return Leaf(box, "unclear", counted, at.chain, f"{at.chain} leads to {verdict.chain}, which isn't there")
        stack = (*at.stack, (at.chain, at.rule + 1)) if verdict.kind == "jump" else at.stack
        if len(stack) > _DEPTH:
            return Leaf(box, "unclear", counted, at.chain, f"{at.chain} nests deeper than the kernel allows")
        return _At(box, verdict.chain, 0, stack, counted)

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
