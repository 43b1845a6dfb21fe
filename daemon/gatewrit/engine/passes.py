"""One pass over the kernel after the other, and what is to be accounted for after each.

Whatever of ours changes the kernel on its way to what is wanted is done here, while `drift` doesn't listen.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from gatewrit.engine import heap
from gatewrit.engine.enforcer import LOOK_SOON
from gatewrit.engine.snapshot import RulesetView, observed

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatewrit.engine.chronicle import Chronicle
    from gatewrit.engine.clock import Clock
    from gatewrit.engine.display import Display
    from gatewrit.engine.drift import Drift
    from gatewrit.engine.enforcer import Enforcer
    from gatewrit.engine.hand import Hand
    from gatewrit.engine.intake import Intake
    from gatewrit.engine.notify import Notifier
    from gatewrit.engine.reconcile import Pass
    from gatewrit.engine.status import Standing
    from gatewrit.engine.tally import Tally
    from gatewrit.engine.timing import Agenda
    from gatewrit.engine.trust import Timekeeper
    from gatewrit.kernel.ruleset import Ruleset

log = structlog.get_logger()


class Passes:
    """Brings the kernel to what the enforcer wants; `display` then says how things stand."""

    def __init__(  # noqa: PLR0913 - who is told of a pass, each by name
        self,
        enforcer: Enforcer,
        drift: Drift,
        tally: Tally,
        *,
        hand: Hand,
        clock: Clock,
        time: Timekeeper,
        agenda: Agenda,
        display: Display,
        notifier: Notifier,
        chronicle: Chronicle,
    ) -> None:
        self._enforcer = enforcer
        self._drift = drift
        self._tally = tally
        self._hand = hand
        self._clock = clock
        self._time = time
        self._agenda = agenda
        self._display = display
        self._notifier = notifier
        self._chronicle = chronicle
        #: What the kernel last confirmed; something else counts while it refuses that.
        self.in_force: Intake | None = None

    async def prepare(self, ruleset: Ruleset, hurried: Callable[[], bool]) -> bool:
        """Go on preparing the kernel for a ruleset; False if somebody was in a hurry before it was done."""
        async with self._drift.mute():
            return await self._enforcer.prepare(ruleset, self._until(hurried))

    async def complete(self, hurried: Callable[[], bool]) -> None:
        """Add what spares packets look-ups, now that everything is enforced."""
        self._display.progress("making the guards, which spare packets look-ups")
        async with self._drift.mute():
            finished = await self._enforcer.complete(self._until(hurried))
        if not finished:
            self._display.publish()
            return
        await self.enforce("shortcuts")
        await asyncio.to_thread(heap.trim)

    async def enforce(self, cause: str) -> int:
        """Make one pass over the kernel and account for it; give how much it changed."""
        began = self._clock.monotonic()
        async with self._drift.mute():
            done = await self._enforcer.enforce(cause, self._under_way)
            took = self._clock.monotonic() - began
            if done is not None:
                await self._account(done, took, drifted=cause == "look" and done.changed > 0)
        if done is not None and await self._enforcer.overtaken():
            # While nobody listened.
            self._agenda.hasten("look", LOOK_SOON)
        self._display.publish()
        return done.changed if done is not None else 0

    async def look(self) -> None:
        """See whether the kernel still holds what it should."""
        if await self._enforcer.at_rest():
            ruleset = replace(self._display.standing.ruleset, verified_at=self._time.now())
            self._display.standing = replace(self._display.standing, ruleset=ruleset)
        else:
            await self.enforce("look")

    async def _account(self, done: Pass, took: float, *, drifted: bool) -> None:
        """Account for a pass that the kernel confirmed."""
        self.in_force = self._display.standing.intake
        if (found := self._enforcer.found(done)) is not None:
            log.warning("rules.found", found=found)
            self._chronicle.note("found", None, {"found": found})
        await self._enforcer.bring_up(done, self._time.now(), self._hand.resumed)
        if await self._tally.settle(self._enforcer.compiled.counters, done):
            self._enforcer.swept()
        if done.changed:
            await self._time.save()
        if drifted:
            self._drift.repaired()
        self._drift.settled()
        self._display.standing = self._accounted(done, took, drifted=drifted)

    def _accounted(self, done: Pass, took: float, *, drifted: bool) -> Standing:
        """Give how things stand after a pass that the kernel confirmed."""
        record, segments, now = self._enforcer.record, self._enforcer.compiled.segments, self._time.now()
        passes = self._display.standing.apply_duration
        return replace(
            self._display.standing,
            installed=record.installed,
            ruleset=RulesetView(record.generation, record.digest, record.applied_at, now, segments[4], segments[6]),
            apply_duration=observed(passes, took) if done.changed else passes,
            drift_total=self._display.standing.drift_total + drifted,
        )

    def _under_way(self, done: int, size: int) -> bool:
        """Show how far a pass is, each time that the kernel has taken in a part of it."""
        self._notifier.alive()
        self._display.progress("preparing set elements in the kernel", done, size)
        return True

    def _until(self, hurried: Callable[[], bool]) -> Callable[[int, int], bool]:
        """Show how far the preparing is, and stop it where somebody is in a hurry."""
        return lambda done, size: self._under_way(done, size) and not hurried()
