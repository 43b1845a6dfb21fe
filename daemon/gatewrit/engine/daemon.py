"""The daemon's life story: remember, read the policies, enforce, and go on until told to stop. The table outlives it.

One task does all that changes something, one thing at a time; everybody else asks it and waits for the outcome.
Failures are met in two places only: a reload, which leaves what was good, and a pass over the kernel, which is tried
again, ever later. Anything else is a mistake of ours: it ends the process, the rules stay, and systemd starts it anew.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, NamedTuple, overload

import structlog

from gatewrit.compile.acting import acting
from gatewrit.compile.conflicts import Conflict, conflicts
from gatewrit.compile.memo import Memo
from gatewrit.compile.rails import Carver
from gatewrit.compile.render import compile_policies
from gatewrit.compile.surroundings import Surroundings
from gatewrit.engine import byhand, heap, status
from gatewrit.engine.archive import Archive
from gatewrit.engine.around import Around
from gatewrit.engine.beside import Watcher
from gatewrit.engine.chronicle import Chronicle
from gatewrit.engine.display import Display
from gatewrit.engine.drift import Drift
from gatewrit.engine.enforcer import LOOK_EVERY, LOOK_SOON, Enforcer
from gatewrit.engine.enquiries import Enquiries
from gatewrit.engine.gate import Gate
from gatewrit.engine.hand import Hand, check_gone
from gatewrit.engine.holds import hold_back
from gatewrit.engine.intake import remembered, take_in, without_bulk
from gatewrit.engine.recall import Recall
from gatewrit.engine.room import with_room
from gatewrit.engine.scribe import Scribe
from gatewrit.engine.shelf import Later, Shelf
from gatewrit.engine.snapshot import Outcome, RulesetView, observed
from gatewrit.engine.store import Store
from gatewrit.engine.takeback import Expecting, TakeBack, Taking
from gatewrit.engine.tally import COUNT_EVERY, Tally
from gatewrit.engine.timing import Agenda, first
from gatewrit.engine.trust import FILE as FLOOR_FILE
from gatewrit.engine.trust import Timekeeper
from gatewrit.engine.watch import changes
from gatewrit.kernel import shortcuts, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

    from gatewrit.compile.render import Compiled
    from gatewrit.engine.answer import Answer, Question
    from gatewrit.engine.byhand import Done, Request
    from gatewrit.engine.clock import Clock
    from gatewrit.engine.config import Config
    from gatewrit.engine.events import Recent
    from gatewrit.engine.intake import Intake
    from gatewrit.engine.notify import Notifier
    from gatewrit.engine.reconcile import Pass
    from gatewrit.engine.snapshot import Snapshot
    from gatewrit.engine.store import Kept
    from gatewrit.kernel.backend import Kernel
    from gatewrit.kernel.beside import BesideReader
    from gatewrit.kernel.host import HostReader
    from gatewrit.kernel.notices import Notices
    from gatewrit.kernel.spare import Spare
    from gatewrit.policy.load import Reading
    from gatewrit.policy.model import Policy
    from gatewrit.policy.terms import Fault

log = structlog.get_logger()

#: Seconds that are waited at least, so that a clock that stands still isn't asked all the time.
_BRIEF = 0.005
_BLIND = (
    "nothing was done: the policies directory can't be read and none were kept from before; "
    "what the kernel has stays as it is"
)
_UNSIGNED = (
    "nothing was done: the policies directory isn't as it must be signed, and no policies were kept from before; "
    "what the kernel has stays as it is"
)


class _Awaited(NamedTuple):
    """What was read and decided, and waits until the kernel is prepared for it.

    `ordered` by somebody; `waiting` are those who wait for its outcome.
    """

    intake: Intake
    faults: tuple[Fault, ...]
    ordered: bool
    waiting: list[asyncio.Future[Outcome]]


class Daemon:
    """One gateway's enforcement. `run` is its life; `snapshot`, `alive` and `reload` are for everybody else."""

    def __init__(  # noqa: PLR0913 - what is around it, each by name
        self,
        config: Config,
        kernel: Kernel,
        clock: Clock,
        notifier: Notifier,
        host: HostReader | None = None,
        *,
        notices: Callable[[], Notices] | None = None,
        beside: BesideReader | None = None,
        spare: Callable[[], Spare | None] = lambda: None,
    ) -> None:
        self._config = config
        self._kernel = kernel
        self._clock = clock
        self._notifier = notifier
        self._shelf = Later(Shelf(config.state))
        self._store = Store(config.state, self._shelf)
        self._kept: Mapping[str, Kept] = {}
        self._reading: Reading | None = None
        self._recall, self._carver = Recall(), Carver(config.rails)
        self._agenda = Agenda(clock)
        self._scribe = Scribe(config.state)
        self._spare = spare
        self._around = Around(host, Surroundings(config.nat64), clock, self._agenda)
        self._time = Timekeeper(clock, self._scribe)
        self._tally = Tally(kernel, clock, self._agenda, self._scribe)
        self._enforcer = Enforcer(kernel, clock, self._agenda, self._scribe, spare)
        self._drift = Drift(kernel, clock, self._agenda, notices)
        self._beside = Watcher(beside, config.hooks, config.priority, clock, self._agenda)
        self.chronicle = Chronicle(config.state, clock, config.keeping)
        self._gate = Gate(config.signing, self._scribe, self.chronicle)
        self._takeback = TakeBack(config.state, self._store, self._scribe, self.chronicle, self._agenda)
        self._hand = Hand(self._scribe, self.chronicle, (config.gateway, *config.tags))
        self._display = Display(config.gateway, self._hand.local, clock, self._time, notifier, self.chronicle)
        self._damage: list[status.Trouble] = []
        self._waiting: list[asyncio.Future[Outcome]] = []
        self._wanted = asyncio.Event()
        self._reload_wanted = True
        #: Whether somebody asked for the files to be followed, and who was the last to have it wait to be confirmed.
        self._ordered = False
        self._expecting: Expecting | None = None
        self._turned = clock.monotonic()
        self._next: int | None = None
        self._awaited: _Awaited | None = None
        #: What the kernel last confirmed; something else counts while it refuses that.
        self._in_force: Intake | None = None
        #: When the files were last begun to be read, by the event loop's clock: what changed before that was seen.
        self._read_at = -inf
        self._memo = Memo()
        #: Who else has something to say in a snapshot.
        self.outside: Callable[[int], Sequence[status.Trouble]] = lambda _now: ()
        self.archive = Archive(config.state, lambda: self._display.standing)
        self._enquiries = Enquiries(config.state, config.hooks, config.rails, lambda: self._around.now)

    def snapshot(self) -> Snapshot:
        """Give what is known now."""
        return self._display.snapshot

    @property
    def told(self) -> Callable[[], None]:
        """What is called whenever there is something new to see."""
        return self._display.told

    @told.setter
    def told(self, told: Callable[[], None]) -> None:
        self._display.told = told

    def alive(self) -> bool:
        """Whether the loop turns: it comes round at least every few seconds, or is in the middle of a pass."""
        return self._clock.monotonic() - self._turned < max(60.0, 4 * LOOK_EVERY)

    async def explain(self, question: Question) -> Answer:
        """Say whether an address is blocked, and why; raises NotKeptError for what the journal lacks."""
        return await self._enquiries.answer(
            question, self._display.standing, self._display.snapshot.enforcement, self._time.now()
        )

    @property
    def recent(self) -> Recent:
        """What happened lately."""
        return self.chronicle.recent

    def want_reload(self, *, ordered: bool = False) -> None:
        """Ask for everything to be read again, without waiting for it.

        `ordered` by somebody: files that merely changed don't end a roll-back.
        """
        self._reload_wanted = True
        self._ordered |= ordered
        self._wanted.set()

    async def reload(self, expecting: Expecting | None = None) -> Outcome:
        """Read everything again and wait for the outcome. Several who wait for one reading share it.

        `expecting`: it is taken back unless it is confirmed; raises `byhand.RefusedError` if that can't be seen to.
        """
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._expecting = expecting or self._expecting
        self.want_reload(ordered=True)
        return await waiter

    async def by_hand(self, request: Request | Taking) -> Done:
        """Do what somebody orders by hand, and wait until it acts; raises `byhand.RefusedError`."""
        return await self._hand.ask(request, self._wanted)

    async def run(self) -> NoReturn:
        """Live: ends only by being cancelled, or by a mistake of ours."""
        await asyncio.to_thread(self._remember)
        self._enforcer.late = shortcuts.AT_ONCE
        self.chronicle.note("started", None, self._config.about())
        with (
            self._clock.watch(self._clock_was_set),
            self._around.watch(self._moved),
            self._drift.watch(self._enforcer.doubt, self._wanted.set, self._stirred, lambda: self._enforcer.owned),
        ):
            while True:
                await self._turn()

    async def _turn(self) -> None:
        """Do the one thing that is due next, or wait for it.

        What feeds the watchdog is the end of a turn, so that a pass that hangs starves it, though all else goes on.
        """
        self._turned = self._clock.monotonic()
        self._notifier.alive()
        await self.chronicle.write()
        if self._hand.asked and (self._display.standing.intake is not None or self._blind):
            # Somebody is in a hurry; the files may wait.
            await self._hand.serve(self._carry_out)
        elif self._agenda.is_due("undo"):
            await self._expire()
        elif self._reload_wanted:
            await self._serve_reload()
        elif self._agenda.is_due("retry") or self._instant_came():
            await self._advance()
        elif self._agenda.is_due("host"):
            if await self._around.look():
                log.info("host.changed")
                await self._advance("host")
        elif self._awaited is not None:
            await self._finish()
        elif self._agenda.is_due("complete"):
            await self._complete()
        elif self._agenda.is_due("look"):
            await self._look()
        else:
            await self._idle()

    def _stirred(self) -> None:
        """Look soon at what passes beside the table."""
        if self._beside.stir():
            self._wanted.set()

    def _moved(self) -> None:
        """Look at links and addresses, of which some have changed, and soon at what passes beside."""
        self._beside.stir()
        self._wanted.set()

    async def once(self, expecting: Expecting | None = None) -> Outcome:
        """Read and enforce one time, as `run` would, and write down what came of it; raises `byhand.RefusedError`."""
        await asyncio.to_thread(self._remember)
        await self._expect(expecting)
        outcome = await self._begun(await self._reload())
        await asyncio.to_thread(self._shelf.settle)
        await self._tally.save()
        await self._time.save()
        await self.chronicle.close()
        return outcome

    async def once_by_hand(self, request: Request | Taking) -> Done:
        """Do what somebody orders by hand without a daemon: read and enforce one time, with that in force."""
        await asyncio.to_thread(self._remember)
        done = await self._carry_out(request)
        await self._tally.save()
        await self._time.save()
        await self.chronicle.close()
        return done

    async def watch(self) -> None:
        """Ask for a reload whenever the policy files have changed."""
        async for at in changes(self._config.policies):
            if at >= self._read_at:
                self.want_reload()

    async def save(self) -> None:
        """Write the counts down, at the end of the daemon's life."""
        await self._count()
        await self._tally.save()
        await self._time.save()
        self.chronicle.note("stopped")
        await self.chronicle.close()

    # -- remembering ---------------------------------------------------------------------------------------------

    def _remember(self) -> None:
        """Read the state directory back; whatever can't be read is begun anew and said."""
        state = self._config.state
        self._kept, damaged = self._store.load()
        lost = [f"{each}: this policy's last good revision is lost" for each in damaged]
        self._hand.load()
        try:
            self._tally.load()
        except (OSError, ValueError) as error:
            lost.append(f"{state / 'counters.json'}: {error}: the counts begin with what the kernel has")
        try:
            self._time.load()
        except (OSError, ValueError) as error:
            lost.append(f"{state / FLOOR_FILE}: {error}: the latest instant seen begins anew with the clock")
        try:
            self._enforcer.load()
        except (OSError, ValueError) as error:
            lost.append(f"{state / 'standing.json'}: {error}: generations begin anew")
        lost += self._takeback.load(self._time.now())
        self._damage = [status.Trouble("state_damaged", "error", each) for each in lost]
        for each in lost:
            log.error("state.damaged", what=each)

    # -- reloading -----------------------------------------------------------------------------------------------

    async def _serve_reload(self) -> None:
        self._reload_wanted = False
        waiting, self._waiting = self._waiting, []
        # What is read anew has in it what somebody ordered and is still being prepared.
        ordered = self._ordered or (self._awaited is not None and self._awaited.ordered)
        self._ordered = False
        expecting, self._expecting = self._expecting, None
        self._notifier.reloading()
        try:
            await self._expect(expecting)
        except byhand.RefusedError as refusal:
            self._notifier.ready(self._display.headline())
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_exception(refusal)
            return
        outcome = await self._reload(patient=True, ordered=ordered)
        if outcome is not None:
            await self._answer(waiting, await self._begun(outcome) if ordered else outcome)
        elif self._awaited is not None:
            self._awaited.waiting.extend(waiting)

    async def _finish(self) -> None:
        """Go on preparing the kernel for what a reload brought in bulk; then switch to it."""
        assert self._awaited is not None  # noqa: S101 - else it isn't called
        intake, faults, ordered, waiting = self._awaited
        _, compiled = await asyncio.to_thread(self._rendered, intake, self._time.settled())
        async with self._drift.mute():
            if not await self._enforcer.prepare(compiled.ruleset, self._go_on):
                return
        self._awaited = None
        outcome = await self._settle(intake, faults)
        await self._answer(waiting, await self._begun(outcome) if ordered else outcome)

    async def _complete(self) -> None:
        """Add what spares packets look-ups, now that everything is enforced."""
        self._display.progress("making the guards, which spare packets look-ups")
        async with self._drift.mute():
            finished = await self._enforcer.complete(self._go_on)
        if not finished:
            self._publish()
            return
        await self._enforce("shortcuts")
        await asyncio.to_thread(heap.trim)

    def _go_on(self, done: int, size: int) -> bool:
        """Show how far the preparing is, and stop it where somebody is in a hurry."""
        self._enforcing(done, size)
        return not (self._hand.asked or self._reload_wanted or self._instant_came() or self._agenda.is_due("undo"))

    async def _answer(self, waiting: Sequence[asyncio.Future[Outcome]], outcome: Outcome) -> None:
        """Give the outcome of a reload to those who waited for it."""
        await self.chronicle.write(1.0)
        self._notifier.ready(self._display.headline())
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(outcome)
        await asyncio.to_thread(heap.trim)

    @overload
    async def _reload(self, *, ordered: bool = True) -> Outcome: ...

    @overload
    async def _reload(self, *, patient: bool, ordered: bool = True) -> Outcome | None: ...

    async def _reload(self, *, patient: bool = False, ordered: bool = True) -> Outcome | None:
        """Read, decide, compile and enforce. What can't be read stays as it last was good.

        None: what came in bulk is still being prepared, everything else is enforced. Only for who is `patient`.
        """
        if self._takeback.rolled_back and not ordered:
            return await self._stay_back()
        self._display.progress("reading the policy files")
        self._read_at = asyncio.get_running_loop().time()
        # Side by side: asking the host takes as long as reading files that haven't changed.
        _, reading = await asyncio.gather(self._around.look(), self._read())
        if reading is None:
            return await self._stay()
        self._reading = reading
        before = self._kept
        rules, now = self._hand.rules(self._config.change_share, self._config.rails), self._time.settled()
        taken = await asyncio.to_thread(take_in, reading, before, now, self._config.rails, self._recall)
        coming = self._awaited.intake if self._awaited is not None else None
        taken = await asyncio.to_thread(with_room, taken, before, coming, self._spare, self._recall)
        intake, held = await asyncio.to_thread(hold_back, taken, before, rules, now, self._recall)
        faults = tuple(finding.fault for finding in intake.findings)
        for fault in faults:
            event = log.error if fault.severity == "error" else log.warning
            event("policy.fault", place=str(fault.place), code=fault.code, message=fault.message)
        if reading.missing and not before and not self._enforcer.ready:
            # Neither the files nor what was kept of them: nobody knows what is in force, so nothing may be lifted.
            self._display.standing = replace(self._display.standing, intake=intake)
            self._publish()
            return Outcome(False, self._enforcer.record.generation, 0, faults, _BLIND)
        await self._takeback.followed(now)
        await self._hand.settle(held, now)
        overtaken, self._awaited = self._awaited, None
        waiting = [] if overtaken is None else overtaken.waiting
        self._enforcer.forget_coming()
        # Not beside what counts but what is in force: bulk that the kernel refuses mustn't keep others out for ever.
        small = without_bulk(intake, self._in_force) if patient else None
        if small is None:
            outcome = await self._settle(intake, faults)
            if waiting:
                await self._answer(waiting, outcome)
            return outcome
        if not self._is_in_force(small) and (overtaken is None or not intake.same(overtaken.intake)):
            # Whatever is small doesn't wait behind it. It isn't new where files are read twice: seen to have changed
            # first, and then by order.
            await self._take_over(small, "reload")
        self._awaited = _Awaited(intake, faults, ordered, waiting)
        return None

    def _is_in_force(self, intake: Intake) -> bool:
        """Whether just that is what the kernel last confirmed, and what counts."""
        counts, failure = self._display.standing.intake, self._enforcer.failure
        return failure is None and counts is not None and counts is self._in_force and intake.same(counts)

    async def _read(self) -> Reading | None:
        """Read the policies directory; None if it isn't as it must be signed."""
        return await self._gate.read(self._config.policies, self._reading, self._shelf, self._time.now())

    @property
    def _blind(self) -> bool:
        """Whether nobody vouches for the files, nothing was kept of them, and so nobody knows what is in force."""
        return bool(self._gate.faults) and not self._kept and not self._enforcer.ready

    async def _stay(self) -> Outcome:
        """Leave all as it is, for the policies directory isn't as it must be signed; what was last good counts."""
        faults, generation = self._gate.faults, self._enforcer.record.generation
        if self._blind:
            self._publish()
            return Outcome(False, generation, 0, faults, _UNSIGNED)
        if self._display.standing.intake is None:
            return await self._settle(remembered(self._kept), faults)
        self._publish()
        outcome = self._outcome(0, faults)
        said = f"nothing was changed: the policies directory isn't as it must be signed; generation {generation} stays"
        return replace(outcome, sentence=said) if outcome.ok else outcome

    async def _settle(self, intake: Intake, faults: tuple[Fault, ...]) -> Outcome:
        """Enforce what was read and decided, and keep it as last good."""
        first, before = self._display.standing.intake is None, self._kept
        # What was prepared for it is what it wants; whatever else was goes.
        self._enforcer.forget_coming()
        # The disk and the kernel don't wait for each other; the answer waits for both.
        saving = asyncio.create_task(
            self._scribe.write("last good policies", lambda: self._store.save(intake.kept, before))
        )
        changed = await self._take_over(intake, "reload")
        self._kept = intake.kept
        await saving
        await asyncio.to_thread(self._shelf.keep_only, intake.kept.values(), intake.loaded.values())
        if self._enforcer.failure is None:
            number = self._enforcer.record.generation
            await self._takeback.note(number, self._time.now(), intake.kept, found=first)
        if not first:
            # What was lost is told until the files have been read again on purpose, or have changed.
            self._damage = []
        self._publish()
        return self._outcome(changed, faults)

    def _outcome(self, changed: int, faults: tuple[Fault, ...]) -> Outcome:
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

    async def _take_over(self, intake: Intake, cause: str) -> int:
        """Compile what counts now, and enforce it."""
        settled = self._time.settled()
        await self._hand.sweep(settled)
        self._display.standing = replace(self._display.standing, local=self._hand.local)
        self._display.progress("working out the rules")
        compiled, digest, against, starts = await asyncio.to_thread(self._compile, intake, settled)
        self._enforcer.want(compiled, digest, starts)
        self._next = status.next_change(intake.policies.values(), settled, self._display.standing.local)
        addresses = await asyncio.to_thread(self._recall.addresses, intake.policies, compiled.addresses)
        desired = (compiled.segments[4], compiled.segments[6])
        self._display.standing = replace(
            self._display.standing, intake=intake, addresses=addresses, conflicts=against, desired=desired
        )
        return await self._enforce(cause)

    def _rendered(self, intake: Intake, now: int) -> tuple[Sequence[Policy], Compiled]:
        """Give the policies that act, and what the kernel is to hold for them."""
        chosen = self._carver.carved(acting(intake.policies.values(), self._display.standing.local, now).values())
        hooks, priority = self._config.hooks, self._config.priority
        return chosen, compile_policies(chosen, now, hooks, priority, self._around.now, memo=self._memo)

    def _compile(self, intake: Intake, now: int) -> tuple[Compiled, str, list[Conflict], dict[str, int]]:
        chosen, compiled = self._rendered(intake, now)
        self._around.compare(chosen, self._memo)
        starts = {each.id: each.effective.start.epoch for each in chosen}
        return compiled, text.digest(compiled.ruleset), conflicts(chosen, now, self._memo), starts

    def _instant_came(self) -> bool:
        """Whether something has begun or ended since the rules were made; however late we are, nothing is missed."""
        return self._next is not None and self._next <= self._time.settled()

    async def _advance(self, cause: str = "time") -> None:
        """Follow the clock: what has ended is swept, what has begun needs no guard any more."""
        if self._display.standing.intake is not None:
            await self._take_over(self._display.standing.intake, cause)

    # -- taking back ---------------------------------------------------------------------------------------------

    async def _expect(self, expecting: Expecting | None) -> None:
        """Have what comes now wait to be confirmed, if somebody asked for that."""
        if expecting is not None:
            await self._takeback.expect(expecting, self._enforcer.record.generation, self._kept, self._time.now())

    async def _begun(self, outcome: Outcome) -> Outcome:
        """Say what waits to be confirmed, now that it is in force."""
        await self._takeback.begun(outcome.generation, self._time.now(), changed=outcome.changed > 0)
        self._publish()
        return replace(outcome, sentence=outcome.sentence + self._takeback.told())

    async def _stay_back(self) -> Outcome:
        """Leave an earlier generation in force: the files have changed, or the daemon starts, and nobody said go on."""
        if self._display.standing.intake is None:
            return await self._settle(remembered(self._kept), ())
        return self._outcome(0, ())

    async def _take_back(self, asked: Taking | None) -> Done:
        """Confirm a change, or put an earlier generation in force; None is asked where nobody confirmed a change."""
        number, now = self._enforcer.record.generation, self._time.now()
        if asked is not None and asked.verb == "confirm":
            told = await self._takeback.confirm(asked, number, now)
            self._publish()
            return byhand.Done((), self._outcome(0, ()), told, False)
        coming = self._awaited is not None
        kept = await self._takeback.choose(asked, number, self._kept, now, coming=coming)
        if kept is None and self._display.standing.intake is not None:
            self._publish()
            return byhand.Done((), self._outcome(0, ()), "nothing was changed, so nothing is put back", False)
        self._kept = self._kept if kept is None else kept
        overtaken, self._awaited = self._awaited, None
        outcome = await self._settle(remembered(self._kept), ())
        if overtaken is not None and overtaken.waiting:
            told = f"taken back: {outcome.sentence}"
            await self._answer(overtaken.waiting, replace(outcome, ok=False, sentence=told))
        return byhand.Done((), outcome, f"what counted before is put back; {outcome.sentence}", False)

    async def _expire(self) -> None:
        """Take back what nobody confirmed."""
        self._agenda.drop("undo")
        try:
            await self._take_back(None)
        except byhand.RefusedError as refusal:
            await self._takeback.give_up(str(refusal), self._time.now())
            self._publish()

    # -- by hand -------------------------------------------------------------------------------------------------

    async def _carry_out(self, request: Request | Taking) -> Done:
        """Write down what somebody orders, and enforce it. A suspension in a hurry doesn't read the files again."""
        if isinstance(request, Taking):
            return await self._take_back(request)
        if self._blind:
            way_out = "to take every block out, stop the daemon and run: gatewrit remove"
            raise byhand.RefusedError("not_as_signed", f"{_UNSIGNED}; {way_out}")
        now, name = self._time.now(), request.policy or ""
        forget = request.verb == "forget"
        if forget:
            reading = await self._read()
            if reading is None:
                raise byhand.RefusedError("not_as_signed", f"{self._gate.faults[0]}; nobody can say what is gone")
            check_gone(name, reading, self._kept, self._tally.totals, now)
        known = {each: kept.document for each, kept in self._kept.items()}
        book, acts = byhand.write_down(self._hand.book, request, known, now)
        await self._hand.keep(book, acts, ordered=True)
        if forget:
            before, self._kept = self._kept, {each: kept for each, kept in self._kept.items() if each != name}
            await self._scribe.write("last good policies", lambda: self._store.save(self._kept, before))
        intake = self._display.standing.intake
        if intake is None or request.verb in {"release", "forget"}:
            if self._takeback.rolled_back:
                intake = None
                outcome = await self._settle(remembered(self._kept), ())
            else:
                outcome = await self._reload()
        else:
            small = without_bulk(intake, self._in_force) if self._enforcer.failure is not None else None
            changed = await self._take_over(small or intake, "by hand")
            if small is not None:
                self._awaited = _Awaited(intake, tuple(finding.fault for finding in intake.findings), False, [])
            self._publish()
            outcome = self._outcome(changed, ())
        if forget:
            await self._takeback.forget(name, self._kept)
            await self._tally.forget(name)
            self._publish()
        return byhand.Done(acts, outcome, byhand.told(acts, outcome), name in self._hand.book.held)

    # -- enforcing -----------------------------------------------------------------------------------------------

    async def _enforce(self, cause: str) -> int:
        """Make one pass over the kernel and account for it; give how much it changed."""
        began = self._clock.monotonic()
        async with self._drift.mute():
            done = await self._enforcer.enforce(cause, self._enforcing)
            took = self._clock.monotonic() - began
            if done is not None:
                await self._account(done, took, drifted=cause == "look" and done.changed > 0)
        if done is not None and await self._enforcer.overtaken():
            # While nobody listened.
            self._agenda.hasten("look", LOOK_SOON)
        self._publish()
        return done.changed if done is not None else 0

    async def _look(self) -> None:
        """See whether the kernel still holds what it should."""
        if await self._enforcer.at_rest():
            ruleset = replace(self._display.standing.ruleset, verified_at=self._time.now())
            self._display.standing = replace(self._display.standing, ruleset=ruleset)
        else:
            await self._enforce("look")

    async def _account(self, done: Pass, took: float, *, drifted: bool) -> None:
        """Account for a pass that the kernel confirmed."""
        self._in_force = self._display.standing.intake
        if (found := self._enforcer.found(done)) is not None:
            log.warning("rules.found", found=found)
            self.chronicle.note("found", None, {"found": found})
        await self._enforcer.bring_up(done, self._time.now(), self._hand.resumed)
        if await self._tally.settle(self._enforcer.compiled.counters, done):
            self._enforcer.swept()
        if done.changed:
            await self._time.save()
        if drifted:
            self._drift.repaired()
        self._drift.settled()
        self._display.standing = self._accounted(done, took, drifted=drifted)

    def _accounted(self, done: Pass, took: float, *, drifted: bool) -> status.Standing:
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

    # -- showing and waiting -------------------------------------------------------------------------------------

    async def _count(self) -> None:
        """Read the counters for who looks at them."""
        await self._time.save_in_time()
        if await self._tally.count():
            self._publish()

    def _enforcing(self, done: int, size: int) -> bool:
        """Show how far a pass is, each time that the kernel has taken in a part of it."""
        self._notifier.alive()
        self._display.progress("preparing set elements in the kernel", done, size)
        return True

    def _publish(self) -> None:
        """Make the snapshot that everybody sees from now on."""
        if self._awaited is None:
            self._display.finished()
        now, failure = self._time.now(), self._enforcer.failure
        troubles = [
            *self._damage,
            *self._scribe.troubles,
            *self.chronicle.troubles,
            *self._time.troubles(),
            *self._around.troubles,
            *self._hand.troubles(now),
            *self._drift.troubles,
            *self._beside.troubles,
            *self._gate.troubles,
            *self._takeback.troubles,
            *self.outside(now),
            *(each for each in (failure, self._enforcer.ownership) if each is not None),
        ]
        self._display.standing = replace(self._display.standing, counts=self._tally.totals, failed=failure is not None)
        self._display.publish(troubles, self._config.hooks, self._gate.accepted)

    async def _idle(self) -> None:
        """Write what only saves time, ask after others, read what is only shown, or wait."""
        # Too little to be a turn of its own, each second.
        if self._agenda.is_due("generation") and await self._drift.ask():
            self._enforcer.look_soon()
        if self._shelf.waiting:
            await asyncio.to_thread(self._shelf.settle)
        elif self._agenda.is_due("count"):
            await self._count()
        elif self._agenda.is_due("beside"):
            if await self._beside.look():
                self._publish()
        else:
            await self._wait()

    async def _wait(self) -> None:
        """Wait until something is due or wanted."""
        left = self._agenda.left(COUNT_EVERY)
        if self._next is not None:
            left = min(left, max(_BRIEF, self._time.left(self._next)))
        await first(self._wanted.wait(), self._clock.sleep(left))
        self._wanted.clear()

    def _clock_was_set(self) -> None:
        """Look at the clock again at once, whatever we were waiting for."""
        log.warning("clock.set", now=self._time.now())
        self._publish()
        self._wanted.set()
