"""What one client may take of the HTTP server, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket

import pytest

from gatewrit.api import door, wire
from gatewrit.api.door import HERE, Door
from gatewrit.api.wire import Limits
from unit.api_samples import DEGRADED, Source
from unit.test_api_http import raw, serving
from unit.test_api_wire import split

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def connect(base: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everybody count as one client from elsewhere."""
    monkeypatch.setattr(door, "client_of", lambda _conn: "192.0.2.1")


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: loc", b"G"])
async def test_who_does_not_finish_a_request_is_told_so(first: bytes) -> None:
    async with serving(Source(DEGRADED), Limits(head=0.3)) as base:
        status, headers, body = split(await raw(base, first))
    assert status == 408
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Connection"] == "close"
    assert headers["Content-Length"] == str(len(body))
    assert json.loads(body)["code"] == "too_slow"


async def test_who_takes_no_answer_is_reset_and_the_kernel_keeps_nothing_for_it() -> None:
    async with serving(Source(DEGRADED), Limits(idle=0.3)) as base:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", int(base.rpartition(":")[2])))
            await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
            async with asyncio.timeout(10):
                while not client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):  # noqa: ASYNC110 - the kernel's event
                    await asyncio.sleep(0.01)


async def test_three_hundred_connections_and_the_next_one_afterwards() -> None:
    async with serving(Source(DEGRADED), Limits(connections=256)) as base:
        many = [await connect(base) for _ in range(300)]
        answered = 0
        for reader, writer in many:
            with contextlib.suppress(ConnectionError):
                writer.write(LIVEZ)
                async with asyncio.timeout(5):
                    answered += (await reader.read(12)) == b"HTTP/1.1 200"
        assert answered == 256
        for _, writer in many:
            writer.close()
        answer = b""
        async with asyncio.timeout(5):
            while not answer.startswith(b"HTTP/1.0 200"):
                with contextlib.suppress(ConnectionError):
                    answer = await raw(base, b"GET /livez HTTP/1.0\r\n\r\n")


async def test_a_client_has_so_many_connections_and_others_have_theirs(
    elsewhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(Source(DEGRADED), Limits(per_client=2)) as base:
        kept = [await connect(base) for _ in range(2)]
        for reader, writer in kept:
            writer.write(LIVEZ)
            assert await reader.read(12) == b"HTTP/1.1 200"
        status, _, body = split(await raw(base, b""))
        assert (status, json.loads(body)["code"]) == (429, "too_many")
        monkeypatch.setattr(door, "client_of", lambda _conn: "192.0.2.2")
        assert split(await raw(base, b"GET /livez HTTP/1.0\r\n\r\n"))[0] == 200
        for _, writer in kept:
            writer.close()


async def test_who_asks_too_often_waits(elsewhere: None) -> None:
    async with serving(Source(DEGRADED), Limits(rate=0.01, burst=3)) as base:
        statuses = [split(await raw(base, b"GET /livez HTTP/1.0\r\n\r\n"))[0] for _ in range(3)]
        assert statuses == [200, 200, 200]
        status, headers, body = split(await raw(base, b"GET /v1/status HTTP/1.0\r\n\r\n"))
        assert (status, json.loads(body)["code"]) == (429, "too_many")
        assert 90 <= int(headers["Retry-After"]) <= 100


async def test_a_connection_is_kept_for_so_many_requests() -> None:
    async with serving(Source(DEGRADED), Limits(requests=3)) as base:
        answer = await raw(base, LIVEZ * 10)
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.count(b"Connection: close") == 1


async def test_pipelining_is_bounded() -> None:
    async with serving(Source(DEGRADED)) as base:
        reader, writer = await connect(base)
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                writer.write(LIVEZ * 1000)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            assert (await reader.read()).count(b"HTTP/1.1 200") < 5000
        writer.close()


@pytest.mark.parametrize("method", ["FOO", "PRI", "CONNECT", "get", "GET\x00", "A" * 5000])
async def test_methods_that_there_are_not(method: str) -> None:
    async with serving(Source(DEGRADED)) as base:
        text = f"{method} / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        status, headers, _ = split(await raw(base, text.encode()))
    assert status in (400, 404, 405)
    assert headers["Content-Type"] == "application/problem+json"


async def test_a_chunked_body_is_refused_unread() -> None:
    request = b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with serving(Source(DEGRADED)) as base:
        status, headers, body = split(await raw(base, request))
    assert (status, json.loads(body)["code"], headers["Connection"]) == (400, "body", "close")


def test_buckets_are_of_so_many_clients_and_the_oldest_go() -> None:
    limits = Limits(rate=0.01, burst=1)
    guarded = Door(limits)
    assert guarded.take("first", 0) == 0
    assert guarded.take("first", 0) > 0
    for number in range(door._KNOWN):
        assert guarded.take(str(number), 0) == 0
    assert len(guarded._buckets) == door._KNOWN
    assert guarded.take("first", 0) == 0, "it was forgotten, as the one that asked least lately"


def test_this_host_is_one_client_with_room() -> None:
    guarded = Door(Limits())
    assert all(guarded.take(HERE, 0.0) == 0 for _ in range(5000))
    assert guarded.take(HERE, 0.0) > 0


class Conn:
    """Just enough of a socket."""

    def __init__(self, family: int, peer: str) -> None:
        self.family = family
        self._peer = peer

    def getpeername(self) -> tuple[str, int, int, int]:
        return (self._peer, 1, 0, 0)


@pytest.mark.parametrize(
    ("family", "peer", "client"),
    [
        (socket.AF_UNIX, "", HERE),
        (socket.AF_INET, "127.3.2.1", HERE),
        (socket.AF_INET6, "::1", HERE),
        (socket.AF_INET6, "::ffff:127.0.0.1", HERE),
        (socket.AF_INET6, "::ffff:192.0.2.9", "192.0.2.9"),
        (socket.AF_INET, "192.0.2.9", "192.0.2.9"),
        (socket.AF_INET6, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (socket.AF_INET6, "fe80::1%eth0", "fe80::/64"),
    ],
)
def test_clients_are_told_apart(family: int, peer: str, client: str) -> None:
    assert door.client_of(Conn(family, peer)) == client  # type: ignore[arg-type]


def test_what_is_said_unasked_is_whole() -> None:
    status, headers, body = split(wire.CROWDED)
    assert status == 429
    assert headers["Content-Length"] == str(len(body))
    assert re.fullmatch(r"HTTP/1\.1 429 Too Many Requests", wire.CROWDED.split(b"\r\n")[0].decode())
