"""The process that speaks HTTP: `python -P -m gatewrit.api`, started by `gatewrit run` or `gatewrit serve`.

It inherits the sockets that it answers on, gives up every privilege, and only then hears from the enforcing process
and from strangers. It reads no file of the operator's, and never loads what speaks to the kernel.
"""

from __future__ import annotations

import argparse
import asyncio

# What is handed to a thread, and a name in a Host header, load these at first use.
import concurrent.futures.thread  # noqa: F401
import encodings.idna  # noqa: F401
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from zoneinfo import ZoneInfo

import structlog

from gatewrit import log as logging
from gatewrit.api import codec, http, metrics, page, shown, unprivileged
from gatewrit.api.access import Access
from gatewrit.api.remote import Remote
from gatewrit.api.wire import Limits

log = structlog.get_logger()

#: Seconds that the first word of the enforcer is waited for before anybody is answered.
_FIRST_WORD = 1.0
#: Seconds between two attempts to reach the enforcer.
_AGAIN = 0.5


def main() -> None:
    """Serve until told to stop, or, with an inherited feed, until the enforcing process has ended."""
    given = _arguments()
    logging.configure(given.log_format, given.log_level)
    _rehearse(given.gateway)
    who = None if given.uid is None else (given.uid, given.gid)
    unprivileged.drop(who)
    os.chdir("/")
    asyncio.run(_serve(given))


def _rehearse(gateway: str) -> None:
    """Load what is loaded at first use, while we may: where the interpreter lies, our new user may see nothing."""
    shown.warm()
    codec.warm()
    snapshot = Remote(gateway, Access(None)).snapshot()
    page.render(snapshot, snapshot.started_at)
    metrics.exposition(snapshot)
    ZoneInfo("Europe/Vienna")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--listen", type=int, action="append", required=True)
    feed = parser.add_mutually_exclusive_group(required=True)
    feed.add_argument("--feed", type=int)
    feed.add_argument("--feed-path", type=Path)
    parser.add_argument("--log-format", required=True)
    parser.add_argument("--log-level", required=True)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    return parser.parse_args()


async def _serve(given: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # New keys come from the enforcer, whoever is told to reload.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    sockets = [socket.socket(fileno=fd) for fd in given.listen]
    for sock in sockets:
        sock.setblocking(False)
    access = Access(None)
    remote = Remote(given.gateway, access)
    tasks = [asyncio.create_task(stop.wait()), asyncio.create_task(_listen(remote, given))]
    with suppress(TimeoutError):
        async with asyncio.timeout(_FIRST_WORD):
            await remote.heard.wait()
    async with http.serve_on(remote, sockets, access, limits=Limits()):
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _listen(remote: Remote, given: argparse.Namespace) -> None:
    """Hear from the enforcer: over the inherited socket to its end, or by connecting again and again."""
    loop = asyncio.get_running_loop()
    if given.feed is not None:
        await loop.create_unix_connection(lambda: remote, sock=socket.socket(fileno=given.feed))
        await remote.lost.wait()
        return
    reachable = True
    while True:
        try:
            await loop.create_unix_connection(lambda: remote, str(given.feed_path))
            await remote.lost.wait()
            log.warning("http.enforcer_gone", meaning="HTTP answers with what it said last, marked as old")
        except OSError as error:
            if reachable:
                log.warning("http.no_enforcer", path=str(given.feed_path), reason=error.strerror)
            reachable = False
        else:
            reachable = True
        await asyncio.sleep(_AGAIN)
