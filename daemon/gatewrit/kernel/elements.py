"""Set elements as values: sorted, disjoint key ranges with verdicts, a million of them without a Python object each.

The kernel refuses overlapping intervals with EEXIST, or worse, means something else by them: so `Elements` is checked
when it is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Literal, Self, cast
from weakref import WeakKeyDictionary, ref

import numpy as np

from gatewrit.kernel import keys, wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from gatewrit.kernel.keys import Keys

VerdictKind = Literal["drop", "accept", "return", "jump", "goto"]
_VERDICT_CODES: dict[VerdictKind, int] = {"drop": 0, "accept": 1, "jump": -3, "goto": -4, "return": -5}
_VERDICT_KINDS = {code & 0xFFFFFFFF: kind for kind, code in _VERDICT_CODES.items()}


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
    """Decode what `encode_verdict` makes; raises `wire.WireError` for codes that no rule of ours uses."""
    parts = wire.attributes(wire.attributes(payload)[2])
    kind = _VERDICT_KINDS.get(wire.number(parts[1]))
    if kind is None:
        raise wire.WireError(f"verdict {wire.number(parts[1])} is none of ours")
    return Verdict(kind, wire.text(parts[2]) if kind in {"jump", "goto"} else None)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Elements:
    """Key ranges (`first` to `last`, inclusive) and, for a verdict map, which of `verdicts` each one has.

    `first` and `last` have dtype `S<width>`, shape (n,), big-endian, sorted and disjoint; where all ranges are single
    keys they may be one and the same array. `verdict` is int32 of the same shape, an index into `verdicts` (all zero
    and `verdicts` empty for a plain set). Raises `ValueError` if they aren't sorted and disjoint.
    """

    width: int
    first: Keys
    last: Keys
    verdict: NDArray[np.int32]
    verdicts: tuple[Verdict, ...] = ()
    _digest: bytes | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not keys.disjoint(self.first, self.last, self.width):
            raise ValueError("elements must be sorted and disjoint")
        if not self.verdicts:
            # A million zeros in the room of one.
            object.__setattr__(self, "verdict", np.broadcast_to(np.int32(0), self.first.shape))
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

    @classmethod
    def of_arrays(
        cls,
        first: Keys,
        last: Keys | None = None,
        verdict: NDArray[np.int32] | None = None,
        verdicts: Sequence[Verdict] = (),
    ) -> Self:
        """Make in bulk from arrays in any order: dtype `S<width>`, shape (n,); no `last` for single keys.

        `verdict` has an index into `verdicts` for each; those that none has are left out, the others are sorted.
        """
        width = first.dtype.itemsize
        sorting = keys.order(keys.matrix(first, width))
        ordered = first[sorting]
        chosen, kept = np.zeros(len(first), np.int32), tuple[Verdict, ...]()
        if verdict is not None and len(verdicts):
            chosen, kept = _renumber(verdict[sorting], verdicts)
        return cls(width, ordered, ordered if last is None else last[sorting], chosen, kept)

    def __len__(self) -> int:
        return len(self.first)

    def rows(self) -> Iterator[tuple[bytes, bytes, Verdict | None]]:
        """Yield (first, last, verdict) one by one."""
        width, first, last = self.width, self.first.tobytes(), self.last.tobytes()
        for at, verdict in zip(range(0, len(first), width), self.verdict.tolist(), strict=True):
            found = self.verdicts[verdict] if self.verdicts else None
            yield first[at : at + width], last[at : at + width], found

    def take(self, mask: NDArray[np.bool_] | slice) -> Elements:
        """Give the elements where `mask` is set, or those of a slice."""
        first = self.first[mask]
        last = first if self.last is self.first else self.last[mask]
        return self._chosen(first, last, self.verdict[mask])

    def _chosen(self, first: Keys, last: Keys, verdict: NDArray[np.int32]) -> Elements:
        """Give some of the elements: sorted and disjoint as all are, which isn't checked again for many sets."""
        found = object.__new__(Elements)
        for array in (first, last, verdict):
            array.flags.writeable = False
        same = {"width": self.width, "verdicts": self.verdicts, "_digest": None}
        for name, value in {**same, "first": first, "last": last, "verdict": verdict}.items():
            object.__setattr__(found, name, value)
        return found

    def minus(self, other: Elements) -> Elements:
        """Give the elements that `other` doesn't have in just this form: same range, same verdict."""
        return self.apart(other)[0]

    def apart(self, other: Elements) -> tuple[Elements, Elements]:
        """Give the elements that `other` doesn't have in just this form, and those of it that aren't here."""
        if not len(self) or not len(other):
            return self, other
        one, two = keys.comparable(self.first, self.width), keys.comparable(other.first, self.width)
        # A first key is in each of the two at most once: there is only one place to look.
        place = np.arange(len(two))
        if not np.array_equal(one, two):
            place = np.minimum(np.searchsorted(two, one), len(two) - 1)
        alike = one == two[place]
        if self.last is not self.first or other.last is not other.first:
            alike &= self.last == other.last[place]
        if self.verdicts or other.verdicts:
            alike &= self._numbered_as(other) == other._numbered_as(other)[place]
        left = np.ones(len(two), np.bool_)
        left[place[alike]] = False
        return self.take(~alike), other.take(left)

    def _numbered_as(self, other: Elements) -> NDArray[np.int32]:
        """Give the verdicts by their numbers in `other`: -1 for those that it hasn't, -2 in a plain set."""
        number = {verdict: i for i, verdict in enumerate(other.verdicts)}
        table = np.array([number.get(verdict, -1) for verdict in self.verdicts] or [-2], np.int32)
        return self.verdict if np.array_equal(table, np.arange(len(table))) else table[self.verdict]

    def digest(self) -> bytes:
        """Give SHA-256 over ranges and verdicts: equal if and only if `rows` would be. Worked out once."""
        if self._digest is None:
            chosen, verdicts = _renumber(self.verdict, self.verdicts) if self.verdicts else (self.verdict, ())
            single = keys.same(self.first, self.last, self.width)
            names = b"".join(map(encode_verdict, verdicts))
            found = sha256(f"{self.width} {len(self)} {single} {len(names)}\n".encode() + names)
            for array in (
                self.first,
                *(() if single else (self.last,)),
                *((chosen.astype("<i4"),) if verdicts else ()),
            ):
                found.update(array.tobytes())
            object.__setattr__(self, "_digest", found.digest())  # frozen for everybody else
        return cast("bytes", self._digest)


