"""Time as an argument: the engine asks a clock, so that tests can hand it another."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the engine knows of time."""

    def time(self) -> float:
        """Give the wall clock in epoch seconds."""

    def monotonic(self) -> float:
        """Give seconds that only ever grow, for durations."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The host's clocks."""

    def time(self) -> float:
        """Give the wall clock in epoch seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Give seconds that only ever grow, for durations."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
