"""All addresses of a family, put into classes: within a class no policy and no set of the kernel makes a difference.

A million prefixes behind one port are two or three classes. One sweep over all boundaries: whatever covers a stretch of
addresses adds its own random 128-bit weight there, so equal sums mean equal cover (but for one chance in 2**128 for
each pair), and only one address of each class is ever looked at in Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from numpy.typing import NDArray

    from gatewrit.policy.model import Family, Ranges

    Words = NDArray[np.uint64]
    Indices = NDArray[np.int64]

TOPS: dict[Family, int] = {4: 2**32 - 1, 6: 2**128 - 1}
_HALF = (1 << 64) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Stretches:
    """Address ranges in bulk, ends included: `first` and `last` are of shape (n, 2), the high and low 64 bits."""

    first: Words
    last: Words

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def of_ranges(cls, parts: Iterable[Ranges], family: Family) -> Stretches:
        """Take what a policy names of one family."""
        own = [part for part in parts if part.family == family]
        return cls(_join([_words(part.first) for part in own]), _join([_words(part.last) for part in own]))

    @classmethod
    def of_keys(cls, first: NDArray[np.bytes_], last: NDArray[np.bytes_], width: int) -> Stretches:
        """Take the keys of one of the kernel's sets: big-endian bytes."""
        return cls(_key_words(first, width), _key_words(last, width))

    @classmethod
    def of_pairs(cls, pairs: Sequence[tuple[int, int]]) -> Stretches:
        """Take plain integers."""
        return cls(_integer_words([first for first, _ in pairs]), _integer_words([last for _, last in pairs]))


def _words(values: NDArray[Any]) -> Words:
    halves = (np.zeros(len(values), np.uint64), values) if values.dtype.names is None else (values["hi"], values["lo"])
    return np.stack([half.astype(np.uint64) for half in halves], axis=1)


def _key_words(keys: NDArray[np.bytes_], width: int) -> Words:
    words = np.ascontiguousarray(keys).view(">u4" if width == 4 else ">u8").astype(np.uint64)
    return np.stack([np.zeros(len(keys), np.uint64), words], axis=1) if width == 4 else words.reshape(-1, 2)


def _integer_words(values: Iterable[int]) -> Words:
    return np.array([(value >> 64, value & _HALF) for value in values], np.uint64).reshape(-1, 2)