#: Differences by what is wanted, with what was found then: what is prepared is compared once more when it counts.
_compared: WeakKeyDictionary[Elements, tuple[ref[Elements], Elements, Elements]] = WeakKeyDictionary()


def difference(wanted: Elements, found: Elements) -> tuple[Elements, Elements]:
    """Give what is to be added, and what is to be removed."""
    before = _compared.get(wanted)
    if before is not None and before[0]() is found:
        return before[1:]
    added, removed = wanted.apart(found)
    if len(added) + len(removed) <= len(wanted) // 4:
        # Larger ones aren't asked about twice: their elements are then prepared.
        _compared[wanted] = ref(found), added, removed
    return added, removed


def _renumber(verdict: NDArray[np.int32], verdicts: Sequence[Verdict]) -> tuple[NDArray[np.int32], tuple[Verdict, ...]]:
    """Sort verdicts, each once, without those that none has; gives their numbers then, and the verdicts."""
    used = np.flatnonzero(np.bincount(verdict, minlength=len(verdicts)))
    kept = sorted({verdicts[old] for old in used.tolist()})
    number = {each: new for new, each in enumerate(kept)}
    table = np.zeros(len(verdicts), np.int32)
    table[used] = [number[verdicts[old]] for old in used.tolist()]
    return table[verdict], tuple(kept)
