"""Overlaps to segments: maximal address ranges over which the same owners hold, and who those owners are.

One sweep over all boundaries. Each owner has a random 128-bit weight; the running sum of the weights of the ranges that
are open identifies the set of owners at that point, so nothing is done address by address or range by range in Python.
Sets are then read off exactly, once for each distinct sum. Two sets with one sum would be confused: with weights that
nobody can foresee, that is one chance in 2**128 for each pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.spans import Spans, distinct_rows, rank, runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gatewrit.compile.spans import Addresses, Indices
    from gatewrit.policy.model import Family


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Sorted, disjoint ranges; `owners[group[i]]` are the indices of the spans that cover segment i, ascending."""

    family: Family
    first: Addresses
    last: Addresses
    group: NDArray[np.int64]
    owners: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.first)


def segment(family: Family, spans: Sequence[Spans]) -> Segments:
    """Cut all spans (one for each owner) into segments."""
    first = np.concatenate([each.first for each in spans]) if spans else np.zeros(0)
    last = np.concatenate([each.last for each in spans]) if spans else np.zeros(0)
    if not len(first):
        return Segments(family, first, last, np.zeros(0, np.int64), ())
    owner = np.repeat(np.arange(len(spans)), [len(each) for each in spans])
    positions, starts, ends = rank(family, first, last)

    weights = np.random.default_rng().integers(0, 2**64, (2, len(spans)), np.uint64)
    sums = np.zeros((2, len(positions)), np.uint64)
    depth = np.zeros(len(positions), np.int64)
    for half in (0, 1):
        np.add.at(sums[half], starts, weights[half][owner])
        np.subtract.at(sums[half], ends, weights[half][owner])
    np.add.at(depth, starts, 1)
    np.subtract.at(depth, ends, 1)
    sums = np.cumsum(sums, axis=1)
    covered = np.flatnonzero(np.cumsum(depth) > 0)
    samples, group = distinct_rows(sums[0][covered], sums[1][covered])

    label = np.full(len(positions), -1, np.int64)
    label[covered] = group
    owners = _owners_at(covered[samples], starts, ends, owner)
    return _in_order(Segments(family, *runs(positions, label), owners))


def _in_order(segments: Segments) -> Segments:
    """Give groups the order of their first segments, so that the random weights leave no trace."""
    _, appears = np.unique(segments.group, return_index=True)
    order = np.argsort(appears)
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    owners = tuple(segments.owners[group] for group in order.tolist())
    return Segments(segments.family, segments.first, segments.last, number[segments.group], owners)


def _owners_at(at: Indices, starts: Indices, ends: Indices, owner: Indices) -> tuple[tuple[int, ...], ...]:
    """Give the owners of the ranges that are open at each boundary index in `at`: the size of the answer, no more."""
    order = np.argsort(at)
    sorted_at = at[order]
    low = np.searchsorted(sorted_at, starts)
    high = np.searchsorted(sorted_at, ends)
    counts = high - low
    who = np.repeat(owner, counts)
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    sample = order[np.repeat(low, counts) + offsets]
    by_sample = np.lexsort((who, sample))
    bounds = np.searchsorted(sample[by_sample], np.arange(1, len(at)))
    return tuple(tuple(part.tolist()) for part in np.split(who[by_sample], bounds))


def coalesce(segments: Segments, label: NDArray[np.int64]) -> tuple[Addresses, Addresses, NDArray[np.int64]]:
    """Join neighbours that touch and have one `label` (one for each group; negative ones are left out)."""
    chosen = label[segments.group] if len(segments) else np.zeros(0, np.int64)
    kept = chosen >= 0
    first, last, chosen = segments.first[kept], segments.last[kept], chosen[kept]
    if not len(first):
        return first, last, chosen
    positions, starts, _ = rank(segments.family, first, last)
    spread = np.full(len(positions), -1, np.int64)
    # Segments are disjoint, so the boundary after each start is that segment's own end.
    spread[starts] = chosen
    return runs(positions, spread)


def subtract(spans: Spans, gone: Spans) -> Spans:
    """Give what is in `spans` and not in `gone`."""
    if not len(spans) or not len(gone):
        return spans
    cut = segment(spans.family, [spans, gone])
    label = np.array([0 if owners == (0,) else -1 for owners in cut.owners], np.int64)
    return Spans(spans.family, *coalesce(cut, label)[:2])
