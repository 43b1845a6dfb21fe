"""Writing the journal: rows and texts in one transaction each time, and what is older than it is kept going away.

Calls block on the disk. Two processes may write by turns: the chain's head is read inside each transaction.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from gatewrit.engine.durable import whole
from gatewrit.engine.journal import database
from gatewrit.engine.journal.database import DamagedError, telling
from gatewrit.engine.journal.rows import GENESIS, Entry, Head, canonical, chained, references, texts_of
from gatewrit.engine.journal.standing import Standing
from gatewrit.engine.telling import newest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import Self

    from gatewrit.engine.events import Event
    from gatewrit.engine.journal.rows import Row

#: SQLite's largest integer.
_LARGEST = (1 << 63) - 1
_DAY_MS = 86_400_000
#: When the file is too large, rows go in steps of this share of them.
_STEP = 8


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long rows are kept, and how large the file may be."""

    days: int = 400
    max_bytes: int = 2000 * 1_000_000


#: As long as the settings say if they say nothing.
USUALLY_KEPT = Keeping()


@dataclass(frozen=True, slots=True)
class Pruned:
    """What retention did: the rows that went, the chain's new head, and whether what must stay is still too large."""

    rows: int
    head: Head
    too_large: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """What a checkpoint says: rows up to `through` are gone, whose digest and instant were these; how many, in all.

    `standing` is the digest of the text that says how everything stood then.
    """

    through: int
    digest: str
    at: int
    rows: int
    standing: str


