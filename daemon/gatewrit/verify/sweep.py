"""One sweep over all boundaries of a family's addresses, which puts the addresses into classes.

Whatever covers a stretch of addresses adds its own random 128-bit weight there, so equal sums mean equal cover (but for
one chance in 2**128 for each pair), and only one address of each class is ever looked at in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gatewrit.verify.addresses import TOPS, Classes, Held, Stretches, following

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from numpy.typing import NDArray

    from gatewrit.policy.model import Family
    from gatewrit.verify.addresses import Indices, Layer, Words
    from gatewrit.verify.steps import Asking

#: A place in the order of IPv4 addresses, one beyond the last included, above what comes or goes there.
_PLACE = 31
#: As many bits of a sum tell which classes are alike at first sight.
_SIGHT = 20


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
    who = np.concatenate([*labels, whose.astype(np.int64), [begin + len(names)]])
    cover = Stretches.joined([*parts, Stretches.of_pairs([(0, TOPS[family])])])
    first, last = _examples(family, *_sums(family, cover, who))
    sample, owner = _hits(family, first, cover, who)
    # By whom, and then by class.
    order = np.lexsort((sample, owner))
    sample, owner = sample[order], owner[order]
    bounds = np.searchsorted(owner, bases).tolist()
    held = {
        asking: Held(sample[low:high], owner[low:high] - base)
        for asking, base, low, high in zip(layers, bases.tolist(), bounds, bounds[1:], strict=False)
    }
    covering: list[set[Hashable]] = [set() for _ in range(len(first))]
    for at, number in zip(sample[bounds[-1] :].tolist(), owner[bounds[-1] :].tolist(), strict=True):
        if number < begin + len(names):
            covering[at].add(names[number - begin])
    examples = zip(_integers(first), _integers(last), strict=True)
    return Classes(tuple(examples), held, tuple(map(frozenset, covering)))


def _sums(family: Family, cover: Stretches, who: Indices) -> tuple[Words, tuple[Words, Words]]:
    """Give all edges in order (each begins a stretch that runs to the next), and the two sums of weights there.

    The edges are of shape (n, 2), the sums of shape (n,).
    """
    size = int(who.max()) + 1
    # What comes, and what goes: even and odd.
    events = np.concatenate([who << 1, who << 1 | 1]).astype(np.uint64)
    after = following(cover.last)
    ends_below = after.any(axis=1)
    events = events[np.concatenate([np.ones(len(who), np.bool_), ends_below])]
    after = after[ends_below]
    if family == 4:
        low = np.concatenate([cover.first[:, 1], after[:, 1]])
        low = np.sort(low << np.uint64(_PLACE) | events)
        events, low = low & np.uint64((1 << _PLACE) - 1), low >> np.uint64(_PLACE)
        high, over = np.zeros(len(low), np.uint64), low > TOPS[4]
        ends = np.append(low[1:] != low[:-1], [True])
    else:
        high, low = np.concatenate([cover.first, after]).T
        order = _order(high, low)
        high, low, events = high[order], low[order], events[order]
        ends = np.append((low[1:] != low[:-1]) | (high[1:] != high[:-1]), [True])
        over = np.zeros(len(low), np.bool_)
    random = np.random.default_rng()
    sums = []
    for _ in range(2):
        weights = random.integers(0, 2**64, size, np.uint64)
        table = np.stack([weights, np.uint64(0) - weights], axis=1).ravel()
        sums.append(np.cumsum(table[events]))
    ends &= ~over
    return np.stack([high[ends], low[ends]], axis=1), (sums[0][ends], sums[1][ends])


def _order(high: Words, low: Words) -> Indices:
    """Give the order of addresses, by their halves: one half alone is sorted many times faster than two."""
    order = np.argsort(high)
    of_high, of_low = high[order], low[order]
    alike = np.append([False], of_high[1:] == of_high[:-1])
    mixed = alike & np.append([False], of_low[1:] != of_low[:-1])
    if mixed.any():
        run = np.cumsum(~alike) - 1
        odd = np.zeros(int(run[-1]) + 1, np.bool_)
        odd[run[mixed]] = True
        at = np.flatnonzero(odd[run])
        order[at] = order[at[np.lexsort((of_low[at], run[at]))]]
    return order


def _examples(family: Family, edges: Words, sums: tuple[Words, Words]) -> tuple[Words, Words]:
    """Give the first and the last address of one stretch of each class, in order."""
    at = _representatives(*sums)
    beyond = np.append(edges, edges[:1], axis=0)[at + 1]
    last = np.stack([beyond[:, 0] - (beyond[:, 1] == 0), beyond[:, 1] - np.uint64(1)], axis=1)
    if family == 4:
        last[at + 1 == len(edges), :] = 0, TOPS[4]
    return edges[at], last


def _representatives(one: Words, two: Words) -> Indices:
    """Give one place for each distinct pair, without sorting all of them."""
    sight = (one >> np.uint64(64 - _SIGHT)).astype(np.int64)
    seen = np.full(1 << _SIGHT, -1, np.int64)
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


def _hits(family: Family, samples: Words, cover: Stretches, who: Indices) -> tuple[Indices, Indices]:
    """Give all pairs of a sample and somebody who covers it; the samples ascend."""
    low = _below(family, samples, cover.first)
    meets = samples[np.minimum(low, len(samples) - 1)]
    inside = (meets[:, 0] < cover.last[:, 0]) | ((meets[:, 0] == cover.last[:, 0]) & (meets[:, 1] <= cover.last[:, 1]))
    found = np.flatnonzero(inside & (low < len(samples)))
    low, after = low[found], following(cover.last[found])
    high = np.where(after.any(axis=1), _below(family, samples, after), len(samples))
    counts = high - low
    sample = np.repeat(low - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    pairs = np.unique(np.stack([sample, np.repeat(who[found], counts)], axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _below(family: Family, samples: Words, addresses: Words) -> Indices:
    """Say how many of the samples are below each address."""
    if family == 4:
        return np.searchsorted(samples[:, 1], addresses[:, 1])
    count = np.searchsorted(samples[:, 0], addresses[:, 0])
    even = np.flatnonzero(samples[np.minimum(count, len(samples) - 1), 0] == addresses[:, 0])
    count[even] = np.searchsorted(_octets(samples), _octets(addresses[even]))
    return count


def _octets(addresses: Words) -> NDArray[np.bytes_]:
    """Give IPv6 addresses as octets, which sort as they do."""
    return np.ascontiguousarray(addresses.astype(">u8")).view("S16").ravel()


def _integers(addresses: Words) -> list[int]:
    return [(high << 64) + low for high, low in addresses.tolist()]
