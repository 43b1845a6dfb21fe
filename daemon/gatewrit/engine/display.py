"""What everybody sees: how things stand, the snapshot that is made of it, and what is under way meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from gatewrit.engine import status
from gatewrit.engine.snapshot import PolicyState, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gatewrit.compile.acting import Local
    from gatewrit.engine.chronicle import Chronicle
    from gatewrit.engine.clock import Clock
    from gatewrit.engine.notify import Notifier
    from gatewrit.engine.snapshot import Accepted, Snapshot
    from gatewrit.engine.trust import Timekeeper

log = structlog.get_logger()


class Display:
    """Makes the snapshots. `standing` is how things stand; `told` is called whenever there is something new to see."""

    def __init__(  # noqa: PLR0913, PLR0917 - whose clock, and who is told
        self, gateway: str, local: Local, clock: Clock, time: Timekeeper, notifier: Notifier, chronicle: Chronicle
    ) -> None:
        self._clock = clock
        self._time = time
        self._notifier = notifier
        self._chronicle = chronicle
        self._progress: Progress | None = None
        self._told_progress = clock.monotonic()
        self.standing = status.Standing(gateway, int(clock.time()), local=local)
        self.snapshot: Snapshot = status.snapshot(self.standing, int(clock.time()))
        self.told: Callable[[], None] = lambda: None
        chronicle.told = lambda: self.told()  # noqa: PLW0108 - whoever that is then

    def progress(self, activity: str, done: int = 0, size: int = 0) -> None:
        """Show what is under way, until the next snapshot."""
        before, now = self._progress, self._time.now()
        since = before.since if before is not None and before.activity == activity else now
        self._progress = Progress(activity, done, size, since)
        self.snapshot = replace(self.snapshot, progress=self._progress)
        self.told()
        if size and self._clock.monotonic() - self._told_progress >= 1.0:
            self._told_progress = self._clock.monotonic()
            log.info("reconcile.preparing", done=done, of=size)

    def finished(self) -> None:
        """Nothing is under way any more, from the next snapshot on."""
        self._progress = None

    def publish(self, troubles: Iterable[status.Trouble], hooks: tuple[str, ...], manifest: Accepted | None) -> None:
        """Make the snapshot that everybody sees from now on.

        `troubles` are those of everybody but the policies themselves; `manifest` is the one that was accepted last.
        """
        now, standing = self._time.now(), self.standing
        found = list(troubles)
        if standing.intake is not None:
            policies = standing.intake.policies.values()
            found += status.troubles_of(standing.intake)
            found += status.overdue(policies, now, standing.local)
            found += status.blind(policies, hooks, now, standing.local)
            found += status.contradicted(standing.conflicts)
        self.standing = replace(standing, problems=status.date(found, standing.problems, now))
        shown = replace(status.snapshot(self.standing, now), progress=self._progress, manifest=manifest)
        before = self.snapshot
        since = before.enforcement_since if before.enforcement is shown.enforcement else now
        self.snapshot = replace(shown, enforcement_since=since)
        self.told()
        self._chronicle.see(self.standing, self.snapshot)
        if before.enforcement is not self.snapshot.enforcement:
            log.info("enforcement.changed", was=before.enforcement, now=self.snapshot.enforcement)
            self._notifier.status(self.headline())

    def headline(self) -> str:
        """Say it in one line, for the service manager."""
        shown = self.snapshot
        in_force = sum(view.state is PolicyState.IN_FORCE for view in shown.policies)
        return f"{shown.enforcement}: {in_force} policies in force, {len(shown.problems)} problems"
