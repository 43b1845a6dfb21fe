"""What HTTP costs: requests a second and their 99th percentile, the first view of the page, 200 streams of events.

The server is a process of its own, as on a gateway, and its limits on how often somebody may ask are lifted. Other work
on the machine makes latencies longer; the processor time of the server says what a core can do with nothing beside it.
Run by `make bench-http`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.views import first_views_in_chromium
from gatewrit.api import http, shown
from gatewrit.api.access import Access, Keys
from gatewrit.api.wire import Limits
from gatewrit.engine.events import Event, Topic
from gatewrit.policy.terms import Effective, Instant, Order
from unit.api_samples import IN_SYNC, SHUTDOWN, Source

if TYPE_CHECKING:
    from gatewrit.engine.snapshot import PolicyView

CONNECTIONS, REQUESTS, STREAMS, EVENTS = 8, 8000, 200, 50
_LIFTED = Limits(rate_here=1e9, burst_here=1e9, requests=1_000_000_000)


def serve(descriptor: int, policies: int) -> None:
    """Be the server; SIGUSR1 makes something happen."""
    views = tuple(replace(_order(), id=f"p{number:05}") for number in range(policies))
    source = Source(replace(IN_SYNC, policies=views))
    shown.warm()

    def happen() -> None:
        last = source.recent.last
        source.recent.add([Event(last + 1, int(time.time()), Topic.POLICY, "state", "p00001", "p00001 is in_force")])
        source.told()

    def change() -> None:
        """Have a new snapshot, at SIGUSR2."""
        source.held = replace(source.held)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, happen)
        loop.add_signal_handler(signal.SIGUSR2, change)
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        sock = socket.socket(fileno=descriptor)
        async with http.serve_on(source, [sock], Access(Keys()), limits=_LIFTED):
            print("up", flush=True)
            await stop.wait()

    asyncio.run(run())


def _order() -> PolicyView:
    """Give an order that has begun and will end, so that its line of time is drawn with all that belongs to it."""
    now = int(time.time())
    start, until, review = (Instant(now + days * 86400, "", "Asia/Karachi", 18000) for days in (-30, 300, 60))
    issued = time.strftime("%Y-%m-%d", time.gmtime(now - 90 * 86400))
    return replace(
        SHUTDOWN,
        order=Order("Pakistan Telecommunication Authority", f"PTA notification of {issued}", issued),
        effective=Effective(start, until, review),
        in_force_since=start.epoch,
    )


class Server:
    """The server as a process."""

    def __init__(self, policies: int) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.port: int = sock.getsockname()[1]
        descriptor = sock.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.web", "--serve", str(descriptor), "--policies", str(policies)],
            pass_fds=[descriptor],
            stdout=subprocess.PIPE,
        )
        sock.close()
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"up\n"

    def processor(self) -> float:
        """Give the seconds of processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Give the KiB that it has in memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(10)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, etag: str = "") -> int:
    """Ask once over an open connection; give the size of the body."""
    given = f"If-None-Match: {etag}\r\n" if etag else ""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{given}\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 304" if etag else "HTTP/1.1 200"), head
    if "\r\nTransfer-Encoding: chunked\r\n" in head:
        length = 0
        while size := int(await reader.readuntil(b"\r\n"), 16):
            length += len(await reader.readexactly(size + 2)) - 2
        await reader.readexactly(2)
        return length
    length = next((int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:")), 0)
    await reader.readexactly(length)
    return length


async def flood(server: Server, path: str, etag: str = "") -> None:
    """Ask as fast as it goes, and say how fast that was."""
    took: list[float] = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(REQUESTS // CONNECTIONS):
            began = time.perf_counter()
            await ask(reader, writer, path, etag)
            took.append(time.perf_counter() - began)
        writer.close()

    before, began = server.processor(), time.perf_counter()
    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    wall, used = time.perf_counter() - began, server.processor() - before
    p50, p99 = (statistics.quantiles(took, n=100)[at] * 1000 for at in (49, 98))
    print(
        f"{path}{' (304)' if etag else ''}: {len(took) / wall:,.0f} requests/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms; "
        f"{used / len(took) * 1e6:.0f} µs of processor each: {len(took) / used:,.0f}/s on a core of its own"
    )


async def etag_of(server: Server, path: str) -> str:
    """Give the entity tag of an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()
    return next(line[6:] for line in head.split("\r\n") if line.lower().startswith("etag:"))


async def first_views(server: Server, path: str) -> None:
    """Say how long it takes until who asks first, and who asks next, has everything."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    times = []
    for _ in range(2):
        began = time.perf_counter()
        size = await ask(reader, writer, path)
        times.append((time.perf_counter() - began) * 1000)
    writer.close()
    print(f"{path}: first {times[0]:.0f} ms, next {times[1]:.1f} ms, {size / 1000:,.0f} kB")


#: Snapshots of which each is asked about once.
SNAPSHOTS = 50


async def anew(server: Server, path: str) -> None:
    """Say what asking costs that is the first to ask about a new snapshot."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await ask(reader, writer, path)
    before = server.processor()
    for _ in range(SNAPSHOTS):
        server.process.send_signal(signal.SIGUSR2)
        await ask(reader, writer, path)
    writer.close()
    print(f"{path}, of a new snapshot each: {(server.processor() - before) / SNAPSHOTS * 1000:.1f} ms of processor")


async def streams(server: Server) -> None:
    """Open many streams, have things happen, and say what that costs."""
    idle = server.memory()
    before = server.processor()
    readers, writers = [], []
    for _ in range(STREAMS):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"event: enforcement\n")
        readers.append(reader)
        writers.append(writer)
    opened = server.processor() - before
    print(
        f"{STREAMS} streams opened: {opened / STREAMS * 1e6:.0f} µs of processor and "
        f"{(server.memory() - idle) / STREAMS:.0f} KiB each"
    )
    before, began = server.processor(), time.perf_counter()
    await asyncio.sleep(30)
    wall = time.perf_counter() - began
    print(f"… open and nothing happens: {(server.processor() - before) / wall:.2%} of a core, heartbeats included")
    took, before = [], server.processor()
    for _ in range(EVENTS):
        began = time.perf_counter()
        server.process.send_signal(signal.SIGUSR1)
        await asyncio.gather(*(reader.readuntil(b"event: policy\n") for reader in readers))
        took.append((time.perf_counter() - began) * 1000)
    used = (server.processor() - before) / EVENTS
    print(
        f"… an event: all {STREAMS} have it after {statistics.median(took):.0f} ms (median; worst {max(took):.0f}), "
        f"{used * 1000:.1f} ms of processor"
    )
    for writer in writers:
        writer.close()


async def measure(policies: int) -> None:
    """Measure a gateway of so many policies."""
    print(f"-- {policies:,} policies")
    server = Server(policies)
    try:
        await first_views(server, "/")
        await first_views_in_chromium(server.port)
        for path in ("/v1/status", "/v1/policies/p00001", "/v1/policies", "/metrics"):
            await first_views(server, path)
        for path in ("/metrics", "/v1/status"):
            await anew(server, path)
        for path in ("/v1/status", "/v1/policies"):
            await flood(server, path)
            await flood(server, path, await etag_of(server, path))
    finally:
        server.close()
    # What the floods left in memory would hide what streams take.
    server = Server(policies)
    try:
        await streams(server)
    finally:
        server.close()


def main() -> None:
    """Measure, or be what is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--policies", type=int, default=1000)
    given = parser.parse_args()
    if given.serve is not None:
        serve(given.serve, given.policies)
    else:
        asyncio.run(measure(given.policies))


if __name__ == "__main__":
    main()
