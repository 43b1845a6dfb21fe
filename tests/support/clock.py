"""A clock that shows what a test says, and whose time passes when a test says so."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Sleeps up to here pass by themselves: a grace period isn't what a test waits for.
_PASSES = 0.1


class FakeClock:
    """Behaves like `SystemClock`; `pass_` lets time pass, `set` sets the wall clock."""

    def __init__(self, wall: float, *, synchronised: bool | None = True) -> None:
        self.wall = wall
        self.elapsed = 1000.0
        self.steady: bool | None = synchronised
        self._moved = asyncio.Condition()
        self._watchers: list[Callable[[], None]] = []
        self.waiting = 0
        """How many wait now; a daemon that is just about to would sleep through what passes before."""

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.elapsed

    def synchronised(self) -> bool | None:
        return self.steady

    async def sleep(self, seconds: float) -> None:
        if seconds <= _PASSES:
            self.wall += seconds
            self.elapsed += seconds
            await asyncio.sleep(0)
            return
        wake = self.elapsed + seconds
        async with self._moved:
            self.waiting += 1
            try:
                await self._moved.wait_for(lambda: self.elapsed >= wake)
            finally:
                self.waiting -= 1

    @contextmanager
    def watch(self, was_set: Callable[[], None]) -> Iterator[None]:
        self._watchers.append(was_set)
        yield
        self._watchers.remove(was_set)

    async def pass_(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.wall += seconds
        self.elapsed += seconds
        async with self._moved:
            self._moved.notify_all()

    def set(self, wall: float) -> None:
        """Set the wall clock; no time passes."""
        self.wall = wall
        for was_set in self._watchers:
            was_set()
