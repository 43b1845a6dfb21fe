"""The journal's rows in words, for who follows what happens: which row is an event, about what, and what it says."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gatewrit.engine.events import Event, Page, Topic, Turn
from gatewrit.engine.journal import database
from gatewrit.engine.journal.database import NoJournalError
from gatewrit.engine.particulars import Revision
from gatewrit.policy.instant import utc_text

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping
    from pathlib import Path

    from gatewrit.engine.journal.rows import Row

#: What each kind of row is about.
TOPICS: Mapping[str, Topic] = MappingProxyType(
    dict.fromkeys(("accepted", "refused", "state", "enforced", "lifted", "gone"), Topic.POLICY)
    | dict.fromkeys(("suspended", "resumed", "suspension_ended", "held", "released", "forgotten"), Topic.POLICY)
    | dict.fromkeys(("started", "stopped", "applied", "manifest", "removed", "begun", "gap"), Topic.ENFORCEMENT)
    | dict.fromkeys(("confirmed", "rolled_back", "found"), Topic.ENFORCEMENT)
    | dict.fromkeys(("problem", "mended", "clock"), Topic.PROBLEM)
    | {"drift": Topic.DRIFT}
)
#: Kinds that nobody is told of: a checkpoint is about the journal, and nothing happened.
UNTOLD = frozenset({"checkpoint"})
#: What a daemon says of the rules that the one before had left.
_FOUND = {
    "gone": "the rules that were left in the kernel were gone, as after the host was down; they were put in anew",
    "changed": "the rules in the kernel weren't as they had been left, though nobody ordered it; they were put right",
}
#: Longer messages end here: the whole one is in the journal.
_LONGEST = 1000
#: Revisions of one policy that are told of.
_REVISIONS = 100


def event_of(seq: int, at: int, kind: str, policy: str | None, data: Mapping[str, Any]) -> Event | None:
    """Return a row as an event, None for what is no event; `at` is in epoch milliseconds. Never raises."""
    topic = TOPICS.get(kind)
    if topic is None:
        return None
    try:
        message = _message(kind, policy, data)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        message = f"{kind}: this row can't be read; see: gatewrit log verify"
    if len(message) > _LONGEST:
        message = f"{message[:_LONGEST]} …"
    return Event(seq, at // 1000, topic, kind, policy, message)


def _message(kind: str, policy: str | None, data: Mapping[str, Any]) -> str:  # noqa: C901, PLR0911, PLR0912 - one for each kind
    name = policy or "all policies"
    match kind:
        case "accepted":
            before = "" if data["before"] is None else f" (before: {data['before']})"
            return f"revision {data['revision']} of {name} counts{before}, its file says {data['says']}{_asked(data)}"
        case "refused":
            return f"{name} doesn't follow its file: {data['message']}"
        case "state":
            return f"{name} is {data['now']}" + ("" if data["was"] is None else f", it was {data['was']}")
        case "enforced":
            return f"the kernel has the rules of {name}, revision {data['revision']}, and they were read back"
        case "lifted":
            return f"the kernel has no rules of {name} any more"
        case "gone":
            return f"{name} is gone: neither a file nor an order in force"
        case "suspended":
            return f"{name} suspended by hand until {utc_text(data['until'])}{_by(data)}"
        case "resumed" | "released" | "forgotten":
            return f"{name} {kind} by hand{_by(data)}"
        case "suspension_ended":
            return f"the suspension of {name} by hand has ended"
        case "held":
            return f"new content of {name} is held back until somebody releases it"
        case "applied":
            return f"generation {data['generation']} is enforced and read back"
        case "started" | "stopped":
            return f"the daemon has {kind}"
        case "confirmed":
            return f"the change was confirmed{_by(data)}: what counts now stays"
        case "rolled_back":
            return _rolled_back(data)
        case "found":
            return _FOUND[data["found"]]
        case "manifest":
            return f"the signed manifest {data['serial']} was accepted"
        case "removed":
            return f"every block was taken out{_by(data)}"
        case "begun":
            return "the journal begins" + (f" anew: {data['reason']}" if data.get("damaged") else "")
        case "gap":
            return f"{data['looks']} looks weren't written down; what holds is in the rows that follow"
        case "mended":
            return f"{data['code']} is no more" + ("" if data["place"] is None else f" ({data['place']})")
        case "drift":
            return "somebody else changed our table; that was undone"
    return f"{data['code']}: {data['message']}"


def _rolled_back(data: Mapping[str, Any]) -> str:
    number = data["generation"]
    done = (
        f"nobody confirmed the change{_by(data)} in time: the policies of generation {number} count again"
        if data["unconfirmed"]
        else f"the policies of generation {number} count again, put back{_by(data)}"
    )
    return f"{done}; the files aren't followed until somebody applies or reloads"


def _asked(data: Mapping[str, Any]) -> str:
    names = [str(each["name"]) for each in data.get("asked", ())]
    return f"; asked by {', '.join(names)}" if names else ""


def _by(data: Mapping[str, Any]) -> str:
    by, reason = data.get("by"), data.get("reason")
    return ("" if by is None else f" by {by['name']}") + (f": {reason}" if reason else "")


def read_events(state: Path, turn: Turn) -> Page:
    """Give events of the journal in a state directory; raises `JournalError`. Blocks on the disk."""
    kinds = [kind for kind, topic in TOPICS.items() if turn.topic in {None, topic}]
    tests, values = [f"kind IN ({', '.join('?' * len(kinds))})"], list[object](kinds)
    for test, value in (("policy = ?", turn.policy), ("seq < ?", turn.before), ("seq > ?", turn.after)):
        if value is not None:
            tests.append(test)
            values.append(value)
    order = "DESC" if turn.after is None else "ASC"
    where = f"WHERE {' AND '.join(tests)} ORDER BY seq {order} LIMIT ?"
    try:
        with database.open_to_read(database.path_in(state)) as connection:
            rows = list(database.rows(connection, where, (*values, turn.limit + 1)))
            first, last = connection.execute("SELECT min(seq), max(seq) FROM rows").fetchone()
    except NoJournalError:
        return Page()
    events = [event for row in rows[: turn.limit] if (event := _event(row)) is not None]
    return Page(tuple(events), len(rows) > turn.limit, first, last)


def _event(row: Row) -> Event | None:
    return event_of(row.seq, row.at, row.kind, row.policy, _content(row))


def _content(row: Row) -> Mapping[str, Any]:
    try:
        return row.content()
    except ValueError:
        return {}


def newest(connection: sqlite3.Connection, limit: int) -> tuple[int, tuple[Event, ...]]:
    """Give the newest events, oldest first, and the id after which these are all."""
    rows = list(database.rows(connection, "ORDER BY seq DESC LIMIT ?", (limit,)))[::-1]
    floor = rows[0].seq - 1 if rows else 0
    return floor, tuple(event for row in rows if (event := _event(row)) is not None)


def read_revisions(state: Path, policy: str) -> tuple[Revision, ...]:
    """Give the revisions of a policy that the journal tells of, newest first; raises `JournalError`. Blocks."""
    where = "WHERE kind = 'accepted' AND policy = ? ORDER BY seq DESC LIMIT ?"
    try:
        with database.open_to_read(database.path_in(state)) as connection:
            rows = list(database.rows(connection, where, (policy, _REVISIONS)))
    except NoJournalError:
        return ()
    found = []
    for row in rows:
        content = _content(row)
        number, says = content.get("revision"), content.get("says")
        if isinstance(number, int) and isinstance(says, str):
            found.append(Revision(row.seq, number, row.at // 1000, says))
    return tuple(found)
