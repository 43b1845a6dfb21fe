"""HTTP beside the daemon: a process without privileges, which is started anew when it ends, or which systemd starts."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import structlog

from gatewrit.api import launch, listen, unprivileged
from gatewrit.api.door import url
from gatewrit.api.feed import Feed
from gatewrit.api.listen import ListenError
from gatewrit.cli import credentials

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatewrit.cli.credentials import Credentials
    from gatewrit.engine.daemon import Daemon
    from gatewrit.engine.status import Trouble
    from gatewrit.settings import Settings

log = structlog.get_logger()

#: Seconds until a taken HTTP address is tried again.
_LISTEN_AGAIN = 5.0
#: Seconds until a server that has ended is started again: doubled each time, from the beginning once one has lived.
_BACKOFF, _LONGEST_BACKOFF, _LIVED = 1.0, 60.0, 60.0
#: Seconds for a server to end.
_GRACE = 5.0


class Web:
    """What the daemon tells the HTTP server, and that server's life where it is ours."""

    def __init__(self, daemon: Daemon, settings: Settings, *, apart: bool) -> None:
        self._settings = settings
        self._apart = apart
        self._feed = Feed(daemon)
        self._credentials: Credentials | None = None
        self.reload()
        daemon.told = self._feed.changed
        daemon.outside = self.troubles

    def reload(self) -> None:
        """Read certificate and tokens again, and pass them on."""
        self._credentials = credentials.read(self._settings, self._credentials)
        for trouble in self._credentials.wrong:
            log.warning("http.credentials", code=trouble.code, place=trouble.place, reason=trouble.message)
        self._feed.rekey(self._credentials.material)

    def troubles(self, now: int) -> Sequence[Trouble]:
        """Give what is wrong with certificate and tokens."""
        return () if self._credentials is None else self._credentials.troubles(now)

    async def run(self) -> NoReturn:
        """Have HTTP served for as long as the daemon lives."""
        ticking = asyncio.create_task(self._feed.tick())
        try:
            while True:
                try:
                    await (self._wait_for_servers() if self._apart else self._serve())
                except ListenError as error:
                    log.error("http.not_listening", reason=str(error), again_in_s=_LISTEN_AGAIN)  # noqa: TRY400
                await asyncio.sleep(_LISTEN_AGAIN)
        finally:
            ticking.cancel()
            self._feed.close()

    async def _wait_for_servers(self) -> NoReturn:
        """Let the server that systemd starts connect."""
        user, group = _server_account()
        async with self._feed.serve(self._settings.runtime, user, group) as path:
            log.info("http.apart", feed=str(path))
            await asyncio.Event().wait()
        raise AssertionError

    async def _serve(self) -> NoReturn:
        """Bind the addresses, and have a child answer on them."""
        settings = self._settings
        who = unprivileged.account(listen.group_id(settings.control.group))
        backoff = _BACKOFF
        loop = asyncio.get_running_loop()
        with listen.bound(settings.listen, settings.control.group) as bound:
            log.info("http.listening", addresses=[url(name, sock) for name, sock in bound])
            while True:
                began = loop.time()
                code = await self._child([sock for _, sock in bound], who)
                if loop.time() - began > _LIVED:
                    backoff = _BACKOFF
                log.error("http.server_ended", code=code, again_in_s=backoff)
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, _LONGEST_BACKOFF)

    async def _child(self, sockets: list[socket.socket], who: tuple[int, int] | None) -> int:
        """Start a server and wait for its end; it ends with us, since its feed does."""
        ours, theirs = socket.socketpair()
        settings = self._settings
        with theirs:
            fds = [sock.fileno() for sock in sockets]
            words = launch.command(
                fds, theirs.fileno(), settings.gateway.name, who, (settings.log.format, settings.log.level)
            )
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(*fds, theirs.fileno()),
                env=launch.environment(),
                start_new_session=True,
            )
            try:
                theirs.close()
                ours.setblocking(False)
                await self._feed.attach(ours)  # which closes it
                return await process.wait()
            finally:
                await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_GRACE):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()


def _server_account() -> tuple[int | None, int | None]:
    """Give uid and gid of the user that the server's unit runs as, None where the host has none."""
    try:
        entry = pwd.getpwnam(unprivileged.USERS[0])
    except KeyError:
        log.warning("http.no_user", user=unprivileged.USERS[0], meaning="only a server of root's can connect")
        return None, None
    return (entry.pw_uid, entry.pw_gid) if entry.pw_uid != os.geteuid() else (None, None)
