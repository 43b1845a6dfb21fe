"""HTTP: raw bytes on a connection to the real server. Whatever they are, it makes no mistake and comes to rest."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from fuzz.loop import Loop, rest
from gatewrit.api import http, wire
from gatewrit.api.access import Access, Keys
from gatewrit.api.door import HERE, Door, Entrance, Guest
from gatewrit.api.stream import Streams
from unit.api_samples import DEGRADED, NOW, Source

if TYPE_CHECKING:
    from aiohttp.web_request import BaseRequest

_LOOP = Loop()
_LIMITS = wire.Limits()


class _Connection(wire.Connection):
    """Notes what it got and each answer's status, and waits for nobody's body."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._lingering_time = 0.0
        self.received = 0
        self.statuses: list[int] = []

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        super().data_received(data)

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        self.statuses.append(resp.status)
        return await super().finish_response(request, resp, start_time)

    def rests(self, size: int) -> bool:
        """Whether it has ended, or got all that was sent and waits for more."""
        waits = self._waiter is not None and not self._waiter.done()
        return self.transport is None or (self.received == size and waits and not self._messages)


async def _server() -> tuple[web.Server[web.Request], Streams]:
    app = http.make_app(Source(DEGRADED), lambda: NOW, Access(Keys()))
    streams = next(each.__self__ for each in app.on_shutdown if isinstance(getattr(each, "__self__", None), Streams))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    assert runner.server is not None
    return runner.server, streams


_SERVER, _STREAMS = _LOOP.run(_server())


def one_input(data: bytes) -> None:
    # Several clients, one after the other.
    for part in data.split(b"\n%again\n"):
        statuses, answer = _LOOP.run(_exchange(part))
        assert all(200 <= status < 500 for status in statuses), statuses
        assert not answer or answer.startswith(b"HTTP/"), answer[:100]


async def _exchange(data: bytes) -> tuple[list[int], bytes]:
    """Send bytes on a connection; give the answers' statuses and bytes once nothing happens any more."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    answer = bytearray()

    def take() -> None:
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            answer.extend(ours.recv(1 << 20))

    with ours:
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        size = ours.send(data) if data else 0
        assert size == len(data)
        # Each time a client of whom nothing is known, on this host.
        guest = Guest(HERE, Entrance(theirs, beyond=False), lambda: None)
        made = partial(_Connection, _SERVER, Door(_LIMITS), _LIMITS, guest)
        _, connection = await loop.connect_accepted_socket(made, theirs)

        def rests() -> bool:
            take()
            # A stream that has said what there is rests too.
            told = any(not each.wake.is_set() for each in _STREAMS._open) and b"\nevent: " in answer
            return connection.rests(size) or (told and connection.received == size)

        await rest(rests)
        take()
        if connection.transport is not None:
            connection.transport.abort()
        await rest(lambda: connection.transport is None and not _STREAMS._open)
    return connection.statuses, bytes(answer)
