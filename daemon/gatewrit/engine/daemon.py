"""The daemon's life story: remember, read the policies, enforce, and go on until told to stop. The table outlives it.

One task does all that changes something, one thing at a time; everybody else asks it and waits for the outcome.
Failures are met in two places only: a reload, which leaves what was good, and a pass over the kernel, which is tried
again, ever later. Anything else is a mistake of ours: it ends the process, the rules stay, and systemd starts it anew.

What changes something goes one way, whether it was read, ordered by hand, taken back or brought by time:

    callers ──► reloads ──► effect ──► passes ──► enforcer ──► kernel
    directory ─────┘           └─ renderer   └─ tally, drift
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gatewrit.compile.surroundings import Surroundings
from gatewrit.engine import byhand, status
from gatewrit.engine.archive import Archive
from gatewrit.engine.around import Around
from gatewrit.engine.beside import Watcher
from gatewrit.engine.callers import Callers
from gatewrit.engine.chronicle import Chronicle
from gatewrit.engine.desired import Renderer
from gatewrit.engine.directory import Directory
from gatewrit.engine.display import Display, Report
from gatewrit.engine.drift import Drift
from gatewrit.engine.effect import Effect
from gatewrit.engine.enforcer import LOOK_EVERY, Enforcer
from gatewrit.engine.enquiries import Enquiries
from gatewrit.engine.gate import Gate
from gatewrit.engine.hand import Hand, check_gone
from gatewrit.engine.intake import remembered
from gatewrit.engine.passes import Passes
from gatewrit.engine.recall import Recall
from gatewrit.engine.reloads import UNSIGNED, Reloads
from gatewrit.engine.scribe import Scribe
from gatewrit.engine.shelf import Later, Shelf
from gatewrit.engine.store import Store
from gatewrit.engine.takeback import Expecting, TakeBack, Taking
from gatewrit.engine.tally import COUNT_EVERY, Tally
from gatewrit.engine.timing import Agenda, first
from gatewrit.engine.trust import FILE as FLOOR_FILE
from gatewrit.engine.trust import Timekeeper
from gatewrit.kernel import shortcuts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from gatewrit.engine.answer import Answer, Question
    from gatewrit.engine.byhand import Done, Request
    from gatewrit.engine.clock import Clock
    from gatewrit.engine.config import Config
    from gatewrit.engine.events import Recent
    from gatewrit.engine.notify import Notifier
    from gatewrit.engine.snapshot import Outcome, Snapshot
    from gatewrit.kernel.backend import Kernel
    from gatewrit.kernel.beside import BesideReader
    from gatewrit.kernel.host import HostReader
    from gatewrit.kernel.notices import Notices
    from gatewrit.kernel.spare import Spare

log = structlog.get_logger()

#: Seconds that are waited at least, so that a clock that stands still isn't asked all the time.
_BRIEF = 0.005


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
        self._clock = clock
        self._notifier = notifier
        #: Set whenever there may be something to do.
        self._wanted = asyncio.Event()
        self._turned = clock.monotonic()
        # What is remembered, and what tells of it.
        self._shelf = Later(Shelf(config.state))
        self._store = Store(config.state, self._shelf)
        self._agenda = Agenda(clock)
        self._scribe = Scribe(config.state)
        self._time = Timekeeper(clock, self._scribe)
        self.chronicle = Chronicle(config.state, clock, config.keeping)
        self._gate = Gate(config.signing, self._scribe, self.chronicle)
        self._takeback = TakeBack(config.state, self._store, self._scribe, self.chronicle, self._agenda)
        self._hand = Hand(self._scribe, self.chronicle, (config.gateway, *config.tags))
        # What is around.
        self._around = Around(host, Surroundings(config.nat64), clock, self._agenda)
        self._beside = Watcher(beside, config.hooks, config.priority, clock, self._agenda)
        self._drift = Drift(kernel, clock, self._agenda, notices)
        # What is shown. `outside` is who else has something to say in a snapshot.
        self.outside: Callable[[int], Sequence[status.Trouble]] = lambda _now: ()
        self._display = Display(
            config,
            self._hand.local,
            self._report,
            clock=clock,
            time=self._time,
            notifier=notifier,
            chronicle=self.chronicle,
        )
        self.archive = Archive(config.state, lambda: self._display.standing)
        self._enquiries = Enquiries(config.state, config.hooks, config.rails, lambda: self._around.now)
        # The way to the kernel, from its end.
        self._tally = Tally(kernel, clock, self._agenda, self._scribe)
        self._enforcer = Enforcer(kernel, clock, self._agenda, self._scribe, spare)
        self._passes = Passes(
            self._enforcer,
            self._drift,
            self._tally,
            hand=self._hand,
            clock=clock,
            time=self._time,
            agenda=self._agenda,
            display=self._display,
            notifier=notifier,
            chronicle=self.chronicle,
        )
        recall = Recall()
        self._effect = Effect(
            Renderer(config, self._around, recall),
            self._enforcer,
            self._passes,
            hand=self._hand,
            takeback=self._takeback,
            store=self._store,
            shelf=self._shelf,
            scribe=self._scribe,
            time=self._time,
            display=self._display,
        )
        self._callers = Callers(self._wanted, notifier, self.chronicle, self._display)
        self._directory = Directory(config.policies, self._gate, self._shelf, recall, self._time, spare)
        self._reloads = Reloads(
            config,
            self._callers,
            self._directory,
            self._effect,
            gate=self._gate,
            around=self._around,
            enforcer=self._enforcer,
            hand=self._hand,
            takeback=self._takeback,
            time=self._time,
            display=self._display,
        )

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
        self._callers.want(ordered=ordered)

    async def reload(self, expecting: Expecting | None = None) -> Outcome:
        """Read everything again and wait for the outcome. Several who wait for one reading share it.

        `expecting`: it is taken back unless it is confirmed; raises `byhand.RefusedError` if that can't be seen to.
        """
        return await self._callers.call(expecting)

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
        if self._hand.asked and (self._display.standing.intake is not None or self._reloads.blind):
            # Somebody is in a hurry; the files may wait.
            await self._hand.serve(self._carry_out)
        elif self._agenda.is_due("undo"):
            await self._expire()
        elif self._callers.wanted:
            await self._reloads.serve()
        elif self._agenda.is_due("retry") or self._effect.instant_came():
            await self._effect.advance()
        elif self._agenda.is_due("host"):
            if await self._around.look():
                log.info("host.changed")
                await self._effect.advance("host")
        elif self._reloads.awaited is not None:
            await self._reloads.finish(self._hurried)
        elif self._agenda.is_due("complete"):
            await self._passes.complete(self._hurried)
        elif self._agenda.is_due("look"):
            await self._passes.look()
        else:
            await self._idle()

    def _hurried(self) -> bool:
        """Whether what goes on in the background is to stop, for somebody is in a hurry or something is due."""
        asked = self._hand.asked or self._callers.wanted
        return asked or self._effect.instant_came() or self._agenda.is_due("undo")

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
        outcome = await self._reloads.once(expecting)
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
        async for _ in self._directory.changed():
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
        self._effect.kept, damaged = self._store.load()
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
        self._effect.damage = [status.Trouble("state_damaged", "error", each) for each in lost]
        for each in lost:
            log.error("state.damaged", what=each)

    # -- taking back ---------------------------------------------------------------------------------------------

    async def _take_back(self, asked: Taking | None) -> Done:
        """Confirm a change, or put an earlier generation in force; None is asked where nobody confirmed a change."""
        number, now = self._enforcer.record.generation, self._time.now()
        if asked is not None and asked.verb == "confirm":
            told = await self._takeback.confirm(asked, number, now)
            self._display.publish()
            return byhand.Done((), self._effect.outcome(0, ()), told, False)
        coming = self._reloads.awaited is not None
        kept = await self._takeback.choose(asked, number, self._effect.kept, now, coming=coming)
        if kept is None and self._display.standing.intake is not None:
            self._display.publish()
            return byhand.Done((), self._effect.outcome(0, ()), "nothing was changed, so nothing is put back", False)
        outcome = await self._reloads.put_back(self._effect.kept if kept is None else kept)
        return byhand.Done((), outcome, f"what counted before is put back; {outcome.sentence}", False)

    async def _expire(self) -> None:
        """Take back what nobody confirmed."""
        self._agenda.drop("undo")
        try:
            await self._take_back(None)
        except byhand.RefusedError as refusal:
            await self._takeback.give_up(str(refusal), self._time.now())
            self._display.publish()

    # -- by hand -------------------------------------------------------------------------------------------------

    async def _carry_out(self, request: Request | Taking) -> Done:
        """Write down what somebody orders, and enforce it. A suspension in a hurry doesn't read the files again."""
        if isinstance(request, Taking):
            return await self._take_back(request)
        if self._reloads.blind:
            way_out = "to take every block out, stop the daemon and run: gatewrit remove"
            raise byhand.RefusedError("not_as_signed", f"{UNSIGNED}; {way_out}")
        now, name = self._time.now(), request.policy or ""
        forget = request.verb == "forget"
        if forget:
            reading = await self._directory.read()
            if reading is None:
                raise byhand.RefusedError("not_as_signed", f"{self._gate.faults[0]}; nobody can say what is gone")
            check_gone(name, reading, self._effect.kept, self._tally.totals, now)
        known = {each: kept.document for each, kept in self._effect.kept.items()}
        book, acts = byhand.write_down(self._hand.book, request, known, now)
        await self._hand.keep(book, acts, ordered=True)
        if forget:
            await self._effect.forget(name)
        intake = self._display.standing.intake
        if intake is not None and request.verb in {"suspend", "resume"}:
            outcome = await self._reloads.overtake(intake)
        elif self._takeback.rolled_back:
            intake = None
            outcome = await self._effect.settle(remembered(self._effect.kept), ())
        else:
            outcome = await self._reloads.reload()
        if forget:
            await self._takeback.forget(name, self._effect.kept)
            await self._tally.forget(name)
            self._display.publish()
        return byhand.Done(acts, outcome, byhand.told(acts, outcome), name in self._hand.book.held)

    # -- showing and waiting -------------------------------------------------------------------------------------

    async def _count(self) -> None:
        """Read the counters for who looks at them."""
        await self._time.save_in_time()
        if await self._tally.count():
            self._display.publish()

    def _report(self) -> Report:
        """Give what a snapshot is made of beside how things stand."""
        now, failure = self._time.now(), self._enforcer.failure
        troubles = [
            *self._effect.damage,
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
        busy = self._reloads.awaited is not None
        return Report(troubles, self._tally.totals, failure is not None, self._gate.accepted, busy)

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
                self._display.publish()
        else:
            await self._wait()

    async def _wait(self) -> None:
        """Wait until something is due or wanted."""
        left = self._agenda.left(COUNT_EVERY)
        if self._effect.next_change is not None:
            left = min(left, max(_BRIEF, self._time.left(self._effect.next_change)))
        await first(self._wanted.wait(), self._clock.sleep(left))
        self._wanted.clear()

    def _clock_was_set(self) -> None:
        """Look at the clock again at once, whatever we were waiting for."""
        log.warning("clock.set", now=self._time.now())
        self._display.publish()
        self._wanted.set()