def _join(parts: list[Words]) -> Words:
    return np.concatenate(parts) if parts else np.zeros((0, 2), np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One address set of the kernel: disjoint stretches, and a number for what each of them leads to."""

    stretches: Stretches
    label: Indices


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """The classes of one family's addresses as they stand at one end of a packet.

    `examples[i]` is a range of addresses in class i; `labels[name][i]` what the kernel's set holds for it (-1:
    nothing); `owners[i]` who covers it.
    """

    examples: tuple[tuple[int, int], ...]
    labels: dict[str, Indices]
    owners: tuple[frozenset[Hashable], ...]

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def everything(self) -> int:
        """All classes, as a set of bits."""
        return (1 << len(self)) - 1

    def by_label(self, name: str) -> dict[int, int]:
        """Give the classes, as a set of bits, for each thing that a set of the kernel holds."""
        labels = self.labels[name]
        return {int(label): bits(labels == label) for label in np.unique(labels)}

    def of_owner(self, owner: Hashable) -> int:
        """Give the classes that somebody covers, as a set of bits."""
        return bits(np.array([owner in each for each in self.owners], np.bool_))


def bits(chosen: NDArray[np.bool_]) -> int:
    """Give a set of bits: bit i stands for item i."""
    return int.from_bytes(np.packbits(chosen, bitorder="little").tobytes(), "little")


def members(mask: int) -> Indices:
    """Give the numbers of the bits that are set."""
    raw = np.frombuffer(mask.to_bytes(mask.bit_length() // 8 + 1, "little"), np.uint8)
    return np.flatnonzero(np.unpackbits(raw, bitorder="little"))


def classify(family: Family, layers: dict[str, Layer], owners: dict[Hashable, Stretches]) -> Classes:
    """Put every address of a family into its class."""
    names = list(owners)
    parts = [Stretches.of_pairs([(0, TOPS[family])]), *(layer.stretches for layer in layers.values()), *owners.values()]
    edges, starts, stops = _rank(family, _join([part.first for part in parts]), _join([part.last for part in parts]))
    bounds = np.cumsum([0, *map(len, parts)])
    spread = {
        name: _spread(layer.label, starts[low:high], stops[low:high], len(edges))
        for (name, layer), low, high in zip(layers.items(), bounds[1:], bounds[2:], strict=False)
    }
    begin = bounds[1 + len(layers)]
    who = np.repeat(np.arange(len(names)), np.array([len(owners[name]) for name in names], np.int64))
    cover = (starts[begin:], stops[begin:], who)
    samples = _samples(cover, len(names), spread, len(edges))
    found = _owners_at(samples, cover)
    return Classes(
        tuple(_example(family, edges, int(at)) for at in samples),
        {name: labels[samples] for name, labels in spread.items()},
        tuple(frozenset(names[index] for index in each) for each in found),
    )


def _rank(family: Family, first: Words, last: Words) -> tuple[Words, Indices, Indices]:
    """Give all edges in order (each begins a stretch that runs to the next), and where each range starts and stops."""
    after = last.copy()
    after[:, 1] += np.uint64(1)
    after[:, 0] += after[:, 1] == 0
    over = (after == 0).all(axis=1)
    both = np.concatenate([first, after[~over]])
    if family == 4:
        low, place = np.unique(both[:, 1], return_inverse=True)
        edges = np.stack([np.zeros(len(low), np.uint64), low], axis=1)
        edges = edges[:-1] if int(low[-1]) > TOPS[4] else edges
    else:
        order = np.lexsort((both[:, 1], both[:, 0]))
        changes = np.ones(len(order), np.bool_)
        changes[1:] = (both[order][1:] != both[order][:-1]).any(axis=1)
        place = np.empty(len(order), np.int64)
        place[order] = np.cumsum(changes) - 1
        edges = both[order][changes]
    stops = np.full(len(first), len(edges), np.int64)
    stops[~over] = place[len(first) :]
    return edges, place[: len(first)].astype(np.int64), stops


def _spread(label: Indices, starts: Indices, stops: Indices, size: int) -> Indices:
    """Give the label at each edge, -1 where there is none."""
    steps = np.zeros(size + 1, np.int64)
    np.add.at(steps, starts, label + 1)
    np.subtract.at(steps, stops, label + 1)
    return np.cumsum(steps)[:size] - 1


def _samples(cover: tuple[Indices, Indices, Indices], size: int, spread: dict[str, Indices], edges: int) -> Indices:
    """Give one edge of each class."""
    starts, stops, who = cover
    rng = np.random.default_rng()
    sums = []
    for _ in range(2):
        weights = rng.integers(0, 2**64, size, np.uint64)
        steps = np.zeros(edges + 1, np.uint64)
        np.add.at(steps, starts, weights[who])
        np.subtract.at(steps, stops, weights[who])
        total = np.cumsum(steps)[:edges]
        for labels in spread.values():
            total = total + rng.integers(0, 2**64, int(labels.max(initial=-1)) + 2, np.uint64)[labels + 1]
        sums.append(total)
    order = np.lexsort(sums)
    changes = np.ones(len(order), np.bool_)
    changes[1:] = (sums[0][order][1:] != sums[0][order][:-1]) | (sums[1][order][1:] != sums[1][order][:-1])
    return np.sort(order[changes])


def _owners_at(at: Indices, cover: tuple[Indices, Indices, Indices]) -> list[set[int]]:
    """Give who covers each of the edges in `at`, which ascend."""
    starts, stops, who = cover
    low, high = np.searchsorted(at, starts), np.searchsorted(at, stops)
    counts = high - low
    sample = np.repeat(low - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    found: list[set[int]] = [set() for _ in range(len(at))]
    for index, owner in np.unique(np.stack([sample, np.repeat(who, counts)], axis=1), axis=0).tolist():
        found[index].add(owner)
    return found


def _example(family: Family, edges: Words, at: int) -> tuple[int, int]:
    def value(index: int) -> int:
        return (int(edges[index, 0]) << 64) + int(edges[index, 1])

    return value(at), value(at + 1) - 1 if at + 1 < len(edges) else TOPS[family]
