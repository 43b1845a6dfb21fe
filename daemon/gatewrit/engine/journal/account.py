"""What became of each order, followed through the journal's rows: the account that `gatewrit report` gives.

A row that can't be read is a flaw and is passed over, so that a damaged journal still tells what it can. Pure, but for
the function that fetches texts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gatewrit.engine.journal.database import DamagedError
from gatewrit.engine.journal.standing import OPENING
from gatewrit.policy.load import PolicyDocument, parse_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gatewrit.engine.journal.rows import Row
    from gatewrit.engine.journal.standing import Standing

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True, eq=False)
class Revision:
    """A revision as it was taken in: by which row and when (epoch milliseconds), and what its file said.

    `document` is None where the journal no longer has its text. `earlier`: it was taken in before the first row that
    is kept, at an instant that nobody knows any more.
    """

    seq: int
    at: int
    number: int
    says: str
    texts: Mapping[str, Any]
    document: PolicyDocument | None
    earlier: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """How a policy stood from `at` (epoch milliseconds) on.

    `ordered` is the revision that counted, None once the policy was gone; `here`, whether it was for this gateway.
    `enforced` is the revision that the kernel had rules of. `suspension` is what was said with one by hand. `attended`
    is whether a daemon ran, None while one ended without a word and nobody knows when; `anew`, whether one had just
    come and found that the rules weren't as the one before had left them.
    """

    at: int
    ordered: Revision | None = None
    here: bool = True
    enforced: Revision | None = None
    suspension: Mapping[str, Any] | None = None
    attended: bool | None = False
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, by the row that says so; `at` is in epoch milliseconds."""

    seq: int
    at: int
    kind: str
    data: Mapping[str, Any]


@dataclass(slots=True)
class Trouble:
    """A problem while it was open; `until` is None if it still is. Instants in epoch milliseconds."""

    code: str
    policy: str | None
    severity: str
    message: str
    since: int
    until: int | None = None


@dataclass(slots=True)
class Life:
    """One policy's: its revisions, how it stood when, and what happened."""

    name: str
    revisions: list[Revision] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def change(self, at: int, **changes: Any) -> None:
        """Have it stand differently from `at` on."""
        before = self.conditions[-1] if self.conditions else Condition(at)
        self.conditions.append(replace(before, **{"anew": False, **changes, "at": at}))


@dataclass(slots=True)
class Account:
    """All of it. `unreadable` are the rows that nobody could have written so, `gateway` what a daemon said of itself.

    `generation` and `digest` are of the ruleset that the kernel last confirmed, `confirmed_at` when (epoch
    milliseconds).
    """

    lives: dict[str, Life] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)
    gateway: Mapping[str, Any] = field(default_factory=dict)
    running: bool = False
    generation: int | None = None
    digest: str | None = None
    confirmed_at: int | None = None


