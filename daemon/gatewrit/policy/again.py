"""A list's text beside the text before it: which lines stand in both, so that only the others need be read.

Lists are long and change by a few lines anywhere, inserted, deleted or replaced. So the two texts are walked along
together: as far as they are the same, byte for byte, and from where they part on to the first line that both have a
little further. How that is found decides how much is taken for new, never what: a run is what both texts have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple
from weakref import ref

import numpy as np

from gatewrit.policy.model import Ranges, Since

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

#: How many bytes are compared at once: few at first, for the next difference may be near.
_NEAR, _FAR = 1 << 12, 1 << 20
#: In how many bytes of each text a line that both have is looked for.
_WINDOWS = (1 << 9, 1 << 13, 1 << 17)
#: Where so large a part of a text would be looked through for such lines, or be read after all, all of it is read; what
#: is smaller than this is compared in any case.
_MOST, _LITTLE = 1 / 2, 1 << 16
_NEWLINE = b"\n"
#: What came and what went is remembered if it is this part of all at most.
_FEW = 8


class Run(NamedTuple):
    """Whole lines that both texts have: from which line on in each, counted from 1, and how many."""

    old: int
    new: int
    lines: int


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """The runs of lines in order; and the other lines of the new text, each with its number there."""

    runs: Sequence[Run]
    text: bytes
    numbers: NDArray[np.int32]


def difference(old: bytes, new: bytes) -> Difference | None:
    """Compare two texts; None where they have too little in common."""
    runs, fresh = list[Run](), list[bytes]()
    numbers: list[NDArray[np.int32]] = []
    octets = np.frombuffer(new, np.uint8)
    old_at = new_at = 0
    old_line = new_line = 1
    left = max(_LITTLE, int(len(new) * _MOST))
    for old_begin, begin, end, looked in _runs(old, new):
        left -= looked + begin - new_at
        if left < 0:
            return None
        gone, come = old.count(_NEWLINE, old_at, old_begin), new.count(_NEWLINE, new_at, begin)
        if begin > new_at:
            fresh.append(new[new_at:begin])
            lines = come + (new[begin - 1 : begin] != _NEWLINE)
            numbers.append(np.arange(new_line, new_line + lines, dtype=np.int32))
        old_line, new_line = old_line + gone, new_line + come
        if end > begin:
            count = int(np.count_nonzero(octets[begin:end] == _NEWLINE[0]))
            runs.append(Run(old_line, new_line, count))
            old_line, new_line = old_line + count, new_line + count
        old_at, new_at = old_begin + end - begin, end
    return Difference(runs, b"".join(fresh), np.concatenate([np.zeros(0, np.int32), *numbers]))


def _runs(old: bytes, new: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield where runs begin in both texts, where they end in the new one, and how much was looked through for that.

    The last one may be empty: it stands for the ends of the texts.
    """
    one, other = np.frombuffer(old, np.uint8), np.frombuffer(new, np.uint8)
    at, to, looked = 0, 0, 0
    while True:
        common = _common(one[at:], other[to:])
        # Whole lines only: one without a newline at its end may have one in the other text.
        whole = new.rfind(_NEWLINE, to, to + common) + 1 - to if common else 0
        yield at, to, to + max(0, whole), looked
        at, to = at + max(0, whole), to + max(0, whole)
        if at == len(old) and to == len(new):
            return
        found, looked = _next_line(old, new, at, to)
        if found is None:
            yield len(old), len(new), len(new), looked
            return
        at, to = found


def _common(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """Give how many bytes two texts begin with in common."""
    most, at, step = min(len(one), len(other)), 0, _NEAR
    while at < most:
        differ = one[at : min(at + step, most)] != other[at : min(at + step, most)]
        place = int(differ.argmax())
        if differ[place]:
            return at + place
        at, step = at + len(differ), min(step * 4, _FAR)
    return most


def _next_line(old: bytes, new: bytes, at: int, to: int) -> tuple[tuple[int, int] | None, int]:
    """Find a line that both texts have from here on, and how much was looked through for it."""
    looked = 0
    for window in _WINDOWS if at < len(old) and to < len(new) else ():
        places = dict[bytes, int]()
        for line, place in _lines(old, at, window):
            places.setdefault(line, place)
        for line, place in _lines(new, to, window):
            if line in places:
                return (places[line], place), looked
        looked += min(window, len(old) - at) + min(window, len(new) - to)
    return None, looked


def _lines(text: bytes, at: int, window: int) -> Iterator[tuple[bytes, int]]:
    """Yield the whole lines of a window that have something in them, with where they begin."""
    for line in text[at : text.rfind(_NEWLINE, at, at + window) + 1].split(_NEWLINE):
        if line:
            yield line, at
        at += len(line) + 1


def spliced(old: Ranges | None, fresh: Ranges | None, found: Difference, file: str) -> Ranges | None:
    """Put together the entries of one family: those of the runs as they were, the others as they were read."""
    base = old or fresh
    if base is None:
        return None
    nothing = replace(
        base, first=base.first[:0], last=base.last[:0], line=base.line[:0], file=file, digest=b"", since=None
    )
    old, fresh = old or nothing, fresh or nothing
    edges = np.array([(run.old, run.old + run.lines, run.new, run.new - run.old) for run in found.runs], np.int32)
    edges = edges.reshape(-1, 4)
    begins, ends = np.searchsorted(old.line, edges[:, 0]), np.searchsorted(old.line, edges[:, 1])
    # Up to which fresh entries stand ahead of each run.
    ahead = np.searchsorted(fresh.line, edges[:, 2])
    first: list[NDArray[np.generic]] = []
    last: list[NDArray[np.generic]] = []
    line: list[NDArray[np.int32]] = []
    kept = np.zeros(len(old), np.bool_)
    done = 0
    for begin, end, to, shift in zip(begins.tolist(), ends.tolist(), ahead.tolist(), edges[:, 3].tolist(), strict=True):
        kept[begin:end] = True
        first += fresh.first[done:to], old.first[begin:end]
        last += fresh.last[done:to], old.last[begin:end]
        line += fresh.line[done:to], old.line[begin:end] + np.int32(shift)
        done = to
    columns = [
        np.concatenate([*parts, rest[done:]])
        for parts, rest in ((first, fresh.first), (last, fresh.last), (line, fresh.line))
    ]
    if not len(columns[0]):
        return None
    since = None
    if old is not nothing and len(old) + len(fresh) - np.count_nonzero(kept) <= len(columns[0]) // _FEW:
        gone = replace(nothing, first=old.first[~kept], last=old.last[~kept], line=old.line[~kept])
        since = Since(ref(old), gone, fresh)
    return Ranges(base.family, columns[0], columns[1], columns[2], file, since=since)
