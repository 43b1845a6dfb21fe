"""One block of addresses: the chain that finds the verdict of those in it.

    ip daddr & 255.255.255.128 != @to4.206.0.0.0/7.guard return       only in these /25s is there anything
    ip daddr & 255.255.255.128 @to4.206.0.0.0/7.25.91b4435a8a goto to4.91b4435a8a
    ip daddr & 255.255.255.240 vmap @to4.206.0.0.0/7.28             few entries each of many verdicts
    ip daddr vmap @to4.206.0.0.0/7.rest                             what is no prefix, and lengths that are rare

(a verdict with very many of these: `ip daddr @to4.206.0.0.0/7.rest.91b4435a8a goto to4.91b4435a8a`).

Ranges become prefixes, and those of one length a hash that is asked by the masked address: loaded and asked in a
fraction of what intervals cost. A verdict with very many entries gets sets of its own, since the kernel walks all
elements of verdict maps whenever one is added. Where the ranges leave only holes, the holes stand in the sets, and
what passes them meets the verdict. The guard, a hash of the parts of the block in which anything is, spares most
packets the other look-ups; it is never what decides.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import numpy as np

from gatewrit.compile.cells import KEYS, keys_of
from gatewrit.compile.prefixes import WIDTHS, Bits, after, before, ends_of, joined, last_of, prefixes, starts_of
from gatewrit.compile.spans import order_of
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.ruleset import ByMap, Chain, InSet, Masked, Rule, SetSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gatewrit.compile.cells import Draft
    from gatewrit.compile.lookup import Ranges
    from gatewrit.kernel.ruleset import Field, Key, KeyType
    from gatewrit.policy.terms import Family

    Labels = NDArray[np.int64]

#: A range of up to so many prefixes is cut into these; others stand among the intervals.
_PIECES = 4
#: So many hashes are asked at most, the fullest ones; other entries stand among the intervals.
_HASHES = 8
#: Prefixes that make this part of a hash's entries, when cut to its length, are cut and go along with them.
_ALONG = 4
#: A guard's parts are as small as they can be without being more, by this, than what they stand for.
_GROWN = 1.2
#: It is worth its memory if at most this share of the block is occupied.
_OCCUPIED = 0.125
#: Look-ups of up to this weight, see `_weight`, go without a guard.
_UNGUARDED = 2.5
#: Intervals are asked in as many steps as their number has bits; a hash costs about four of these steps.
_STEPS = 4.0
#: Numbers up to about so many are told apart by counting each; larger ones by sorting.
_SMALL = 1 << 16


@dataclass(frozen=True, slots=True)
class Block:
    """All addresses that begin with the `length` bits of `stem`."""

    family: Family
    stem: int
    length: int

    @property
    def ends(self) -> tuple[int, int]:
        """The first and the last address."""
        host = WIDTHS[self.family] - self.length
        return self.stem << host, (self.stem + 1 << host) - 1

    def __str__(self) -> str:
        """Write it as far as nft's names may: `206.0.0.0/7`, and `2a00/12` for 2a00::/12."""
        bottom = self.ends[0]
        if self.family == 4:
            return f"{IPv4Address(bottom)}/{self.length}"
        return f"{bottom:032x}"[: max(1, -(-self.length // 4))] + f"/{self.length}"


@dataclass(frozen=True, slots=True)
class Target:
    """A verdict, and whether there are so many ranges with it that they get sets of their own."""

    verdict: Verdict
    bulk: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Entries:
    """Disjoint parts of a block, each with the index of its verdict; in no order."""

    first: Bits
    last: Bits
    label: Labels

    def __len__(self) -> int:
        return len(self.label)

    def take(self, chosen: Any) -> _Entries:
        return _Entries(self.first.take(chosen), self.last.take(chosen), self.label[chosen])

    def in_order(self) -> _Entries:
        order = order_of(self.first.high, self.first.low)
        return self if isinstance(order, slice) else self.take(order)


@dataclass(frozen=True, slots=True, eq=False)
class _Hash:
    """The prefixes of one length that stand in one hash; `verdict` is None where each has its own."""

    length: int
    entries: _Entries
    verdict: Verdict | None


def add_block(  # noqa: PLR0913, PLR0917 - where, what, and what for
    draft: Draft, name: str, field: Field, block: Block, ranges: Ranges, targets: tuple[Target, ...], miss: Verdict
) -> Verdict:
    """Add the chain of a block, and give the way to it; straight to the verdict if one range is all of it."""
    first, last = starts_of(block.family, ranges.first), ends_of(block.family, ranges.last)
    mine = _Entries(first, last, ranges.label)
    if len(mine) == 1 and not len(_gaps(block, mine)):
        return targets[int(mine.label[0])].verdict
    chain = f"{name}.{block}"
    if chain not in draft.chains:
        drawn = _Drawn(draft, chain, field, block, targets, miss)
        draft.chains[chain] = Chain(chain, tuple(drawn.rules(mine)))
    return Verdict("goto", chain)


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """A block's chain while it is drawn up. The label after the last target's stands for no verdict: a hole."""

    draft: Draft
    chain: str
    field: Field
    block: Block
    targets: tuple[Target, ...]
    miss: Verdict

    def rules(self, mine: _Entries) -> list[Rule]:
        """Give the rules, in the order in which a packet meets them."""
        usual, parts = self.miss, mine
        cut, ragged = prefixes(mine.first, mine.last, _PIECES)
        if turned := self._turned(mine, ragged):
            usual, parts = turned
            cut, ragged = prefixes(parts.first, parts.last, _PIECES)
        pieces = _Entries(cut.start, cut.end, parts.label[cut.index])
        hashes, left = self._hashes(pieces, cut.length)
        rest = _joined(parts.take(ragged), left).in_order()
        if len(rest) > len(parts) // 8 and _weight(len(hashes), len(rest)) > _weight(0, len(parts)):
            # Where a good part has to be asked for among intervals anyway, all of it is.
            hashes, rest = [], parts.in_order()
        found = [*(self._ask(each) for each in hashes), *self._ask_rest(rest)]
        guard = self._guard(parts.in_order(), usual) if _weight(len(hashes), len(rest)) > _UNGUARDED else None
        return [*([guard] if guard else []), *found, *([Rule((usual,))] if usual.kind != "return" else [])]

    def _verdict(self, label: int) -> Verdict:
        return self.targets[label].verdict if label < len(self.targets) else self.miss

    def _turned(self, mine: _Entries, ragged: NDArray[np.bool_]) -> tuple[Verdict, _Entries] | None:
        """Turn the block inside out where holes in one verdict are prefixes, and what is around them isn't."""
        if ragged.sum() * 8 <= len(mine):
            return None
        usual = int(np.bincount(mine.label).argmax())
        others = mine.take(mine.label != usual)
        gaps = _gaps(self.block, mine)
        holes = _Entries(gaps.first, gaps.last, np.full(len(gaps), len(self.targets), np.int64))
        turned = _joined(holes, others)
        still = prefixes(turned.first, turned.last, _PIECES)[1]
        return (self.targets[usual].verdict, turned) if still.sum() * 2 < ragged.sum() else None

    def _hashes(self, pieces: _Entries, length: Labels) -> tuple[list[_Hash], _Entries]:
        """Group prefixes into hashes, the fullest first; what isn't worth one is left."""
        alone = np.array([each.bulk for each in self.targets] + [True], np.bool_)
        single = alone[pieces.label] if len(pieces) else np.zeros(0, np.bool_)
        # One number for each hash that there may be: by length, and by verdict where that has sets of its own.
        group = length * (len(self.targets) + 2) + np.where(single, pieces.label + 1, 0)
        which, place, counts = _distinct(group)
        # By powers of two, or little changes would now and then have all rules and sets of the block made anew.
        order = sorted(range(len(which)), key=lambda at: (-int(counts[at]).bit_length(), which[at]))
        chosen = [at for at in order if counts[at] >= self.draft.sizes.hashed][:_HASHES]
        # Small numbers are sorted in one go through them.
        small = place.astype(np.uint16) if len(which) < 1 << 16 else place
        grouped, ends = pieces.take(np.argsort(small, kind="stable")), np.cumsum(counts)
        mine = [grouped.take(slice(end - count, end)) for end, count in zip(ends, counts, strict=True)]
        kinds = [divmod(int(each), len(self.targets) + 2) for each in which]
        parts = {at: [mine[at]] for at in chosen}
        left = []
        for at in range(len(which)):
            if at in parts:
                continue
            # A few shorter ones go along with longer ones, cut: one look-up less, and no intervals.
            near = [to for to in chosen if kinds[to][0] > kinds[at][0] and kinds[to][1] in {0, kinds[at][1]}]
            to = min(near, key=lambda to: (kinds[to][0], -kinds[to][1]), default=None)
            # As Python's numbers: 2^64 pieces would be none at all in NumPy's.
            if to is not None and int(counts[at]) << kinds[to][0] - kinds[at][0] <= counts[to] // _ALONG:
                parts[to].append(_cut(mine[at], kinds[at][0], kinds[to][0]))
            else:
                left.append(at)
        found = []
        for at in chosen:
            bits, label = kinds[at]
            entries = functools.reduce(_joined, parts[at]).in_order()
            found.append(_Hash(bits, entries, self._verdict(label - 1) if label else None))
        return found, functools.reduce(_joined, (mine[at] for at in left), pieces.take(slice(0, 0)))

    @property
    def _key(self) -> KeyType:
        return KEYS[self.block.family]

    def _masked(self, length: int) -> Key:
        return (Masked(self.field, length),) if length < WIDTHS[self.block.family] else (self.field,)

    def _ask(self, each: _Hash) -> Rule:
        """Add a hash, and give the rule that asks it."""
        name, key = f"{self.chain}.{each.length}", self._masked(each.length)
        if each.verdict is None:
            return Rule((ByMap(key, self._add(name, each.entries, verdicts=True, interval=False)),))
        name += f".{_last_part(each.verdict)}"
        return Rule((InSet(key, self._add(name, each.entries, verdicts=False, interval=False)), each.verdict))

    def _ask_rest(self, rest: _Entries) -> Iterator[Rule]:
        """Add the intervals, and give the rules that ask them: those of a verdict with very many are a set."""
        alone = np.array([each.bulk for each in self.targets] + [False], np.bool_)
        often = int(np.bincount(rest.label, minlength=len(alone)).argmax()) if len(rest) else 0
        single = rest.label == (often if alone[often] else -1)
        if single.any():
            verdict = self._verdict(often)
            name = f"{self.chain}.rest.{_last_part(verdict)}"
            yield Rule(
                (InSet((self.field,), self._add(name, rest.take(single), verdicts=False, interval=True)), verdict)
            )
        if not single.all():
            name = self._add(f"{self.chain}.rest", rest.take(~single), verdicts=True, interval=True)
            yield Rule((ByMap((self.field,), name),))

    def _add(self, name: str, entries: _Entries, *, verdicts: bool, interval: bool) -> str:
        """Add a set of sorted entries; a hash is as large as the next power of two."""
        family = self.block.family
        first = keys_of(entries.first.addresses(family))
        last = keys_of(entries.last.addresses(family)) if interval else first
        size = None if interval else size_for(len(entries))
        spec = SetSpec(name, (self._key,), interval=interval, verdicts=verdicts, size=size)
        said: tuple[Verdict, ...] = ()
        label = np.zeros(len(entries), np.int32)
        if verdicts:
            labels, place, _ = _distinct(entries.label)
            said = tuple(self._verdict(int(each)) for each in labels)
            label = place.astype(np.int32)
        return self.draft.add_set(spec, Elements(self._key.length, first, last, label, said))

    def _guard(self, entries: _Entries, usual: Verdict) -> Rule | None:
        """Add the guard, of parts as small as hardly cut an entry; None if even these leave too little empty."""
        low, high = self.block.length, min(WIDTHS[self.block.family], self.block.length + 48)
        # The smaller the parts, the more of them, and the larger the share of the block that is outside all of them.
        while low < high:
            middle = (low + high + 1) // 2
            if _parts(entries, self.block, middle) <= len(entries) * _GROWN:
                low = middle
            else:
                high = middle - 1
        if _parts(entries, self.block, low) > _OCCUPIED * 2.0 ** (low - self.block.length):
            return None
        keys = _occupied(entries, self.block, low)
        spec = SetSpec(f"{self.chain}.guard", (self._key,), False, False, size=size_for(len(keys)))
        name = self.draft.add_set(spec, Elements(self._key.length, keys, keys, np.zeros(len(keys), np.int32)))
        return Rule((InSet(self._masked(low), name, inverted=True), usual), "nothing else there", shortcut=True)


def _weight(hashes: int, intervals: int) -> float:
    """Give what look-ups cost a packet that meets all of them, a hash being one."""
    return hashes + float(np.log2(intervals + 1)) / _STEPS


def size_for(count: int) -> int:
    """Give the size of a hash: with one, the kernel takes its fixed table, which is asked and filled faster."""
    return 1 << max(0, count - 1).bit_length()


def _last_part(verdict: Verdict) -> str:
    """Give a verdict in a set's name: the digest that its chain is named by."""
    return (verdict.chain or verdict.kind).rpartition(".")[2]


def _distinct(values: Labels) -> tuple[Labels, Labels, Labels]:
    """Give the distinct ones of numbers from zero on, in order; the place of each among them; how many there are."""
    if len(values) and int(values.max()) < len(values) + _SMALL:
        counts = np.bincount(values)
        which = np.flatnonzero(counts)
        place = np.zeros(len(counts), np.int64)
        place[which] = np.arange(len(which))
        return which, place[values], counts[which]
    return np.unique(values, return_inverse=True, return_counts=True)


def _joined(one: _Entries, other: _Entries) -> _Entries:
    first, last = joined([one.first, other.first]), joined([one.last, other.last])
    return _Entries(first, last, np.concatenate([one.label, other.label]))


def _cut(entries: _Entries, short: int, long: int) -> _Entries:
    """Cut prefixes of one length into those of a longer one."""
    each = 1 << long - short
    step = np.arange(each, dtype=np.uint64)
    high, low = _shifted(step, 128 - long)
    start = Bits(
        (entries.first.high[:, None] | high[None, :]).ravel(), (entries.first.low[:, None] | low[None, :]).ravel()
    )
    return _Entries(start, last_of(start, np.full(len(start), 128 - long, np.int64)), np.repeat(entries.label, each))


def _shifted(values: NDArray[np.uint64], by: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Shift numbers left inside 128 bits; gives the high and the low half."""
    if by >= 64:
        return values << np.uint64(by - 64), np.zeros_like(values)
    high = values >> np.uint64(64 - by) if by else np.zeros_like(values)
    return high, values << np.uint64(by)


def _gaps(block: Block, entries: _Entries) -> _Entries:
    """Give what of a block sorted entries leave out; without labels."""
    host = 128 - block.length
    bottom, top = block.stem << host, (block.stem + 1 << host) - 1
    half = (1 << 64) - 1
    edges = [Bits(np.array([each >> 64], np.uint64), np.array([each & half], np.uint64)) for each in (bottom, top)]
    # What follows the very last address isn't there; its gap is dropped as empty below.
    first = joined([edges[0], after(entries.last)])
    last = joined([before(entries.first), edges[1]])
    ahead = (first.high < last.high) | ((first.high == last.high) & (first.low <= last.low))
    ahead[0] = bool((entries.first.high[0] != edges[0].high[0]) | (entries.first.low[0] != edges[0].low[0]))
    ahead[-1] = bool((entries.last.high[-1] != edges[1].high[0]) | (entries.last.low[-1] != edges[1].low[0]))
    gaps = _Entries(first, last, np.zeros(len(first), np.int64))
    return gaps.take(ahead)


def _places(entries: _Entries, block: Block, length: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Give the first and last part of a block, of prefix `length`, that each entry reaches into, as numbers."""
    width = length - block.length
    return entries.first.field(block.length, width), entries.last.field(block.length, width)


def _parts(entries: _Entries, block: Block, length: int) -> int:
    """Count the parts that sorted entries reach into."""
    first, last = _places(entries, block, length)
    # Disjoint entries reach into no more parts than there are, which a number holds.
    return int((last - first).sum()) + len(first) - int(np.count_nonzero(first[1:] == last[:-1]))


def _occupied(entries: _Entries, block: Block, length: int) -> NDArray[np.bytes_]:
    """Give the parts that sorted entries reach into, as keys."""
    first, last = _places(entries, block, length)
    counts = (last - first).astype(np.int64) + 1
    begin = np.repeat(np.cumsum(counts) - counts, counts)
    places = np.repeat(first, counts) + (np.arange(len(begin)) - begin).astype(np.uint64)
    # Two entries may reach into one part, one after the other.
    places = places[np.concatenate([[True], places[1:] != places[:-1]])]
    # The block's own bits in front, zeros behind.
    bottom = block.stem << 128 - block.length
    high, low = _shifted(places, 128 - length)
    bits = Bits(high | np.uint64(bottom >> 64), low | np.uint64(bottom & (1 << 64) - 1))
    return keys_of(bits.addresses(block.family))
