"""Something to look at while a reload of a million prefixes takes its time; on a terminal only, on standard error."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gatewrit.api.client import ControlError
from gatewrit.api.words import plain

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping

    from rich.progress import TaskID

    #: Gives the `progress` of the status, None while nothing is known of it.
    Ask = Callable[[], Awaitable[Mapping[str, Any] | None]]

T = TypeVar("T")

#: Seconds that pass in silence, and then between two questions.
_SILENT, _BETWEEN = 1.0, 0.5
#: A status of ten thousand policies costs the daemon time that the reload needs: this part of it at most.
_RARELY = 10


async def shown(work: Coroutine[Any, Any, T], ask: Ask) -> T:
    """Wait for `work` and give what it gives; once it takes long, show a person how far it is."""
    task = asyncio.ensure_future(work)
    try:
        if sys.stderr.isatty() and not await _done(task, _SILENT):
            await _show(task, ask)
        return await task
    finally:
        # Whoever interrupts us is told so at once.
        task.cancel()


@contextmanager
def working(what: str) -> Iterator[None]:
    """Say to a person what is being worked on in here, once it takes long."""
    if not sys.stderr.isatty():
        yield
        return
    done = Event()
    telling = Thread(target=_tell, args=(what, done), daemon=True)
    telling.start()
    try:
        yield
    finally:
        done.set()
        telling.join()


def _tell(what: str, done: Event) -> None:
    if done.wait(_SILENT):
        return
    with _line() as line:
        line.add_task(what, total=None, steps="")
        while not done.wait(_BETWEEN):
            line.refresh()


async def _done(task: asyncio.Future[T], seconds: float) -> bool:
    return bool((await asyncio.wait({task}, timeout=seconds))[0])


async def _show(task: asyncio.Future[T], ask: Ask) -> None:
    """Keep one line up to date; it vanishes at the end, for the outcome says all."""
    with _line() as line:
        row = line.add_task("waiting for the daemon", total=None, steps="")
        while True:
            began = monotonic()
            try:
                found = await ask()
            except ControlError:
                # How far it is, is nice to know; what came of it is for `work` to say.
                found = None
            if not task.done() and found is not None:
                _update(line, row, found)
            line.refresh()
            if await _done(task, max(_BETWEEN, (monotonic() - began) * _RARELY)):
                return


def _line() -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[steps]}"))
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True, auto_refresh=False)


def _update(line: Progress, row: TaskID, found: Mapping[str, Any]) -> None:
    done, total = found["done"], found["total"]
    steps = f"{done:,} of {total:,}" if total else ""
    line.update(row, description=plain(found["activity"]), total=total or None, completed=done, steps=steps)
