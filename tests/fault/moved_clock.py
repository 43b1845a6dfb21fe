"""The daemon as it is, but for its view of the wall clock: `python moved_clock.py FILE run --config …`.

FILE says by how many seconds that clock is moved, and whether anything synchronises it ("-86400 no"). It is read at the
start, and at each SIGUSR1, which tells of a jump as the kernel's timer would. The machine's own clock, by which the
kernel judges packets, is left alone.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gatewrit.cli import main
from gatewrit.engine.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _Moved:
    """How far the clock is moved, and who is told when that changes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._right = time.time
        self._told: list[Callable[[], object]] = []
        self._read()

    def _read(self) -> None:
        offset, synchronised = self._file.read_text().split()
        self._offset, self._synchronised = float(offset), synchronised == "yes"

    def jump(self, *_: object) -> None:
        self._read()
        for tell in self._told:
            tell()

    def time(self) -> float:
        return self._right() + self._offset

    def synchronised(self) -> bool:
        return self._synchronised

    @contextmanager
    def watch(self, was_set: Callable[[], None]) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        # Called from a signal handler: only this wakes a loop that waits.
        self._told.append(lambda: loop.call_soon_threadsafe(was_set))
        yield


if __name__ == "__main__":
    moved = _Moved(Path(sys.argv.pop(1)))
    signal.signal(signal.SIGUSR1, moved.jump)
    time.time = moved.time
    SystemClock.synchronised = lambda _: moved.synchronised()  # type: ignore[method-assign]
    SystemClock.watch = lambda _, was_set: moved.watch(was_set)  # type: ignore[method-assign]
    main()
