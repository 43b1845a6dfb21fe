"""The policies directory as the daemon follows it: read as it must be signed, judged beside what was good before."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

import structlog

from gatewrit.engine.holds import hold_back
from gatewrit.engine.intake import take_in
from gatewrit.engine.room import with_room
from gatewrit.engine.watch import changes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from gatewrit.engine.gate import Gate
    from gatewrit.engine.holds import Held, Rules
    from gatewrit.engine.intake import Intake
    from gatewrit.engine.recall import Recall
    from gatewrit.engine.shelf import Later
    from gatewrit.engine.store import Kept
    from gatewrit.engine.trust import Timekeeper
    from gatewrit.kernel.spare import Spare
    from gatewrit.policy.load import Reading

log = structlog.get_logger()


class Directory:
    """Remembers what was read last: of the next reading, only what has changed is read and judged again."""

    def __init__(  # noqa: PLR0913, PLR0917 - whoever has a part in it
        self,
        path: Path,
        gate: Gate,
        shelf: Later,
        recall: Recall,
        time: Timekeeper,
        spare: Callable[[], Spare | None],
    ) -> None:
        self._path = path
        self._gate = gate
        self._shelf = shelf
        self._recall = recall
        self._time = time
        self._spare = spare
        self._last: Reading | None = None
        #: When it was last begun to be read, by the event loop's clock: what changed before that was seen.
        self._read_at = -inf

    async def changed(self) -> AsyncIterator[None]:
        """Yield whenever something in it has changed that wasn't seen yet."""
        async for at in changes(self._path):
            if at >= self._read_at:
                yield

    async def follow(self) -> Reading | None:
        """Read what is to count from now on; None if it isn't as it must be signed."""
        self._read_at = asyncio.get_running_loop().time()
        reading = await self.read()
        self._last = reading or self._last
        return reading

    async def read(self) -> Reading | None:
        """Read it only to see what is there; None if it isn't as it must be signed."""
        return await self._gate.read(self._path, self._last, self._shelf, self._time.now())

    async def decide(
        self, reading: Reading, before: Mapping[str, Kept], coming: Intake | None, rules: Rules, now: int
    ) -> tuple[Intake, tuple[Held, ...]]:
        """Give what counts by a reading, where `before` did, and what is held back of it. Faults are logged.

        `coming` is what is being prepared.
        """
        taken = await asyncio.to_thread(take_in, reading, before, now, rules.rails, self._recall)
        taken = await asyncio.to_thread(with_room, taken, before, coming, self._spare, self._recall)
        intake, held = await asyncio.to_thread(hold_back, taken, before, rules, now, self._recall)
        for fault in (finding.fault for finding in intake.findings):
            event = log.error if fault.severity == "error" else log.warning
            event("policy.fault", place=str(fault.place), code=fault.code, message=fault.message)
        return intake, held
