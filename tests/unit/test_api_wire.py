"""What arrives at the HTTP port isn't always a browser: bad hosts, bad bytes, too much of it, too slowly."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace

import pytest

from gatewrit.api.wire import Limits
from unit.api_samples import DEGRADED, SHUTDOWN, Source
from unit.test_api_http import raw, serving


def split(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return int(status.split()[1]), {name: value for name, _, value in (field.partition(": ") for field in fields)}, body


async def ask(request: str) -> tuple[int, dict[str, str], bytes]:
    async with serving(Source(DEGRADED)) as base:
        return split(await raw(base, request.encode("latin-1")))


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:9451",
        "localhost.:80",
        "noc.localhost",
        "ip6-localhost",
        "127.0.0.1",
        "127.1.2.3:1",
        "[::1]",
        "[0:0:0:0:0:0:0:1]:9451",
    ],
)
async def test_loopback_is_answered(host: str) -> None:
    status, _, _ = await ask(f"GET /livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    assert status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evillocalhost",
        "localhost@evil.example",
        "127.0.0.1.evil.example",
        "evil.example:9451",
        "192.0.2.1",
        "[2001:db8::1]",
        "0.0.0.0",  # noqa: S104
        "[::]",
        "2130706433",
        "localhost:x",
        "",
    ],
)
async def test_dns_rebinding_is_refused(host: str) -> None:
    status, headers, body = await ask(f"GET /v1/status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    assert status in (400, 421)
    assert headers["Content-Type"] == "application/problem+json"
    assert b"core-1" not in body


async def test_http_1_0_needs_no_host_and_http_1_1_needs_one() -> None:
    assert (await ask("GET /livez HTTP/1.0\r\n\r\n"))[0] == 200
    assert (await ask("GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n"))[0] == 400
    twice = "Host: localhost\r\nHost: evil.example\r\n"
    assert (await ask(f"GET /livez HTTP/1.1\r\n{twice}Connection: close\r\n\r\n"))[0] == 400


@pytest.mark.parametrize(
    "request_text",
    [
        "nonsense\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1, 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + "a" * 10000 + "\r\n\r\n",
        "GET /" + "a" * 10000 + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_told_so_and_hung_up_on(request_text: str) -> None:
    status, headers, body = await ask(request_text)
    assert status == 400
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Server"] == "gatewrit"
    document = json.loads(body)
    assert document["code"] == "not_http"
    assert "aaa" not in document["detail"]


async def test_too_many_header_fields_are_refused() -> None:
    fields = "".join(f"X-{number}: 1\r\n" for number in range(65))
    status, headers, _ = await ask(f"GET / HTTP/1.0\r\nHost: localhost\r\n{fields}\r\n")
    assert status in (400, 431)
    assert headers["Content-Type"] == "application/problem+json"


async def test_a_head_without_end_is_not_kept() -> None:
    async with serving(Source(DEGRADED)) as base:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 10_000_000:
                writer.write(b"X: y\r\n" * 1000)
                sent += 6000
                await writer.drain()
                await asyncio.sleep(0)
        assert sent < 10_000_000
        with contextlib.suppress(ConnectionError):
            assert not (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_body_is_refused_unread() -> None:
    status, _, body = await ask("GET /v1/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\nstart")
    assert status == 400
    assert json.loads(body)["code"] == "body"


@pytest.mark.parametrize("path", ["/v1/status", "/nothing"])
async def test_an_expectation_that_cannot_be_met(path: str) -> None:
    status, headers, _ = await ask(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nExpect: wonders\r\n\r\n")
    assert status == 417
    assert headers["Content-Type"] == "application/problem+json"


async def test_pipelined_requests_are_answered_in_turn() -> None:
    one = "GET /livez HTTP/1.1\r\nHost: localhost\r\n"
    async with serving(Source(DEGRADED)) as base:
        answer = await raw(base, f"{one}\r\n{one}Connection: close\r\n\r\n".encode())
    assert answer.count(b"HTTP/1.1 200 OK") == 2


async def seconds_until_hung_up(limits: Limits, first: bytes, drip: bytes = b"") -> float:
    loop = asyncio.get_running_loop()
    async with serving(Source(DEGRADED), limits) as base:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
        writer.write(first)
        began = loop.time()

        async def dripping() -> None:
            while drip:
                writer.write(drip)
                await asyncio.sleep(0.05)

        task = asyncio.create_task(dripping())
        try:
            async with asyncio.timeout(5):
                while await reader.read(65536):
                    pass
        except ConnectionResetError:
            pass
        finally:
            task.cancel()
            writer.close()
        return loop.time() - began


async def test_who_says_nothing_is_hung_up_on() -> None:
    assert 0.2 < await seconds_until_hung_up(Limits(head=0.3), b"") < 2


async def test_who_drips_a_header_is_hung_up_on() -> None:
    first = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    assert 0.2 < await seconds_until_hung_up(Limits(head=0.3), first, b"X: y\r\n") < 2


async def test_who_stays_connected_for_nothing_is_hung_up_on() -> None:
    first = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert 0.2 < await seconds_until_hung_up(Limits(idle=0.3), first) < 2


async def test_who_drips_a_second_request_is_hung_up_on() -> None:
    first = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n"
    assert 0.2 < await seconds_until_hung_up(Limits(idle=0.3), first, b"X: y\r\n") < 2


async def test_a_connection_outlives_the_time_that_one_request_may_take() -> None:
    async with serving(Source(DEGRADED), Limits(head=0.3, request=0.3)) as base:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
        for _ in range(3):
            writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readuntil(b'"alive": true}\n')).startswith(b"HTTP/1.1 200 OK")
            await asyncio.sleep(0.4)
        writer.close()


async def test_of_too_many_connections_the_newest_is_refused() -> None:
    async with serving(Source(DEGRADED), Limits(connections=2)) as base:
        port = int(base.rpartition(":")[2])
        kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        for reader, writer in kept:
            writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
            writer.close()
        await asyncio.sleep(0.05)
        assert (await raw(base, b"GET /livez HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200 OK"), "they are counted down"


async def test_who_does_not_take_the_answer_is_hung_up_on() -> None:
    views = tuple(replace(SHUTDOWN, id=f"p{number:04}") for number in range(1000))
    async with serving(Source(replace(DEGRADED, policies=views)), Limits(request=0.3, idle=0.3)) as base:
        _, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]), limit=1)
        one = b"GET /v1/policies?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        writer.write(one * 30)  # 24 MB of answers that nobody reads
        await asyncio.sleep(1.5)
        writer.write(one)
        await asyncio.sleep(0.1)
        writer.write(one)
        with pytest.raises(ConnectionError):
            await writer.drain()
        writer.close()
        assert (await raw(base, b"GET /livez HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200 OK")
