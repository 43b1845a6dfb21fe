"""HTTP clients by the hundred, in one process: fast ones that are timed, and slow ones that hold on to what they have.

`crowd` is called in a process of its own inside the gateway's namespace. It goes on until it is told that it is enough,
and says once when each kind that is to be cut off quickly has been.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from multiprocessing.connection import Connection

#: What a fast client asks, in turn.
ASKED = ("/livez", "/v1/status", "/metrics", "/v1/policies?limit=10", "/readyz")
LARGE = "/v1/policies?limit=1000"
#: Kinds of slow clients that are cut off within seconds.
QUICKLY_CUT = {"head", "body", "silent"}
#: Seconds between two questions of a fast client, between two bytes of a slow one, and for any answer.
PAUSE, DRIP, PATIENCE = 0.25, 1.0, 30.0
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n")


@dataclass
class Account:
    """What the crowd met: the fast ones' answers by status and their seconds; when each slow one was cut off."""

    answers: Counter[str] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    cut: Counter[str] = field(default_factory=Counter)
    longest: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def lived(self, kind: str, seconds: float) -> None:
        """Note how long a slow client was put up with so far."""
        self.longest[kind] = max(self.longest[kind], seconds)


def crowd(control: Connection, port: int, fast: int, slow: int) -> Account:
    """Ask until told that it is enough: `fast` clients, and `slow` ones of every kind in turn."""
    return asyncio.run(_crowd(control, port, fast, slow))


async def _crowd(control: Connection, port: int, fast: int, slow: int) -> Account:
    account, loop = Account(), asyncio.get_running_loop()
    enough = asyncio.Event()
    loop.add_reader(control.fileno(), enough.set)
    kinds: list[Callable[[socket.socket], Coroutine[None, None, None]]] = [_head, _body, _reader, _silent]
    work = [asyncio.create_task(_fast(account, port, number)) for number in range(fast)]
    work += [asyncio.create_task(_slow(account, port, kinds[number % len(kinds)])) for number in range(slow)]
    work.append(asyncio.create_task(_tell(account, control)))
    ending = asyncio.create_task(enough.wait())
    done, _ = await asyncio.wait([ending, *work], return_when=asyncio.FIRST_COMPLETED)
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
    for task in done - {ending}:
        task.result()
    return account


async def _tell(account: Account, control: Connection) -> None:
    while not account.cut.keys() >= QUICKLY_CUT:  # noqa: ASYNC110 - no event, and none is needed
        await asyncio.sleep(0.1)
    control.send("cut off")
    await asyncio.Event().wait()


async def _fast(account: Account, port: int, number: int) -> None:
    dice = random.Random(number)  # noqa: S311 - no secret
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            while True:
                await asyncio.sleep(dice.uniform(0, 2 * PAUSE))
                began = time.monotonic()
                try:
                    async with asyncio.timeout(PATIENCE):
                        head = await _ask(reader, writer, dice.choice(ASKED))
                except TimeoutError:
                    account.answers["none"] += 1
                    break
                except (asyncio.IncompleteReadError, ConnectionError):
                    account.answers["hung up"] += 1
                    break
                account.took.append(time.monotonic() - began)
                account.answers[head[9:12].decode()] += 1
                if b"\r\nConnection: close\r\n" in head:
                    break


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> bytes:
    """Ask, take the whole answer, and give its head."""
    writer.write(_request("GET", path) + b"\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    found = _LENGTH.search(head)
    assert found is not None, head
    await reader.readexactly(int(found[1]))
    return head


def _request(method: str, path: str) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n".encode()


async def _slow(account: Account, port: int, kind: Callable[[socket.socket], Coroutine[None, None, None]]) -> None:
    """Come again whenever it was cut off."""
    loop, name = asyncio.get_running_loop(), kind.__name__.strip("_")
    while True:
        with socket.socket() as sock:
            # No room for what it doesn't read.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            began = time.monotonic()
            try:
                with contextlib.suppress(ConnectionError):
                    await kind(sock)
                account.cut[name] += 1
            finally:
                account.lived(name, time.monotonic() - began)


async def _head(sock: socket.socket) -> None:
    """Send a head that never ends, byte by byte."""
    await asyncio.get_running_loop().sock_sendall(sock, _request("GET", "/v1/status") + b"X-Slow: ")
    await _drip(sock)


async def _body(sock: socket.socket) -> None:
    """Announce a long body, and send it byte by byte."""
    await asyncio.get_running_loop().sock_sendall(
        sock, _request("POST", "/v1/status") + b"Content-Length: 99999\r\n\r\n"
    )
    await _drip(sock)


async def _reader(sock: socket.socket) -> None:
    """Ask for much, again and again, and take it a few bytes at a time; a reset shows before all that came is read."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, (_request("GET", LARGE) + b"\r\n") * 5)
    while await loop.sock_recv(sock, 64):
        await asyncio.sleep(DRIP)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return


async def _silent(sock: socket.socket) -> None:
    """Say nothing at all."""
    while await asyncio.get_running_loop().sock_recv(sock, 64):
        pass


async def _drip(sock: socket.socket) -> None:
    """Send a byte a second until the other end has hung up; what it says first is read."""
    loop = asyncio.get_running_loop()
    while True:
        await loop.sock_sendall(sock, b"x")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRIP):
                while await loop.sock_recv(sock, 4096):
                    pass
                return
