"""Writing to the state directory: enforcement goes on if it can't be written, and that is said as long as it lasts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gatewrit.engine.status import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = structlog.get_logger()


class Scribe:
    """Writes what it is told to, in a thread, and keeps account of what it couldn't."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._unwritable: dict[str, Trouble] = {}

    @property
    def troubles(self) -> list[Trouble]:
        """What can't be written now."""
        return list(self._unwritable.values())

    async def write(self, what: str, write: Callable[[], None]) -> bool:
        """Call `write`; an `OSError` becomes a trouble that lasts until the same thing is written, and gives False."""
        try:
            await asyncio.to_thread(write)
        except OSError as error:
            if what not in self._unwritable:
                log.error("state.unwritable", what=what, reason=str(error))  # noqa: TRY400 - no fault of ours
            message = f"the {what} can't be written to {self.state}: {error.strerror or error}"
            self._unwritable[what] = Trouble("state_unwritable", "error", message, place=what)
            return False
        self._unwritable.pop(what, None)
        return True
