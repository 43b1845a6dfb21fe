"""When an order held and when it didn't, from how its policy stood when. Pure.

What was ordered counts from the moment that a revision was taken in here, or from its start if that is later. Instants
are epoch milliseconds; every stretch is [start, end).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gatewrit.engine.journal.account import Condition, Revision

#: enforced: the kernel had its rules, and a daemon watched over them · unattended: it had, and none did · silent_end:
#: it had, and a daemon ended without a word, nobody knows when · suspended: by hand · not_in_kernel: ordered, without
#: rules · put_in_anew: the rules weren't there any more when a daemon came back, nobody knows since when · beyond:
#: enforced though no longer, or not yet, ordered
Kind = Literal["enforced", "unattended", "silent_end", "suspended", "not_in_kernel", "put_in_anew", "beyond"]
HELD = frozenset({"enforced", "unattended", "silent_end"})
_WATCHED: Mapping[bool | None, Kind] = {True: "enforced", False: "unattended", None: "silent_end"}
LACKED = frozenset({"suspended", "not_in_kernel", "put_in_anew"})


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of one kind, as long as it can be; `suspension` is what was said with one by hand."""

    start: int
    end: int
    kind: Kind
    suspension: Mapping[str, Any] | None = None


def stretches(conditions: Sequence[Condition], start: int, end: int) -> tuple[Stretch, ...]:
    """Give the stretches between two instants in which an order was to hold, or did."""
    found: list[Stretch] = []
    for each in _pieces(conditions, end):
        clipped = Stretch(max(each.start, start), min(each.end, end), each.kind, each.suspension)
        if clipped.start >= clipped.end:
            continue
        last = found[-1] if found else None
        if last and (last.end, last.kind, last.suspension) == (clipped.start, clipped.kind, clipped.suspension):
            found[-1] = Stretch(last.start, clipped.end, clipped.kind, clipped.suspension)
        else:
            found.append(clipped)
    return tuple(found)


def _pieces(conditions: Sequence[Condition], end: int) -> Iterator[Stretch]:
    lost = _lost(conditions)
    for index, condition in enumerate(conditions):
        following = conditions[index + 1].at if index + 1 < len(conditions) else end
        if following <= condition.at:
            # Nothing in between; or the clock was set back, and what came next was dated earlier.
            continue
        cuts = [condition.at, *(each for each in _bounds(condition) if condition.at < each < following), following]
        cuts.sort()
        for begin, stop in pairwise(cuts):
            kind = _kind(condition, begin)
            if kind in HELD and index in lost:
                kind = "put_in_anew"
            if kind is not None:
                yield Stretch(begin, stop, kind, condition.suspension if kind == "suspended" else None)


def _lost(conditions: Sequence[Condition]) -> set[int]:
    """Give which conditions can't be vouched for, because a daemon that came back found other rules than were left.

    From where the one before ended up to where the rules were put right.
    """
    lost: set[int] = set()
    for index, condition in enumerate(conditions):
        if condition.anew:
            back = index - 1
            while back >= 0 and conditions[back].attended:
                back -= 1
            while back >= 0 and not conditions[back].attended:
                back -= 1
            lost |= set(range(back + 1, index))
    return lost


def _kind(condition: Condition, at: int) -> Kind | None:
    ordered = condition.here and _holds(condition.ordered, at)
    suspension = condition.suspension
    suspended = suspension is not None and at < int(suspension["until"]) * 1000
    acting = _holds(condition.enforced, at) and not suspended
    if acting:
        return "beyond" if not ordered else _WATCHED[condition.attended]
    if not ordered:
        return None
    return "suspended" if suspended else "not_in_kernel"


def _holds(revision: Revision | None, at: int) -> bool:
    """Whether a revision is to be enforced at an instant; one whose text is lost is taken to be as its row says."""
    if revision is None or revision.says != "active":
        return False
    if revision.document is None:
        return True
    effective = revision.document.effective
    return effective.start.epoch * 1000 <= at and (effective.until is None or at < effective.until.epoch * 1000)


def _bounds(condition: Condition) -> Iterator[int]:
    for revision in (condition.ordered, condition.enforced):
        if revision is not None and revision.document is not None:
            effective = revision.document.effective
            yield effective.start.epoch * 1000
            if effective.until is not None:
                yield effective.until.epoch * 1000
    if condition.suspension is not None:
        yield int(condition.suspension["until"]) * 1000
