"""Set elements to and from netlink in bulk: records of one shape are stamped, and read, in one stroke.

Encoding intervals is safety-critical. The kernel's interval set (net/netfilter/nft_set_rbtree.c) stores start and end
marks: a start without its end silently swallows everything up to the next one. So only a range that touches the top of
the key space goes without an end mark.

Decoding trusts nothing. The first record of a kind is taken apart attribute by attribute; others are read like it only
where every byte of theirs is the same but those of keys and verdicts, and whatever differs is taken apart by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.kernel import keys, wire
from gatewrit.kernel.elements import Elements, Verdict, decode_verdict, encode_verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from gatewrit.kernel.keys import Octets

    #: Which elements of a list: a slice, or their numbers.
    Places = slice | NDArray[np.intp]

ELEM_KEY, ELEM_DATA, ELEM_FLAGS, ELEM_KEY_END = 1, 2, 3, 10
INTERVAL_END = 1
#: Timeout, expiration, expression, object, expressions: an element with one of them ends by itself, or decides packet
#: by packet whether it matches (nft_set_elem_update_expr() in include/net/netfilter/nf_tables.h). None of ours has any.
_ACTING = {4, 5, 7, 9, 11}

#: NFTA_SET_ELEM_LIST_ELEMENTS is one attribute, so its length must fit 16 bits.
LIST_BYTES = 60_000
#: In how many shapes the records of one length are looked for in one list, before the rest is taken one by one.
_SHAPES = 8
#: Verdicts are told apart by sums of their words, each times the next power of this odd number (modulo 2**64).
SUM_FACTOR = 0x9E3779B97F4A7C15
#: How many verdicts are told apart at a time.
_BATCH = 100_000
_LENGTH = Struct("=H")


def encode(elements: Elements, *, interval: bool, concatenated: bool) -> Iterator[bytes]:
    """Yield payloads of NFTA_SET_ELEM_LIST_ELEMENTS, each below LIST_BYTES, together all the elements.

    `interval` and `concatenated` say which kind of set it is: exact keys, start and end marks (rbtree), or key and
    key-end pairs (pipapo, for concatenated intervals). They come in order, but those of one shape together: one
    length of chain names keeps all of them in order.
    """
    if not len(elements):
        return
    sizes = np.array([len(encode_verdict(verdict)) for verdict in elements.verdicts] or [0])
    shapes = sizes[elements.verdict] * 2
    if interval and not concatenated and elements.last[-1] == b"\xff" * elements.width:
        shapes[-1] += 1
    if bool(np.all(shapes == shapes[0])):
        yield from _stamp(elements, interval=interval, concatenated=concatenated)
        return
    for shape in np.unique(shapes).tolist():
        yield from _stamp(elements.take(shapes == shape), interval=interval, concatenated=concatenated)


def _stamp(part: Elements, *, interval: bool, concatenated: bool) -> Iterator[bytes]:
    """Make one record for each element of one shape by stamping a template and filling in keys and verdicts."""
    width, marked = part.width, interval and not concatenated
    closed = marked and part.last[-1] != b"\xff" * width
    key = wire.nest(ELEM_KEY, wire.attr(1, bytes(width)))
    data = [wire.attr(ELEM_DATA | wire.NESTED, encode_verdict(verdict)) for verdict in part.verdicts] or [b""]
    mine = len(data[int(part.verdict[0])])
    parts = [key, bytes(mine)]
    if interval and concatenated:
        parts.append(wire.nest(ELEM_KEY_END, wire.attr(1, bytes(width))))
    record = wire.nest(1, *parts)
    key_at, data_at = 4 + 8, 4 + len(key)
    end_at = data_at + mine + 8
    if closed:
        # The end mark names the first key after the range.
        end_at = len(record) + 4 + len(wire.be32(ELEM_FLAGS, INTERVAL_END)) + 8
        record += wire.nest(1, wire.be32(ELEM_FLAGS, INTERVAL_END), key)
    table = np.frombuffer(b"".join(blob if len(blob) == mine else bytes(mine) for blob in data), np.uint8)
    table = table.reshape(len(data), mine)
    first, last = keys.matrix(part.first, width), keys.matrix(part.last, width)
    per_list = max(1, LIST_BYTES // len(record))
    sheet = np.tile(np.frombuffer(record, np.uint8), (min(per_list, len(part)), 1))
    for start in range(0, len(part), per_list):
        chosen = slice(start, start + per_list)
        records = sheet[: len(first[chosen])]
        records[:, key_at : key_at + width] = first[chosen]
        if mine:
            records[:, data_at : data_at + mine] = table[part.verdict[chosen]]
        if closed or (interval and concatenated):
            records[:, end_at : end_at + width] = keys.increment(last[chosen]) if closed else last[chosen]
        yield records.tobytes()


def decode(lists: Iterable[bytes], width: int, *, interval: bool, concatenated: bool) -> Elements:
    """Decode what the kernel dumped of one set, payloads of NFTA_SET_ELEM_LIST_ELEMENTS, in any order.

    Raises `wire.WireError`, or another `ValueError` for ranges that overlap, on what no set of ours can hold.
    """
    marks = _Marks(width)
    for payload in lists:
        marks.add(list(_alike(payload)))
    return marks.pair() if interval and not concatenated else marks.ranges()


def decode_in_turn(payload: bytes, width: int) -> tuple[Octets, list[Verdict | None]]:
    """Decode single keys in the order in which they were given: keys of shape (n, width), and the verdict of each.

    Raises `wire.WireError` on what a hash of ours can't hold.
    """
    marks = _Marks(width)
    marks.add(list(_alike(payload)))
    octets, chosen = marks.columns()
    if marks.lasts[-1] is not marks.keys[-1] or not marks.starts[-1].all():
        raise wire.WireError("an interval where a single key was asked for")
    said: list[Verdict | None] = [*marks.book.verdicts, None]
    return octets, [said[at] for at in chosen.tolist()]


def _alike(payload: bytes) -> Iterator[tuple[Octets, Places]]:
    """Yield a list's elements, those of one length together, and which of all they are.

    Elements are bytes of shape (n, length), headers included.
    """
    octets = np.frombuffer(payload, np.uint8)
    size = len(payload)
    one = _length(payload, 0) if size else 0
    if one % 4 or not one:
        yield from _walked(payload, octets)
        return
    # Two elements in turn: the start and end marks of an interval set, whichever the dump begins with.
    two = _length(payload, one) if one < size else one
    whole = size // (one + two)
    if two % 4 == 0 and size - whole * (one + two) in {0, one}:
        pairs = octets[: whole * (one + two)].reshape(whole, one + two)
        lengths = pairs.view(np.uint16)
        if bool(np.all(lengths[:, 0] == one)) and bool(np.all(lengths[:, one // 2] == two)):
            rest = octets[whole * (one + two) :].reshape(-1, one)
            if not len(rest) or _length(payload, size - one) == one:
                if one == two:
                    yield octets.reshape(-1, one), np.s_[:]
                else:
                    yield from ((pairs[:, :one], np.s_[: 2 * whole : 2]), (pairs[:, one:], np.s_[1 : 2 * whole : 2]))
                    yield rest, np.s_[2 * whole :]
                return
    yield from _walked(payload, octets)


def _length(payload: bytes, at: int) -> int:
    """Give the length of the attribute that begins at `at`, header included, made sure of."""
    left = len(payload) - at
    if left < 4:
        raise wire.WireError(f"{left} stray bytes after the last element")
    length = int(_LENGTH.unpack_from(payload, at)[0])
    if length < 4 or length > left:
        raise wire.WireError(f"an element claims {length} bytes, {left} are left")
    return length


def _walked(payload: bytes, octets: Octets) -> Iterator[tuple[Octets, Places]]:
    """Find the elements from one to the next: the lengths follow no pattern."""
    found: dict[int, tuple[list[int], list[int]]] = {}
    at = count = 0
    while at < len(payload):
        length = _length(payload, at)
        offsets, places = found.setdefault(length, ([], []))
        offsets.append(at)
        places.append(count)
        at += (length + 3) & ~3
        count += 1
    for length, (offsets, places) in found.items():
        yield octets[np.array(offsets)[:, np.newaxis] + np.arange(length)], np.array(places)


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where in a record everything is: offsets of the key, of the last key (may be the same) and of the data.

    `fixed` has all bits set in each byte that must be the same in every record of this shape.
    """

    key: int
    last: int
    data: slice | None
    start: bool
    fixed: Octets

    @classmethod
    def of(cls, record: bytes, width: int) -> _Shape:
        """Take one record apart; raises `wire.WireError`."""
        parts = {kind: (at, end) for kind, at, end in wire.spans(record, 4, len(record))}
        if _ACTING & parts.keys():
            raise wire.WireError("a set element that does more than match")
        key = last = _key(record, parts.get(ELEM_KEY), width)
        if ELEM_KEY_END in parts:
            last = _key(record, parts[ELEM_KEY_END], width)
        flags = wire.number(record[slice(*parts[ELEM_FLAGS])]) if ELEM_FLAGS in parts else 0
        fixed = np.full(len(record), 0xFF, np.uint8)
        for at in (key, last):
            fixed[at : at + width] = 0
        data = slice(*parts[ELEM_DATA]) if ELEM_DATA in parts else None
        if data is not None:
            fixed[data] = 0
        return cls(key, last, data, not flags & INTERVAL_END, fixed)


