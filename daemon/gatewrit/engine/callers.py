"""Who wants the policy files to be read again, and who waits for what came of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from gatewrit.engine import heap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatewrit.engine.byhand import RefusedError
    from gatewrit.engine.chronicle import Chronicle
    from gatewrit.engine.display import Display
    from gatewrit.engine.notify import Notifier
    from gatewrit.engine.snapshot import Outcome
    from gatewrit.engine.takeback import Expecting

    Waiting = list[asyncio.Future[Outcome]]


class Call(NamedTuple):
    """What is wanted of one reading: whether somebody `ordered` it, and who was the last to have it be confirmed."""

    ordered: bool
    expecting: Expecting | None
    waiting: Waiting


class Callers:
    """Collects calls until the daemon takes them, all of them at once. A daemon that starts reads without being called.

    `wake` is set with each call.
    """

    def __init__(self, wake: asyncio.Event, notifier: Notifier, chronicle: Chronicle, display: Display) -> None:
        self._wake = wake
        self._notifier = notifier
        self._chronicle = chronicle
        self._display = display
        self._waiting: Waiting = []
        self._ordered = False
        self._expecting: Expecting | None = None
        #: Whether the files are to be read.
        self.wanted = True

    def want(self, *, ordered: bool = False) -> None:
        """Ask for everything to be read again, without waiting for it.

        `ordered` by somebody: files that merely changed don't end a roll-back.
        """
        self.wanted = True
        self._ordered |= ordered
        self._wake.set()

    async def call(self, expecting: Expecting | None) -> Outcome:
        """Order a reading, and wait for its outcome. Several who wait for one reading share it."""
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._expecting = expecting or self._expecting
        self.want(ordered=True)
        return await waiter

    def take(self) -> Call:
        """Begin to read for all who have called until now."""
        call = Call(self._ordered, self._expecting, self._waiting)
        self.wanted, self._ordered, self._expecting, self._waiting = False, False, None, []
        self._notifier.reloading()
        return call

    def refuse(self, waiting: Sequence[asyncio.Future[Outcome]], refusal: RefusedError) -> None:
        """Say that nothing was read, and why."""
        self._notifier.ready(self._display.headline())
        for waiter in waiting:
            if not waiter.done():
                waiter.set_exception(refusal)

    async def answer(self, waiting: Sequence[asyncio.Future[Outcome]], outcome: Outcome) -> None:
        """Give the outcome to those who waited for it."""
        await self._chronicle.write(1.0)
        self._notifier.ready(self._display.headline())
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(outcome)
        await asyncio.to_thread(heap.trim)
