"""The journal's rows as values, and how each is chained to the one before. Pure.

A row's digest is SHA-256 over the digest of the row before and the row itself as canonical JSON, so that a row can't
be changed, taken out, put in or moved without changing every digest after it. Texts (policies, services, lists) are
kept beside the rows, once by content; rows name them by SHA-256, so the chain covers them too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Every kind of row that is ever written.
Kind = Literal[
    "accepted", "refused", "state", "enforced", "lifted", "gone", "applied", "drift", "problem", "mended", "clock",
    "suspended", "resumed", "suspension_ended", "held", "released", "forgotten", "confirmed", "rolled_back",
    "started", "stopped", "found", "manifest", "removed", "begun", "gap", "checkpoint",
]  # fmt: skip
#: What the first row of all names as the row before it.
GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to write down: `at` is in epoch milliseconds, `data` is JSON, `policy` None if it isn't about one."""

    at: int
    kind: Kind
    policy: str | None = None
    data: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as it stands in the journal; `data` is the JSON text that its digest is over."""

    seq: int
    at: int
    kind: str
    policy: str | None
    data: str
    previous: str
    digest: str

    def content(self) -> dict[str, Any]:
        """Give `data` as a value; raises `ValueError` if it isn't a JSON object."""
        try:
            value = json.loads(self.data)
        except RecursionError:
            raise ValueError(f"row {self.seq}: its data nests without end") from None
        if not isinstance(value, dict):
            raise ValueError(f"row {self.seq}: its data is no JSON object")  # noqa: TRY004 - as any other damage
        return value

    def expected(self) -> str:
        """Give the digest that the row should have."""
        return digest(self.previous, self.seq, self.at, self.kind, self.policy, self.data)


@dataclass(frozen=True, slots=True)
class Head:
    """The last row of the chain: who knows its digest can tell whether anything up to it was changed since."""

    seq: int
    digest: str


def chained(entry: Entry, head: Head) -> Row:
    """Make the row that follows `head`."""
    seq, data = head.seq + 1, canonical(entry.data)
    own = digest(head.digest, seq, entry.at, entry.kind, entry.policy, data)
    return Row(seq, entry.at, entry.kind, entry.policy, data, head.digest, own)


def digest(previous: str, seq: int, at: int, kind: str, policy: str | None, data: str) -> str:  # noqa: PLR0913, PLR0917 - a row's columns
    """Give a row's digest, hexadecimal."""
    return sha256(
        f"{previous}\n{canonical([seq, at, kind, policy, data])}".encode("utf-8", "surrogatepass")
    ).hexdigest()


def canonical(value: object) -> str:
    """Give a value the one JSON text that it has: keys sorted, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=dict)


def texts_of(content: Mapping[str, Any]) -> Iterator[str]:
    """Give the digests of the texts that a row's content names, which must be kept for as long as the row is."""
    yield from references(content.get("texts") or {})
    if "standing" in content:
        yield str(content["standing"])


def references(texts: Mapping[str, Any]) -> Iterator[str]:
    """Give the digests in what says which texts a policy is made of (`Kept.document_json`)."""
    for each in named(texts):
        yield str(each["sha256"])


def named(texts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Give each `file` and `sha256` in what says which texts a policy is made of."""
    for each in (texts.get("policy"), *(texts.get("services") or {}).values()):
        if each:
            yield each
            yield from (each.get("lists") or {}).values()
