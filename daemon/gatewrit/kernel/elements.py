"""Set elements in bulk: sorted, disjoint key ranges with verdicts, to and from netlink without a Python object each.

Keys are held as fixed-width big-endian bytes (NumPy `S` arrays), which is both the kernel's own layout and a sort
order, whatever the key: IPv4, IPv6, protocol and port.

Encoding intervals is safety-critical. The kernel's interval set (net/netfilter/nft_set_rbtree.c) stores start and
end marks: a start without its end silently swallows everything up to the next one, and an overlap is refused with
EEXIST. So `Elements` is checked when it is made, and only a range that touches the top of the key space goes without
an end mark.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from gatewrit.kernel import wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

VerdictKind = Literal["drop", "accept", "return", "jump", "goto"]
_VERDICT_CODES: dict[VerdictKind, int] = {"drop": 0, "accept": 1, "jump": -3, "goto": -4, "return": -5}
_VERDICT_KINDS = {code & 0xFFFFFFFF: kind for kind, code in _VERDICT_CODES.items()}

ELEM_KEY, ELEM_DATA, ELEM_FLAGS, ELEM_KEY_END = 1, 2, 3, 10
INTERVAL_END = 1

#: Stands for no verdict where rows are compared.
_NO_VERDICT = 0xFFFFFFFF
#: NFTA_SET_ELEM_LIST_ELEMENTS is one attribute, so its length must fit 16 bits.
LIST_BYTES = 60_000


@dataclass(frozen=True, slots=True, order=True)
class Verdict:
    """What becomes of a packet; `jump` and `goto` name the chain that goes on judging it."""

    kind: VerdictKind
    chain: str | None = None

    def __str__(self) -> str:
        return self.kind if self.chain is None else f"{self.kind} {self.chain}"


def encode_verdict(verdict: Verdict) -> bytes:
    """Encode as the payload of NFTA_DATA_VERDICT's parent: one nested NFTA_DATA_VERDICT."""
    code = wire.be32(1, _VERDICT_CODES[verdict.kind])
    chain = b"" if verdict.chain is None else wire.string(2, verdict.chain)
    return wire.nest(2, code, chain)


def decode_verdict(payload: bytes) -> Verdict:
    """Decode what `encode_verdict` makes; raises `KeyError` for codes that no rule of ours uses."""
    parts = wire.attributes(wire.attributes(payload)[2])
    chain = wire.text(parts[2]) if 2 in parts else None
    return Verdict(_VERDICT_KINDS[wire.number(parts[1])], chain)


@dataclass(frozen=True, slots=True, eq=False)
class Elements:
    """Key ranges (`first` to `last`, inclusive) and, for a verdict map, which of `verdicts` each one has.

    `first` and `last` have dtype `S<width>`, shape (n,), big-endian, sorted and disjoint; `verdict` is int32 of the
    same shape, an index into `verdicts` (all zero and `verdicts` empty for a plain set).
    """

    width: int
    first: NDArray[np.bytes_]
    last: NDArray[np.bytes_]
    verdict: NDArray[np.int32]
    verdicts: tuple[Verdict, ...] = ()

    def __post_init__(self) -> None:
        if len(self.first) and not (
            bool(np.all(self.first <= self.last)) and bool(np.all(self.last[:-1] < self.first[1:]))
        ):
            raise ValueError("elements must be sorted and disjoint")
        for array in (self.first, self.last, self.verdict):
            array.flags.writeable = False

    @classmethod
    def of(cls, width: int, items: Iterable[tuple[bytes, bytes, Verdict | None]]) -> Self:
        """Make from (first, last, verdict) triples in any order; for small sets."""
        rows = sorted(items, key=lambda row: row[0])
        verdicts = tuple(sorted({verdict for _, _, verdict in rows if verdict is not None}))
        index = {verdict: i for i, verdict in enumerate(verdicts)}
        dtype = f"S{width}"
        return cls(
            width,
            np.array([row[0] for row in rows], dtype),
            np.array([row[1] for row in rows], dtype),
            np.array([0 if row[2] is None else index[row[2]] for row in rows], np.int32),
            verdicts,
        )

    def __len__(self) -> int:
        return len(self.first)

    def rows(self) -> Iterator[tuple[bytes, bytes, Verdict | None]]:
        """Yield (first, last, verdict) one by one; NumPy's `S` drops trailing NULs, they are put back."""
        for first, last, verdict in zip(self.first, self.last, self.verdict, strict=True):
            found = self.verdicts[int(verdict)] if self.verdicts else None
            yield bytes(first).ljust(self.width, b"\0"), bytes(last).ljust(self.width, b"\0"), found

    def take(self, mask: NDArray[np.bool_] | slice) -> Elements:
        """Give the elements where `mask` is set, or those of a slice."""
        return Elements(self.width, self.first[mask], self.last[mask], self.verdict[mask], self.verdicts)

    def minus(self, other: Elements) -> Elements:
        """Give the elements that `other` doesn't have in just this form: same range, same verdict."""
        if not len(self) or not len(other):
            return self
        return self.take(~np.isin(self._identities(other), other._identities(other)))

    def _identities(self, other: Elements) -> NDArray[np.bytes_]:
        """Give one comparable value for each row, verdicts numbered as in `other` (unknown ones after them)."""
        number = {verdict: i for i, verdict in enumerate(other.verdicts)}
        table = [number.get(verdict, len(number) + 1 + i) for i, verdict in enumerate(self.verdicts)]
        table = table or [_NO_VERDICT]
        verdict = np.asarray(table, ">u4")[self.verdict].reshape(-1, 1).view(np.uint8)
        # The 1 at the end keeps trailing NULs, which `S` would drop.
        marker = np.ones((len(self), 1), np.uint8)
        joined = np.hstack([matrix(self.first, self.width), matrix(self.last, self.width), verdict, marker])
        return np.ascontiguousarray(joined).view(f"S{joined.shape[1]}").ravel()


