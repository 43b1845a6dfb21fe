"""Time as an argument: the engine asks a clock, so that tests can hand it another."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the engine knows of time."""

    def now(self) -> int:
        """Give the wall clock in whole epoch seconds."""

    def monotonic(self) -> float:
        """Give seconds that only ever grow, for durations."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The host's clocks."""

    def now(self) -> int:
        """Give the wall clock in whole epoch seconds."""
        return int(time.time())

    def monotonic(self) -> float:
        """Give seconds that only ever grow, for durations."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
