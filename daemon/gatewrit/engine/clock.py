"""Time as an argument: the engine asks a clock, so that tests can hand it another."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class Clock(Protocol):
    """What the engine knows of time."""

    def time(self) -> float:
        """Give the wall clock in epoch seconds."""

    def monotonic(self) -> float:
        """Give seconds that only ever grow, for durations."""

    def synchronised(self) -> bool | None:
        """Whether something keeps the wall clock right (NTP, PTP); None where that can't be asked."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    def watch(self, was_set: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `was_set` in the event loop each time that the wall clock jumps; slewing it isn't setting it."""


class SystemClock:
    """The host's clocks."""

    def time(self) -> float:
        """Give the wall clock in epoch seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Give seconds that only ever grow, for durations."""
        return time.monotonic()

    def synchronised(self) -> bool | None:
        """Ask adjtimex(2), which takes no right as long as nothing is set.

        A unit with ProtectClock= forbids it even so; then what systemd-timesyncd leaves says it. Other programs leave
        nothing: None.
        """
        answer = _Timex()
        if _LIBC.adjtimex(ctypes.byref(answer)) >= 0:
            return not answer.status & _STA_UNSYNC
        return True if _set_lately(TIMESYNCD, time.time()) else None

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    @contextmanager
    def watch(self, was_set: Callable[[], None]) -> Iterator[None]:
        """Keep a timer that the kernel cancels when the wall clock jumps, as also after a suspend."""
        loop = asyncio.get_running_loop()
        timer = _open_timer()

        def rang() -> None:
            # The next one is there before this one goes, so that no jump falls in between.
            nonlocal timer
            loop.remove_reader(timer)
            timer, old = _open_timer(), timer
            os.close(old)
            loop.add_reader(timer, rang)
            was_set()

        loop.add_reader(timer, rang)
        try:
            yield
        finally:
            loop.remove_reader(timer)
            os.close(timer)


#: systemd-timesyncd touches it each time that it sets or slews the clock, and removes it when it ends.
TIMESYNCD = Path("/run/systemd/timesync/synchronized")
#: Seconds after which the kernel takes a clock that nothing has touched for unsynchronised: 16 s of error at 500 ppm
#: (MAXFREQ and NTP_PHASE_LIMIT in kernel/time/ntp.c).
_FRESH = 32_000.0


def _set_lately(marker: Path, now: float) -> bool:
    """Whether the marker was touched lately by this very clock: one that has leapt since is far from it."""
    try:
        return 0 <= now - marker.stat().st_mtime < _FRESH
    except OSError:
        return False


_LIBC = ctypes.CDLL(None, use_errno=True)
_STA_UNSYNC = 0x40
_TFD_TIMER_ABSTIME, _TFD_TIMER_CANCEL_ON_SET = 1, 2
#: In 2261; the kernel's timers end in 2262.
_LATEST = 9_200_000_000


class _Timex(ctypes.Structure):
    """The head of struct timex (adjtimex(2)), and room for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


class _Timerspec(ctypes.Structure):
    """struct itimerspec: the interval, then the first expiry, each in seconds and nanoseconds."""

    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


def _open_timer() -> int:
    """Open a timer of the wall clock that would ring in 2261, but is readable once that is set; raises `OSError`."""
    timer: int = _LIBC.timerfd_create(time.CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
    if timer < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
    if _LIBC.timerfd_settime(timer, flags, ctypes.byref(_Timerspec(first_s=_LATEST)), None) < 0:
        code = ctypes.get_errno()
        os.close(timer)
        raise OSError(code, "timerfd_settime")
    return timer