class Teller:
    """Follows rows; `text` fetches a text by its digest, and raises `DamagedError` if it isn't there."""

    def __init__(self, text: Callable[[str], bytes]) -> None:
        self.account = Account()
        self._text = text
        self._open: dict[tuple[str, str | None, str | None], Trouble] = {}
        self._parsed: dict[str, PolicyDocument | None] = {}
        self._last = 0

    def begin(self, standing: Standing, at: int) -> None:
        """Begin with how everything stood before the first row that is kept, at `at` (epoch milliseconds)."""
        account, self._last = self.account, at
        account.running, account.gateway = standing.running, standing.gateway
        account.generation, account.digest = standing.generation, standing.digest
        for name, stood in standing.policies.items():
            life = account.lives[name] = Life(name)
            number = stood.revision or 0
            ordered = stood.texts and self._revision(0, at, number, "active", stood.texts, earlier=True)
            enforced = stood.enforced and self._revision(0, at, number, "active", stood.enforced, earlier=True)
            if ordered:
                life.revisions.append(ordered)
            here = stood.state != "out_of_scope"
            life.change(
                at,
                ordered=ordered or None,
                enforced=enforced or None,
                here=here,
                suspension=stood.suspended or standing.everything,
                attended=standing.running,
            )

    def follow(self, row: Row) -> None:
        """Take in a row."""
        try:
            data = row.content()
            if row.kind in OPENING or row.kind == "mended":
                self._trouble(row, data)
            elif row.policy is None:
                self._general(row, data)
            else:
                self._policy(row, row.policy, data)
        except _UNREADABLE:
            self.account.unreadable.append(row.seq)
            return
        finally:
            self._last = row.at
        target = self.account.events if row.policy is None else self._life(row.policy, row.at).events
        target.append(Event(row.seq, row.at, row.kind, data))

    def _life(self, name: str, at: int) -> Life:
        if name not in self.account.lives:
            life = self.account.lives[name] = Life(name)
            life.change(at, attended=self.account.running)
        return self.account.lives[name]

    def _trouble(self, row: Row, data: Mapping[str, Any]) -> None:
        key = (data["code"], row.policy, data.get("place"))
        if row.kind == "mended":
            if (trouble := self._open.pop(key, None)) is not None:
                trouble.until = row.at
        elif key not in self._open:
            found = Trouble(data["code"], row.policy, data["severity"], str(data["message"]), row.at)
            self._open[key] = found
            self.account.troubles.append(found)

    def _policy(self, row: Row, name: str, data: Mapping[str, Any]) -> None:
        life = self._life(name, row.at)
        match row.kind:
            case "accepted":
                made = self._revision(row.seq, row.at, int(data["revision"]), str(data["says"]), data["texts"])
                life.revisions.append(made)
                life.change(row.at, ordered=made)
            case "gone" | "forgotten":
                life.change(row.at, ordered=None)
            case "enforced":
                life.change(row.at, enforced=life.conditions[-1].ordered)
            case "lifted":
                life.change(row.at, enforced=None)
            case "state":
                life.change(row.at, here=data["now"] != "out_of_scope")
            case "suspended":
                life.change(row.at, suspension={**data, "until": int(data["until"])})
            case "resumed" | "suspension_ended":
                life.change(row.at, suspension=None)

    def _general(self, row: Row, data: Mapping[str, Any]) -> None:
        account = self.account
        match row.kind:
            case "started" | "stopped":
                self._ran(row.at, running=row.kind == "started")
                account.gateway = dict(data) if account.running else account.gateway
            case "applied":
                account.generation, account.digest = int(data["generation"]), data["digest"]
                account.confirmed_at = row.at
            case "found":
                self._all(row.at, anew=True)
            case "removed":
                account.digest = None
                self._all(row.at, enforced=None)
            case "suspended":
                self._all(row.at, suspension={**data, "until": int(data["until"])})
            case "resumed":
                self._all(row.at, suspension=None)

    def _ran(self, at: int, *, running: bool) -> None:
        if running and self.account.running:
            # The one before ended without a word, at the earliest right after it last wrote something.
            self._all(self._last, attended=None)
        self.account.running = running
        self._all(at, attended=running)

    def _all(self, at: int, **changes: Any) -> None:
        for life in self.account.lives.values():
            life.change(at, **changes)

    def _revision(  # noqa: PLR0913 - a row's fields
        self, seq: int, at: int, number: int, says: str, texts: Mapping[str, Any], *, earlier: bool = False
    ) -> Revision:
        digest, file = str(texts["policy"]["sha256"]), str(texts["policy"]["file"])
        if digest not in self._parsed:
            try:
                found = parse_policy(self._text(digest), file)
            except DamagedError:
                found = None
            self._parsed[digest] = found if isinstance(found, PolicyDocument) else None
        document = self._parsed[digest]
        return Revision(seq, at, number, document.state.value if document else says, texts, document, earlier)


def told(rows: Iterable[Row], text: Callable[[str], bytes], before: tuple[Standing, int] | None = None) -> Account:
    """Follow rows from the first that is kept; `before` is how everything stood then, and when."""
    teller = Teller(text)
    if before is not None:
        teller.begin(*before)
    for row in rows:
        teller.follow(row)
    return teller.account
