"""What everybody sees: how things stand, the snapshot that is made of it, and what is under way meanwhile."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import structlog

from gatewrit.engine import status
from gatewrit.engine.snapshot import PolicyState, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatewrit.compile.acting import Local
    from gatewrit.engine.chronicle import Chronicle
    from gatewrit.engine.clock import Clock
    from gatewrit.engine.config import Config
    from gatewrit.engine.ledger import Count
    from gatewrit.engine.notify import Notifier
    from gatewrit.engine.snapshot import Accepted, Snapshot
    from gatewrit.engine.trust import Timekeeper

log = structlog.get_logger()


class Report(NamedTuple):
    """What the others have to say whenever a snapshot is made.

    `troubles` are those of everybody but the policies themselves; `failed`: the kernel doesn't take what it should
    hold; `manifest` is the one that was accepted last; `busy`: what is under way goes on behind this snapshot.
    """

    troubles: list[status.Trouble]
    counts: Mapping[str, Count]
    failed: bool
    manifest: Accepted | None
    busy: bool


class Display:
    """Makes the snapshots. `standing` is how things stand; `told` is called whenever there is something new to see."""

    def __init__(  # noqa: PLR0913 - whose clock, who is asked, and who is told
        self,
        config: Config,
        local: Local,
        report: Callable[[], Report],
        *,
        clock: Clock,
        time: Timekeeper,
        notifier: Notifier,
        chronicle: Chronicle,
    ) -> None:
        self._hooks = config.hooks
        self._report = report
        self._clock = clock
        self._time = time
        self._notifier = notifier
        self._chronicle = chronicle
        self._progress: Progress | None = None
        self._told_progress = clock.monotonic()
        self.standing = status.Standing(config.gateway, int(clock.time()), local=local)
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

    def publish(self) -> None:
        """Make the snapshot that everybody sees from now on."""
        now, report = self._time.now(), self._report()
        if not report.busy:
            self._progress = None
        standing = replace(self.standing, counts=report.counts, failed=report.failed)
        found = list(report.troubles)
        if standing.intake is not None:
            policies = standing.intake.policies.values()
            found += status.troubles_of(standing.intake)
            found += status.overdue(policies, now, standing.local)
            found += status.blind(policies, self._hooks, now, standing.local)
            found += status.contradicted(standing.conflicts)
        self.standing = replace(standing, problems=status.date(found, standing.problems, now))
        shown = replace(status.snapshot(self.standing, now), progress=self._progress, manifest=report.manifest)
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
