"""The journal while the daemon lives: told what is, it writes down what is new, in a thread that holds nobody up.

What can't be written waits in memory, in order, and is said. Of what is seen only differences to the journal are
written, so that a fault that is found again and again is one row, and a look that had to be dropped loses nothing that
still holds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

from gatewrit.engine.events import RECENT, Recent
from gatewrit.engine.journal.changes import Seen, changes
from gatewrit.engine.journal.database import LARGE_TEXT, DamagedError, JournalError, path_in
from gatewrit.engine.journal.rows import Entry
from gatewrit.engine.journal.verify import verify
from gatewrit.engine.journal.writer import Journal, Keeping
from gatewrit.engine.status import Trouble
from gatewrit.engine.telling import event_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from gatewrit.engine.clock import Clock
    from gatewrit.engine.events import Event
    from gatewrit.engine.journal.rows import Head, Kind
    from gatewrit.engine.journal.standing import Standing
    from gatewrit.engine.snapshot import Snapshot
    from gatewrit.engine.status import Standing as Shown

log = structlog.get_logger()

#: Looks and notes that wait while nothing can be written.
_WAITING = 1000
#: Seconds until writing is tried again, and that a reload waits for its rows.
_RETRY, _PATIENCE = 5.0, 2.0
#: Seconds until rows that are too old go: not at once, for a clock may only now be being set; then daily.
_PRUNE_FIRST, _PRUNE_EVERY = 3600.0, 86400.0


class Chronicle:
    """Owns the journal; everything but `_write` is called in the loop."""

    def __init__(self, state: Path, clock: Clock, keeping: Keeping) -> None:
        self._path = path_in(state)
        self._clock = clock
        self._keeping = keeping
        self._waiting: deque[Seen | Entry] = deque()
        self._lost = 0
        self._asked: list[Mapping[str, Any]] = []
        self._last: tuple[object, ...] = ()
        self._drifts = 0
        self._journal: Journal | None = None
        self._standing: Standing | None = None
        #: What was recent when the journal was opened, until that is told.
        self._begun: Recent | None = None
        self._thread = ThreadPoolExecutor(1, "journal")
        self._writing: asyncio.Task[None] | None = None
        self._retry = 0.0
        self._prune_due = clock.monotonic() + _PRUNE_FIRST
        self._said: list[Trouble] = []
        self._unwritable: Trouble | None = None
        #: Set once it turns out that what is being written has a large text.
        self._lengthy = asyncio.Event()
        #: What was written down lately, for who follows it; and who is told that there is more.
        self.recent = Recent()
        self.told: Callable[[], None] = lambda: None

    @property
    def troubles(self) -> list[Trouble]:
        """Give what is wrong with the journal."""
        return [*self._said, *([self._unwritable] if self._unwritable else [])]

    def asked(self, uid: int, name: str) -> None:
        """Note who asked for the files to be read, for what comes of it."""
        self._asked.append({"uid": uid, "name": name})

    def note(self, kind: Kind, policy: str | None = None, data: Mapping[str, Any] | None = None) -> None:
        """Write down something that happened now."""
        self._put(Entry(int(self._clock.time() * 1000), kind, policy, data or {}))

    def see(self, shown: Shown, snapshot: Snapshot) -> None:
        """Look at how things are; cheap if nothing is new."""
        intake = shown.intake
        if intake is None:
            return
        states = {view.id: view.state.value for view in snapshot.policies if view.id in intake.policies}
        confirmed = not shown.failed and shown.ruleset.verified_at is not None
        ruleset, drifts = shown.ruleset, shown.drift_total
        keys = frozenset((each.code, each.policy, each.place) for each in snapshot.problems)
        look = (id(intake), states, keys, confirmed, ruleset.generation, ruleset.digest, shown.installed, drifts)
        if look == self._last:
            return
        refusals = frozenset(
            (found.fault.code, found.policy, str(found.fault.place))
            for found in intake.findings
            if found.policy is not None and found.fault.severity == "error"
        )
        asked, self._asked = tuple(self._asked), []
        drifted, self._drifts, self._last = drifts - self._drifts, drifts, look
        at = int(self._clock.time() * 1000)
        installed = dict(shown.installed) if confirmed else None
        self._put(
            Seen(
                at,
                intake.kept,
                states,
                snapshot.problems,
                refusals,
                installed,
                ruleset.generation,
                ruleset.digest,
                drifted,
                asked,
                intake.loaded,
            )
        )

    def _put(self, fact: Seen | Entry) -> None:
        if len(self._waiting) >= _WAITING:
            # A look can be dropped: the next one says all that still holds. What was done by hand can't.
            oldest = next((each for each in self._waiting if isinstance(each, Seen)), self._waiting[0])
            self._waiting.remove(oldest)
            self._lost += 1
        self._waiting.append(fact)

    async def write(self, patience: float = 0.0) -> None:
        """Write what waits, in the background; wait for it at most `patience` seconds.

        Nobody waits for a large text, which takes long to pack: what is written later is what was seen now.
        """
        idle = self._writing is None or self._writing.done()
        due = self._clock.monotonic() >= self._retry
        if idle and due and (self._waiting or self._clock.monotonic() >= self._prune_due):
            self._lengthy.clear()
            self._writing = asyncio.create_task(self._write_all())
        if self._writing is not None and patience and not self._lengthy.is_set():
            lengthy = asyncio.create_task(self._lengthy.wait())
            await asyncio.wait({self._writing, lengthy}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            lengthy.cancel()

    async def _write_all(self) -> None:
        facts, lost, now = tuple(self._waiting), self._lost, int(self._clock.time() * 1000)
        prune = self._clock.monotonic() >= self._prune_due
        loop = asyncio.get_running_loop()

        def lengthy() -> None:
            # At the end of the daemon's life nobody waits any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._lengthy.set)

        try:
            head, rows, told = await loop.run_in_executor(self._thread, self._write, facts, lost, now, prune, lengthy)
        except JournalError as error:
            self._retry = self._clock.monotonic() + _RETRY
            if self._unwritable is None:
                log.error("journal.unwritable", reason=str(error))  # noqa: TRY400 - no fault of ours
            self._unwritable = Trouble("journal_unwritable", "error", f"the journal can't be written: {error}")
            return
        self._unwritable = None
        self._lost -= lost
        if prune:
            self._prune_due = self._clock.monotonic() + _PRUNE_EVERY
        for fact in facts:
            with suppress(ValueError):
                self._waiting.remove(fact)
        if rows:
            log.info("journal.appended", seq=head.seq, head=head.digest, rows=rows)
        if isinstance(told, Recent):
            self.recent = told
        else:
            self.recent.add(told)
        self.told()

    async def close(self) -> None:
        """Write what waits, and let go of the file."""
        for _ in range(2):
            # What was noted while something was being written comes after it.
            self._retry = 0.0
            await self.write()
            if self._writing is not None:
                await asyncio.wait({self._writing}, timeout=_PATIENCE)
        self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    # -- in the thread -------------------------------------------------------------------------------------------

    def _write(
        self,
        facts: Iterable[Seen | Entry],
        lost: int,
        now: int,
        prune: bool,  # noqa: FBT001 - called by an executor, which knows no keywords
        lengthy: Callable[[], None],
    ) -> tuple[Head, int, Recent | list[Event]]:
        """Write what is new; give the head, how many rows that made, and the events: all that are recent at first.

        Where that takes long, `lengthy` is called before.
        """
        journal, before = self._open(now)
        try:
            standing = before.copy()
            entries: list[Entry] = []
            texts: dict[str, bytes] = {}
            if lost:
                entries.append(Entry(now, "gap", None, {"looks": lost}))
            for fact in facts:
                for entry in (fact,) if isinstance(fact, Entry) else changes(fact, standing.copy()):
                    if isinstance(fact, Seen):
                        texts |= fact.texts(entry)
                    standing.take(entry.kind, entry.policy, entry.data)
                    entries.append(entry)
            if any(len(text) >= LARGE_TEXT for text in texts.values()):
                lengthy()
            head = journal.append(entries, texts) if entries else journal.head()
            self._standing = standing
            events = [
                event
                for seq, each in enumerate(entries, head.seq - len(entries) + 1)
                if (event := event_of(seq, each.at, each.kind, each.policy, each.data)) is not None
            ]
            if prune:
                head = journal.prune(now, self._keeping).head
        except JournalError as error:
            if isinstance(error, DamagedError):
                # The next try moves it aside and begins anew.
                self._close()
            raise
        begun, self._begun = self._begun, None
        if begun is None:
            return head, len(entries), events
        begun.add(events)
        return head, len(entries), begun

    def _open(self, now: int) -> tuple[Journal, Standing]:
        if self._journal is None or self._standing is None:
            journal = Journal.open(self._path, now)
            try:
                self._standing = journal.standing()
                self._said = self._check()
                self._begun = Recent(*journal.newest(RECENT))
            except BaseException:
                journal.close()
                raise
            self._journal = journal
        return self._journal, self._standing

    def _check(self) -> list[Trouble]:
        """Say what was wrong with the journal as it was found."""
        verdict = verify(self._path)
        said = [Trouble("journal_broken", "error", f"row {flaw.seq}: {flaw.message}") for flaw in verdict.flaws[:1]]
        aside = sorted(self._path.parent.glob(f"{self._path.name}.damaged-*"))
        damaged = [each for each in aside if not each.name.endswith(("-wal", "-shm"))]
        return said + [
            Trouble("journal_damaged", "error", f"a damaged journal was moved to {each}", place=str(each))
            for each in damaged
        ]

    def _close(self) -> None:
        if self._journal is not None:
            self._journal.close()
        self._journal = self._standing = None
