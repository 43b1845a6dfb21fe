"""Real services at the far end: TCP says which address and port answered, then echoes; UDP echoes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING

from lab.process import WithFds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.namespace import Namespace
    from lab.process import Task

PORTS = ("tcp/3101", "tcp/25", "tcp/443", "tcp/8443", "udp/443", "udp/3101")
"""What the founding case is about, and its neighbours."""

_IP_PKTINFO = 8
_BACKLOG = 1024


def listen(space: Namespace, ports: Sequence[str] = PORTS) -> Task[None]:
    """Answer at these ports of every address of the namespace, in both families, until the task is stopped.

    The sockets are listening when this returns: the kernel takes connections before the child accepts them.
    """
    _, fds = space.start(_open, ports).result_with_fds()
    sockets = [socket.socket(fileno=fd) for fd in fds]
    task = space.start(_serve, sockets)
    for listener in sockets:
        listener.close()
    return task


def _open(ports: Sequence[str]) -> WithFds[None]:
    fds = []
    for port in ports:
        protocol, _, number = port.partition("/")
        for family, anywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 that is the point
            kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
            listener = socket.socket(family, kind)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if kind == socket.SOCK_DGRAM and family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            elif kind == socket.SOCK_DGRAM:
                listener.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            listener.bind((anywhere, int(number)))
            if kind == socket.SOCK_STREAM:
                listener.listen(_BACKLOG)
            fds.append(listener.detach())
    return WithFds(None, tuple(fds))


def _serve(sockets: list[socket.socket]) -> None:
    asyncio.run(_serve_all(sockets))


async def _serve_all(sockets: list[socket.socket]) -> None:
    loop = asyncio.get_running_loop()
    for listener in sockets:
        listener.setblocking(False)
        if listener.type == socket.SOCK_STREAM:
            await asyncio.start_server(_converse, sock=listener, backlog=_BACKLOG)
        else:
            loop.add_reader(listener, _echo, listener)
    await asyncio.Event().wait()


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    address, port, *_ = writer.get_extra_info("sockname")
    with contextlib.suppress(ConnectionError):
        writer.write(f"{address} {port}\n".encode())
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    writer.close()


def _echo(listener: socket.socket) -> None:
    while True:
        try:
            data, control, _, sender = listener.recvmsg(65536, 256)
        except BlockingIOError:
            return
        except OSError:  # an ICMP error about an earlier answer
            continue
        listener.sendmsg([data], [_from_same_address(*item) for item in control], 0, sender)


def _from_same_address(level: int, kind: int, info: bytes) -> tuple[int, int, bytes]:
    if level == socket.IPPROTO_IPV6:
        return level, kind, info[:16] + bytes(4)
    return level, kind, struct.pack("i4s4s", 0, info[8:12], bytes(4))
