"""Reading the policy files again: from the directory to what counts, and bulk in the background.

What can't be read stays as it last was good. What is new in bulk waits, `awaited`, until the kernel is prepared for it,
while everything else is enforced.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, overload

from gatewrit.engine.byhand import RefusedError
from gatewrit.engine.intake import remembered
from gatewrit.engine.snapshot import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatewrit.engine.around import Around
    from gatewrit.engine.callers import Callers, Waiting
    from gatewrit.engine.config import Config
    from gatewrit.engine.directory import Directory
    from gatewrit.engine.display import Display
    from gatewrit.engine.effect import Effect
    from gatewrit.engine.enforcer import Enforcer
    from gatewrit.engine.gate import Gate
    from gatewrit.engine.hand import Hand
    from gatewrit.engine.intake import Intake
    from gatewrit.engine.store import Kept
    from gatewrit.engine.takeback import Expecting, TakeBack
    from gatewrit.engine.trust import Timekeeper
    from gatewrit.policy.terms import Fault

_BLIND = (
    "nothing was done: the policies directory can't be read and none were kept from before; "
    "what the kernel has stays as it is"
)
UNSIGNED = (
    "nothing was done: the policies directory isn't as it must be signed, and no policies were kept from before; "
    "what the kernel has stays as it is"
)


class Awaited(NamedTuple):
    """What was read and decided, and waits until the kernel is prepared for it.

    `ordered` by somebody; `waiting` are those who wait for its outcome.
    """

    intake: Intake
    faults: tuple[Fault, ...]
    ordered: bool
    waiting: Waiting


class Reloads:
    """Takes calls from `callers`, and hands what was decided to `effect`."""

    def __init__(  # noqa: PLR0913 - on the way of a reload, each by name
        self,
        config: Config,
        callers: Callers,
        directory: Directory,
        effect: Effect,
        *,
        gate: Gate,
        around: Around,
        enforcer: Enforcer,
        hand: Hand,
        takeback: TakeBack,
        time: Timekeeper,
        display: Display,
    ) -> None:
        self._config = config
        self._callers = callers
        self._directory = directory
        self._effect = effect
        self._gate = gate
        self._around = around
        self._enforcer = enforcer
        self._hand = hand
        self._takeback = takeback
        self._time = time
        self._display = display
        self.awaited: Awaited | None = None

    @property
    def blind(self) -> bool:
        """Whether nobody vouches for the files, nothing was kept of them, and so nobody knows what is in force."""
        return bool(self._gate.faults) and not self._effect.kept and not self._enforcer.ready

    async def serve(self) -> None:
        """Read for those who have called, and answer them; those who brought bulk are answered by `finish`."""
        call = self._callers.take()
        # What is read anew has in it what somebody ordered and is still being prepared.
        ordered = call.ordered or (self.awaited is not None and self.awaited.ordered)
        try:
            await self._expect(call.expecting)
        except RefusedError as refusal:
            self._callers.refuse(call.waiting, refusal)
            return
        outcome = await self.reload(patient=True, ordered=ordered)
        if outcome is not None:
            await self._callers.answer(call.waiting, await self._begun(outcome) if ordered else outcome)
        elif self.awaited is not None:
            self.awaited.waiting.extend(call.waiting)

    async def once(self, expecting: Expecting | None) -> Outcome:
        """Read one time, without anybody calling; raises `RefusedError`."""
        await self._expect(expecting)
        return await self._begun(await self.reload())

    @overload
    async def reload(self, *, ordered: bool = True) -> Outcome: ...

    @overload
    async def reload(self, *, patient: bool, ordered: bool = True) -> Outcome | None: ...

    async def reload(self, *, patient: bool = False, ordered: bool = True) -> Outcome | None:
        """Read, decide, compile and enforce. What can't be read stays as it last was good.

        None: what came in bulk is still being prepared, everything else is enforced. Only for who is `patient`.
        """
        if self._takeback.rolled_back and not ordered:
            return await self._stay_back()
        self._display.progress("reading the policy files")
        # Side by side: asking the host takes as long as reading files that haven't changed.
        _, reading = await asyncio.gather(self._around.look(), self._directory.follow())
        if reading is None:
            return await self._stay()
        before = self._effect.kept
        rules, now = self._hand.rules(self._config.change_share, self._config.rails), self._time.settled()
        coming = self.awaited.intake if self.awaited is not None else None
        intake, held = await self._directory.decide(reading, before, coming, rules, now)
        faults = tuple(finding.fault for finding in intake.findings)
        if reading.missing and not before and not self._enforcer.ready:
            # Neither the files nor what was kept of them: nobody knows what is in force, so nothing may be lifted.
            self._display.standing = replace(self._display.standing, intake=intake)
            self._display.publish()
            return Outcome(False, self._enforcer.record.generation, 0, faults, _BLIND)
        await self._takeback.followed(now)
        await self._hand.settle(held, now)
        return await self._take(Awaited(intake, faults, ordered, []), patient=patient)

    async def _take(self, new: Awaited, *, patient: bool) -> Outcome | None:
        """Enforce what was decided: at once, or, for who is patient and as far as it is bulk, once it is prepared."""
        overtaken, self.awaited = self.awaited, None
        waiting = [] if overtaken is None else overtaken.waiting
        self._enforcer.forget_coming()
        small = self._effect.without_bulk(new.intake) if patient else None
        if small is None:
            outcome = await self._effect.settle(new.intake, new.faults)
            if waiting:
                await self._callers.answer(waiting, outcome)
            return outcome
        if not self._effect.is_in_force(small) and (overtaken is None or not new.intake.same(overtaken.intake)):
            # Whatever is small doesn't wait behind it. It isn't new where files are read twice: seen to have changed
            # first, and then by order.
            await self._effect.take_over(small, "reload")
        self.awaited = new._replace(waiting=waiting)
        return None

    # -- bulk ----------------------------------------------------------------------------------------------------

    async def finish(self, hurried: Callable[[], bool]) -> None:
        """Go on preparing the kernel for what a reload brought in bulk; then switch to it."""
        assert self.awaited is not None  # noqa: S101 - else it isn't called
        intake, faults, ordered, waiting = self.awaited
        if not await self._effect.prepare(intake, hurried):
            return
        self.awaited = None
        outcome = await self._effect.settle(intake, faults)
        await self._callers.answer(waiting, await self._begun(outcome) if ordered else outcome)

    async def overtake(self, intake: Intake) -> Outcome:
        """Enforce what counts beside what somebody just ordered by hand; bulk that the kernel refuses waits again."""
        small = self._effect.without_bulk(intake) if self._enforcer.failure is not None else None
        changed = await self._effect.take_over(small or intake, "by hand")
        if small is not None:
            self.awaited = Awaited(intake, tuple(finding.fault for finding in intake.findings), False, [])
        self._display.publish()
        return self._effect.outcome(changed, ())

    async def put_back(self, kept: Mapping[str, Kept]) -> Outcome:
        """Put in force what counted before; whoever waits for what is being prepared is told that it was taken back."""
        self._effect.kept = kept
        overtaken, self.awaited = self.awaited, None
        outcome = await self._effect.settle(remembered(kept), ())
        if overtaken is not None and overtaken.waiting:
            told = f"taken back: {outcome.sentence}"
            await self._callers.answer(overtaken.waiting, replace(outcome, ok=False, sentence=told))
        return outcome

    # -- what isn't followed -------------------------------------------------------------------------------------

    async def _stay(self) -> Outcome:
        """Leave all as it is, for the policies directory isn't as it must be signed; what was last good counts."""
        faults, generation = self._gate.faults, self._enforcer.record.generation
        if self.blind:
            self._display.publish()
            return Outcome(False, generation, 0, faults, UNSIGNED)
        if self._display.standing.intake is None:
            return await self._effect.settle(remembered(self._effect.kept), faults)
        self._display.publish()
        outcome = self._effect.outcome(0, faults)
        said = f"nothing was changed: the policies directory isn't as it must be signed; generation {generation} stays"
        return replace(outcome, sentence=said) if outcome.ok else outcome

    async def _stay_back(self) -> Outcome:
        """Leave an earlier generation in force: the files have changed, or the daemon starts, and nobody said go on."""
        if self._display.standing.intake is None:
            return await self._effect.settle(remembered(self._effect.kept), ())
        return self._effect.outcome(0, ())

    # -- to be confirmed -----------------------------------------------------------------------------------------

    async def _expect(self, expecting: Expecting | None) -> None:
        """Have what comes now wait to be confirmed, if somebody asked for that."""
        if expecting is not None:
            number, kept = self._enforcer.record.generation, self._effect.kept
            await self._takeback.expect(expecting, number, kept, self._time.now())

    async def _begun(self, outcome: Outcome) -> Outcome:
        """Say what waits to be confirmed, now that it is in force."""
        await self._takeback.begun(outcome.generation, self._time.now(), changed=outcome.changed > 0)
        self._display.publish()
        return replace(outcome, sentence=outcome.sentence + self._takeback.told())
