"""The daemon's life story: remember, read the policies, enforce, and go on until told to stop. The table outlives it.

One task does all that changes something, one thing at a time; everybody else asks it and waits for the outcome.
Failures are met in two places only: a reload, which leaves what was good, and a pass over the kernel, which is tried
again, ever later. Anything else is a mistake of ours: it ends the process, the rules stay, and systemd starts it anew.
"""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from gatewrit.compile.render import Compiled, compile_policies, count_addresses
from gatewrit.engine import memory, status
from gatewrit.engine.intake import take_in
from gatewrit.engine.ledger import Ledger
from gatewrit.engine.reconcile import NotConvergedError, reconcile
from gatewrit.engine.snapshot import Outcome, PolicyState, RulesetView, observed
from gatewrit.engine.store import Store
from gatewrit.engine.watch import changes
from gatewrit.kernel import text
from gatewrit.kernel.socket import KernelError
from gatewrit.policy.load import read_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any, NoReturn

    from gatewrit.engine.clock import Clock
    from gatewrit.engine.intake import Intake
    from gatewrit.engine.memory import Record
    from gatewrit.engine.notify import Notifier
    from gatewrit.engine.reconcile import Pass
    from gatewrit.engine.snapshot import Snapshot
    from gatewrit.engine.store import Kept
    from gatewrit.kernel.ruleset import HookName
    from gatewrit.kernel.socket import Kernel
    from gatewrit.kernel.transaction import ActualCounter

log = structlog.get_logger()

#: Seconds between two reads of the counters, two saves of them, and two looks at the whole table, while all is well.
COUNT_EVERY, SAVE_EVERY, LOOK_EVERY = 2.0, 60.0, 10.0
#: A routine that takes t seconds is done at most every t times this, so that a large table can't keep us busy.
_RARENESS = 200.0
#: Seconds until a failed pass is tried again: doubled each time, up to the last.
_RETRY_FIRST, _RETRY_LAST = 0.5, 30.0
_BLIND = (
    "nothing was done: the policies directory can't be read and none were kept from before; "
    "what the kernel has stays as it is"
)
#: Packets that were under way when the rules changed have counted by then, and their counter can be read a last time.
_GRACE = 0.05


@dataclass(frozen=True, slots=True)
class Config:
    """What the engine needs of the settings."""

    gateway: str
    policies: Path
    state: Path
    hooks: tuple[HookName, ...] = ("forward",)
    priority: int = -10


