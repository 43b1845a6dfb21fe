"""One sweep over all boundaries of a family's addresses, which puts the addresses into classes.

Whatever covers a stretch of addresses adds its own random 128-bit weight there, so equal sums mean equal cover (but for
one chance in 2**128 for each pair), and only one address of each class is ever looked at in Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.verify.addresses import TOPS, Classes, Held, Stretches, below

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gatewrit.policy.terms import Family
    from gatewrit.verify.addresses import Indices, Layer, Words
    from gatewrit.verify.steps import Asking

#: A place in the order of IPv4 addresses, one beyond the last included, above what comes or goes there.
_PLACE = 31
#: As many bits of a sum, at most, tell which classes are alike at first sight.
_SIGHT = 20
#: As many edges are looked at together: what is made of them should fit a processor's cache.
_PIECE = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class _Cover:
    """Stretches with a number for whom each belongs to: where they begin, and then where they have ended.

    `edges` has shape (1 or 2, 2n). What ends with the last address of all has ended at zero in IPv6.
    """

    edges: Words
    who: NDArray[np.uint32]

    @classmethod
    def of(cls, parts: Sequence[Stretches], who: Indices) -> _Cover:
        edges = np.concatenate([*(part.first for part in parts), *(part.last for part in parts)], axis=1)
        after = edges[:, len(who) :]
        after[-1] += np.uint64(1)
        if len(after) > 1:
            after[0] += after[1] == 0
        return cls(edges, who.astype(np.uint32))

    @property
    def first(self) -> Words:
        return self.edges[:, : len(self.who)]

    @property
    def after(self) -> Words:
        return self.edges[:, len(self.who) :]

    @property
    def endless(self) -> NDArray[np.bool_]:
        """Which of them have no address after them."""
        after = self.after
        return np.zeros(len(self.who), np.bool_) if len(after) == 1 else (after[1] == 0) & (after[0] == 0)


def classify(family: Family, layers: Mapping[Asking, Layer], owners: Mapping[Hashable, Stretches]) -> Classes:
    """Put every address of a family into its class."""
    names = list(owners)
    parts = [layer.stretches for layer in layers.values()] + [*owners.values()]
    # Everybody has a number of their own: each label of each set, then each owner, then the family as a whole.
    sizes = [int(layer.label.max(initial=-1)) + 1 for layer in layers.values()]
    bases = np.cumsum([0, *sizes])
    labels = [layer.label + base for layer, base in zip(layers.values(), bases, strict=False)]
    begin = int(bases[-1])
    whose = np.repeat(np.arange(begin, begin + len(names)), [len(each) for each in owners.values()])
    cover = _Cover.of(
        [*parts, Stretches.of_pairs([(0, TOPS[family])], family)],
        np.concatenate([*labels, whose.astype(np.int64), [begin + len(names)]]),
    )
    first, last = _examples(family, cover)
    # By whom, and then by class.
    sample, owner = _hits(first, cover)
    bounds = np.searchsorted(owner, bases).tolist()
    held = {
        asking: Held(sample[low:high], owner[low:high] - base)
        for asking, base, low, high in zip(layers, bases.tolist(), bounds, bounds[1:], strict=False)
    }
    covering: list[set[Hashable]] = [set() for _ in range(first.shape[1])]
    for at, number in zip(sample[bounds[-1] :].tolist(), owner[bounds[-1] :].tolist(), strict=True):
        if number < begin + len(names):
            covering[at].add(names[number - begin])
    examples = zip(_integers(first), _integers(last), strict=True)
    return Classes(tuple(examples), held, tuple(map(frozenset, covering)))


def _examples(family: Family, cover: _Cover) -> tuple[Words, Words]:
    """Give the first and the last address of one stretch of each class, in order."""
    size = int(cover.who.max()) + 1
    random = np.random.default_rng()
    weights = random.integers(0, 2**64, (2, size), np.uint64)
    # For each of them: coming, going. What never goes in IPv6 goes at zero, which changes all sums alike.
    changes = np.stack([weights, np.uint64(0) - weights], axis=2).reshape(2, -1)
    totals = np.zeros((2, 1), np.uint64)
    found = []
    for edges, events, settled in _pieces(family, cover):
        sums = np.stack([np.cumsum(change[events]) for change in changes]) + totals
        totals = sums[:, -1:]
        at = np.flatnonzero(settled)
        at = at[_representatives(*sums[:, at])] if len(at) else at
        found.append(np.concatenate([edges[:, at], edges[:, at + 1], sums[:, at]]))
    every = np.concatenate(found, axis=1)
    every = every[:, _representatives(*every[-2:])]
    first, after = every[: len(cover.edges)], every[len(cover.edges) : -2]
    last = after - np.uint64(1)
    if len(last) > 1:
        last = np.stack([after[0] - (after[1] == 0), last[1]])
    return first, last


def _pieces(family: Family, cover: _Cover) -> Iterator[tuple[Words, Indices, NDArray[np.bool_]]]:
    """Yield all edges in order, some at a time, and what happens there; so what is made of them stays small.

    `events` says who comes (twice their number) or goes (one more). `edges` has one more than these: what is next.
    `settled` says where all has happened that happens at an edge, and a stretch begins that runs to the next.
    """
    events = np.concatenate([cover.who << 1, cover.who << 1 | 1])
    end = np.array([[TOPS[4] + 1]] if family == 4 else [[0], [0]], np.uint64)
    if family == 4:
        packed = cover.edges[0] << np.uint64(_PLACE)
        packed |= events
        packed.sort()
    else:
        order, halves = _order(*cover.edges)
    for start in range(0, len(events), _PIECE):
        stop = min(start + _PIECE, len(events))
        if family == 4:
            edges = packed[None, start : stop + 1] >> np.uint64(_PLACE)
            here = (packed[start:stop] & np.uint64((1 << _PLACE) - 1)).view(np.int64)
        else:
            edges = halves[:, start : stop + 1]
            here = events[order[start:stop]].astype(np.int64)
        if stop == len(events):
            edges = np.append(edges, end, axis=1)
        settled = edges[-1, 1:] != edges[-1, :-1]
        if family == 6:
            settled |= edges[0, 1:] != edges[0, :-1]
            # With the last address of all nothing is over, but for IPv4, where that is an edge like others.
            settled[-1] |= stop == len(events)
        yield edges, here, settled


def _order(high: Words, low: Words) -> tuple[Indices, Words]:
    """Give the order of addresses, and their halves in it: to sort one half alone is many times faster than both."""
    order = np.argsort(high)
    halves = np.stack([high[order], low[order]])
    alike = np.append([False], halves[0, 1:] == halves[0, :-1])
    mixed = alike[1:] & (halves[1, 1:] != halves[1, :-1])
    if mixed.any():
        run = np.cumsum(~alike) - 1
        odd = np.zeros(int(run[-1]) + 1, np.bool_)
        odd[run[1:][mixed]] = True
        at = np.flatnonzero(odd[run])
        inner = at[np.lexsort((halves[1, at], run[at]))]
        order[at], halves[1, at] = order[inner], halves[1, inner]
    return order, halves


def _representatives(one: Words, two: Words) -> Indices:
    """Give one place for each distinct pair, without sorting all of them."""
    size = min(len(one).bit_length() + 1, _SIGHT)
    sight = (one >> np.uint64(64 - size)).view(np.int64)
    seen = np.full(1 << size, -1, np.int64)
    seen[sight] = np.arange(len(one))
    chosen = seen[sight]
    found = seen[seen >= 0]
    # All the places of a pair that another one hides are among these.
    hidden = np.flatnonzero((one != one[chosen]) | (two != two[chosen]))
    if len(hidden):
        hidden = hidden[np.lexsort((two[hidden], one[hidden]))]
        new = (one[hidden][1:] != one[hidden][:-1]) | (two[hidden][1:] != two[hidden][:-1])
        found = np.append(found, hidden[np.append([True], new)])
    return np.sort(found)


def _hits(samples: Words, cover: _Cover) -> tuple[Indices, Indices]:
    """Give all pairs of a sample and somebody who covers it, by whom and then in the order of the samples."""
    count = samples.shape[1]
    low, endless = _rank(samples, cover.first), cover.endless
    met = samples[:, np.minimum(low, count - 1)]
    found = np.flatnonzero((low < count) & (below(met, cover.after) | endless))
    low = low[found]
    counts = np.where(endless[found], count, _rank(samples, cover.after[:, found])) - low
    sample = np.repeat(low - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    pairs = np.unique(np.repeat(cover.who[found].astype(np.int64), counts) * count + sample)
    return pairs % count, pairs // count


def _rank(samples: Words, addresses: Words) -> Indices:
    """Say how many of the samples are below each address."""
    count: Indices = np.searchsorted(samples[0], addresses[0])
    if len(samples) > 1:
        even = np.flatnonzero(samples[0, np.minimum(count, samples.shape[1] - 1)] == addresses[0])
        count[even] = np.searchsorted(_octets(samples), _octets(addresses[:, even]))
    return count


def _octets(addresses: Words) -> NDArray[np.bytes_]:
    """Give IPv6 addresses as octets, which sort as they do."""
    return np.ascontiguousarray(addresses.T, ">u8").view("S16").ravel()


def _integers(addresses: Words) -> list[int]:
    *high, low = addresses.tolist()
    return [(above << 64) + rest for above, rest in zip(*high, low, strict=True)] if high else [*low]
