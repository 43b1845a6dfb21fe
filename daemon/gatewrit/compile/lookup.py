"""From an address to its verdict, however many there are: blocks, hashes, a guard, and intervals for what is left.

Up to `Sizes.plain` ranges stand in one interval map. More are split into blocks, aligned parts of the address space of
at most about `Sizes.block` ranges, which one map leads to. What a block's chain looks like is for `block` to say.

Everything is decided by what the ranges are, never by what was there before: the same policies give the same sets.
A range more or less is felt in its own block alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.block import Block, Target, add_block, size_for
from gatewrit.compile.cells import KEYS
from gatewrit.compile.prefixes import WIDTHS
from gatewrit.compile.segments import coalesce
from gatewrit.compile.spans import Places, addresses_of, alike
from gatewrit.kernel.elements import Elements
from gatewrit.kernel.ruleset import ByMap, Masked, Rule, SetSpec
from gatewrit.policy.model import IPV4_DTYPE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gatewrit.compile.cells import Added, Draft, Sizes
    from gatewrit.compile.memo import Drawer
    from gatewrit.compile.segments import Segments
    from gatewrit.compile.spans import Addresses, Indices
    from gatewrit.kernel.elements import Verdict
    from gatewrit.kernel.ruleset import Field
    from gatewrit.policy.terms import Family

    #: What a look-up asks for, what becomes of those that it doesn't find, and which shape it takes.
    Shape = tuple[Field, Verdict, Sizes]

#: A split looks at so many bits behind those that all ranges have in common: at most 4,096 blocks of one size.
_DEEPEST = 12


@dataclass(frozen=True, slots=True, eq=False)
class Ranges:
    """Sorted, disjoint ranges of one family; `label[i]` is the index of range i's verdict."""

    family: Family
    first: Addresses
    last: Addresses
    label: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)


def joined(memo: Drawer, segments: Segments, label: NDArray[np.int64]) -> Ranges:
    """Give segments under the label of their group, those that touch joined; the same object for the same ones."""

    def make() -> Ranges:
        return Ranges(segments.family, *coalesce(segments, label))

    return memo.get(("joined", segments, label.tobytes()), make)


def add_lookup(  # noqa: PLR0913, PLR0917 - where, what, and what else
    draft: Draft, name: str, field: Field, ranges: Ranges, verdicts: Sequence[Verdict], miss: Verdict
) -> Rule:
    """Add all that looks an address up, under `name`, and give the rule that does. Other families pass it.

    An address in none of the ranges passes the rule too, or meets `miss`.
    """
    shape = field, miss, draft.sizes

    def make() -> tuple[Rule, Added, _Known | None]:
        apart = draft.apart()
        rule, blocks = _looked_up(apart, name, shape, ranges, verdicts)
        return rule, apart.added, blocks

    rule, made, blocks = draft.memo.get(("look-up", name, ranges, tuple(verdicts), shape), make)
    draft.take_over(made)
    draft.memo.put(("blocks", name), blocks)
    return rule


