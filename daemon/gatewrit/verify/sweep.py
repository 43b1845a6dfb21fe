"""One sweep over all boundaries of a family's addresses, which puts the addresses into classes.

Whatever covers a stretch of addresses adds its own random 128-bit weight there, so equal sums mean equal cover (but for
one chance in 2**128 for each pair), and only one address of each class is ever looked at in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gatewrit.verify.addresses import TOPS, Classes, Held, Stretches, below, following, integer_words

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
    cover = Stretches.joined([*parts, Stretches.of_pairs([(0, TOPS[family])], family)], family)
    first, last = _examples(family, *_sums(family, cover, who))
    # By whom, and then by class.
    sample, owner = _hits(first, cover, who)
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


def _sums(family: Family, cover: Stretches, who: Indices) -> tuple[Words, tuple[Words, Words]]:
    """Give all edges in order (each begins a stretch that runs to the next), and the two sums of weights there.

    The sums are of shape (n,).
    """
    size = int(who.max()) + 1
    # What covers the last address of all ends nowhere.
    ends = (cover.last != integer_words([TOPS[family]], family)).any(axis=0)
    edges = np.concatenate([cover.first, following(cover.last[:, ends])], axis=1)
    # What comes, and what goes: even and odd.
    events = np.concatenate([who << 1, who[ends] << 1 | 1])
    if family == 4:
        packed = edges[0] << np.uint64(_PLACE)
        packed |= events.view(np.uint64)
        packed.sort()
        events = (packed & np.uint64((1 << _PLACE) - 1)).view(np.int64)
        packed >>= np.uint64(_PLACE)
        edges = packed[None, :]
    else:
        order = _order(*edges)
        edges, events = edges[:, order], events[order]
    settled = np.append((edges[:, 1:] != edges[:, :-1]).any(axis=0), [True])
    random = np.random.default_rng()
    sums = []
    for _ in range(2):
        weights = random.integers(0, 2**64, size, np.uint64)
        table = np.stack([weights, np.uint64(0) - weights], axis=1).ravel()
        sums.append(np.cumsum(table[events])[settled])
    return edges[:, settled], (sums[0], sums[1])


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
    bounds = [*_integers(edges[:, np.minimum(at + 1, edges.shape[1] - 1)])]
    last = [TOPS[family] if place + 1 == edges.shape[1] else bound - 1 for place, bound in zip(at, bounds, strict=True)]
    return edges[:, at], integer_words(last, family)


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


def _hits(samples: Words, cover: Stretches, who: Indices) -> tuple[Indices, Indices]:
    """Give all pairs of a sample and somebody who covers it, each once; the samples ascend."""
    count = samples.shape[1]
    low = _rank(samples, cover.first)
    found = np.flatnonzero(low < count)
    found = found[~below(cover.last[:, found], samples[:, low[found]])]
    low, last = low[found], cover.last[:, found]
    high = _rank(samples, last)
    high += (samples[:, np.minimum(high, count - 1)] == last).all(axis=0) & (high < count)
    counts = high - low
    sample = np.repeat(low - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    pairs = np.unique(np.repeat(who[found], counts) * count + sample)
    return pairs % count, pairs // count


def _rank(samples: Words, addresses: Words) -> Indices:
    """Say how many of the samples are below each address."""
    count = np.searchsorted(samples[0], addresses[0])
    if len(samples) > 1:
        even = np.flatnonzero(samples[0, np.minimum(count, samples.shape[1] - 1)] == addresses[0])
        count[even] = np.searchsorted(_octets(samples), _octets(addresses[:, even]))
    return count


def _octets(addresses: Words) -> NDArray[np.bytes_]:
    """Give IPv6 addresses as octets, which sort as they do."""
    return np.ascontiguousarray(addresses.T, ">u8").view("S16").ravel()


def _integers(addresses: Words) -> list[int]:
    rows = addresses.tolist()
    return rows[0] if len(rows) == 1 else [(high << 64) + low for high, low in zip(*rows, strict=True)]