def _key(record: bytes, part: tuple[int, int] | None, width: int) -> int:
    """Give the offset of a key's bytes inside its attribute."""
    values = {kind: (at, end) for kind, at, end in wire.spans(record, *part)} if part else {}
    if 1 not in values or values[1][1] - values[1][0] != width:
        raise wire.WireError(f"a set element without a key of {width} bytes")
    return values[1][0]


@dataclass(slots=True)
class _Book:
    """The verdicts of a set, numbered as they come: many at a time, and each distinct one decoded once."""

    verdicts: list[Verdict] = field(default_factory=list)
    numbers: dict[bytes, int] = field(default_factory=dict)
    waiting: dict[int, list[tuple[Octets, NDArray[np.int32], Places]]] = field(default_factory=dict)
    count: int = 0

    def enter(self, blobs: Octets, column: NDArray[np.int32], places: Places) -> None:
        """Have the numbers of encoded verdicts of shape (n, length) put into places of a column, by `close` at last."""
        if bool(np.all(blobs == blobs[0])):
            column[places] = self._number(blobs[0].tobytes())
            return
        self.waiting.setdefault(blobs.shape[1], []).append((blobs, column, places))
        self.count += len(blobs)
        if self.count >= _BATCH:
            self.close()

    def close(self) -> None:
        """Put in what is waiting."""
        for waiting in self.waiting.values():
            numbers = self._distinct(np.concatenate([blobs for blobs, _, _ in waiting]))
            at = 0
            for blobs, column, places in waiting:
                column[places] = numbers[at : at + len(blobs)]
                at += len(blobs)
        self.waiting.clear()
        self.count = 0

    def _distinct(self, blobs: Octets) -> NDArray[np.int32]:
        padded = np.zeros((len(blobs), -(-blobs.shape[1] // 8) * 8), np.uint8)
        padded[:, : blobs.shape[1]] = blobs
        # Sorting short sums is faster than sorting what they stand for; whether they do is then made sure of.
        factors = np.cumprod(np.full(padded.shape[1] // 8, SUM_FACTOR, np.uint64))
        _, at, which = np.unique(padded.view(np.uint64) @ factors, return_index=True, return_inverse=True)
        if not np.array_equal(blobs[at][which], blobs):
            return np.array([self._number(blob.tobytes()) for blob in blobs], np.int32)
        return np.array([self._number(blob.tobytes()) for blob in blobs[at]], np.int32)[which]

    def _number(self, blob: bytes) -> int:
        if blob not in self.numbers:
            self.verdicts.append(decode_verdict(blob))
            self.numbers[blob] = len(self.verdicts) - 1
        return self.numbers[blob]


@dataclass(slots=True)
class _Marks:
    """What was found in a set's elements, in columns for each list: keys of shape (n, width), the rest (n,)."""

    width: int
    keys: list[Octets] = field(default_factory=list)
    lasts: list[Octets] = field(default_factory=list)
    starts: list[NDArray[np.bool_]] = field(default_factory=list)
    chosen: list[NDArray[np.int32]] = field(default_factory=list)
    book: _Book = field(default_factory=_Book)

    def add(self, groups: list[tuple[Octets, Places]]) -> None:
        """Take the elements of one list."""
        count = sum(len(records) for records, _ in groups)
        self.keys.append(np.empty((count, self.width), np.uint8))
        self.lasts.append(self.keys[-1])
        self.starts.append(np.empty(count, np.bool_))
        self.chosen.append(np.full(count, -1, np.int32))
        for records, places in groups:
            self._group(records, places)

    def _group(self, records: Octets, places: Places) -> None:
        """Take records of one length: those of the same shape as the first together, as long as that is worth it."""
        for _ in range(_SHAPES):
            if not len(records):
                return
            shape = _Shape.of(records[0].tobytes(), self.width)
            odd = (records ^ records[0]) & shape.fixed
            if not odd.any():
                self._take(records, places, shape)
                return
            others = odd.any(axis=1)
            numbered = np.arange(len(self.starts[-1]))[places]
            self._take(records[~others], numbered[~others], shape)
            records, places = records[others], numbered[others]
        for at in range(len(records)):
            shape = _Shape.of(records[at].tobytes(), self.width)
            self._take(records[at : at + 1], np.arange(len(self.starts[-1]))[places][at : at + 1], shape)

    def _take(self, records: Octets, places: Places, shape: _Shape) -> None:
        if shape.last != shape.key and self.lasts[-1] is self.keys[-1]:
            self.lasts[-1] = self.keys[-1].copy()
        self.keys[-1][places] = records[:, shape.key : shape.key + self.width]
        self.lasts[-1][places] = records[:, shape.last : shape.last + self.width]
        self.starts[-1][places] = shape.start
        if shape.data is not None:
            self.book.enter(records[:, shape.data], self.chosen[-1], places)

    def ranges(self) -> Elements:
        """Give exact keys, or pairs of key and key-end, as they are."""
        first, chosen = self.columns()
        single = all(last is key for key, last in zip(self.keys, self.lasts, strict=True))
        last = None if single else keys.of_matrix(np.concatenate(self.lasts))
        return Elements.of_arrays(keys.of_matrix(first), last, *self._verdicts(chosen))

    def pair(self) -> Elements:
        """Turn start and end marks into ranges; a lone start runs to the next start, or to the top, as it does."""
        octets, chosen = self.columns()
        sorting = keys.order(octets)
        octets, chosen = octets[sorting], chosen[sorting]
        starts = np.concatenate([*self.starts, np.zeros(0, np.bool_)])[sorting]
        _settle(octets, starts, chosen)
        opened = np.flatnonzero(starts)
        last = np.full((len(opened), self.width), 0xFF, np.uint8)
        ended = opened[opened + 1 < len(octets)]
        last[: len(ended)] = keys.decrement(octets[ended + 1])
        first = keys.of_matrix(octets[opened])
        return Elements.of_arrays(first, keys.of_matrix(last), *self._verdicts(chosen[opened]))

    def columns(self) -> tuple[Octets, NDArray[np.int32]]:
        """Give keys, and the number of each one's verdict, -1 for none, in the order in which they came."""
        self.book.close()
        none = np.zeros((0, self.width), np.uint8), np.zeros(0, np.int32)
        return np.concatenate([*self.keys, none[0]]), np.concatenate([*self.chosen, none[1]])

    def _verdicts(self, chosen: NDArray[np.int32]) -> tuple[NDArray[np.int32], list[Verdict]]:
        without = int(np.count_nonzero(chosen < 0))
        if without == len(chosen):
            return np.zeros(len(chosen), np.int32), []
        if without:
            raise wire.WireError("some of a map's elements have no verdict")
        return chosen, self.book.verdicts


def _settle(octets: Octets, starts: NDArray[np.bool_], chosen: NDArray[np.int32]) -> None:
    """Put the end of one range before the start of the next at the same key, in place.

    Raises `wire.WireError` on anything else that is twice at one key.
    """
    found = keys.of_matrix(octets)
    again = found[1:] == found[:-1]
    if bool(np.any(again[1:] & again[:-1])) or bool(np.any(again & (starts[1:] == starts[:-1]))):
        raise wire.WireError("an interval begins or ends twice at one key")
    late = np.flatnonzero(again & starts[:-1])
    starts[late], starts[late + 1] = False, True
    chosen[late], chosen[late + 1] = chosen[late + 1], chosen[late]
