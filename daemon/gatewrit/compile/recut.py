"""Segments of what has changed a little: only the region that the change reaches is cut again, the rest stays.

Whatever was there before, the result is what cutting everything anew would give.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gatewrit.compile.segments import Segments, in_order, segment, sweep
from gatewrit.compile.spans import Spans, Splice, alike, apart, clip, intersect, merge, met_by, nothing, unlike

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from gatewrit.compile.memo import Drawer
    from gatewrit.compile.segments import Owners
    from gatewrit.compile.spans import Addresses, Indices
    from gatewrit.policy.terms import Family

#: If more than this share of the segments is met by the change, everything is cut anew.
_MOST = 1 / 3
#: Spans of up to so many ranges are clipped all at once, larger ones each by itself.
_SMALL = 1024


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """The spans of each owner, and their segments: `owners` there are the places of the owners among these."""

    spans: Mapping[Any, Spans]
    segments: Segments


def segmented(drawer: Drawer, purpose: Hashable, family: Family, spans: Mapping[Any, Spans]) -> Segments:
    """Cut the spans of all owners into segments, starting from those that were last cut for this purpose.

    The owners in the segments are places among the keys. Gives the same object as last time if nothing has changed.
    """
    key = ("cut", purpose, family)
    before: _Cut | None = drawer.known(key)
    found = None if before is None else _again(family, before, spans)
    if found is None:
        found = _again(family, _largest(family, spans), spans)
    cut = _Cut(dict(spans), segment(family, list(spans.values())) if found is None else found)
    drawer.put(key, cut)
    return cut.segments


def _largest(family: Family, spans: Mapping[Any, Spans]) -> _Cut:
    """Begin with the largest spans: where the others are small beside them, little is left to be cut."""
    most = max(spans.values(), key=len, default=None)
    alone = {key: each for key, each in spans.items() if each is most}
    return _Cut(alone, segment(family, list(alone.values())))


def _again(family: Family, before: _Cut, spans: Mapping[Any, Spans]) -> Segments | None:
    """Cut again what has changed; None if that is too much."""
    changed = [key for key, each in spans.items() if before.spans.get(key) is not each]
    gone = [key for key in before.spans if key not in spans]
    old = _renumbered(before, spans)
    dirty = _dirty(family, before.spans, spans, (*changed, *gone))
    if not len(dirty):
        # What was cut is in order, but for owners that come in another one now.
        return old if old is before.segments else in_order(old)
    touched = met_by(old.first, old.last, dirty)
    if len(touched) + len(dirty) > _MOST * len(old) + 1:
        return None
    region = merge(family, [dirty, Spans(family, old.first[touched], old.last[touched])])
    place = {key: at for at, key in enumerate(spans)}
    concerned = {place[key] for key in changed}
    for group in np.unique(old.group[touched]).tolist():
        # Owners that are gone have no place.
        concerned.update(at for at in old.owners[group] if at >= 0)
    listed = list(spans.values())
    piece = _cut_within(family, {at: listed[at] for at in sorted(concerned)}, region)
    return in_order(_spliced(old, touched, piece))


def _renumbered(before: _Cut, spans: Mapping[Any, Spans]) -> Segments:
    """Give the segments as they were, with the places that their owners have now; -1 where these are gone."""
    if list(before.spans) == list(spans):
        return before.segments
    place = {key: at for at, key in enumerate(spans)}
    now = [place.get(key, -1) for key in before.spans]
    owners = tuple(tuple(sorted([now[at] for at in each])) for each in before.segments.owners)
    return replace(before.segments, owners=owners)


def _dirty(family: Family, before: Mapping[Any, Spans], spans: Mapping[Any, Spans], keys: Iterable[Hashable]) -> Spans:
    """Unite all addresses whose owners may be others than before."""
    none = Spans(family, nothing(family), nothing(family))
    parts: list[Spans] = []
    for old, new in {(before.get(key, none), spans.get(key, none)) for key in keys}:
        if len(old) != len(new) or not (alike(old.first, new.first) and alike(old.last, new.last)):
            # To tell what of something small has changed costs more than to cut all of it again.
            parts += [old, new] if min(len(old), len(new)) <= _SMALL else [unlike(old, new)]
    return merge(family, parts)


def _cut_within(family: Family, spans: Mapping[int, Spans], region: Spans) -> Segments:
    """Cut spans, by the place of their owner, within a region."""
    large = {at: intersect(each, region) for at, each in spans.items() if len(each) > _SMALL}
    small = {at: each for at, each in spans.items() if len(each) <= _SMALL}
    none = nothing(family)
    owner = np.repeat(np.array(list(small), np.intp), [len(each) for each in small.values()])
    first, last, whose = clip(
        np.concatenate([none, *(each.first for each in small.values())]),
        np.concatenate([none, *(each.last for each in small.values())]),
        region,
    )
    others = np.repeat(np.array(list(large), np.intp), [len(each) for each in large.values()])
    first = np.concatenate([first, *(each.first for each in large.values())])
    last = np.concatenate([last, *(each.last for each in large.values())])
    return sweep(family, first, last, np.concatenate([owner[whose], others]))


def _spliced(old: Segments, touched: Indices, piece: Segments) -> Segments:
    """Put the new segments of a region in the place of those that were there."""
    number = {owners: at for at, owners in enumerate(old.owners)}
    fresh = [owners for owners in piece.owners if owners not in number]
    number.update((owners, len(old.owners) + at) for at, owners in enumerate(fresh))
    table = np.array([number[owners] for owners in piece.owners], np.int64)
    change = Splice(old.first, touched, piece.first)
    first, last = change.apply(old.first, piece.first), change.apply(old.last, piece.last)
    group = change.apply(old.group, table[piece.group])
    return _closed(old.family, (first, last, group), change.at, (*old.owners, *fresh))


def _closed(family: Family, parts: tuple[Addresses, Addresses, Addresses], fresh: Indices, owners: Owners) -> Segments:
    """Join what was put in with what it touches, if that has the same owners: only there can there be a seam."""
    first, last, group = parts
    behind = np.unique(np.concatenate([fresh, fresh + 1]))
    behind = behind[(behind > 0) & (behind < len(first))]
    seam = behind[(group[behind] == group[behind - 1]) & ~apart(last[behind - 1], first[behind])]
    if len(seam):
        first, last, group = np.delete(first, seam), np.delete(last, seam - 1), np.delete(group, seam)
    return Segments(family, first, last, group, owners)