def _looked_up(
    draft: Draft, name: str, shape: Shape, ranges: Ranges, verdicts: Sequence[Verdict]
) -> tuple[Rule, _Known | None]:
    field = shape[0]
    if len(ranges) <= draft.sizes.plain:
        parts = ranges.first, ranges.last, ranges.label
        return Rule((ByMap((field,), draft.add_map(name, ranges.family, parts, verdicts)),)), None
    targets = _targets(ranges, verdicts, draft.sizes.bulk)
    cuts, length = _split(ranges, draft.sizes.block)
    key = KEYS[ranges.family]
    found: list[tuple[bytes, bytes, Verdict]] = []
    blocks = _Blocks.of(draft, name, shape, targets)
    for block, part in _parts(ranges, cuts):
        found.append((*_ends(block, key.length), blocks.add(draft, block, part)))
    known = _Known(shape, targets, blocks.parts)
    if length is None:
        draft.add_set(SetSpec(name, (key,), interval=True, verdicts=True), Elements.of(key.length, found))
        return Rule((ByMap((field,), name),)), known
    rows = [(first, first, way) for first, _, way in found]
    spec = SetSpec(name, (key,), interval=False, verdicts=True, size=size_for(len(rows)))
    draft.add_set(spec, Elements.of(key.length, rows))
    masked = (Masked(field, length),) if length < WIDTHS[ranges.family] else (field,)
    return Rule((ByMap(masked, name),)), known


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """What was added for one block, and for which ranges."""

    ranges: Ranges
    way: Verdict
    made: Added


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What was added for the blocks of one look-up, by the text of each block."""

    shape: Shape
    targets: tuple[Target, ...]
    parts: Mapping[str, _Part]


@dataclass(frozen=True, slots=True, eq=False)
class _Blocks:
    """The blocks of a look-up, with those of the one before it, for a block that is just as before is taken over.

    `number` has the new number of each old target, -1 for none; empty if they have the old ones.
    """

    name: str
    shape: Shape
    targets: tuple[Target, ...]
    before: Mapping[str, _Part]
    number: NDArray[np.int64]
    parts: dict[str, _Part]

    @classmethod
    def of(cls, draft: Draft, name: str, shape: Shape, targets: tuple[Target, ...]) -> _Blocks:
        """Begin, with what is known of the look-up of this name."""
        old: _Known | None = draft.memo.known(("blocks", name))
        before, number = dict[str, _Part](), np.zeros(0, np.int64)
        if old is not None and old.shape == shape:
            place = {target: at for at, target in enumerate(targets)}
            found = np.array([place.get(target, -1) for target in old.targets], np.int64)
            if not np.array_equal(found, np.arange(len(found))):
                number = found
            # Ties are broken by the order of targets: a block is the same only if that is.
            if bool((np.diff(found[found >= 0]) > 0).all()):
                before = dict(old.parts)
        return cls(name, shape, targets, before, number, {})

    def add(self, draft: Draft, block: Block, ranges: Ranges) -> Verdict:
        """Add one block with its ranges; gives the way to it."""
        known = self.before.get(str(block))
        if known is not None and self._alike(known.ranges, ranges):
            part = _Part(ranges, known.way, known.made)
        else:
            apart = draft.apart()
            way = add_block(apart, self.name, self.shape[0], block, ranges, self.targets, self.shape[1])
            part = _Part(ranges, way, apart.added)
        self.parts[str(block)] = part
        draft.take_over(part.made)
        return part.way

    def _alike(self, old: Ranges, new: Ranges) -> bool:
        if len(old) != len(new) or not (alike(old.first, new.first) and alike(old.last, new.last)):
            return False
        return np.array_equal(self.number[old.label] if len(self.number) else old.label, new.label)


def _targets(ranges: Ranges, verdicts: Sequence[Verdict], bulk: int) -> tuple[Target, ...]:
    """Say of each verdict whether it is one of few that have very many ranges."""
    counts = np.bincount(ranges.label, minlength=len(verdicts)).tolist()
    return tuple(Target(verdict, count >= bulk) for verdict, count in zip(verdicts, counts, strict=True))


def _split(ranges: Ranges, most: int) -> tuple[list[Block], int | None]:
    """Cut the address space into blocks of at most about `most` ranges.

    Blocks are all of one length where that will do, for one hash look-up under a mask then tells the block (the length
    is given), and else as short as they can be.
    """
    family, width = ranges.family, WIDTHS[ranges.family]
    bottom, top = _number(family, ranges.first[0]), _number(family, ranges.last[-1])
    common = width - (bottom ^ top).bit_length()
    depth = min(_DEEPEST, width - common)
    counts = _counts(ranges, bottom >> (width - common), common, depth)
    # A mask has one bit at least.
    for deeper in range(min(common, 1) ^ 1, depth + 1):
        if counts.reshape(1 << deeper, -1).sum(axis=1).max() <= most:
            length = common + deeper
            stem = bottom >> (width - common) << deeper
            return [Block(family, stem | each, length) for each in range(1 << deeper)], length
    return _halved(ranges, most, Block(family, bottom >> (width - common), common)), None


def _counts(ranges: Ranges, stem: int, length: int, depth: int) -> NDArray[np.int64]:
    """Count the ranges of each block that is `depth` bits longer than one that has them all.

    A range counts where it begins, and where it ends if that is another block; those in between are full of it.
    """
    family, host = ranges.family, WIDTHS[ranges.family] - length - depth
    bottoms = _addresses(family, [(stem << depth | each) << host for each in range(1 << depth)])
    begun = np.append(Places(ranges.first).find(bottoms), len(ranges))
    place = Places(ranges.last).find(bottoms)
    # The range that comes into a block from before it, if it ends there.
    over = (place < begun[:-1]) & (np.append(place[1:], len(ranges)) > place)
    return np.diff(begun) + over


def _halved(ranges: Ranges, most: int, block: Block) -> list[Block]:
    """Halve a block until no part has too many ranges."""
    firsts, lasts = Places(ranges.first), Places(ranges.last)

    def halves(block: Block) -> Iterator[Block]:
        begin, end = _within(firsts, lasts, [block])
        if end[0] - begin[0] <= most or block.length == WIDTHS[ranges.family]:
            yield block
            return
        for half in (0, 1):
            yield from halves(Block(block.family, block.stem << 1 | half, block.length + 1))

    return list(halves(block))


def _within(firsts: Places, lasts: Places, blocks: Sequence[Block]) -> tuple[Indices, Indices]:
    """Give which ranges meet each block: from one index to before another."""
    family = blocks[0].family
    low, high = (_addresses(family, [block.ends[at] for block in blocks]) for at in (0, 1))
    return lasts.find(low), firsts.find(high, "right")


def _parts(ranges: Ranges, blocks: Sequence[Block]) -> Iterator[tuple[Block, Ranges]]:
    """Yield the blocks that some range meets, each with these ranges, clipped."""
    begin, end = _within(Places(ranges.first), Places(ranges.last), blocks)
    for block, start, stop in zip(blocks, begin.tolist(), end.tolist(), strict=True):
        if start < stop:
            first, last = ranges.first[start:stop], ranges.last[start:stop]
            bottom, top = block.ends
            if _number(ranges.family, first[0]) < bottom:
                first = np.concatenate([_addresses(ranges.family, [bottom]), first[1:]])
            if _number(ranges.family, last[-1]) > top:
                last = np.concatenate([last[:-1], _addresses(ranges.family, [top])])
            yield block, Ranges(ranges.family, first, last, ranges.label[start:stop])


def _ends(block: Block, width: int) -> tuple[bytes, bytes]:
    bottom, top = block.ends
    return bottom.to_bytes(width, "big"), top.to_bytes(width, "big")


def _number(family: Family, address: object) -> int:
    """Give an address of an array as a number."""
    if family == 4:
        return int(address)  # type: ignore[call-overload, no-any-return]
    high, low = address.item()  # type: ignore[attr-defined]
    return int(high << 64 | low)


def _addresses(family: Family, numbers: list[int]) -> Addresses:
    if family == 4:
        return np.array(numbers, IPV4_DTYPE)
    half = (1 << 64) - 1
    return addresses_of(
        *(np.array(part, np.uint64) for part in zip(*[(n >> 64, n & half) for n in numbers], strict=True))
    )
