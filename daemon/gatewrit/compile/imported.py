"""A service's list from a feed's entries: the fewest prefixes of just their addresses, with their sources. Pure."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewrit.compile.segments import subtract
from gatewrit.compile.spans import merge
from gatewrit.policy.ranges import FAMILIES, Span, span_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gatewrit.policy.feeds import Entry
    from gatewrit.policy.model import Ranges
    from gatewrit.policy.terms import Family

#: So many lines of the feed are named with a prefix, the others counted.
_NAMED = 3
_LONGEST_NOTE = 80


@dataclass(frozen=True, slots=True)
class Swing:
    """How much a new version of a list differs from the one before, in distinct addresses of one family."""

    family: Family
    before: int
    added: int
    lifted: int

    @property
    def share(self) -> float:
        """What was added and lifted, of what was there; 0 where nothing was: that is no change of anything."""
        return (self.added + self.lifted) / self.before if self.before else 0.0


def prefixes(entries: Iterable[Entry], widest: Mapping[int, int]) -> Iterator[tuple[Span, list[Entry]]]:
    """Give the fewest prefixes no wider than `widest` (lengths by family) with the entries that each is made of."""
    found = list(entries)
    for family in FAMILIES:
        own = sorted(entry for entry in found if entry.span.family == family)
        blocks = [block for span in _merged(own) for block in _blocks(span, widest[family])]
        firsts = [block.first for block in blocks]
        sources: list[list[Entry]] = [[] for _ in blocks]
        for entry in own:
            at = bisect_right(firsts, entry.span.first) - 1
            while at < len(blocks) and blocks[at].first <= entry.span.last:
                sources[at].append(entry)
                at += 1
        yield from zip(blocks, sources, strict=True)


def _merged(entries: Sequence[Entry]) -> Iterator[Span]:
    """Unite sorted entries that overlap or touch."""
    current: Span | None = None
    for entry in entries:
        span = entry.span
        if current is not None and span.first <= current.last + 1:
            current = current._replace(last=max(current.last, span.last))
        else:
            if current is not None:
                yield current
            current = span
    if current is not None:
        yield current


def _blocks(span: Span, widest: int) -> Iterator[Span]:
    """Cut a span into the fewest prefixes none of which is wider than `widest`."""
    bits = 32 if span.family == 4 else 128
    first = span.first
    while first <= span.last:
        aligned = (first & -first).bit_length() - 1 if first else bits
        room = (span.last - first + 1).bit_length() - 1
        size = 1 << min(aligned, room, bits - widest)
        yield Span(span.family, first, first + size - 1)
        first += size


def line(block: Span, sources: Sequence[Entry]) -> str:
    """Write a prefix as it stands in the list, with where it came from."""
    numbers = [f"{number}" for number in sorted(entry.line for entry in sources)[:_NAMED]]
    more = f" and {len(sources) - _NAMED} more" if len(sources) > _NAMED else ""
    notes = ", ".join(dict.fromkeys(entry.note for entry in sources if entry.note))
    # A comment of somebody else's is one line, and nothing of it is read again.
    told = "".join(each if each.isprintable() else "?" for each in notes)[:_LONGEST_NOTE]
    said = f"line{'s' if len(sources) > 1 else ''} {', '.join(numbers)}{more}"
    return f"{span_text(block)}  # {said}{f': {told}' if told else ''}"


def swings(before: Sequence[Ranges], after: Sequence[Ranges]) -> tuple[Swing, ...]:
    """Compare two versions of a list, family by family."""
    found = []
    for family in FAMILIES:
        old, new = merge(family, before), merge(family, after)
        found.append(Swing(family, old.addresses, subtract(new, old).addresses, subtract(old, new).addresses))
    return tuple(found)
