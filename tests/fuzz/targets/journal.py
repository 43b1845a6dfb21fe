"""The journal, tampered with: every reader says that it is damaged, or reads it; the daemon goes on with it or anew.

A line of input is one change of a small journal: `at OFFSET HEX` writes octets into the file, `cut SIZE` shortens it,
`row SEQ COLUMN VALUE` and `text N VALUE` change what stands in it (VALUE is JSON; `{"hex": …}` for octets), and
`chain` gives all rows the digests that they then ought to have, as somebody with the right to write could.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from typing import Any

from fuzz import seeds
from fuzz.holding import home
from gatewrit.api import documents
from gatewrit.api.answer import answer_document, lines
from gatewrit.api.question import read_question
from gatewrit.cli import report_page
from gatewrit.cli.report import Wanted, made
from gatewrit.cli.report_facts import public
from gatewrit.compile.surroundings import Surroundings
from gatewrit.engine.answer import NotKeptError
from gatewrit.engine.journal import database
from gatewrit.engine.journal.database import JournalError
from gatewrit.engine.journal.reader import Filter, Reader
from gatewrit.engine.journal.rows import GENESIS, digest
from gatewrit.engine.journal.verify import verify
from gatewrit.engine.journal.writer import Journal, Keeping
from gatewrit.engine.past import explain_past

_STATE = home()
_PATH = database.path_in(_STATE)
_BEGUN = seeds.journal(_STATE)
_LAST = seeds.JOURNAL_MS // 1000 + 10
_QUESTIONS = [
    read_question({"address": "203.0.113.9", "at": at})
    for at in ("1970-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:10Z")
]
_COLUMNS = ("at", "kind", "policy", "data", "previous", "digest")


def one_input(data: bytes) -> None:
    for old in _STATE.iterdir():
        old.unlink()
    content = bytearray(_BEGUN)
    changes = [line.split(" ", 3) for line in data.decode("utf-8", "replace").splitlines()[:20]]
    for change in changes:
        with suppress(ValueError, IndexError):
            if change[0] == "at":
                at, octets = int(change[1]) % len(_BEGUN), bytes.fromhex(change[2])[:256]
                content[at : at + len(octets)] = octets
            elif change[0] == "cut":
                del content[int(change[1]) % len(_BEGUN) :]
    _PATH.write_bytes(content)
    if any(change[0] in {"row", "text", "chain"} for change in changes):
        with suppress(sqlite3.Error), closing(sqlite3.connect(_PATH, isolation_level=None)) as connection:
            _change(connection, changes)
    _read()
    _report()
    _write()


def _change(connection: sqlite3.Connection, changes: list[list[str]]) -> None:
    connection.execute("PRAGMA synchronous = OFF")
    for change in changes:
        with suppress(ValueError, LookupError, TypeError, sqlite3.Error, RecursionError, OverflowError):
            if change[0] == "row" and change[2] in _COLUMNS:
                value = _value(change[3])
                connection.execute(f"UPDATE rows SET {change[2]} = ? WHERE seq = ?", (value, int(change[1])))  # noqa: S608 - our own words
            elif change[0] == "text":
                name = connection.execute("SELECT sha256 FROM texts ORDER BY sha256").fetchall()[int(change[1])]
                value = _value(" ".join(change[2:]))
                connection.execute("UPDATE texts SET packed = ? WHERE sha256 = ?", (value, *name))
            elif change[0] == "chain":
                _chain(connection)


def _value(text: str) -> Any:
    value = json.loads(text)
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value


def _chain(connection: sqlite3.Connection) -> None:
    previous = GENESIS
    for row in list(database.rows(connection)):
        own = digest(previous, row.seq, row.at, row.kind, row.policy, row.data)
        connection.execute("UPDATE rows SET previous = ?, digest = ? WHERE seq = ?", (previous, own, row.seq))
        previous = own


def _read() -> None:
    with suppress(JournalError):
        verdict = verify(_PATH)
        assert all(flaw.message for flaw in verdict.flaws)
    with suppress(JournalError):
        assert isinstance(Reader(_STATE).rows(Filter()), tuple)
    for question in _QUESTIONS:
        try:
            answer = explain_past(_STATE, question, ("forward",), Surroundings())
        except NotKeptError as error:
            assert str(error)
        else:
            assert documents.encode(answer_document(answer))
            assert lines(answer)


def _report() -> None:
    with suppress(JournalError):
        whole, clocks = made(_STATE, Wanted(None, None, None, None), _LAST * 1000)
        for each in (whole, public(whole)):
            assert json.dumps(each)
            assert report_page.render(each, clocks)


def _write() -> None:
    """Go on with it, as a daemon that starts does."""
    try:
        journal = Journal.open(_PATH, _LAST * 1000)
    except JournalError as error:
        assert str(error)
        return
    with closing(journal):
        try:
            standing = journal.standing()
            assert isinstance(standing.document(), dict)
            journal.prune(_LAST * 1000, Keeping(days=1))
        except JournalError as error:
            assert str(error)
