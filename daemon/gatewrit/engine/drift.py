"""Somebody else changes our table: seen as it happens, repaired at once, and told if they won't stop.

Nobody wins a fight over a table: who changes it again and again is answered ever more slowly, up to a bound, and an
alarm says so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

import structlog

from gatewrit.engine.status import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatewrit.engine.clock import Clock
    from gatewrit.engine.timing import Agenda
    from gatewrit.kernel.notices import Notice, Notices

log = structlog.get_logger()

#: So many repairs within so many seconds are answered at once; more are a fight.
_PATIENT, _WITHIN = 5, 60.0
#: Seconds before a repair in a fight: doubled with each, up to the last.
_FIRST, _LAST = 0.2, 10.0


class Drift:
    """Listens to what others do to our table, and has the kernel looked at. `doubt` is told which sets they touched."""

    def __init__(self, clock: Clock, agenda: Agenda, notices: Callable[[], Notices] | None) -> None:
        self._clock = clock
        self._agenda = agenda
        self._open = notices
        self._notices: Notices | None = None
        self._repairs: deque[float] = deque(maxlen=_PATIENT + 8)
        self._by: str | None = None
        #: When the first change was told that isn't undone yet.
        self._told_at: float | None = None

    @contextlib.contextmanager
    def watch(
        self, doubt: Callable[[Notice], None], wake: Callable[[], None], elsewhere: Callable[[], None]
    ) -> Iterator[None]:
        """Listen inside the running event loop; where that can't be, the regular looks have to do.

        `elsewhere` is called when other tables were changed.
        """
        if self._open is None:
            yield
            return
        loop = asyncio.get_running_loop()
        try:
            notices = self._notices = self._open()
        except OSError as error:
            log.warning("drift.unheard", reason=str(error), means="what others change is found by the regular looks")
            yield
            return

        def told() -> None:
            notice = notices.take()
            if notice is None:
                elsewhere()
            else:
                self._by = notice.by or self._by
                self._told_at = self._told_at or self._clock.monotonic()
                doubt(notice)
                self._agenda.hasten("look", self._delay())
                wake()

        loop.add_reader(notices, told)
        try:
            yield
        finally:
            loop.remove_reader(notices)
            self._notices = None
            notices.close()

    @contextlib.contextmanager
    def mute(self) -> Iterator[None]:
        """Don't listen while we change the table ourselves."""
        with self._notices.mute() if self._notices is not None else contextlib.nullcontext():
            yield

    def repaired(self) -> None:
        """Note that somebody's change was undone, and that was read back."""
        now = self._clock.monotonic()
        self._repairs.append(now)
        after = None if self._told_at is None else round(now - self._told_at, 4)
        log.warning("drift.undone", by=self._by, after_s=after)

    def settled(self) -> None:
        """Note that what was told until now is dealt with."""
        self._told_at = None

    @property
    def _recent(self) -> int:
        return sum(at > self._clock.monotonic() - _WITHIN for at in self._repairs)

    def _delay(self) -> float:
        over = self._recent - _PATIENT
        return 0.0 if over < 0 else min(_LAST, _FIRST * 2.0**over)

    @property
    def troubles(self) -> list[Trouble]:
        """What is to be told while somebody won't stop."""
        if self._recent < _PATIENT:
            return []
        who = f"; it was {self._by} last" if self._by else ""
        return [
            Trouble(
                "table_contested",
                "error",
                f"somebody changes the table inet gatewrit again and again{who}: it was repaired {self._recent} times "
                f"within the last {_WITHIN:.0f} s, and in between not everything ordered is enforced",
            )
        ]
