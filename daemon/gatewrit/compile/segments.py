"""Overlaps to segments: maximal address ranges over which the same owners hold, and who those owners are.

One sweep over all boundaries. Each owner has a random 128-bit weight; the running sum of the weights of the ranges that
are open identifies the set of owners at that point, so nothing is done address by address or range by range in Python.
Sets are then read off exactly, once for each distinct sum. Two sets with one sum would be confused: with weights that
nobody can foresee, that is one chance in 2**128 for each pair.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.boundaries import distinct_pairs, rank, runs
from gatewrit.compile.spans import Spans, Splice, expanded, gaps, intersect, met_by, nothing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gatewrit.compile.spans import Addresses, Indices
    from gatewrit.policy.terms import Family

    Owners = tuple[tuple[int, ...], ...]
    Labels = NDArray[np.int64]

#: So many segments are looked at first for where each group appears.
_SOON = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Sorted, disjoint ranges; `owners[group[i]]` are the indices of the spans that cover segment i, ascending."""

    family: Family
    first: Addresses
    last: Addresses
    group: NDArray[np.int64]
    owners: Owners

    def __len__(self) -> int:
        return len(self.first)


def segment(family: Family, spans: Sequence[Spans]) -> Segments:
    """Cut all spans (one for each owner) into segments."""
    # Owners may share their spans: several ports of one list.
    alike: dict[Spans, list[int]] = {}
    for at, each in enumerate(spans):
        if len(each):
            alike.setdefault(each, []).append(at)
    if not alike:
        return Segments(family, nothing(family), nothing(family), np.zeros(0, np.int64), ())
    distinct, members = list(alike), list(alike.values())
    if len(distinct) == 1:
        (only,) = distinct
        return Segments(family, only.first, only.last, np.zeros(len(only), np.int64), (tuple(members[0]),))
    first = np.concatenate([each.first for each in distinct])
    last = np.concatenate([each.last for each in distinct])
    cut = sweep(family, first, last, np.repeat(np.arange(len(distinct)), [len(each) for each in distinct]))
    if len(distinct) == len(spans):
        return cut
    owners = tuple(tuple(sorted(at for which in group for at in members[which])) for group in cut.owners)
    return replace(cut, owners=owners)


def sweep(family: Family, first: Addresses, last: Addresses, owner: Indices) -> Segments:
    """Cut ranges in any order, each with the index of its owner, into segments; those of one owner are disjoint."""
    if not len(first):
        return Segments(family, first, last, np.zeros(0, np.int64), ())
    positions, starts, ends = rank(family, first, last)
    weights = np.random.default_rng().integers(0, 2**64, (2, int(owner.max()) + 1), np.uint64)
    sums = np.zeros((2, len(positions)), np.uint64)
    depth = np.zeros(len(positions), np.int64)
    for half in (0, 1):
        np.add.at(sums[half], starts, weights[half][owner])
        np.subtract.at(sums[half], ends, weights[half][owner])
    np.add.at(depth, starts, 1)
    np.subtract.at(depth, ends, 1)
    sums = np.cumsum(sums, axis=1)
    covered = np.flatnonzero(np.cumsum(depth) > 0)
    samples, group = distinct_pairs(sums[0][covered], sums[1][covered])

    label = np.full(len(positions), -1, np.int64)
    label[covered] = group
    owners = _owners_at(covered[samples], starts, ends, owner)
    return in_order(Segments(family, *runs(positions, label), owners))


def in_order(segments: Segments) -> Segments:
    """Give groups the order of their first segments, so that the random weights leave no trace; unused ones go."""
    count = len(segments)
    # Few groups all appear soon.
    for part in (segments.group[:_SOON], segments.group):
        appears = np.full(len(segments.owners), count, np.int64)
        # The last one that is written stays: so the first one is written last.
        appears[part[::-1]] = np.arange(len(part) - 1, -1, -1)
        if bool((appears < count).all()):
            break
    order = np.argsort(appears, kind="stable")[: int((appears < count).sum())]
    if np.array_equal(order, np.arange(len(segments.owners))):
        return segments
    number = np.zeros(len(segments.owners), np.int64)
    number[order] = np.arange(len(order))
    owners = tuple(segments.owners[group] for group in order.tolist())
    return Segments(segments.family, segments.first, segments.last, number[segments.group], owners)


def _owners_at(at: Indices, starts: Indices, ends: Indices, owner: Indices) -> Owners:
    """Give the owners of the ranges that are open at each boundary index in `at`: the size of the answer, no more."""
    order = np.argsort(at)
    sorted_at = at[order]
    inside, who = expanded(np.searchsorted(sorted_at, starts), np.searchsorted(sorted_at, ends))
    sample, who = order[inside], owner[who]
    by_sample = np.lexsort((who, sample))
    bounds = np.searchsorted(sample[by_sample], np.arange(1, len(at)))
    return tuple(tuple(part.tolist()) for part in np.split(who[by_sample], bounds))


def coalesce(segments: Segments, label: Labels) -> tuple[Addresses, Addresses, Labels]:
    """Join neighbours that touch and have one `label` (one for each group; negative ones are left out)."""
    chosen = label[segments.group] if len(segments) else np.zeros(0, np.int64)
    first, last = segments.first, segments.last
    if len(label) and label.min() < 0:
        kept = chosen >= 0
        first, last, chosen = first[kept], last[kept], chosen[kept]
    if len(np.unique(label[label >= 0])) == int((label >= 0).sum()):
        # Each group has a label of its own, and segments are as long as they can be.
        return first, last, chosen
    return joined(first, last, chosen)


def joined(first: Addresses, last: Addresses, label: Labels) -> tuple[Addresses, Addresses, Labels]:
    """Join neighbours among sorted, disjoint ranges that touch and have one label."""
    edges = gaps(last, first)
    if bool(edges.all()):
        return first, last, label
    edges |= label[1:] != label[:-1]
    starts = np.flatnonzero(np.concatenate([[True], edges]))
    if len(starts) == len(first):
        return first, last, label
    return first[starts], last[np.append(starts[1:], len(first)) - 1], label[starts]


def subtract(spans: Spans, gone: Spans) -> Spans:
    """Give what is in `spans` and not in `gone`: what isn't met stays as it is."""
    gone = intersect(gone, spans)
    met = met_by(spans.first, spans.last, gone)
    if not len(met):
        return spans
    cut = segment(spans.family, [Spans(spans.family, spans.first[met], spans.last[met]), gone])
    label = np.array([0 if owners == (0,) else -1 for owners in cut.owners], np.int64)
    first, last, _ = coalesce(cut, label)
    change = Splice(spans.first, met, first)
    return Spans(spans.family, change.apply(spans.first, first), change.apply(spans.last, last))
