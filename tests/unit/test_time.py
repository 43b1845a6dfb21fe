"""The daemon follows a clock that passes, jumps, comes up wrong and isn't synchronised: what rules come of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from gatewrit.engine.config import Config
from gatewrit.engine.daemon import Daemon
from gatewrit.engine.enforcer import LOOK_EVERY
from gatewrit.engine.notify import Notifier
from gatewrit.kernel import expressions as nf
from gatewrit.policy.instant import parse_instant
from support.clock import FakeClock
from support.fake import FakeKernel
from support.gateway import policy, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from gatewrit.kernel.spare import Spare

NOW = parse_instant("2015-12-01T00:00:00Z").epoch
DAY = 86400
#: A rule of a ladder: until when it holds (None: for ever), and whether a packet then counts for somebody.
Rule = tuple[int | None, bool]


class Heard(Notifier):
    """Counts how often the watchdog is fed."""

    fed = 0

    def alive(self) -> None:
        self.fed += 1


class Bench:
    """A daemon on a kernel in memory, with a clock that the test moves."""

    def __init__(self, root: Path) -> None:
        self.policies = root / "policies"
        self.state = root / "state"
        (self.policies / "services").mkdir(parents=True)
        self.kernel = FakeKernel()
        self.clock = FakeClock(NOW)
        self.daemon: Daemon | None = None
        self.notifier = Heard(None)
        self.spare: Spare | None = None
        self.left: Callable[[], Spare | None] = lambda: self.spare

    def order(self, name: str, start: float | str, until: float | str, revision: int = 1) -> None:
        (self.policies / "services" / f"{name}.yaml").write_text(service(name, ("203.0.113.0/24", "tcp/3101")))
        (self.policies / f"{name}.yaml").write_text(policy(name, name, start=start, until=until, revision=revision))

    @asynccontextmanager
    async def running(self, *, reload: bool = True) -> AsyncIterator[None]:
        """Have it run, from its first complete ruleset on, or only as it begins by itself."""
        config = Config("g", self.policies, self.state)
        self.daemon = Daemon(config, self.kernel, self.clock, self.notifier, spare=self._left)
        task = asyncio.create_task(self.daemon.run())
        try:
            if reload:
                await asyncio.wait_for(self.daemon.reload(), 10)
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _left(self) -> Spare | None:
        return self.left()

    @property
    def ladder(self) -> list[Rule]:
        """What stands in the one cell, in order."""
        assert self.kernel.table is not None
        (chain,) = [chain for name, chain in self.kernel.table.chains.items() if name.startswith("to.by.")]
        return [(_guard(rule.expressions), _counts(rule.expressions)) for rule in chain.rules]

    @property
    def empty(self) -> bool:
        return self.kernel.table is None or not any(name.startswith("to.by") for name in self.kernel.table.chains)

    @property
    def states(self) -> dict[str, str]:
        assert self.daemon is not None
        return {view.id: view.state.value for view in self.daemon.snapshot().policies}

    @property
    def codes(self) -> list[str]:
        assert self.daemon is not None
        return [problem.code for problem in self.daemon.snapshot().problems]

    async def pass_(self, seconds: float) -> None:
        """Let time pass, once the daemon waits for it."""
        await self.until(lambda: self.clock.waiting)
        await self.clock.pass_(seconds)

    async def until(self, what: Callable[[], object]) -> None:
        """Wait until it holds; the daemon needs no time of the clock for it."""
        deadline = time.monotonic() + 10
        while not what():
            assert time.monotonic() < deadline, "the daemon didn't come to it"
            await asyncio.sleep(0.001)


def _guard(expressions: tuple[nf.Expression, ...]) -> int | None:
    ends = [part.data for part in expressions if isinstance(part, nf.Cmp) and len(part.data) == 8]
    assert len(ends) <= 1
    return int.from_bytes(ends[0], "big") // 10**9 if ends else None


def _counts(expressions: tuple[nf.Expression, ...]) -> bool:
    return any(isinstance(part, nf.CounterRef) for part in expressions)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_an_order_that_is_moved_to_now_acts_since_now(bench: Bench) -> None:
    bench.order("order", NOW + 1000, NOW + 9000)
    async with bench.running():
        assert bench.daemon is not None
        await bench.pass_(50)
        bench.order("order", NOW - 500, NOW + 9000, revision=2)
        assert (await bench.daemon.reload()).ok
        (view,) = bench.daemon.snapshot().policies
        assert (view.state.value, view.in_force_since) == ("in_force", NOW + 50)
        await bench.pass_(50)
        bench.order("order", NOW - 600, NOW + 9000, revision=3)
        assert (await bench.daemon.reload()).ok
        (view,) = bench.daemon.snapshot().policies
        assert view.in_force_since == NOW + 50, "it was in force before that amendment"


async def test_a_start_takes_its_guard_away_and_an_end_sweeps(bench: Bench) -> None:
    start, until = NOW + 100, NOW + 200
    bench.order("order", start, until)
    async with bench.running():
        assert bench.ladder == [(start, False), (until, True)]
        await bench.pass_(99)
        await bench.until(lambda: bench.states == {"order": "scheduled"})
        assert bench.ladder == [(start, False), (until, True)]
        await bench.pass_(1)
        await bench.until(lambda: bench.ladder == [(until, True)])
        await bench.until(lambda: bench.states == {"order": "in_force"})
        await bench.pass_(100)
        await bench.until(lambda: bench.empty)
        await bench.until(lambda: bench.states == {"order": "lapsed"})
        assert bench.codes == []


async def test_a_clock_that_is_set_ahead_is_followed_at_once(bench: Bench) -> None:
    """No time passes: it is the timer of the wall clock that wakes the daemon. Several instants come at once."""
    bench.order("order", NOW + 100, NOW + 3 * DAY)
    bench.order("other", NOW + DAY, NOW + 2 * DAY)
    async with bench.running():
        before = bench.clock.elapsed
        bench.clock.set(NOW + 2 * DAY)
        await bench.until(lambda: bench.states == {"order": "in_force", "other": "lapsed"})
        await bench.until(lambda: bench.ladder == [(NOW + 3 * DAY, True)])
        # Nothing but the grace period of a counter that nobody uses any more.
        assert bench.clock.elapsed - before < 1


async def test_a_clock_that_is_set_back_lifts_nothing_and_brings_no_guard_back(bench: Bench) -> None:
    bench.order("order", NOW - DAY, NOW + DAY)
    bench.order("past", NOW - 2 * DAY, NOW - DAY)
    bench.order("later", NOW + 100, NOW + DAY)
    async with bench.running():
        before = bench.ladder
        assert before == [(NOW + 100, True), (NOW + DAY, True)]
        bench.clock.set(NOW - 3 * DAY)
        await bench.until(lambda: bench.codes == ["clock_untrusted"])
        assert bench.daemon is not None
        assert bench.daemon.snapshot().enforcement == "degraded"
        await bench.daemon.reload()
        assert bench.ladder == before
        assert bench.states == {"order": "in_force", "past": "lapsed", "later": "scheduled"}
        bench.clock.set(NOW + 1)
        await bench.until(lambda: bench.codes == [])
        assert bench.ladder == before


async def test_a_clock_that_comes_up_in_1970_lifts_nothing(bench: Bench) -> None:
    bench.order("order", NOW - DAY, NOW + DAY)
    async with bench.running():
        assert bench.ladder == [(NOW + DAY, True)]
    bench.clock = FakeClock(60, synchronised=False)
    async with bench.running():
        assert bench.ladder == [(NOW + DAY, True)]
        assert bench.states == {"order": "in_force"}
        assert bench.codes == ["clock_untrusted", "clock_unsynchronised"]
        # Time goes on, by the clock that can't be set.
        await bench.pass_(DAY)
        await bench.until(lambda: bench.empty)
        await bench.until(lambda: bench.states == {"order": "lapsed"})


async def test_without_what_was_seen_a_clock_in_1970_would_lift_it(bench: Bench) -> None:
    """What the floor is for: this is how it would be without."""
    bench.order("order", NOW - DAY, NOW + DAY)
    async with bench.running():
        pass
    (bench.state / "clock.json").unlink()
    bench.clock = FakeClock(60)
    async with bench.running():
        assert bench.ladder == [(NOW - DAY, False), (NOW + DAY, True)]


async def test_a_leap_that_nobody_vouches_for_sweeps_nothing_and_keeps_guards(bench: Bench) -> None:
    start, until = NOW + 100, NOW + DAY
    bench.order("order", start, until)
    bench.clock.steady = False
    async with bench.running():
        bench.clock.set(4e9)
        await bench.until(lambda: "clock_untrusted" in bench.codes)
        assert bench.daemon is not None
        await bench.daemon.reload()
        assert bench.ladder == [(start, False), (until, True)]
        assert bench.states == {"order": "lapsed"}
        bench.clock.set(NOW + 2)
        await bench.until(lambda: bench.states == {"order": "scheduled"})
        assert bench.ladder == [(start, False), (until, True)]
        # The same leap, but synchronised: it is true.
        bench.clock.steady = True
        bench.clock.set(4e9)
        await bench.until(lambda: bench.empty)
        assert bench.codes == []


async def test_a_late_daemon_misses_nothing(bench: Bench) -> None:
    """Stopped, or suspended with its host: when it goes on, all that came meanwhile is done."""
    bench.order("order", NOW + 10, NOW + 20)
    bench.order("other", NOW + 15, NOW + DAY)
    async with bench.running():
        await bench.pass_(DAY - 1)
        await bench.until(lambda: bench.states == {"order": "lapsed", "other": "in_force"})
        await bench.until(lambda: bench.ladder == [(NOW + DAY, True)])


@pytest.mark.parametrize(
    ("start", "until", "epochs"),
    [
        # Clocks in Berlin go from 01:59:59 to 03:00:00 at 01:00 UTC, and in autumn from 02:59:59 back to 02:00:00.
        ("2016-03-27T01:59:59[Europe/Berlin]", "2016-03-27T03:00:00[Europe/Berlin]", (1459040399, 1459040400)),
        ("2016-10-30T01:59:59[Europe/Berlin]", "2016-10-30T03:00:00[Europe/Berlin]", (1477785599, 1477792800)),
        (
            "2016-10-30T02:30:00+02:00[Europe/Berlin]",
            "2016-10-30T02:30:00+01:00[Europe/Berlin]",
            (1477787400, 1477791000),
        ),
        # Half an hour, on the other side of the world.
        (
            "2016-04-03T01:29:59[Australia/Lord_Howe]",
            "2016-04-03T02:00:00[Australia/Lord_Howe]",
            (1459607399, 1459611000),
        ),
        # Offsets that an order gives are what they are, whatever the zone around does.
        ("2016-03-27T02:30:00+01:00", "2016-03-27T02:30:00Z", (1459042200, 1459045800)),
    ],
)
async def test_across_a_change_of_the_clocks_the_rules_hold_the_true_instants(
    bench: Bench, start: str, until: str, epochs: tuple[int, int]
) -> None:
    begin, end = epochs
    bench.clock.wall = begin - 10
    bench.order("order", start, until)
    async with bench.running():
        assert bench.ladder == [(begin, False), (end, True)]
        # The clock is set across the start, as who mistakes summer time for a wrong clock does.
        bench.clock.set(begin)
        await bench.until(lambda: bench.ladder == [(end, True)])
        bench.clock.set(begin - 3600)
        await bench.until(lambda: bench.codes == ["clock_untrusted"])
        assert bench.ladder == [(end, True)]
        bench.clock.set(end - 1)
        await bench.until(lambda: bench.codes == [])
        assert bench.ladder == [(end, True)]
        bench.clock.set(end)
        await bench.until(lambda: bench.empty)


async def test_a_pass_that_hangs_starves_the_watchdog(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.order("order", NOW, NOW + DAY)
    hangs, goes_on = asyncio.Event(), asyncio.Event()
    generation = bench.kernel.generation

    async def hang() -> int:
        hangs.set()
        await goes_on.wait()
        return await generation()

    async with bench.running():
        await bench.pass_(1)
        monkeypatch.setattr(bench.kernel, "generation", hang)
        await bench.pass_(LOOK_EVERY)
        await asyncio.wait_for(hangs.wait(), 10)
        fed = bench.notifier.fed
        await bench.clock.pass_(300)
        await asyncio.sleep(0)
        assert bench.notifier.fed == fed
        goes_on.set()
        await bench.until(lambda: bench.notifier.fed > fed)