class Journal:
    """A journal open for writing."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def open(cls, path: Path, now: int) -> Self:
        """Open the journal, or begin one; `now` is in epoch milliseconds. Raises `JournalError`.

        A damaged one is moved aside, with whatever lies beside it, and the new one's first row says so.
        """
        begun: dict[str, str] = {}
        try:
            connection = database.open_to_write(path)
        except DamagedError as error:
            with telling(path):
                begun = {"damaged": _move_aside(path, now // 1000), "reason": str(error)}
            connection = database.open_to_write(path)
        journal = cls(path, connection)
        try:
            if journal.head().seq == 0:
                journal.append([Entry(now, "begun", None, begun)], {})
        except BaseException:
            journal.close()
            raise
        return journal

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def head(self) -> Head:
        """Give the chain's head."""
        with telling(self.path):
            return database.head(self._connection)

    def append(self, entries: Iterable[Entry], texts: Mapping[str, bytes]) -> Head:
        """Write entries and the texts that they name (by SHA-256), all or nothing; gives the new head.

        It is on the disk when this returns. Raises `DamagedError` or `JournalError`.
        """
        with telling(self.path), self._transaction():
            for digest, text in texts.items():
                database.put_text(self._connection, digest, text)
            return self._add(entries, Head(0, GENESIS))

    def _add(self, entries: Iterable[Entry], when_empty: Head) -> Head:
        """Add rows to the chain, after `when_empty` if no row is left."""
        found = database.head(self._connection)
        head = found if found.seq else when_empty
        for entry in entries:
            row = chained(entry, head)
            database.insert(self._connection, row)
            head = Head(row.seq, row.digest)
        return head

    def newest(self, limit: int) -> tuple[int, tuple[Event, ...]]:
        """Give the newest events, oldest first, and the row after which these are all."""
        with telling(self.path):
            return newest(self._connection, limit)

    def standing(self) -> Standing:
        """Give how everything stands after the last row; raises `DamagedError` if the rows don't say."""
        with telling(self.path):
            return standing_after(self._connection, None)

    def prune(self, now: int, keeping: Keeping) -> Pruned:
        """Let go of rows that are older than they are kept, or too many, and of texts that nothing needs any more.

        A checkpoint row then says up to which row, and how everything stood after it, so that the chain still verifies
        and what is in force since longer than that is still known. `now` is in epoch milliseconds.
        """
        with telling(self.path):
            with self._transaction():
                pruned = self._prune(now, keeping)
            if pruned.rows:
                # Page by page, each a step of the statement: only a script is run to its end.
                self._connection.executescript("PRAGMA incremental_vacuum")
        return pruned

    def _prune(self, now: int, keeping: Keeping) -> Pruned:
        connection = self._connection
        standing = checkpointed(connection)
        last: Row | None = None
        gone = 0
        through = self._older_than(now - keeping.days * _DAY_MS)
        while through or (self._used() > keeping.max_bytes and (through := self._a_step_on())):
            for row in database.rows(connection, "WHERE seq <= ? ORDER BY seq", (through,)):
                last = row
                follow(standing, row)
            gone += connection.execute("DELETE FROM rows WHERE seq <= ?", (through,)).rowcount
            self._drop_texts(standing)
            through = 0
        if last is None:
            return Pruned(0, database.head(connection), self._used() > keeping.max_bytes)
        told = canonical(standing.document()).encode()
        name = sha256(told).hexdigest()
        database.put_text(connection, name, told)
        checkpoint = database.last_checkpoint(connection)
        before = 0 if checkpoint is None else gone_before(checkpoint).rows
        data = {"through": last.seq, "digest": last.digest, "at": last.at, "rows": gone + before, "standing": name}
        head = self._add([Entry(now, "checkpoint", None, data)], Head(last.seq, last.digest))
        return Pruned(gone, head, self._used() > keeping.max_bytes)

    def _older_than(self, instant: int) -> int:
        """Give the last row before the first one that is kept, 0 if all are."""
        oldest, newest = self._connection.execute("SELECT min(seq), max(seq) FROM rows").fetchone()
        first = self._connection.execute("SELECT min(seq) FROM rows WHERE at >= ?", (instant,)).fetchone()[0]
        through = int(newest or 0) if first is None else int(first) - 1
        return through if oldest is not None and through >= oldest else 0

    def _a_step_on(self) -> int:
        """Give up to which row to let go next, 0 if only the newest is left."""
        count, first, last = self._connection.execute("SELECT count(*), min(seq), max(seq) FROM rows").fetchone()
        return min(int(first) + int(count) // _STEP, int(last) - 1) if count > 1 else 0

    def _drop_texts(self, standing: Standing) -> None:
        """Delete the texts that neither a row nor what stands needs."""
        connection = self._connection
        needed = {digest for texts in standing.texts() for digest in references(texts)}
        for row in database.rows(connection, "WHERE data LIKE '%\"texts\":{%' ORDER BY seq"):
            needed |= set(texts_of(row.content()))
        found = [digest for (digest,) in connection.execute("SELECT sha256 FROM texts")]
        connection.executemany("DELETE FROM texts WHERE sha256 = ?", ((each,) for each in found if each not in needed))

    def _used(self) -> int:
        """Give how many bytes of the file are in use."""
        pages, free, size = (
            int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                # Some errors, such as a full disk, have rolled back already.
                self._connection.execute("ROLLBACK")
            raise


def standing_after(connection: sqlite3.Connection, seq: int | None) -> Standing:
    """Give how everything stood after a row, None for the last; raises `DamagedError` if the rows don't say."""
    standing = checkpointed(connection)
    bounds = ("", ()) if seq is None else ("WHERE seq <= ? ORDER BY seq", (seq,))
    for row in database.rows(connection, *bounds):
        follow(standing, row)
    return standing


def checkpointed(connection: sqlite3.Connection) -> Standing:
    """Give how everything stood before the first row that is kept."""
    row = database.last_checkpoint(connection)
    if row is None:
        return Standing()
    try:
        return Standing.load(json.loads(database.get_text(connection, gone_before(row).standing)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"the checkpoint in row {row.seq} can't be read: {error!r}") from error


def gone_before(checkpoint: Row) -> Gone:
    """Read a checkpoint; raises `DamagedError` if nobody ever wrote such a one."""
    try:
        said = checkpoint.content()
        through, at, rows = (whole(said[name], _LARGEST) for name in ("through", "at", "rows"))
        return Gone(through, str(said["digest"]), at, rows, str(said["standing"]))
    except (ValueError, KeyError) as error:
        raise DamagedError(f"the checkpoint in row {checkpoint.seq} can't be read: {error!r}") from error


def follow(standing: Standing, row: Row) -> None:
    """Take in a row; raises `DamagedError` if nobody ever wrote such a one."""
    try:
        standing.follow(row)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"row {row.seq} can't be read: {error!r}") from error


def _move_aside(path: Path, now: int) -> str:
    """Give a damaged journal another name, so that nothing of it is lost; never over another one."""
    number = now
    while path.with_name(f"{path.name}.damaged-{number}").exists():
        number += 1
    target = path.with_name(f"{path.name}.damaged-{number}")
    path.rename(target)
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(f"{path.name}{suffix}").rename(target.with_name(f"{target.name}{suffix}"))
    return target.name
