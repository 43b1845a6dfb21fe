"""An event loop that does everything in one thread, so that an input always takes the same way."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from structlog.testing import capture_logs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

#: Turns of the loop in which whatever an input set off must have come to rest.
TURNS = 5000


class _AtOnce(ThreadPoolExecutor):
    """Does what it is given before `submit` returns."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args, **named))
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
            done.set_exception(error)
        return done


class Loop(logging.Handler):
    """A loop that lives as long as the target; what goes wrong in it unseen, or is logged, fails its input."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(_AtOnce(1))
        self.loop.set_exception_handler(lambda _loop, context: self._wrong.append(context))
        self._wrong: list[object] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._wrong.append(self.format(record))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        logging.getLogger().addHandler(self)
        try:
            with capture_logs() as logged:
                result = self.loop.run_until_complete(work)
        finally:
            logging.getLogger().removeHandler(self)
        wrong, self._wrong = self._wrong, []
        wrong += [each for each in logged if each["log_level"] in {"error", "critical"}]
        assert not wrong, wrong
        return result


async def rest(done: Callable[[], bool]) -> None:
    """Turn the loop until it is done."""
    for _ in range(TURNS):
        if done():
            return
        await asyncio.sleep(0)
    raise AssertionError(f"not at rest after {TURNS} turns of the loop")
