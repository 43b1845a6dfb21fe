"""Rows of address ranges in bulk, as they stand in files: which of them meet some spans, in which two lists differ.

A million rows are never sorted for a question about a few of them. Answers are exact where this says so; elsewhere
they may have rows too many, and never one too few.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from gatewrit.compile.spans import meets as exactly
from gatewrit.compile.spans import merge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from gatewrit.compile.spans import Addresses, Spans
    from gatewrit.policy.model import Ranges, Service
    from gatewrit.policy.terms import Family

    Words = NDArray[np.uint64]

FAMILIES: tuple[Family, Family] = (4, 6)
#: Buckets by which rows are passed over, and from how many rows and spans on that pays.
_BUCKETS = 1 << 16
_BUCKET_SHIFT = np.uint64(48)
_MANY_ROWS, _MANY_SPANS = 4096, 8


def meets(first: Addresses, last: Addresses, spans: Spans) -> NDArray[np.bool_]:
    """Say for each range, in any order, whether it meets the spans; exactly."""
    if not len(first) or not len(spans):
        return np.zeros(len(first), np.bool_)
    if len(first) < _MANY_ROWS:
        return exactly(first, last, spans)
    found = _may_meet(first, last, spans)
    near = np.flatnonzero(found)
    found[near] = exactly(first[near], last[near], spans)
    return found


def _may_meet(first: Addresses, last: Addresses, spans: Spans) -> NDArray[np.bool_]:
    """Say which ranges may meet the spans, by the leading 64 bits, of which few passes over all ranges are made."""
    begin, end, froms, tos = _lead(first), _lead(last), _lead(spans.first), _lead(spans.last)
    if len(spans) < _MANY_SPANS:
        either = np.zeros(len(begin), np.bool_)
        for low, high in zip(froms, tos, strict=True):
            either |= (end >= low) & (begin <= high)
        return either
    low, high = froms[0], tos[-1]
    found: NDArray[np.bool_] = (end >= low) & (begin <= high)
    near = np.flatnonzero(found)
    shift = np.uint64(max(0, (int(high) - int(low)).bit_length() - _BUCKETS.bit_length() + 1))

    def bucket(lead: NDArray[Any]) -> NDArray[np.intp]:
        found: NDArray[np.intp] = ((np.clip(lead, low, high) - low).astype(np.uint64) >> shift).astype(np.intp)
        return found

    # How many spans begin in buckets up to each, less those that end in buckets before it: those that reach into it.
    edges = np.zeros(_BUCKETS + 2, np.int64)
    edges[:-1] += np.bincount(bucket(froms), minlength=_BUCKETS + 1)
    edges[1:] -= np.bincount(bucket(tos), minlength=_BUCKETS + 1)
    reached = np.zeros(_BUCKETS + 2, np.int64)
    np.cumsum(np.cumsum(edges)[:-1] > 0, out=reached[1:])
    found[near] = reached[bucket(end[near]) + 1] > reached[bucket(begin[near])]
    return found


def _lead(addresses: Addresses) -> NDArray[Any]:
    return addresses if addresses.dtype.names is None else addresses["hi"]


def meeting(part: Ranges, spans: Spans) -> Ranges:
    """Give the rows that meet spans; all of them where choosing would take longer than it saves."""
    if len(spans) * 8 > len(part):
        return part
    return pick(part, meets(part.first, part.last, spans))


def pick(part: Ranges, chosen: NDArray[Any]) -> Ranges:
    """Give some rows, by a mask or by number."""
    return replace(part, first=part.first[chosen], last=part.last[chosen], line=part.line[chosen], digest=b"")


class Touching:
    """Says which services name any address of some ranges, and remembers it for as long as there are these services."""

    def __init__(self, ranges: Iterable[Ranges]) -> None:
        parts = tuple(ranges)
        self.spans: dict[Family, Spans] = {family: merge(family, parts) for family in FAMILIES}
        self._known: WeakKeyDictionary[Service, bool] = WeakKeyDictionary()

    def __call__(self, service: Service, seen: Callable[[Service], Service] | None = None) -> bool:
        """Say it of a service, or of what is to be `seen` in it."""
        if service not in self._known:
            looked_at = seen(service) if seen else service
            self._known[service] = any(
                meets(each.first, each.last, self.spans[each.family]).any() for each in looked_at.ranges
            )
        return self._known[service]


# -- the difference of two lists ---------------------------------------------------------------------------------------


def apart(one: Iterable[Ranges], other: Iterable[Ranges]) -> list[Ranges]:
    """Give the rows of one family that only one of two lists has; a row that both have may be among them."""
    left, right = _without_common(list(one), list(other))
    if not left or not right:
        return [*left, *right]
    if len(left) == len(right) == 1 and (since := right[0].since) is not None and since.old() is left[0]:
        return [part for part in (since.gone, since.fresh) if len(part)]
    if len(left) == len(right) == 1 and len(left[0]) == len(right[0]):
        # Lines that were changed where they stood, as by far the most changes are.
        differ = _differ(left[0], right[0])
        left, right = [pick(left[0], differ)], [pick(right[0], differ)]
    return _unpaired([*left, *right], sum(map(len, left)))


def _without_common(one: Sequence[Ranges], other: Sequence[Ranges]) -> tuple[list[Ranges], list[Ranges]]:
    """Leave out what both have as a whole, by digest or being the same."""

    def names(parts: Iterable[Ranges]) -> set[bytes | int]:
        return {part.digest or id(part) for part in parts}

    both = names(one) & names(other)
    left, right = ([part for part in parts if (part.digest or id(part)) not in both] for parts in (one, other))
    return left, right


def _differ(one: Ranges, other: Ranges) -> NDArray[np.bool_]:
    found = np.zeros(len(one), np.bool_)
    for mine, theirs in zip(_columns([one]), _columns([other]), strict=True):
        found |= mine != theirs
    return found


def _columns(parts: Sequence[Ranges]) -> list[NDArray[Any]]:
    ends: tuple[list[Addresses], ...] = ([part.first for part in parts], [part.last for part in parts])
    names = ends[0][0].dtype.names
    columns = [[each[name] for each in end] for end in ends for name in names] if names else list(ends)
    return [each[0] if len(each) == 1 else np.concatenate(each) for each in columns]


def _unpaired(parts: Sequence[Ranges], border: int) -> list[Ranges]:
    """Give the rows before the border that aren't also behind it, and the other way round."""
    columns = _columns(parts)
    word = _words(columns)
    if len(columns) == 2:
        # The word is the whole row, so nothing need be put in order with it.
        chosen = _among(word, _alone(word[:border], word[border:]))
    else:
        chosen = _not_in_both(columns, word, border)
    found, at = [], 0
    for part in parts:
        found.append(pick(part, chosen[at : at + len(part)]))
        at += len(part)
    return found


