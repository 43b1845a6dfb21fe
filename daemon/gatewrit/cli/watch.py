"""`gatewrit status --watch`: what `status` shows, kept up to date in the terminal until Ctrl-C.

How old is what is shown stands above it and grows while nobody answers, so that a daemon that is gone can't go on
looking healthy; once one answers again, all is as before.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from gatewrit.api import client, words
from gatewrit.cli import status_table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from rich.console import ConsoleOptions, RenderResult

    #: Asks the daemon for its `status`.
    Ask = Callable[[], Awaitable[Mapping[str, Any]]]

#: The age is drawn anew this often (seconds), whether or not anything was asked for meanwhile.
_DRAW = 0.25
#: A status of ten thousand policies costs the daemon time: asking takes one part in so many of it at most.
_RARELY = 10


@dataclass(slots=True)
class Shown:
    """What was answered last, when (seconds of a monotonic clock), by the wall clock, and why nobody answers since."""

    answer: Mapping[str, Any] | None = None
    at: float = 0.0
    wall: float = 0.0
    why: str | None = None

    def take(self, answer: Mapping[str, Any], at: float, wall: float) -> None:
        """Take in an answer."""
        self.answer, self.at, self.wall, self.why = answer, at, wall, None


async def watch(ask: Ask, interval: float, to: Console) -> None:
    """Show what `ask` gives, asked for every `interval` seconds, until SIGINT or SIGTERM.

    Raises `NotAllowedError`: waiting doesn't help whoever may not ask.
    """
    shown, stop = Shown(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    asking = asyncio.create_task(_keep_asking(ask, interval, shown))
    try:
        with Live(console=to, screen=True, auto_refresh=False) as live:
            while not stop.is_set() and not asking.done():
                live.update(Screen(shown, monotonic()), refresh=True)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _DRAW)
    finally:
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking


async def _keep_asking(ask: Ask, interval: float, shown: Shown) -> None:
    while True:
        began = monotonic()
        try:
            shown.take(await ask(), monotonic(), time())
        except client.NotAllowedError:
            raise
        except client.ControlError as error:
            shown.why = str(error)
        await asyncio.sleep(max(interval, (monotonic() - began) * _RARELY))


@dataclass(frozen=True, slots=True)
class Screen:
    """One screenful at an instant of the monotonic clock; what doesn't fit is said rather than cut silently."""

    shown: Shown
    now: float

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the lines that fit into the terminal."""
        whole = Group(_age(self.shown, self.now), Text(), *self._body(options.max_width))
        lines = console.render_lines(whole, options.update(height=None), pad=False)
        room = max(options.size.height - 1, 1)
        if len(lines) > room:
            left = words.count(len(lines) - room + 1, "line doesn't", "lines don't")
            lines = [*lines[: room - 1], [Segment(f"… {left} fit here; all: gatewrit status")]]
        for line in lines:
            yield from line
            yield Segment.line()

    def _body(self, width: int) -> list[Any]:
        answer = self.shown.answer
        if answer is None:
            return []
        items = [{**item, "clocks": answer["clocks"].get(item["id"], {})} for item in answer["policies"]]
        return [status_table.render(answer["status"], items, width=width, problems_first=True)]


def _age(shown: Shown, now: float) -> Text:
    """Say how old it is, and in red if nobody answers any more."""
    if shown.answer is None:
        return Text("Asking the daemon …", "dim") if shown.why is None else Text(words.plain(shown.why), "bold red")
    age = words.ago(int(now - shown.at))
    clock = datetime.fromtimestamp(shown.wall, UTC).strftime("%H:%M:%S")
    if shown.why is None:
        return Text(f"As of {clock} UTC, {age}. Ctrl-C ends this, nothing else.", "dim")
    return Text.assemble(
        (words.plain(shown.why), "bold red"),
        (f"\nWhat follows is OLD, of {clock} UTC, {age}. ", "bold red"),
        "The rules stay in the kernel as they were, and orders still start and end at their instants; nobody repairs "
        "them or takes in changes. To do: systemctl status gatewrit",
    )
