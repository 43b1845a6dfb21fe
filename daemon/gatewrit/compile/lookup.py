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

from gatewrit.compile.block import Block, Target, add_block
from gatewrit.compile.cells import KEYS, keys_of
from gatewrit.compile.prefixes import WIDTHS, ends_of, starts_of
from gatewrit.kernel.elements import Elements
from gatewrit.kernel.ruleset import ByMap, Masked, Rule, SetSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gatewrit.compile.cells import Draft
    from gatewrit.compile.spans import Addresses
    from gatewrit.kernel.elements import Verdict
    from gatewrit.kernel.ruleset import Field
    from gatewrit.policy.model import Family

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


def add_lookup(  # noqa: PLR0913, PLR0917 - where, what, and what else
    draft: Draft, name: str, field: Field, ranges: Ranges, verdicts: Sequence[Verdict], miss: Verdict
) -> Rule:
    """Add all that looks an address up, under `name`, and give the rule that does. Other families pass it.

    An address in none of the ranges passes the rule too, or meets `miss`.
    """
    if len(ranges) <= draft.sizes.plain:
        parts = ranges.first, ranges.last, ranges.label
        return Rule((ByMap((field,), draft.add_map(name, ranges.family, parts, verdicts)),))
    targets = _targets(ranges, verdicts, draft.sizes.bulk)
    cuts, length = _split(ranges, draft.sizes.block)
    key = KEYS[ranges.family]
    found: list[tuple[bytes, bytes, Verdict]] = []
    for block, part in _parts(ranges, cuts):
        way = add_block(draft, name, field, block, part, targets, miss)
        found.append((*_ends(block, key.length), way))
    if length is None:
        draft.add_set(SetSpec(name, (key,), interval=True, verdicts=True), Elements.of(key.length, found))
        return Rule((ByMap((field,), name),))
    rows = [(first, first, way) for first, _, way in found]
    draft.add_set(SetSpec(name, (key,), interval=False, verdicts=True), Elements.of(key.length, rows))
    masked = (Masked(field, length),) if length < WIDTHS[ranges.family] else (field,)
    return Rule((ByMap(masked, name),))


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
    begins = starts_of(family, ranges.first).field(common, depth).astype(np.int64)
    stops = ends_of(family, ranges.last).field(common, depth).astype(np.int64)
    counts = np.bincount(begins, minlength=1 << depth) + np.bincount(stops[stops != begins], minlength=1 << depth)
    # A mask has one bit at least.
    for deeper in range(min(common, 1) ^ 1, depth + 1):
        if counts.reshape(1 << deeper, -1).sum(axis=1).max() <= most:
            length = common + deeper
            stem = bottom >> (width - common) << deeper
            return [Block(family, stem | each, length) for each in range(1 << deeper)], length
    return list(_halved(ranges, most, Block(family, bottom >> (width - common), common))), None


def _halved(ranges: Ranges, most: int, block: Block) -> Iterator[Block]:
    """Halve a block until no part has too many ranges."""
    begin, end = _within(ranges, [block])
    if end[0] - begin[0] <= most or block.length == WIDTHS[ranges.family]:
        yield block
        return
    for half in (0, 1):
        yield from _halved(ranges, most, Block(block.family, block.stem << 1 | half, block.length + 1))


def _within(ranges: Ranges, blocks: Sequence[Block]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give which ranges meet each block: from one index to before another."""
    width = KEYS[ranges.family].length
    ends = [_ends(block, width) for block in blocks]
    low, high = (np.array([each[at] for each in ends], f"S{width}") for at in (0, 1))
    return (
        np.searchsorted(keys_of(ranges.last), low, "left"),
        np.searchsorted(keys_of(ranges.first), high, "right"),
    )


def _parts(ranges: Ranges, blocks: Sequence[Block]) -> Iterator[tuple[Block, Ranges]]:
    """Yield the blocks that some range meets, each with these ranges, clipped."""
    begin, end = _within(ranges, blocks)
    for block, start, stop in zip(blocks, begin.tolist(), end.tolist(), strict=True):
        if start < stop:
            first, last = ranges.first[start:stop].copy(), ranges.last[start:stop].copy()
            bottom, top = block.ends
            if _number(ranges.family, first[0]) < bottom:
                first[0] = _address(ranges.family, bottom)
            if _number(ranges.family, last[-1]) > top:
                last[-1] = _address(ranges.family, top)
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


def _address(family: Family, number: int) -> object:
    return number if family == 4 else (number >> 64, number & (1 << 64) - 1)
