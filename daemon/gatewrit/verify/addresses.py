"""All addresses of a family, put into classes: within a class no policy and no set of the kernel makes a difference.

A million prefixes behind one port are two or three classes in one map, and a few for each block of addresses that has
sets of its own. `sweep` finds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gatewrit.kernel.elements import Elements
    from gatewrit.policy.model import Ranges
    from gatewrit.policy.terms import Family
    from gatewrit.verify.steps import Asking

    Words = NDArray[np.uint64]
    Indices = NDArray[np.int64]

TOPS: dict[Family, int] = {4: 2**32 - 1, 6: 2**128 - 1}
_HALF = (1 << 64) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Stretches:
    """Address ranges in bulk, ends included.

    `first` and `last` are of shape (1, n) for IPv4, and for IPv6 of shape (2, n): the high and the low 64 bits.
    """

    first: Words
    last: Words

    def __len__(self) -> int:
        return int(self.first.shape[1])

    @classmethod
    def of_ranges(cls, parts: Iterable[Ranges], family: Family) -> Stretches:
        """Take what a policy names of one family."""
        own = [cls(_words(part.first), _words(part.last)) for part in parts if part.family == family]
        return cls.joined(own, family)

    @classmethod
    def of_keys(cls, first: NDArray[np.bytes_], last: NDArray[np.bytes_], width: int) -> Stretches:
        """Take the keys of one of the kernel's sets: big-endian bytes."""
        low = _key_words(first, width)
        return cls(low, low if last is first else _key_words(last, width))

    @classmethod
    def of_pairs(cls, pairs: Sequence[tuple[int, int]], family: Family) -> Stretches:
        """Take plain integers."""
        first, last = [first for first, _ in pairs], [last for _, last in pairs]
        return cls(integer_words(first, family), integer_words(last, family))

    @classmethod
    def joined(cls, parts: Sequence[Stretches], family: Family) -> Stretches:
        """Put several of a family together, one after the other."""
        if len(parts) == 1:
            return parts[0]
        none = integer_words([], family)
        return cls(
            np.concatenate([none, *(part.first for part in parts)], axis=1),
            np.concatenate([none, *(part.last for part in parts)], axis=1),
        )


def _words(values: NDArray[Any]) -> Words:
    halves = (values,) if values.dtype.names is None else (values["hi"], values["lo"])
    return np.array(halves, np.uint64)


def _key_words(keys: NDArray[np.bytes_], width: int) -> Words:
    words = np.ascontiguousarray(keys).view(">u4" if width == 4 else ">u8")
    return np.ascontiguousarray(words.reshape(-1, 1 if width == 4 else 2).T, np.uint64)


def following(addresses: Words) -> Words:
    """Give the address after each; the last of all must not be there."""
    after = addresses.copy()
    after[-1] += np.uint64(1)
    if len(after) > 1:
        after[0] += after[1] == 0
    return after


def below(some: Words, others: Words) -> NDArray[np.bool_]:
    """Say of each address whether it is below its counterpart."""
    less: NDArray[np.bool_] = some[0] < others[0]
    return less if len(some) == 1 else less | ((some[0] == others[0]) & (some[1] < others[1]))


def integer_words(values: Iterable[int], family: Family) -> Words:
    """Give integers as an array of addresses."""
    rows = [list(values)] if family == 4 else zip(*((value >> 64, value & _HALF) for value in values), strict=True)
    return np.array(list(rows), np.uint64).reshape(1 if family == 4 else 2, -1)


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One set of the kernel as it is asked: disjoint stretches of addresses, and a number for what each leads to."""

    stretches: Stretches
    label: Indices

    @classmethod
    def of_set(cls, elements: Elements, mask: int | None = None) -> Layer:
        """Take a set that is asked for an address, or for what `mask` (ones, then zeros) leaves of it.

        Under a mask those addresses are in whose masked value is: an element without such a value leads nowhere.
        """
        stretches = Stretches.of_keys(elements.first, elements.last, elements.width)
        label = elements.verdict.astype(np.int64)
        if mask is None:
            return cls(stretches, label)
        family: Family = 4 if elements.width == 4 else 6
        keep, rest = integer_words([mask], family), integer_words([~mask & TOPS[family]], family)
        first, last, up = stretches.first, stretches.last & keep, stretches.first | rest
        exact = ((first & rest) == 0).all(axis=0)
        # Between the bounds there is a value of the mask's only if the next one after the lower isn't beyond the upper.
        held = exact | below(up, last)
        if not held.all():
            first, last, up = first[:, held], last[:, held], up[:, held]
            exact, label = exact[held], label[held]
        begin = first if exact.all() else np.where(exact, first, following(up))
        return cls(Stretches(begin, last | rest), label)


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What a set of the kernel holds for the classes that are in it: their numbers, and a label for each, ascending."""

    classes: Indices
    label: Indices


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """The classes of one family's addresses as they stand at one end of a packet.

    `examples[i]` is a range of addresses in class i; `layers` says what the kernel's sets hold, by how they are asked;
    `owners[i]` who covers class i.
    """

    examples: tuple[tuple[int, int], ...]
    layers: Mapping[Asking, Held]
    owners: tuple[frozenset[Hashable], ...]

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def everything(self) -> int:
        """All classes, as a set of bits."""
        return (1 << len(self)) - 1

    def by_label(self, asking: Asking, among: int) -> Iterator[tuple[int, int]]:
        """Yield parts of the set of classes `among`: those for which a set of the kernel holds the same (-1: nothing).

        The parts are disjoint, not empty, and together all of `among`.
        """
        held = self.layers[asking]
        inside = flags(among, len(self))[held.classes]
        classes, label = held.classes[inside], held.label[inside]
        left = among
        if len(classes):
            starts = np.flatnonzero(np.diff(label, prepend=-1))
            for own, number in zip(np.split(classes, starts[1:]), label[starts].tolist(), strict=True):
                yield number, bits_at(own)
            left &= ~bits_at(classes)
        if left:
            yield -1, left

    def of_owner(self, owner: Hashable) -> int:
        """Give the classes that somebody covers, as a set of bits."""
        return bits(np.array([owner in each for each in self.owners], np.bool_))


def bits(chosen: NDArray[np.bool_]) -> int:
    """Give a set of bits: bit i stands for item i."""
    return int.from_bytes(np.packbits(chosen, bitorder="little").tobytes(), "little")


def bits_at(numbers: Indices) -> int:
    """Give the set of bits with these numbers; there must be one."""
    if len(numbers) == 1:
        return 1 << int(numbers[0])
    chosen = np.zeros(int(numbers.max()) + 1, np.bool_)
    chosen[numbers] = True
    return bits(chosen)


def members(mask: int) -> Indices:
    """Give the numbers of the bits that are set."""
    if not mask & (mask - 1):
        return np.array([mask.bit_length() - 1] if mask else [], np.int64)
    return np.flatnonzero(flags(mask, mask.bit_length()))


def flags(mask: int, size: int) -> NDArray[np.bool_]:
    """Say of each number below `size` whether its bit is set."""
    raw = np.frombuffer(mask.to_bytes(size // 8 + 1, "little"), np.uint8)
    return np.unpackbits(raw, count=size, bitorder="little").view(np.bool_)
