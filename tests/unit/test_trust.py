"""The floor under now: what a clock that is wrong can and can't do to it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.engine import clock as clocks
from gatewrit.engine.clock import SystemClock
from gatewrit.engine.scribe import Scribe
from gatewrit.engine.trust import FILE, LEAP, SAVE_EVERY, TOLERANCE, Timekeeper, advance, load_floor, settled_now
from support.clock import FakeClock

if TYPE_CHECKING:
    from gatewrit.engine.status import Trouble

NOW = 1_448_910_000.0
INSTANTS = st.floats(0, 9e9)


@given(floor=INSTANTS, elapsed=st.floats(0, 1e6), wall=INSTANTS, synchronised=st.booleans())
def test_the_floor_never_goes_back_and_only_a_synchronised_clock_takes_it_far(
    floor: float, elapsed: float, wall: float, *, synchronised: bool
) -> None:
    after = advance(floor, elapsed, wall, synchronised=synchronised)
    assert after >= floor
    assert after <= max(floor + elapsed, wall)
    if synchronised:
        assert after == max(floor, wall)
    else:
        assert after <= floor + elapsed + LEAP


@pytest.mark.parametrize(
    ("wall", "synchronised", "expected"),
    [
        pytest.param(NOW + 10, False, NOW + 10, id="goes on"),
        pytest.param(0, True, NOW, id="behind, though synchronised: it is waited for"),
        pytest.param(0, False, NOW + 10, id="behind: at least the time that passed has passed"),
        pytest.param(NOW - TOLERANCE, False, NOW, id="a small correction: it is waited for"),
        pytest.param(NOW - TOLERANCE - 0.01, False, NOW + 10, id="more than a correction"),
        pytest.param(NOW + LEAP, False, NOW + LEAP, id="was switched off"),
        pytest.param(NOW + 11 + LEAP, False, NOW + 10, id="leapt ahead"),
        pytest.param(4e9, True, 4e9, id="leapt ahead, vouched for"),
    ],
)
def test_each_way_a_clock_can_stand(wall: float, *, synchronised: bool, expected: float) -> None:
    assert advance(NOW, 10, wall, synchronised=synchronised) == expected


def keeper(clock: FakeClock, state: Path) -> Timekeeper:
    keeper = Timekeeper(clock, Scribe(state))
    keeper.load()
    return keeper


def codes(troubles: list[Trouble]) -> list[tuple[str, str]]:
    return [(each.code, each.severity) for each in troubles]


async def test_a_floor_outlives_the_daemon_and_a_clock_in_1970(tmp_path: Path) -> None:
    first = keeper(FakeClock(NOW), tmp_path)
    assert (first.now(), first.settled(), first.troubles()) == (NOW, NOW, [])
    await first.save()

    clock = FakeClock(77, synchronised=False)
    second = keeper(clock, tmp_path)
    assert (second.now(), second.settled()) == (NOW, NOW)
    assert codes(second.troubles()) == [("clock_untrusted", "error"), ("clock_unsynchronised", "warning")]
    assert str(tmp_path / FILE) == second.troubles()[0].place
    await clock.pass_(3600)
    assert second.now() == NOW + 3600
    assert second.left(int(NOW) + 3610) == 10

    # NTP comes up: the clock is right again.
    clock.steady = True
    clock.set(NOW + 3700)
    assert (second.now(), second.settled(), second.troubles()) == (NOW + 3700, NOW + 3700, [])


async def test_a_clock_that_leaps_ahead_unvouched_settles_nothing(tmp_path: Path) -> None:
    clock = FakeClock(NOW, synchronised=False)
    kept = keeper(clock, tmp_path)
    assert kept.now() == NOW
    clock.set(4e9)
    await clock.pass_(5)
    assert (kept.now(), kept.settled()) == (4_000_000_005, NOW + 5)
    assert codes(kept.troubles()) == [("clock_untrusted", "error"), ("clock_unsynchronised", "warning")]
    await kept.save()
    assert load_floor(tmp_path) == NOW + 5
    # It is put right by hand: as if nothing had been.
    clock.set(NOW + 6)
    assert (kept.now(), kept.settled()) == (NOW + 6, NOW + 6)
    assert codes(kept.troubles()) == [("clock_unsynchronised", "warning")]


async def test_a_trouble_says_the_same_for_as_long_as_it_lasts(tmp_path: Path) -> None:
    clock = FakeClock(NOW)
    kept = keeper(clock, tmp_path)
    kept.now()
    clock.set(NOW - 100)
    before = kept.troubles()
    await clock.pass_(5)
    assert kept.troubles() == before != []
    await clock.pass_(95)
    assert kept.troubles() == []


async def test_it_is_stored_each_minute_and_only_if_it_moved(tmp_path: Path) -> None:
    clock = FakeClock(NOW)
    kept = keeper(clock, tmp_path)
    await kept.save()
    stored = (tmp_path / FILE).stat()
    await clock.pass_(SAVE_EVERY - 1)
    await kept.save_in_time()
    assert load_floor(tmp_path) == NOW
    await clock.pass_(1)
    await kept.save_in_time()
    assert load_floor(tmp_path) == NOW + SAVE_EVERY
    assert (tmp_path / FILE).stat().st_ino != stored.st_ino
    again = (tmp_path / FILE).stat().st_ino
    await kept.save()
    assert (tmp_path / FILE).stat().st_ino == again


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "latest": 1}',
        '{"version": 1, "latest": true}',
        '{"version": 1, "latest": 1.5}',
        '{"version": 1, "latest": "now"}',
        '{"version": 1, "latest": -1}',
        '{"version": 1, "latest": 99999999999}',
    ],
)
async def test_a_damaged_floor_is_said_and_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    kept = Timekeeper(FakeClock(NOW), Scribe(tmp_path))
    with pytest.raises(ValueError):  # noqa: PT011 - whatever json says of it
        kept.load()
    assert kept.now() == NOW
    await kept.save()
    assert json.loads((tmp_path / FILE).read_text()) == {"version": 1, "latest": int(NOW)}


async def test_a_plan_is_made_for_the_same_instant_as_the_daemons_rules(tmp_path: Path) -> None:
    assert settled_now(FakeClock(77), tmp_path) == 77
    await keeper(FakeClock(NOW), tmp_path).save()
    assert settled_now(FakeClock(77), tmp_path) == NOW
    assert settled_now(FakeClock(NOW + 9), tmp_path) == NOW + 9
    assert settled_now(FakeClock(4e9, synchronised=False), tmp_path) == NOW
    (tmp_path / FILE).write_text("[")
    assert settled_now(FakeClock(77), tmp_path) == 77


async def test_what_cannot_be_stored_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder")
    scribe = Scribe(tmp_path / "state")
    kept = Timekeeper(FakeClock(NOW), scribe)
    await kept.save()
    assert [each.code for each in scribe.troubles] == ["state_unwritable"]
    (tmp_path / "state").unlink()
    await kept.save()
    assert scribe.troubles == []
    assert load_floor(tmp_path / "state") == NOW


# -- the host's own ---------------------------------------------------------------------------------------------------


async def test_the_hosts_timer_is_the_wall_clocks_and_cancelled_when_that_is_set() -> None:
    """As the kernel has it: CLOCK_REALTIME is 0; the flags are ABSTIME (1) and CANCEL_ON_SET (2)."""
    before = _timers()
    with SystemClock().watch(lambda: None):
        (timer,) = _timers() - before
        assert "clockid: 0\n" in timer
        assert "settime flags: 03\n" in timer
        assert "it_value: (0, 0)" not in timer
    assert _timers() == before


async def test_each_time_that_it_rings_is_told_and_watched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may set the machine's clock, so other descriptors stand in for the timer's."""
    made = list[int]()

    def make() -> int:
        made.append(os.eventfd(0))
        return made[-1]

    monkeypatch.setattr(clocks, "_open_timer", make)
    told = asyncio.Semaphore(0)
    with SystemClock().watch(told.release):
        for _ in range(3):
            os.eventfd_write(made[-1], 1)
            await asyncio.wait_for(told.acquire(), 10)
        assert len(made) == 4
    for descriptor in made:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(descriptor)


def test_the_kernel_tells_whether_the_clock_is_synchronised() -> None:
    assert SystemClock().synchronised() in (True, False)


def test_where_the_kernel_may_not_be_asked_timesyncd_s_file_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "_LIBC", SimpleNamespace(adjtimex=lambda _answer: -1))
    monkeypatch.setattr(clocks, "TIMESYNCD", tmp_path / "synchronized")
    assert SystemClock().synchronised() is None
    (tmp_path / "synchronized").touch()
    assert SystemClock().synchronised() is True
    for leapt in (40_000, -60):
        touched = time.time() - leapt
        os.utime(tmp_path / "synchronized", (touched, touched))
        assert SystemClock().synchronised() is None, "the clock is far from where it was when it was set"


def _timers() -> set[str]:
    found = set()
    for path in Path("/proc/self/fdinfo").iterdir():
        try:
            text = path.read_text()
        except OSError:
            continue
        if "clockid:" in text:
            found.add(text)
    return found
