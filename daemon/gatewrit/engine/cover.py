"""Whether boxes of ports and subscribers together cover all that was asked about, or any of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewrit.compile.nat64 import spread
from gatewrit.engine.places import line_of, number, readings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gatewrit.engine.answer import Address
    from gatewrit.policy.model import Policy, Ranges
    from gatewrit.policy.terms import Family

#: Inclusive numbers of addresses, sorted and disjoint.
Parts = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Subscribers:
    """The subscribers that a question is about: one, or all of a family; and how a gateway reads their addresses."""

    family: Family
    one: Address | None
    nat64: tuple[Ranges, ...]

    @property
    def everybody(self) -> Parts:
        """The whole family."""
        return ((0, (1 << (32 if self.family == 4 else 128)) - 1),)

    def hit_by(self, policy: Policy) -> Parts:
        """Give those whom a policy concerns; of one subscriber, everybody or nobody."""
        scope, spared = policy.scope.sources, policy.exceptions.sources
        if scope is None and not spared:
            return self.everybody
        if self.one is not None:
            ways = readings(self.one, self.nat64)
            within = scope is None or line_of(scope, ways) is not None
            return self.everybody if within and line_of(spared, ways) is None else ()
        inside = self.everybody if scope is None else self._parts(scope)
        return _without(inside, self._parts(spared))

    def _parts(self, ranges: Iterable[Ranges]) -> Parts:
        spans = spread(self.family, ranges, self.nat64)
        return tuple(
            (number(first, self.family), number(last, self.family))
            for first, last in zip(spans.first, spans.last, strict=True)
        )


def _without(inside: Parts, out: Parts) -> Parts:
    left: list[tuple[int, int]] = []
    holes = list(out)
    at = 0
    for low, high in inside:
        begin = low
        while at < len(holes) and holes[at][1] < begin:
            at += 1
        look = at
        while look < len(holes) and holes[look][0] <= high:
            if begin < holes[look][0]:
                left.append((begin, holes[look][0] - 1))
            begin = max(begin, holes[look][1] + 1)
            look += 1
        if begin <= high:
            left.append((begin, high))
    return tuple(left)


@dataclass(frozen=True, slots=True)
class Box:
    """What one policy blocks of one protocol: inclusive ports, and the subscribers concerned."""

    first: int
    last: int
    who: Parts


def covered(boxes: Sequence[Box], first: int, last: int, everybody: Parts) -> bool:
    """Whether every port from `first` to `last` is in some box for every subscriber."""
    free = [box for box in boxes if box.who == everybody]
    limited = {(max(box.first, first), min(box.last, last), box.who) for box in boxes if box.who != everybody}
    gaps = _without(((first, last),), _united((box.first, box.last) for box in free))
    return all(_gap_covered(gap, limited, everybody) for gap in gaps)


def _gap_covered(gap: tuple[int, int], limited: Iterable[tuple[int, int, Parts]], everybody: Parts) -> bool:
    inside = [each for each in limited if each[0] <= gap[1] and each[1] >= gap[0]]
    edges = {gap[0], *(low for low, _, _ in inside if low > gap[0]), *(high + 1 for _, high, _ in inside)}
    known: dict[frozenset[Parts], bool] = {}
    for port in sorted(edge for edge in edges if edge <= gap[1]):
        groups = frozenset(who for low, high, who in inside if low <= port <= high)
        if groups not in known:
            known[groups] = _united(part for who in groups for part in who) == everybody
        if not known[groups]:
            return False
    return True


def _united(parts: Iterable[tuple[int, int]]) -> Parts:
    united: list[tuple[int, int]] = []
    for low, high in sorted(parts):
        if united and low <= united[-1][1] + 1:
            united[-1] = (united[-1][0], max(united[-1][1], high))
        else:
            united.append((low, high))
    return tuple(united)
