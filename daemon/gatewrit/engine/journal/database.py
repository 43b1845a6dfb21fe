"""The journal's file: its schema, how it is opened for writing and for reading, and how its errors are told apart."""

from __future__ import annotations

import os
import re
import sqlite3
import zlib
from contextlib import closing, contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote

from gatewrit.engine.journal.rows import GENESIS, Head, Row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE rows (
  seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, policy TEXT, data TEXT NOT NULL,
  previous TEXT NOT NULL, digest TEXT NOT NULL
) STRICT;
CREATE INDEX rows_by_policy ON rows (policy, seq);
CREATE INDEX rows_by_time ON rows (at, seq);
CREATE TABLE texts (sha256 TEXT PRIMARY KEY, size INTEGER NOT NULL, packed BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""
#: Seconds to wait for somebody who holds the file locked.
_PATIENCE = 5.0
#: No text that was ever read is larger (a list has at most 128 MiB).
_LARGEST_TEXT = 1 << 28
#: From this size on a text is packed the quick way: a fifth of the time or less, for a fifth more room.
LARGE_TEXT = 1 << 20
_QUICKLY = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")
_COLUMNS = "seq, at, kind, policy, data, previous, digest"


class JournalError(Exception):
    """The journal can't be read or written: why."""


class DamagedError(JournalError):
    """What is in the file isn't a journal any more."""


class NoJournalError(JournalError):
    """There is none yet."""


def path_in(state: Path) -> Path:
    """Give the journal's file in a state directory."""
    return state / "journal.db"


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, damage apart from what may pass."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise DamagedError(f"{path}: {error}") from error
        raise JournalError(f"{path}: {error}") from error
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror or error}") from error


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open the journal, or begin one; raises `DamagedError` or `JournalError`."""
    with telling(path):
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        # SQLite gives the files beside it the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640))
        connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            if path.stat().st_size == 0:
                # First of all: a file's vacuum mode can only be chosen while it is empty and nobody has looked into it.
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            _check_version(connection, path)
            _check_pages(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            # Every row is on the disk before its digest goes to the log.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {1 << 24}")
            connection.execute("PRAGMA trusted_schema = OFF")
            if _version(connection) == 0:
                connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;")
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def open_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the journal read-only, at one moment of it; raises `NoJournalError`, `DamagedError` or `JournalError`."""
    if not path.exists():
        raise NoJournalError(f"there is no journal yet: {path} isn't there; the daemon begins one when it first runs")
    if not os.access(path, os.R_OK, effective_ids=True):
        raise JournalError(f"{path}: this user may not read it; run it as root")
    with telling(path), closing(_connect_to_read(path)) as connection:
        _check_version(connection, path)
        if _version(connection) == 0:
            raise NoJournalError(f"{path} is empty: nothing has been written down yet")
        connection.execute("BEGIN")
        yield connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    # Without the files that a writer keeps beside it, and without the right to make them, WAL can't be read otherwise;
    # nobody writes then.
    alone = not path.with_name(f"{path.name}-wal").exists() and not os.access(path.parent, os.W_OK)
    uri = f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' if alone else ''}"
    return sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection)
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"{path}: a newer gatewrit wrote this journal (schema {version}, this one knows {SCHEMA_VERSION}); "
            f"it is left as it is"
        )


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise DamagedError(f"{path}: {' '.join(str(found).split())}")


def rows(connection: sqlite3.Connection, where: str = "", values: tuple[object, ...] = ()) -> Iterator[Row]:
    """Give rows; `where` is what follows the table's name in SQL."""
    for each in connection.execute(f"SELECT {_COLUMNS} FROM rows {where or 'ORDER BY seq'}", values):  # noqa: S608 - our own words
        yield Row(*each)


def insert(connection: sqlite3.Connection, row: Row) -> None:
    """Add a row."""
    values = (row.seq, row.at, row.kind, row.policy, row.data, row.previous, row.digest)
    connection.execute(f"INSERT INTO rows ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608 - our own words


def head(connection: sqlite3.Connection) -> Head:
    """Give the chain's head."""
    found = connection.execute("SELECT seq, digest FROM rows ORDER BY seq DESC LIMIT 1").fetchone()
    return Head(0, GENESIS) if found is None else Head(*found)


def last_checkpoint(connection: sqlite3.Connection) -> Row | None:
    """Give the newest checkpoint."""
    return next(rows(connection, "WHERE kind = 'checkpoint' AND policy IS NULL ORDER BY seq DESC LIMIT 1"), None)


def put_text(connection: sqlite3.Connection, digest: str, text: bytes) -> None:
    """Keep a text, if it isn't kept yet."""
    if connection.execute("SELECT 1 FROM texts WHERE sha256 = ?", (digest,)).fetchone() is None:
        packed = zlib.compress(text, _QUICKLY if len(text) >= LARGE_TEXT else zlib.Z_DEFAULT_COMPRESSION)
        connection.execute("INSERT INTO texts VALUES (?, ?, ?)", (digest, len(text), packed))


def get_text(connection: sqlite3.Connection, digest: str) -> bytes:
    """Give a text back; raises `DamagedError` if it isn't there or isn't what its digest says."""
    if not _DIGEST.fullmatch(digest):
        # Half a surrogate pair, among others, which SQLite can't even be asked for.
        raise DamagedError(f"{digest!r:.100} is no digest of a text")
    found = connection.execute("SELECT packed FROM texts WHERE sha256 = ?", (digest,)).fetchone()
    if found is None:
        raise DamagedError(f"the text {digest} is missing")
    try:
        # Bounded, for the file may have been tampered with.
        text = zlib.decompressobj().decompress(found[0], _LARGEST_TEXT)
    except zlib.error as error:
        raise DamagedError(f"the text {digest} can't be unpacked: {error}") from error
    if sha256(text).hexdigest() != digest:
        raise DamagedError(f"the text {digest} isn't what its digest says")
    return text
