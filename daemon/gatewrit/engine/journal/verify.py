"""Proving the chain: every row as it was written, none missing, moved or put in; and every text what its digest says.

What it can't see by itself: rows taken off the end, and a chain written anew from some row on by somebody who can
write the file. Both are found with a head that was kept elsewhere; the daemon logs one at each append.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewrit.engine.journal import database
from gatewrit.engine.journal.database import DamagedError
from gatewrit.engine.journal.rows import GENESIS, Head, references, texts_of
from gatewrit.engine.journal.writer import checkpointed, gone_before

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from gatewrit.engine.journal.rows import Row


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something that isn't as it was written: at which row (0 if it is no row's), and what."""

    seq: int
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a proof came to: `rows` from `first` to `head`, and the flaws by row. None at all is whole."""

    rows: int
    first: int
    head: Head
    flaws: tuple[Flaw, ...]

    @property
    def whole(self) -> bool:
        """Whether everything is as it was written, as far as the chain can tell."""
        return not self.flaws


def verify(path: Path, head: str | None = None) -> Verdict:
    """Prove the journal; `head` is a digest that was kept elsewhere, which must still be in the chain.

    Raises `NoJournalError` and `JournalError`; a damaged file is a flaw.
    """
    try:
        with database.open_to_read(path) as connection:
            return prove(connection, head)
    except DamagedError as error:
        return Verdict(0, 0, Head(0, GENESIS), (Flaw(0, str(error)),))


def prove(connection: sqlite3.Connection, head: str | None = None) -> Verdict:
    """Prove the journal that is open here."""
    flaws: list[Flaw] = []
    needed: dict[str, int] = {}
    count, first, before, seen = 0, 0, None, head == GENESIS
    checkpoint = database.last_checkpoint(connection)
    for row in database.rows(connection):
        if before is None:
            first = row.seq
            flaws += _beginning(row, checkpoint)
        else:
            flaws += _following(row, before)
        if row.digest != row.expected():
            flaws.append(Flaw(row.seq, "this row isn't as it was written: its digest doesn't fit"))
        flaws += _collect(row, needed, checkpoint)
        seen = seen or row.digest == head
        before, count = row, count + 1
    if before is None:
        flaws.append(Flaw(0, "there are no rows, where at least the beginning is always written"))
    flaws += _texts(connection, needed, checkpoint)
    last = Head(0, GENESIS) if before is None else Head(before.seq, before.digest)
    if head is not None and not seen:
        flaws.append(
            Flaw(last.seq, f"no row has the digest {head}: rows after row {last.seq} are gone, or rows were rewritten")
        )
    return Verdict(count, first, last, tuple(sorted(flaws, key=lambda flaw: flaw.seq)))


def _beginning(row: Row, checkpoint: Row | None) -> Iterator[Flaw]:
    """Hold the first row to being the first of all, or to follow what the newest checkpoint says is gone."""
    through, digest = 0, GENESIS
    if checkpoint is not None:
        try:
            gone_rows = gone_before(checkpoint)
            through, digest = gone_rows.through, gone_rows.digest
        except DamagedError as error:
            yield Flaw(checkpoint.seq, str(error))
    if row.seq != through + 1:
        gone = (
            f"rows {through + 1} to {row.seq - 1} are missing" if row.seq > through else "rows are back that had gone"
        )
        yield Flaw(row.seq, f"{gone}: no checkpoint accounts for it")
    elif row.previous != digest:
        yield Flaw(row.seq, "this row doesn't follow what was before it")


def _following(row: Row, before: Row) -> Iterator[Flaw]:
    if row.seq != before.seq + 1:
        missing = (
            f"rows {before.seq + 1} to {row.seq - 1} are" if row.seq > before.seq + 2 else f"row {before.seq + 1} is"
        )
        yield Flaw(before.seq + 1, f"{missing} missing")
    elif row.previous != before.digest:
        yield Flaw(row.seq, f"this row doesn't follow row {before.seq} as it is now")


def _collect(row: Row, needed: dict[str, int], checkpoint: Row | None) -> Iterator[Flaw]:
    """Note the texts that a row needs; an older checkpoint's are gone for good."""
    if row.kind == "checkpoint" and checkpoint is not None and row.seq != checkpoint.seq:
        return
    try:
        for digest in texts_of(row.content()):
            needed.setdefault(digest, row.seq)
    except (ValueError, KeyError, TypeError, AttributeError):
        yield Flaw(row.seq, "this row's data can't be read")


def _texts(connection: sqlite3.Connection, needed: dict[str, int], checkpoint: Row | None) -> Iterator[Flaw]:
    if checkpoint is not None:
        try:
            for texts in checkpointed(connection).texts():
                for digest in references(texts):
                    needed.setdefault(digest, checkpoint.seq)
        except DamagedError as error:
            yield Flaw(checkpoint.seq, str(error))
    kept = [str(digest) for (digest,) in connection.execute("SELECT sha256 FROM texts ORDER BY sha256")]
    for digest in {*kept, *needed}:
        try:
            database.get_text(connection, digest)
        except DamagedError as error:
            yield Flaw(needed.get(digest, 0), str(error))
