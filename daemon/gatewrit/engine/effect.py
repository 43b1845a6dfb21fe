"""What counts, and how it takes effect: rendered, enforced, and kept as last good.

`kept` is what last was good, policy by policy; what is shown of it is the display's, what the kernel confirmed of it
the passes'.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from gatewrit.engine import status
from gatewrit.engine.intake import without_bulk
from gatewrit.engine.snapshot import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatewrit.engine.desired import Renderer
    from gatewrit.engine.display import Display
    from gatewrit.engine.enforcer import Enforcer
    from gatewrit.engine.hand import Hand
    from gatewrit.engine.intake import Intake
    from gatewrit.engine.passes import Passes
    from gatewrit.engine.scribe import Scribe
    from gatewrit.engine.shelf import Later
    from gatewrit.engine.status import Trouble
    from gatewrit.engine.store import Kept, Store
    from gatewrit.engine.takeback import TakeBack
    from gatewrit.engine.trust import Timekeeper
    from gatewrit.policy.terms import Fault


class Effect:
    """Takes over what was decided. `next_change` is when something begins or ends next, in epoch seconds."""

    def __init__(  # noqa: PLR0913 - whoever has a part in it, each by name
        self,
        renderer: Renderer,
        enforcer: Enforcer,
        passes: Passes,
        *,
        hand: Hand,
        takeback: TakeBack,
        store: Store,
        shelf: Later,
        scribe: Scribe,
        time: Timekeeper,
        display: Display,
    ) -> None:
        self._renderer = renderer
        self._enforcer = enforcer
        self._passes = passes
        self._hand = hand
        self._takeback = takeback
        self._store = store
        self._shelf = shelf
        self._scribe = scribe
        self._time = time
        self._display = display
        self.kept: Mapping[str, Kept] = {}
        #: What was lost with the state directory.
        self.damage: list[Trouble] = []
        self.next_change: int | None = None

    async def settle(self, intake: Intake, faults: tuple[Fault, ...]) -> Outcome:
        """Enforce what was read and decided, and keep it as last good."""
        first, before = self._display.standing.intake is None, self.kept
        # What was prepared for it is what it wants; whatever else was goes.
        self._enforcer.forget_coming()
        # The disk and the kernel don't wait for each other; the answer waits for both.
        saving = asyncio.create_task(
            self._scribe.write("last good policies", lambda: self._store.save(intake.kept, before))
        )
        changed = await self.take_over(intake, "reload")
        self.kept = intake.kept
        await saving
        await asyncio.to_thread(self._shelf.keep_only, intake.kept.values(), intake.loaded.values())
        if self._enforcer.failure is None:
            number = self._enforcer.record.generation
            await self._takeback.note(number, self._time.now(), intake.kept, found=first)
        if not first:
            # What was lost is told until the files have been read again on purpose, or have changed.
            self.damage = []
        self._display.publish()
        return self.outcome(changed, faults)

    async def take_over(self, intake: Intake, cause: str) -> int:
        """Compile what counts now, and enforce it."""
        settled = self._time.settled()
        await self._hand.sweep(settled)
        local = self._hand.local
        self._display.standing = replace(self._display.standing, local=local)
        self._display.progress("working out the rules")
        desired = await asyncio.to_thread(self._renderer.desired, intake, local, settled)
        compiled = desired.compiled
        self._enforcer.want(compiled, desired.digest, desired.starts)
        self.next_change = status.next_change(intake.policies.values(), settled, local)
        self._display.standing = replace(
            self._display.standing,
            intake=intake,
            addresses=desired.addresses,
            conflicts=desired.against,
            desired=(compiled.segments[4], compiled.segments[6]),
        )
        return await self._passes.enforce(cause)

    async def prepare(self, intake: Intake, hurried: Callable[[], bool]) -> bool:
        """Go on preparing the kernel for what is to count later; False if somebody was in a hurry meanwhile."""
        local, settled = self._display.standing.local, self._time.settled()
        _, compiled = await asyncio.to_thread(self._renderer.rendered, intake, local, settled)
        return await self._passes.prepare(compiled.ruleset, hurried)

    def outcome(self, changed: int, faults: tuple[Fault, ...]) -> Outcome:
        """Say what came of it, for programs and for people."""
        failure, generation = self._enforcer.failure, self._enforcer.record.generation
        errors = sum(fault.severity == "error" for fault in faults)
        if failure is not None:
            stays = "what was in force before stays, and a running daemon tries again"
            return Outcome(False, generation, changed, faults, f"not enforced: {failure.message}; {stays}")
        sentence = f"generation {generation} is enforced and read back"
        if errors:
            sentence += f"; {errors} fault(s) found, what they concern stays as it last was good"
        return Outcome(True, generation, changed, faults, sentence)

    # -- what doesn't wait for bulk ------------------------------------------------------------------------------

    def without_bulk(self, intake: Intake) -> Intake | None:
        """Leave out what is new in bulk; None if nothing is.

        Not beside what counts but what is in force: bulk that the kernel refuses mustn't keep others out for ever.
        """
        return without_bulk(intake, self._passes.in_force)

    def is_in_force(self, intake: Intake) -> bool:
        """Whether just that is what the kernel last confirmed, and what counts."""
        counts, failure = self._display.standing.intake, self._enforcer.failure
        return failure is None and counts is not None and counts is self._passes.in_force and intake.same(counts)

    # -- time, and forgetting ------------------------------------------------------------------------------------

    def instant_came(self) -> bool:
        """Whether something has begun or ended since the rules were made; however late we are, nothing is missed."""
        return self.next_change is not None and self.next_change <= self._time.settled()

    async def advance(self, cause: str = "time") -> None:
        """Follow the clock: what has ended is swept, what has begun needs no guard any more."""
        if self._display.standing.intake is not None:
            await self.take_over(self._display.standing.intake, cause)

    async def forget(self, name: str) -> None:
        """Keep nothing of one policy any more."""
        before, self.kept = self.kept, {each: kept for each, kept in self.kept.items() if each != name}
        await self._scribe.write("last good policies", lambda: self._store.save(self.kept, before))
