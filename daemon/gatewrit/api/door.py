"""Who is let in to the HTTP server: connections counted over all and by client, before a byte of TLS is read.

Clients are told apart by address, IPv6 ones by /64, since one host has as many of those as it likes; whoever comes over
loopback or a Unix socket is one client, with room for everybody on the host. Addresses are kept in memory only, and
for as long as they say something.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections import Counter, OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from gatewrit.api.bucket import Bucket

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from gatewrit.api.wire import Limits

log = structlog.get_logger()

#: Clients of whom it is known how much they asked. A host that comes back later begins with a full bucket; to make
#: this forget anybody sooner takes that many addresses, and each of them is limited by itself.
_KNOWN = 4096
#: Seconds of a pause where the process has no more file descriptors: the connection stays in the queue.
_PAUSE = 0.2
_OUT_OF_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
#: Host is this machine: everything on it shares one name.
HERE = "here"


@dataclass(frozen=True, slots=True)
class Entrance:
    """A listening socket. `beyond`: it can be reached from elsewhere, so that TLS and a token are required."""

    sock: socket.socket
    beyond: bool

    @property
    def unix(self) -> bool:
        """Whether the file system says who may come."""
        return self.sock.family == socket.AF_UNIX


@dataclass(frozen=True, slots=True)
class Guest:
    """Who is let in, by which entrance, and what to call when the connection has ended."""

    client: str
    entrance: Entrance
    leave: Callable[[], None]


def entrance(sock: socket.socket) -> Entrance:
    """Say of a bound socket whether it can be reached from elsewhere."""
    if sock.family == socket.AF_UNIX:
        return Entrance(sock, beyond=False)
    return Entrance(sock, beyond=not ipaddress.ip_address(sock.getsockname()[0]).is_loopback)


def url(name: str, sock: socket.socket) -> str:
    """Return what people may open."""
    door = entrance(sock)
    return name if door.unix else f"{'https' if door.beyond else 'http'}://{name}"


def client_of(conn: socket.socket) -> str:
    """Return what tells the client at the other end apart."""
    if conn.family == socket.AF_UNIX:
        return HERE
    try:
        address = ipaddress.ip_address(conn.getpeername()[0].partition("%")[0])
    except (OSError, ValueError):  # gone already
        return "gone"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        else:
            return HERE if address.is_loopback else str(ipaddress.ip_network((address.packed[:8] + bytes(8), 64)))
    return HERE if address.is_loopback else str(address)


class Door:
    """Lets connections in, as many as may be, and knows how often each client may ask."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._inside: Counter[str] = Counter()
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._greeting: set[asyncio.Task[None]] = set()

    def take(self, client: str, now: float) -> int:
        """Take one request of a client's at `now`; if it asks too often, say when it may again: seconds."""
        bucket = self._buckets.pop(client, None)
        if bucket is None:
            limits = self._limits
            here = client == HERE
            bucket = Bucket(limits.rate_here, limits.burst_here) if here else Bucket(limits.rate, limits.burst)
        self._buckets[client] = bucket
        if len(self._buckets) > _KNOWN:
            self._buckets.popitem(last=False)
        return bucket.take(now)

    async def receive(
        self,
        entrance: Entrance,
        context: Callable[[], ssl.SSLContext | None],
        protocol: Callable[[Guest], asyncio.Protocol],
        crowded: bytes,
    ) -> None:
        """Let in whoever comes to `entrance` until cancelled; `crowded` is said to a client with too many connections.

        Of too many in all the newest is hung up on without a word: those that a NOC keeps open stay.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                conn, _ = await loop.sock_accept(entrance.sock)
            except OSError as error:
                if error.errno in _OUT_OF_ROOM:
                    log.warning("http.no_room", reason=error.strerror)
                    await asyncio.sleep(_PAUSE)
                continue
            client = client_of(conn)
            tls = context() if entrance.beyond else None
            if self._inside.total() >= self._limits.connections or (entrance.beyond and tls is None):
                close_at_once(conn)
                conn.close()
            elif client != HERE and self._inside[client] >= self._limits.per_client:
                if tls is None:
                    with suppress(OSError):
                        conn.send(crowded)
                conn.close()
            else:
                guest = Guest(client, entrance, self._enter(client))
                task = asyncio.create_task(self._greet(conn, protocol(guest), tls, guest))
                self._greeting.add(task)
                task.add_done_callback(self._greeting.discard)

    async def close(self) -> None:
        """End the greetings that are under way."""
        for task in self._greeting:
            task.cancel()
        await asyncio.gather(*self._greeting, return_exceptions=True)

    def _enter(self, client: str) -> Callable[[], None]:
        self._inside[client] += 1
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self._inside[client] -= 1
                if not self._inside[client]:
                    del self._inside[client]

        return leave

    async def _greet(
        self,
        conn: socket.socket,
        protocol: asyncio.Protocol,
        tls: ssl.SSLContext | None,
        guest: Guest,
    ) -> None:
        """Shake hands, which takes TLS some turns, and hand the connection over."""
        loop = asyncio.get_running_loop()
        seconds = self._limits.handshake if tls is not None else None
        try:
            await loop.connect_accepted_socket(lambda: protocol, conn, ssl=tls, ssl_handshake_timeout=seconds)
        except (OSError, TimeoutError, asyncio.CancelledError):
            # What isn't TLS, or too slow, or gone: there is nobody to tell.
            conn.close()
            guest.leave()


def close_at_once(conn: socket.socket) -> None:
    """Have a connection end with its closing: the kernel keeps nothing of what wasn't taken."""
    with suppress(OSError):
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
