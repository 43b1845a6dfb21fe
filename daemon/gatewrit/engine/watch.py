"""Which moments to read the policies again: when a file was renamed into place, closed after writing, or taken away.

Half-written files are never read: a write counts when its file is closed. What belongs together changes together
through `gatewrit reload`; here a short quiet is waited for, so that an editor's several steps are one change.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from asyncinotify import Event, Inotify, Mask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_SETTLED = Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE
_FOLDERS = Mask.CREATE | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR
#: Seconds without a further change after which those so far are taken as one, and how long they may go on at most.
_QUIET, _LONGEST = 0.02, 1.0
#: Seconds after which a directory that is gone is looked for again.
_RETRY = 1.0
_MOST_FOLDERS = 1000


async def changes(root: Path) -> AsyncIterator[float]:
    """Yield once for each burst of changes below `root`, which need not exist yet. Never ends by itself.

    What is yielded is the event loop's time just after the last change of the burst.
    """
    loop = asyncio.get_running_loop()
    watched: bool | None = None
    while True:
        with suppress(OSError), Inotify() as inotify:
            found = _watch(inotify, root)
            if watched is not None and (found or watched):
                # What changed while nobody watched is one change, and so is that there is nothing to watch any more.
                yield loop.time()
            watched = found
            if not found:
                await asyncio.sleep(_RETRY)
                continue
            async for settled in _bursts(inotify):
                if settled is None:
                    break
                yield settled
        # A folder came, went or moved: watch anew from the top.
        await asyncio.sleep(_QUIET)


def _watch(inotify: Inotify, root: Path) -> bool:
    """Watch all folders below `root`; False if there is no such folder."""
    found = False
    for count, (folder, _, _) in enumerate(os.walk(root)):
        if count >= _MOST_FOLDERS:
            break
        inotify.add_watch(folder, _SETTLED | _FOLDERS)
        found = True
    return found


async def _bursts(inotify: Inotify) -> AsyncIterator[float | None]:
    """Yield after each burst of changed files when it ended; None once when the folders themselves changed."""
    while True:
        event = await inotify.get()
        relevant, folders = _judge(event)
        loop = asyncio.get_running_loop()
        last = loop.time()
        deadline = last + _LONGEST
        while (left := min(_QUIET, deadline - loop.time())) > 0:
            try:
                async with asyncio.timeout(left):
                    event = await inotify.get()
            except TimeoutError:
                break
            more, moved = _judge(event)
            last = loop.time()
            relevant, folders = relevant or more, folders or moved
        if folders:
            yield None
            return
        if relevant:
            yield last


def _judge(event: Event) -> tuple[bool, bool]:
    """Say whether an event changes what would be read, and whether it changes which folders there are."""
    folders = bool(event.mask & (Mask.ISDIR | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.IGNORED | Mask.Q_OVERFLOW))
    name = "" if event.name is None else str(event.name)
    ignored = name.startswith(".") or name.endswith("~")
    return not folders and not ignored and bool(event.mask & _SETTLED), folders