def _alone(one: Words, other: Words) -> Words:
    """Give the words that only one side has, sorted."""
    both = np.sort(np.concatenate([_distinct(one), _distinct(other)]))
    alone = np.ones(len(both), np.bool_)
    same = both[1:] == both[:-1]
    alone[1:] &= ~same
    alone[:-1] &= ~same
    return both[alone]


def _distinct(words: Words) -> Words:
    ordered = np.sort(words)
    new = np.ones(len(ordered), np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    return ordered[new]


def _among(words: Words, chosen: Words) -> NDArray[np.bool_]:
    """Say which words are among some sorted ones."""
    if not len(chosen):
        return np.zeros(len(words), np.bool_)
    buckets = np.zeros(_BUCKETS, np.bool_)
    buckets[chosen >> _BUCKET_SHIFT] = True
    found: NDArray[np.bool_] = buckets[words >> _BUCKET_SHIFT]
    near = np.flatnonzero(found)
    at = np.searchsorted(chosen, words[near])
    found[near] = chosen[np.minimum(at, len(chosen) - 1)] == words[near]
    return found


def _not_in_both(columns: Sequence[NDArray[Any]], word: Words, border: int) -> NDArray[np.bool_]:
    # Lists are often sorted, which this kind of sorting sees.
    sorted_ = bool((word[1:border] >= word[: max(0, border - 1)]).all())
    order = np.argsort(word, kind="stable" if sorted_ else None)
    begins = np.zeros(len(order), np.bool_)
    begins[:1] = True
    for column in columns:
        ordered = column[order]
        begins[1:] |= ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(begins)
    found = np.zeros(len(order), np.bool_)
    if len(starts):
        behind = order >= border
        mixed = np.logical_or.reduceat(behind, starts) & ~np.logical_and.reduceat(behind, starts)
        found[order] = ~np.repeat(mixed, np.diff(starts, append=len(order)))
    return found


def _words(columns: Sequence[NDArray[Any]]) -> Words:
    """Give each row a word by which equal rows come to lie together.

    Rows of IPv6 that differ may share one: then equal ones can be missed, which only makes the answer longer.
    """
    if len(columns) == 2:
        packed: Words = columns[0].astype(np.uint64) << np.uint64(32) | columns[1]
        return packed
    factors = np.random.default_rng().integers(0, 2**63, len(columns) - 1, np.uint64) * np.uint64(2) + np.uint64(1)
    word: Words = columns[0].copy()
    for factor, column in zip(factors, columns[1:], strict=True):
        word += column * factor
    return word