def matrix(keys: NDArray[np.bytes_], width: int) -> NDArray[np.uint8]:
    """View fixed-width keys as bytes of shape (n, width)."""
    return np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), width)


def encode(elements: Elements, *, interval: bool, concatenated: bool) -> Iterator[bytes]:
    """Yield payloads of NFTA_SET_ELEM_LIST_ELEMENTS, each below LIST_BYTES, together all the elements in order.

    `interval` and `concatenated` say which kind of set it is: exact keys, start and end marks (rbtree), or key and
    key-end pairs (pipapo, for concatenated intervals).
    """
    if not len(elements):
        return
    sizes = np.array([len(encode_verdict(verdict)) for verdict in elements.verdicts] or [0])
    closed = (
        elements.last != b"\xff" * elements.width if interval and not concatenated else np.ones(len(elements), np.bool_)
    )
    # Records of one shape are stamped together: chain names of one length keep the whole set in one stroke.
    changes = np.flatnonzero(np.diff(sizes[elements.verdict] * 2 + closed)) + 1
    for start, stop in pairwise([0, *changes.tolist(), len(elements)]):
        part = elements.take(slice(start, stop))
        yield from _chunks(_stamp(part, interval=interval, concatenated=concatenated, closed=bool(closed[start])))


def _chunks(records: NDArray[np.uint8]) -> Iterator[bytes]:
    per_list = max(1, LIST_BYTES // records.shape[1])
    for start in range(0, len(records), per_list):
        yield records[start : start + per_list].tobytes()


def _stamp(part: Elements, *, interval: bool, concatenated: bool, closed: bool) -> NDArray[np.uint8]:
    """Make one record for each element by stamping a template and filling in keys and verdicts."""
    key = wire.nest(ELEM_KEY, wire.attr(1, bytes(part.width)))
    data = (
        [wire.attr(ELEM_DATA | wire.NESTED, encode_verdict(verdict)) for verdict in part.verdicts]
        if part.verdicts
        else [b""]
    )
    mine = len(data[int(part.verdict[0])])
    parts = [key, bytes(mine)]
    if interval and concatenated:
        parts.append(wire.nest(ELEM_KEY_END, wire.attr(1, bytes(part.width))))
    record = wire.nest(1, *parts)
    key_at = 4 + 8
    data_at = 4 + len(key)
    end_at = data_at + mine + 8
    if interval and not concatenated and closed:
        # The end mark names the first key after the range.
        end_at = len(record) + 4 + len(wire.be32(ELEM_FLAGS, INTERVAL_END)) + 8
        record += wire.nest(1, wire.be32(ELEM_FLAGS, INTERVAL_END), key)
    table = np.frombuffer(b"".join(blob if len(blob) == mine else bytes(mine) for blob in data), np.uint8)
    records = np.tile(np.frombuffer(record, np.uint8), (len(part), 1))
    records[:, key_at : key_at + part.width] = matrix(part.first, part.width)
    records[:, data_at : data_at + mine] = table.reshape(-1, mine)[part.verdict] if mine else 0
    if interval and (concatenated or closed):
        last = matrix(part.last, part.width)
        records[:, end_at : end_at + part.width] = last if concatenated else increment(last)
    return records


def increment(keys: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Add one to each big-endian key of shape (n, width); the caller makes sure that none is all ones."""
    result = keys.copy()
    carry = np.ones(len(keys), np.bool_)
    for column in range(keys.shape[1] - 1, -1, -1):
        result[:, column] += carry.astype(np.uint8)
        carry &= result[:, column] == 0
    return result


def decode(lists: Iterable[bytes], width: int, *, interval: bool, concatenated: bool) -> Elements:
    """Decode what the kernel dumped of one set; raises `wire.WireError` on what no set of ours can hold."""
    marks: list[tuple[bytes, bool, bytes, Verdict | None]] = []
    seen: dict[bytes, Verdict] = {}
    for payload in lists:
        for _, element in wire.walk(payload):
            parts = wire.attributes(element)
            try:
                key = wire.attributes(parts[ELEM_KEY])[1]
                ending = bool(wire.number(parts[ELEM_FLAGS]) & INTERVAL_END) if ELEM_FLAGS in parts else False
                last = wire.attributes(parts[ELEM_KEY_END])[1] if ELEM_KEY_END in parts else key
                data = parts.get(ELEM_DATA)
                verdict = None if data is None else seen.get(data) or seen.setdefault(data, decode_verdict(data))
            except KeyError as missing:
                raise wire.WireError(f"a set element without attribute {missing}") from None
            marks.append((key, not ending, last, verdict))
    if not interval or concatenated:
        return Elements.of(width, ((key, last, verdict) for key, _, last, verdict in marks))
    return Elements.of(width, _pair(sorted(marks, key=lambda mark: mark[:2]), width))


def _pair(
    marks: list[tuple[bytes, bool, bytes, Verdict | None]], width: int
) -> Iterator[tuple[bytes, bytes, Verdict | None]]:
    """Turn sorted start and end marks into ranges; a lone start runs to the next start, or to the top, as it does."""
    opened: tuple[bytes, Verdict | None] | None = None
    for key, is_start, _, verdict in marks:
        if opened is not None:
            yield opened[0], (int.from_bytes(key, "big") - 1).to_bytes(width, "big"), opened[1]
        opened = (key, verdict) if is_start else None
    if opened is not None:
        yield opened[0], b"\xff" * width, opened[1]
