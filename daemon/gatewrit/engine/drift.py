"""Somebody else changes our table: seen as it happens, repaired at once, and told if they won't stop.

Where the kernel lets nobody else change it there is nothing to listen to, and listening would slow everybody's
transactions: then the ruleset's generation is asked for about once a second, and says whether others changed anything.

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
from gatewrit.kernel.backend import KernelError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from gatewrit.engine.clock import Clock
    from gatewrit.engine.timing import Agenda
    from gatewrit.kernel.backend import Kernel
    from gatewrit.kernel.notices import Notice, Notices

log = structlog.get_logger()

#: So many repairs within so many seconds are answered at once; more are a fight.
_PATIENT, _WITHIN = 5, 60.0
#: Seconds before a repair in a fight: doubled with each, up to the last.
_FIRST, _LAST = 0.2, 10.0
#: Seconds between two questions for the generation, which take microseconds however large the tables are.
ASK_EVERY = 1.0


class Others:
    """Counts the transactions of everybody else by the ruleset's generation: what it has grown by, less our own."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._seen: int | None = None

    async def acted(self) -> bool:
        """Whether there was one since this was last asked; False at first.

        Where the kernel doesn't say, the next question finds it. One of ours whose answer was lost counts as theirs.
        """
        try:
            now = await self._kernel.generation() - self._kernel.committed
        except KernelError:
            return False
        before, self._seen = self._seen, now
        return before not in {None, now}


class Drift:
    """Listens to what others do to our table, and has the kernel looked at. `doubt` is told which sets they touched.

    While the table is ours alone it doesn't listen, but plans `generation` on the agenda; the daemon calls `ask` when
    that is due.
    """

    def __init__(self, kernel: Kernel, clock: Clock, agenda: Agenda, notices: Callable[[], Notices] | None) -> None:
        self._clock = clock
        self._agenda = agenda
        self._open = notices
        self._notices: Notices | None = None
        self._others = Others(kernel)
        self._elsewhere: Callable[[], None] = lambda: None
        self._owned: Callable[[], bool] = lambda: False
        self._repairs: deque[float] = deque(maxlen=_PATIENT + 8)
        self._by: str | None = None
        #: When the first change was told that isn't undone yet.
        self._told_at: float | None = None

    @contextlib.contextmanager
    def watch(
        self,
        doubt: Callable[[Notice], None],
        wake: Callable[[], None],
        elsewhere: Callable[[], None],
        owned: Callable[[], bool],
    ) -> Iterator[None]:
        """Listen inside the running event loop; where that can't be, the regular looks have to do.

        `elsewhere` is called when other tables were changed, or it isn't known which. `owned` says whether the table
        is ours alone, and is asked whenever we may have changed that.
        """
        if self._open is None:
            yield
            return
        loop = asyncio.get_running_loop()
        self._elsewhere, self._owned = elsewhere, owned
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

    @contextlib.asynccontextmanager
    async def mute(self) -> AsyncIterator[None]:
        """Don't listen while we change the table ourselves, nor after that if it is ours alone then.

        Whatever others do meanwhile is found: the generation is asked for before listening ends, and after it began.
        """
        notices = self._notices
        if notices is None:
            yield
            return
        if notices.listening:
            # What others did until here was told.
            await self._others.acted()
            notices.leave()
        try:
            yield
        finally:
            if not self._owned():
                notices.join()
        await self.ask()

    async def ask(self) -> bool:
        """Have what is beside our table looked at if others have changed anything that wasn't told; whether they have.

        It is due again in a while where nobody listens.
        """
        acted = await self._others.acted()
        if acted:
            self._elsewhere()
        if self._notices is None or self._notices.listening:
            self._agenda.drop("generation")
        else:
            self._agenda.plan("generation", ASK_EVERY)
        return acted

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
