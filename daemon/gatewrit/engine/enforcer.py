"""Keeping the kernel at the desired ruleset: passes, further tries, and the record of what was enforced when."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from gatewrit.engine import memory, status
from gatewrit.engine import reconcile as reconcile_
from gatewrit.engine.reconcile import Around, NotConvergedError, reconcile
from gatewrit.engine.timing import RARENESS
from gatewrit.kernel.backend import KernelError, NoRoomError, TableHeldError, held_text
from gatewrit.kernel.draft import both_names
from gatewrit.kernel.ruleset import TABLE
from gatewrit.kernel.shortcuts import without_shortcuts
from gatewrit.kernel.transaction import Tenure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatewrit.compile.render import Compiled
    from gatewrit.engine.clock import Clock
    from gatewrit.engine.reconcile import Pass
    from gatewrit.engine.scribe import Scribe
    from gatewrit.engine.timing import Agenda
    from gatewrit.kernel.backend import Kernel
    from gatewrit.kernel.notices import Notice
    from gatewrit.kernel.ruleset import Ruleset
    from gatewrit.kernel.spare import Spare
    from gatewrit.kernel.transaction import Actual

log = structlog.get_logger()

#: Seconds between two looks at the table, while all is well.
LOOK_EVERY = 10.0
#: A look that takes t seconds is made every t times this at most; the ruleset's generation is asked for in between.
_LOOK_RARENESS = 1000.0
#: Seconds until somebody else's change is looked into that a pass left aside.
LOOK_SOON = 0.5
#: So many elements are read in some 50 ms, so that nothing is gained by leaving them out.
_LITTLE = 100_000
_UNOWNED = (
    f"the table inet {TABLE} was made by an older version, by hand or while `table_owner` was off, so the kernel can't "
    "give it an owner: it is enforced, but other programs can change it; what they change is seen and repaired"
)
#: Seconds until shortcuts that the kernel had no room for are tried again.
_COMPLETE_AGAIN = 60.0
#: Seconds until a failed pass is tried again: doubled each time, up to the last.
_RETRY_FIRST, _RETRY_LAST = 0.5, 30.0


class Enforcer:
    """What is wanted of the kernel, and what came of it.

    `record` is how enforcement last stood; `failure` is what the kernel said when it didn't take the ruleset, and None
    while all is well. `owned`: at the last pass the table was ours alone; `ownership` is what is wrong with that.
    """

    def __init__(
        self,
        kernel: Kernel,
        clock: Clock,
        agenda: Agenda,
        scribe: Scribe,
        spare: Callable[[], Spare | None] = lambda: None,
    ) -> None:
        self._kernel = kernel
        self._clock = clock
        self._agenda = agenda
        self._scribe = scribe
        self._spare = spare
        self._compiled: Compiled | None = None
        self._coming: Ruleset | None = None
        #: From how many missing elements on shortcuts come later, if somebody stays who sees to them.
        self.late: int | None = None
        self._late_by = 0.0
        #: What the kernel last held, and whether somebody else changed the ruleset since, of which little was read.
        self._known: Actual | None = None
        self._suspect = False
        self._proven_at, self._proving_took = 0.0, 0.0
        #: Until when a look is too early as long as nobody has changed anything, and even if somebody has.
        self._look_at, self._look_again_at = 0.0, 0.0
        self._digest = ""
        self._starts: Mapping[str, int] = {}
        self._retry = 0.0
        self._looked = False
        self.owned = False
        self.record = memory.Record()
        self.failure: status.Trouble | None = None
        self.ownership: status.Trouble | None = None

    @property
    def ready(self) -> bool:
        """Whether it is known what the kernel should hold."""
        return self._compiled is not None

    @property
    def compiled(self) -> Compiled:
        """What the kernel should hold; only once `ready`."""
        assert self._compiled is not None  # noqa: S101 - said above
        return self._compiled

    def load(self) -> None:
        """Remember how enforcement last stood; raises `ValueError` or `OSError`."""
        self.record = memory.load_record(self._scribe.state)

    def want(self, compiled: Compiled, digest: str, starts: Mapping[str, int]) -> None:
        """Say what the kernel should hold from now on; `starts` are those of its policies, in epoch seconds."""
        self._compiled, self._digest, self._starts = compiled, digest, starts

    async def prepare(self, ruleset: Ruleset, go_on: Callable[[int, int], bool]) -> bool:
        """Prepare the kernel for a ruleset that is to be wanted later; False if `go_on` said to stop before the end.

        Where the kernel refuses, the pass that comes then will say so.
        """
        self._coming = ruleset
        try:
            if self.late is not None:
                await self._make_room(ruleset, self.late)
            around = Around(self._known, late=self.late, go_on=go_on, spare=self._spare)
            self._known, finished = await reconcile_.prepare(self._kernel, ruleset, around)
        except (KernelError, NotConvergedError) as error:
            log.warning("reconcile.unprepared", reason=str(error))
            self._known = None
            return True
        return finished

    async def _make_room(self, coming: Ruleset, late: int) -> None:
        """Give up the shortcuts that `coming` has no use for, before the kernel has to hold two of everything."""
        lean = without_shortcuts(self.compiled.ruleset, coming.sets, late)
        given_up = self.compiled.ruleset.sets.keys() - lean.sets
        there = self._known.sets if self._known is not None else given_up
        if any(each in there for name in given_up for each in both_names(name)):
            done = await reconcile(self._kernel, lean, Around(self._known, without_shortcuts(coming, {}, late), late))
            self._known = done.actual
            self._agenda.hasten("complete", 0.0)

    async def complete(self, go_on: Callable[[int, int], bool]) -> bool:
        """Prepare the shortcuts that were to come later; False if `go_on` said to stop, or the kernel has no room.

        They are tried again then. The pass that comes next puts them to use.
        """
        self._late_by = 0.0
        try:
            around = Around(self._known, go_on=go_on, spare=self._spare)
            self._known, finished = await reconcile_.prepare(self._kernel, self.compiled.ruleset, around)
        except KernelError as error:
            log.warning(
                "reconcile.incomplete",
                reason=str(error),
                means="all is enforced, packets take longer",
                again_in_s=_COMPLETE_AGAIN,
            )
            self._known, self._late_by = None, _COMPLETE_AGAIN
            self._agenda.plan("complete", self._late_by)
            return False
        return finished

    def swept(self) -> None:
        """Note that counters were deleted after the last pass, by us and in the very next transaction."""
        if self._known is not None:
            self._known = replace(self._known, generation=self._known.generation + 1)

    def doubt(self, notice: Notice) -> None:
        """Read again what somebody else touched, or everything as soon as there is time for it."""
        if self._known is not None:
            self._known = reconcile_.without_sets(self._known, notice.sets)
        self._suspect |= notice.lost

    async def overtaken(self) -> bool:
        """Whether somebody changed the ruleset since it was read."""
        try:
            return self._known is None or await self._kernel.generation() != self._known.generation
        except KernelError:
            return True

    async def at_rest(self) -> bool:
        """Whether it is too early for a look, as nobody has changed the ruleset since the last one."""
        early = self._clock.monotonic() < self._look_at
        # Whoever holds the table lets go of it without a transaction.
        held = self._known is not None and self._known.tenure is Tenure.HELD
        if not early or held or self._suspect or self.failure is not None or await self.overtaken():
            return False
        self._agenda.plan("look", LOOK_EVERY)
        return True

    def look_soon(self) -> None:
        """Have the table looked at soon, for others have changed something; but never all the time."""
        self._agenda.hasten("look", max(LOOK_SOON, self._look_again_at - self._clock.monotonic()))

    def forget_coming(self) -> None:
        """Nothing is being prepared any more: what was is in force now, or is to go."""
        self._coming = None

    async def enforce(self, cause: str, go_on: Callable[[int, int], bool] = lambda _done, _size: True) -> Pass | None:
        """Make one pass over the kernel; None if it failed, which is then tried again, ever later."""
        if self._compiled is None:
            return None
        began = self._clock.monotonic()
        try:
            whole = await self._reads_all(cause)
            known = None if whole else self._known
            around = Around(known, self._coming, self.late, go_on, self._spare)
            done = await reconcile(self._kernel, self._compiled.ruleset, around)
        except (KernelError, NotConvergedError) as error:
            self._known = None
            self._fail(error)
            return None
        took = self._clock.monotonic() - began
        self._known = done.actual
        if done.complete:
            self._agenda.drop("complete")
        else:
            self._agenda.hasten("complete", self._late_by)
        self._note_tenure(done)
        if whole:
            self._suspect, self._proven_at, self._proving_took = False, self._clock.monotonic(), took
        self.failure, self._retry = None, 0.0
        self._agenda.drop("retry")
        self._agenda.plan("look", LOOK_EVERY)
        self._look_at = self._clock.monotonic() + took * _LOOK_RARENESS
        if cause == "look":
            self._look_again_at = self._clock.monotonic() + took * RARENESS
        if self._suspect:
            self._agenda.hasten("look", max(LOOK_SOON, self._rest()))
        if done.changed:
            drifted = cause == "look"
            event, name = (log.warning, "drift.repaired") if drifted else (log.info, "reconcile.applied")
            event(name, cause=cause, changed=done.changed, took_s=round(took, 4), first=done.first.excerpt())
        return done

    def _note_tenure(self, done: Pass) -> None:
        """Take note of whose the table is after a pass."""
        self.owned = done.actual.tenure is Tenure.OURS and done.actual.handle is not None
        match done.actual.tenure:
            case Tenure.HELD:
                self.ownership = status.Trouble("table_held", "error", held_text(done.actual.holder or 0))
            case Tenure.PLAIN:
                self.ownership = status.Trouble("table_unowned", "warning", _UNOWNED)
            case Tenure.OURS if done.found.tenure is not Tenure.OURS or done.found.handle is None:
                self.ownership = None
                log.info("table.owned", means="no other program can change the table while this one runs")
            case _:
                self.ownership = None

    async def _reads_all(self, cause: str) -> bool:
        """Whether a pass is to read every element, and not only what may have changed by us.

        As long as nobody else has changed the ruleset, what was read before is what is there. After that everything is
        read again, but a million elements by looks only, and not all the time: whoever waits for a pass doesn't wait
        for that. Chains, rules, the sets themselves and what we changed are read in any case.
        """
        if self._known is None:
            return True
        if await self._kernel.generation() != self._known.generation:
            self._suspect = True
        little = sum(len(each.elements) for each in self._known.sets.values()) <= _LITTLE
        return self._suspect and (little or (cause == "look" and self._rest() <= 0))

    def _rest(self) -> float:
        """Give the seconds until everything may be read again."""
        return self._proven_at + self._proving_took * RARENESS - self._clock.monotonic()

    def _fail(self, error: KernelError | NotConvergedError) -> None:
        # A ruleset that is refused leaves the table whose it is.
        self.owned &= isinstance(error, KernelError) and not isinstance(error, TableHeldError)
        self._retry = min(max(_RETRY_FIRST, self._retry * 2), _RETRY_LAST)
        self._agenda.plan("retry", self._retry)
        self._agenda.plan("look", LOOK_EVERY)
        match error:
            case TableHeldError():
                self.ownership, self.failure = None, status.Trouble("table_held", "error", str(error))
            case NoRoomError():
                self.failure = status.Trouble("memory_short", "error", str(error))
            case _:
                denied = isinstance(error, KernelError) and error.errno in {errno.EPERM, errno.EACCES}
                hint = "; this needs root, or CAP_NET_ADMIN over this network namespace" if denied else ""
                message = f"the kernel doesn't take the ruleset: {error}{hint}"
                self.failure = status.Trouble("kernel_refused", "error", message)
        log.error("reconcile.failed", reason=str(error), again_in_s=self._retry)

    def found(self, done: Pass) -> str | None:
        """Say at the first pass of a life whether the rules that were left are `gone` or `changed`; None if neither.

        Where something else is to be enforced than before, what was changed can't be told from that.
        """
        first, self._looked = not self._looked, True
        if not first or not self.record.installed or not done.met:
            return None
        if done.found.handle is None:
            return "gone"
        return "changed" if self.record.digest == self._digest else None

    async def bring_up(self, done: Pass, now: int, resumed: Mapping[str, int]) -> None:
        """Begin a new generation if another ruleset is enforced than before, and note whose rules came when.

        `resumed` says when the kernel itself resumed a policy after a suspension by hand.
        """
        names = self.compiled.addresses
        installed = {name: max(self._came(name, now), resumed.get(name, 0)) for name in names}
        starts = {name: start for name, start in self._starts.items() if name in names}
        record = replace(self.record, installed=installed, starts=starts)
        if self._digest != record.digest or done.changed:
            grown = record.generation + (self._digest != record.digest)
            record = replace(record, generation=grown, digest=self._digest, applied_at=now)
        if record != self.record:
            self.record = record
            await self._scribe.write("record", lambda: memory.save_record(self._scribe.state, record))

    def _came(self, name: str, now: int) -> int:
        """Say since when the kernel has a policy's rules, as far as they can act.

        Those of a start that was still to come, and that an amendment moved to before now, have come only now.
        """
        came = self.record.installed.get(name, now)
        moved = self.record.starts.get(name, 0) > now >= self._starts.get(name, 0)
        return now if moved else came
