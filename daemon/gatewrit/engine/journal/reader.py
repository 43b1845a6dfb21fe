"""Asking the journal: its rows, and which policies counted at any time that it keeps.

Read-only, beside a daemon that writes; blocks on the disk. For `explain --at`:

    past = Reader(state).standing_at(instant)
    if isinstance(past, NotKept): ...            # say past.reason
    for name, each in past.policies.items():
        each.policy       # the Policy whose rules the kernel had then; as accepted, if it had none of it
        each.enforced     # whether the kernel had its rules, since `each.since`
        each.suspended    # a suspension by hand, or None
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatewrit.engine.journal import database
from gatewrit.engine.journal.database import DamagedError
from gatewrit.engine.journal.rows import canonical
from gatewrit.engine.journal.writer import gone_before, standing_after
from gatewrit.engine.store import NOT_KEPT, read_kept
from gatewrit.policy.load import join

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gatewrit.engine.journal.rows import Row
    from gatewrit.engine.journal.standing import Standing, Stood
    from gatewrit.policy.model import Policy


@dataclass(frozen=True, slots=True, eq=False)
class PastPolicy:
    """One policy at a past time.

    `policy` is what the kernel had rules of; if it had none, the revision that had been accepted. `enforced` says
    which, `since` since when the kernel had rules for it (epoch seconds; guards for a later start included).
    `accepted` is the revision that counted, other than `policy` only while the kernel hadn't confirmed it, and None
    if the policy was gone and only its rules still there. `state` is the contract's word as the daemon last said it.
    `suspended` is what was said with a suspension by hand (`until` in epoch seconds, `reason`, `by`), None if
    there was none. The kernel then still has its rules, which start when the suspension ends: `enforced` stays true.
    """

    policy: Policy
    enforced: bool
    since: int | None
    accepted: Policy | None
    state: str | None
    suspended: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """How the gateway stood at `at` (epoch seconds), after row `seq`, which was written at `written` (epoch seconds).

    `running`: True, a daemon was; False, none was, and the rules stood in the kernel as the last one left them (unless
    the host itself was down, or somebody took them out); None, a daemon ended in between without a word, and when isn't
    known. `gateway` is what the daemon said of itself: `name`, `tags`, `hooks`. `problems` are code, policy and place
    of those that were open. `generation` and `digest` are of the ruleset that the kernel last had confirmed, which was
    written down at `applied_at` (epoch seconds; None if that row isn't kept, or everything was taken out since).
    """

    at: int
    seq: int
    written: float
    policies: Mapping[str, PastPolicy]
    generation: int | None
    digest: str | None
    running: bool | None
    gateway: Mapping[str, Any]
    problems: frozenset[tuple[str, str | None, str | None]]
    applied_at: int | None = None


@dataclass(frozen=True, slots=True)
class NotKept:
    """The journal doesn't reach back that far: `since` is the first instant that it knows of, in epoch seconds."""

    since: int
    reason: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows: instants in epoch milliseconds, `since` inclusive, `until` exclusive; the newest `limit` of them."""

    policy: str | None = None
    kind: str | None = None
    since: int | None = None
    until: int | None = None
    limit: int = 200


class Reader:
    """The journal of a state directory. Keeps what it parsed for the time it was last asked about."""

    def __init__(self, state: Path) -> None:
        self.path = database.path_in(state)
        self._parsed: dict[str, Policy] = {}

    def rows(self, wanted: Filter) -> tuple[Row, ...]:
        """Give the newest rows that fit, oldest first. Raises `JournalError` (`NoJournalError` if there is none)."""
        tests = [
            ("policy = ?", wanted.policy),
            ("kind = ?", wanted.kind),
            ("at >= ?", wanted.since),
            ("at < ?", wanted.until),
        ]
        given = [(test, value) for test, value in tests if value is not None]
        where = f"WHERE {' AND '.join(test for test, _ in given)} " if given else ""
        values = (*(value for _, value in given), wanted.limit)
        with database.open_to_read(self.path) as connection:
            return tuple(database.rows(connection, f"{where}ORDER BY seq DESC LIMIT ?", values))[::-1]

    def standing_at(self, instant: int) -> Past | NotKept:
        """Give how everything stood at `instant` (epoch seconds), what was written in that second included.

        Raises `JournalError`: `NoJournalError` if there is none, `DamagedError` if its rows or texts can't be read.
        """
        with database.open_to_read(self.path) as connection:
            found = _last(connection, instant)
            if isinstance(found, NotKept):
                return found
            seq, written = found
            standing = standing_after(connection, seq)
            parsed: dict[str, Policy] = {}
            policies = {
                name: _past(name, stood, lambda texts: self._policy(connection, texts, parsed))
                for name, stood in sorted(standing.policies.items())
                if stood.texts or stood.enforced
            }
            self._parsed = parsed
            return Past(
                at=instant,
                seq=seq,
                written=written / 1000,
                policies=policies,
                generation=standing.generation,
                digest=standing.digest,
                running=_running(connection, seq, standing),
                gateway=standing.gateway,
                problems=frozenset(standing.problems),
                applied_at=None if standing.digest is None else _applied(connection, seq),
            )

    def _policy(self, connection: sqlite3.Connection, texts: Mapping[str, Any], parsed: dict[str, Policy]) -> Policy:
        """Parse what a policy was made of, or take what was parsed before."""
        key = canonical(texts)
        found = parsed.get(key) or self._parsed.get(key)
        if found is None:
            try:
                kept = read_kept(texts, lambda digest: database.get_text(connection, digest))
            except NOT_KEPT as error:
                raise DamagedError(f"{self.path}: {error}") from error
            found = join(kept.document, {name: each.service for name, each in kept.services.items()})
        parsed[key] = found
        return found


def _past(name: str, stood: Stood, policy: Callable[[Mapping[str, Any]], Policy]) -> PastPolicy:
    texts = stood.enforced or stood.texts
    if texts is None:
        raise DamagedError(f"nothing says what {name} was")
    accepted = None if stood.texts is None else policy(stood.texts)
    return PastPolicy(
        policy=policy(texts),
        enforced=stood.enforced is not None,
        since=stood.since,
        accepted=accepted,
        state=stood.state,
        suspended=stood.suspended,
    )


def _last(connection: sqlite3.Connection, instant: int) -> tuple[int, int] | NotKept:
    """Give sequence and instant of the last row up to the end of a second, be it one that only a checkpoint knows.

    A clock that ran ahead for a while doesn't hide what was written after it was set right.
    """
    bound = (instant + 1) * 1000
    row = next(database.rows(connection, "WHERE at < ? ORDER BY seq DESC LIMIT 1", (bound,)), None)
    if row is not None:
        return row.seq, row.at
    checkpoint = database.last_checkpoint(connection)
    if checkpoint is not None:
        gone = gone_before(checkpoint)
        if gone.at < bound:
            return gone.through, gone.at
        return NotKept(-(-gone.at // 1000), "not kept: older rows have gone, as the settings say")
    first = next(database.rows(connection, "ORDER BY seq LIMIT 1"), None)
    if first is None:
        raise DamagedError("the journal has no rows")
    return NotKept(-(-first.at // 1000), "not kept: the journal only begins later")


def _applied(connection: sqlite3.Connection, seq: int) -> int | None:
    """Give when the kernel last confirmed another ruleset, in epoch seconds, as far as rows up to `seq` are kept."""
    where = "WHERE kind = 'applied' AND seq <= ? ORDER BY seq DESC LIMIT 1"
    row = next(database.rows(connection, where, (seq,)), None)
    return None if row is None else row.at // 1000


def _running(connection: sqlite3.Connection, seq: int, standing: Standing) -> bool | None:
    """Say whether a daemon ran after a row; unknown if the next thing that is known of it is another one's start."""
    after = next(database.rows(connection, "WHERE seq > ? ORDER BY seq LIMIT 1", (seq,)), None)
    if standing.running and after is not None and after.kind == "started":
        return None
    return standing.running
