"""When which routine is due again, and waiting for the next one. Seconds are monotonic: no wall clock moves them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from gatewrit.engine.clock import Clock

#: A routine that takes t seconds is done at most every t times this, so that a large table can't keep us busy.
RARENESS = 200.0


class Agenda:
    """What is due when; each thing by its name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}

    def plan(self, what: str, seconds: float) -> None:
        """Have it due in so many seconds, whatever was planned for it before."""
        self._due[what] = self._clock.monotonic() + seconds

    def hasten(self, what: str, seconds: float) -> None:
        """Have it due in so many seconds, unless it is due sooner."""
        self._due[what] = min(self._due.get(what, float("inf")), self._clock.monotonic() + seconds)

    def drop(self, what: str) -> None:
        """Have it not due at all; fine if it wasn't planned."""
        self._due.pop(what, None)

    def is_due(self, what: str) -> bool:
        """Whether its time has come."""
        return what in self._due and self._due[what] <= self._clock.monotonic()

    def left(self, most: float) -> float:
        """Give the seconds until the next thing is due: none if one is overdue, and never more than `most`."""
        nearest = min(self._due.values(), default=None)
        return most if nearest is None else min(most, max(0.0, nearest - self._clock.monotonic()))


async def first(*waits: Coroutine[Any, Any, Any]) -> None:
    """Wait until one of them is done, and drop the others."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