class Daemon:
    """One gateway's enforcement. `run` is its life; `snapshot`, `alive` and `reload` are for everybody else."""

    def __init__(self, config: Config, kernel: Kernel, clock: Clock, notifier: Notifier) -> None:
        self._config = config
        self._kernel = kernel
        self._clock = clock
        self._notifier = notifier
        self._store = Store(config.state)
        self._kept: Mapping[str, Kept] = {}
        self._ledger = Ledger()
        self._record: Record = memory.Record()
        self._compiled: Compiled | None = None
        self._digest = ""
        self._standing = status.Standing(config.gateway, int(clock.time()))
        self._damage: list[status.Trouble] = []
        self._unwritable: dict[str, status.Trouble] = {}
        self._snapshot = status.snapshot(self._standing, int(clock.time()))
        self._waiting: list[asyncio.Future[Outcome]] = []
        self._wanted = asyncio.Event()
        self._reload_wanted = True
        self._due: dict[str, float] = {}
        self._retry = 0.0
        self._turned = clock.monotonic()
        self._failure: status.Trouble | None = None
        self._members: Mapping[str, tuple[str, ...]] = {}
        self._table = ""
        self._floor = 0

    def snapshot(self) -> Snapshot:
        """Give what is known now."""
        return self._snapshot

    def alive(self) -> bool:
        """Whether the loop turns: it comes round at least every few seconds, or is in the middle of a pass."""
        return self._clock.monotonic() - self._turned < max(60.0, 4 * LOOK_EVERY)

    def want_reload(self) -> None:
        """Ask for everything to be read again, without waiting for it."""
        self._reload_wanted = True
        self._wanted.set()

    async def reload(self) -> Outcome:
        """Read everything again and wait for the outcome. Several who wait for one reading share it."""
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self.want_reload()
        return await waiter

    async def run(self) -> NoReturn:
        """Live: ends only by being cancelled, or by a mistake of ours."""
        await asyncio.to_thread(self._remember)
        while True:
            self._turned = self._clock.monotonic()
            if self._reload_wanted:
                await self._serve_reload()
            elif self._is_due("retry") or self._is_due("instant"):
                await self._advance()
            elif self._is_due("look"):
                await self._enforce("look")
            elif self._is_due("count"):
                await self._count()
            else:
                await self._wait()

    async def once(self) -> Outcome:
        """Read and enforce one time, as `run` would, and write down what came of it."""
        await asyncio.to_thread(self._remember)
        outcome = await self._reload()
        await self._save_counters()
        return outcome

    async def watch(self) -> None:
        """Ask for a reload whenever the policy files have changed."""
        async for _ in changes(self._config.policies):
            self.want_reload()

    async def save(self) -> None:
        """Write the counts down, at the end of the daemon's life."""
        await self._count()
        await self._save_counters()

    # -- remembering ---------------------------------------------------------------------------------------------

    def _remember(self) -> None:
        """Read the state directory back; whatever can't be read is begun anew and said."""
        state = self._config.state
        self._kept, damaged = self._store.load()
        lost = [f"{each}: this policy's last good revision is lost" for each in damaged]
        try:
            self._ledger = memory.load_ledger(state)
        except (OSError, ValueError) as error:
            lost.append(f"{state / 'counters.json'}: {error}: the counts begin with what the kernel has")
        try:
            self._record = memory.load_record(state)
        except (OSError, ValueError) as error:
            lost.append(f"{state / 'standing.json'}: {error}: generations begin anew")
        self._damage = [status.Trouble("state_damaged", "error", each) for each in lost]
        for each in lost:
            log.error("state.damaged", what=each)

    async def _write(self, what: str, write: Callable[[], None]) -> None:
        """Write to the state directory; enforcement goes on if it can't be written, and says so."""
        try:
            await asyncio.to_thread(write)
        except OSError as error:
            if what not in self._unwritable:
                log.error("state.unwritable", what=what, reason=str(error))  # noqa: TRY400 - no fault of ours
            message = f"the {what} can't be written to {self._config.state}: {error.strerror or error}"
            self._unwritable[what] = status.Trouble("state_unwritable", "error", message, place=what)
        else:
            self._unwritable.pop(what, None)

    # -- reloading -----------------------------------------------------------------------------------------------

    async def _serve_reload(self) -> None:
        self._reload_wanted = False
        waiting, self._waiting = self._waiting, []
        self._notifier.reloading()
        outcome = await self._reload()
        self._notifier.ready(self._headline())
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(outcome)

    async def _reload(self) -> Outcome:
        """Read, decide, compile and enforce. What can't be read stays as it last was good."""
        reading = await asyncio.to_thread(read_directory, self._config.policies)
        before = self._kept
        intake = take_in(reading, before, self._now())
        faults = tuple(finding.fault for finding in intake.findings)
        errors = [fault for fault in faults if fault.severity == "error"]
        for fault in faults:
            event = log.error if fault.severity == "error" else log.warning
            event("policy.fault", place=str(fault.place), code=fault.code, message=fault.message)
        if reading.missing and not before and self._compiled is None:
            # Neither the files nor what was kept of them: nobody knows what is in force, so nothing may be lifted.
            self._standing = replace(self._standing, intake=intake)
            self._publish()
            return Outcome(False, self._record.generation, 0, faults, _BLIND)
        changed = await self._take_over(intake, "reload")
        self._kept = intake.kept
        await self._write("last good policies", lambda: self._store.save(intake.kept, before))
        self._damage = []
        self._publish()
        sentence = self._sentence(len(errors))
        return Outcome(self._failure is None, self._record.generation, changed, faults, sentence)

    def _sentence(self, errors: int) -> str:
        if self._failure is not None:
            stays = "what was in force before stays, and a running daemon tries again"
            return f"not enforced: {self._failure.message}; {stays}"
        done = f"generation {self._record.generation} is enforced and read back"
        return f"{done}; {errors} fault(s) found, what they concern stays as it last was good" if errors else done

    async def _take_over(self, intake: Intake, cause: str) -> int:
        """Compile what counts now, and enforce it."""
        compiled, digest = await asyncio.to_thread(self._compile, intake, self._now())
        self._compiled, self._digest = compiled, digest
        addresses = {
            name: compiled.addresses.get(name) or count_addresses(policy) for name, policy in intake.policies.items()
        }
        self._standing = replace(self._standing, intake=intake, addresses=addresses)
        return await self._enforce(cause)

    def _compile(self, intake: Intake, now: int) -> tuple[Compiled, str]:
        compiled = compile_policies(intake.policies.values(), now, self._config.hooks, self._config.priority)
        return compiled, text.digest(compiled.ruleset)

    async def _advance(self) -> None:
        """Follow the clock: what has ended is swept, what has begun needs no guard any more."""
        if self._standing.intake is not None:
            await self._take_over(self._standing.intake, "time")

    # -- enforcing -----------------------------------------------------------------------------------------------

    async def _enforce(self, cause: str) -> int:
        """Make one pass over the kernel; give how much it changed. A failure is published, and tried again later."""
        if self._compiled is None:
            return 0
        began = self._clock.monotonic()
        try:
            done = await reconcile(self._kernel, self._compiled.ruleset)
        except (KernelError, NotConvergedError) as error:
            self._fail(error)
            return 0
        took = self._clock.monotonic() - began
        self._failure, self._retry = None, 0.0
        self._due.pop("retry", None)
        self._plan("look", max(LOOK_EVERY, took * _RARENESS))
        await self._settle(self._compiled, done, cause, took)
        return done.changed

    def _fail(self, error: KernelError | NotConvergedError) -> None:
        self._retry = min(max(_RETRY_FIRST, self._retry * 2), _RETRY_LAST)
        self._plan("retry", self._retry)
        self._plan("look", LOOK_EVERY)
        hint = ""
        if isinstance(error, KernelError) and error.errno in {errno.EPERM, errno.EACCES}:
            hint = "; this needs root, or CAP_NET_ADMIN over this network namespace"
        self._failure = status.Trouble("kernel_refused", "error", f"the kernel doesn't take the ruleset: {error}{hint}")
        log.error("reconcile.failed", reason=str(error), again_in_s=self._retry)
        self._publish()

    async def _settle(self, compiled: Compiled, done: Pass, cause: str, took: float) -> None:
        """Account for a pass that the kernel confirmed."""
        now = self._now()
        drifted = cause == "look" and done.changed > 0
        if done.changed:
            event = log.warning if drifted else log.info
            name = "drift.repaired" if drifted else "reconcile.applied"
            event(name, cause=cause, changed=done.changed, took_s=round(took, 4), first=done.first.excerpt())
        await self._bring_up(compiled, done, now)
        await self._settle_counters(compiled, done)
        record, segments = self._record, compiled.segments
        self._standing = replace(
            self._standing,
            installed=record.installed,
            ruleset=RulesetView(record.generation, record.digest, record.applied_at, now, segments[4], segments[6]),
            apply_duration=observed(self._standing.apply_duration, took)
            if done.changed
            else self._standing.apply_duration,
            drift_total=self._standing.drift_total + drifted,
        )
        self._publish()

    async def _bring_up(self, compiled: Compiled, done: Pass, now: int) -> None:
        """Begin a new generation if another ruleset is enforced than before, and note whose rules came when."""
        digest = self._digest
        record = replace(
            self._record, installed={name: self._record.installed.get(name, now) for name in compiled.addresses}
        )
        if digest != record.digest or done.changed:
            grown = record.generation + (digest != record.digest)
            record = replace(record, generation=grown, digest=digest, applied_at=now)
        if record != self._record:
            self._record = record
            await self._write("record", lambda: memory.save_record(self._config.state, record))

    # -- counting ------------------------------------------------------------------------------------------------

    async def _count(self) -> None:
        """Read the counters for who looks at them, and save them from time to time."""
        began = self._clock.monotonic()
        try:
            counters = await self._kernel.counters()
        except KernelError as error:
            # The next look at the table says what is wrong with it.
            log.warning("counters.unreadable", reason=str(error))
            self._plan("count", LOOK_EVERY)
            return
        self._account(counters)
        self._plan("count", max(COUNT_EVERY, (self._clock.monotonic() - began) * _RARENESS))
        if self._is_due("save"):
            await self._save_counters()
        self._publish()

    async def _settle_counters(self, compiled: Compiled, done: Pass) -> None:
        """Account for the counters after a pass; those that no rule uses any more are read a last time, then go."""
        if done.found.handle not in {None, done.actual.handle}:
            # That table is gone, with counts that nobody had read yet.
            self._table = f"{_here()}/{done.found.handle}"
            self._account(done.found.counters)
        self._members = compiled.counters
        self._table = f"{_here()}/{done.actual.handle}"
        self._plan("count", COUNT_EVERY)
        if not done.sweep:
            before = self._ledger.members
            self._account(done.actual.counters)
            if self._ledger.members != before:
                # Should we be killed, the next daemon must know whom each counter counts for.
                await self._save_counters()
            return
        await self._clock.sleep(_GRACE)
        try:
            self._account(await self._kernel.counters())
            await self._save_counters()
            await self._kernel.commit(done.sweep)
        except KernelError as error:
            # They do no harm; the next pass tries again.
            log.warning("counters.unswept", reason=str(error))

    def _account(self, counters: Mapping[str, ActualCounter]) -> None:
        self._ledger = self._ledger.account(counters.values(), self._members, self._table)

    async def _save_counters(self) -> None:
        self._plan("save", SAVE_EVERY)
        ledger = self._ledger
        await self._write("counters", lambda: memory.save_ledger(self._config.state, ledger))

    # -- showing and waiting -------------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Make the snapshot that everybody sees from now on."""
        now = self._now()
        intake = self._standing.intake
        troubles = [*self._damage, *self._unwritable.values()]
        if self._failure is not None:
            troubles.append(self._failure)
        if intake is not None:
            troubles += status.troubles_of(intake.findings)
            troubles += status.overdue(intake.policies.values(), now)
        problems = status.date(troubles, self._standing.problems, now)
        self._standing = replace(
            self._standing, problems=problems, counts=self._ledger.totals, failed=self._failure is not None
        )
        before, self._snapshot = self._snapshot, status.snapshot(self._standing, now)
        if before.enforcement is not self._snapshot.enforcement:
            log.info("enforcement.changed", was=before.enforcement, now=self._snapshot.enforcement)
            self._notifier.status(self._headline())
        instant = self._snapshot.next_change
        if instant is None:
            self._due.pop("instant", None)
        else:
            self._plan("instant", instant - self._clock.time())

    def _now(self) -> int:
        """Give the wall clock in whole seconds, and never less than before: a clock set back lifts nothing."""
        self._floor = max(self._floor, int(self._clock.time()))
        return self._floor

    def _headline(self) -> str:
        shown = self._snapshot
        in_force = sum(view.state is PolicyState.IN_FORCE for view in shown.policies)
        return f"{shown.enforcement}: {in_force} policies in force, {len(shown.problems)} problems"

    def _plan(self, what: str, seconds: float) -> None:
        self._due[what] = self._clock.monotonic() + seconds

    def _is_due(self, what: str) -> bool:
        return what in self._due and self._due[what] <= self._clock.monotonic()

    async def _wait(self) -> None:
        """Wait until something is due or wanted."""
        next_due = min((due for what, due in self._due.items() if what != "save"), default=None)
        left = COUNT_EVERY if next_due is None else max(0.0, next_due - self._clock.monotonic())
        self._notifier.alive()
        # Not longer than this, so that a wall clock that jumps is noticed.
        await _first(self._wanted.wait(), self._clock.sleep(min(left, COUNT_EVERY)))
        self._wanted.clear()


async def _first(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait until one of them is done, and drop the others."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _here() -> str:
    """Name this boot and this network namespace: kernel handles mean something only within them."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/net').stat().st_ino}"
