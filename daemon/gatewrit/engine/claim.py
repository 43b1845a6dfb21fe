"""One gatewrit for each network namespace: two that enforce different orders in one table would undo each other."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: An abstract socket's name belongs to the network namespace, and goes with the process that holds it (unix(7)).
_NAME = "\0gatewrit/table"
_UCRED = struct.Struct("=iII")
_BACKLOG = 16


class ClaimedError(Exception):
    """Another process enforces in this network namespace; says which, and what to stop."""


@contextmanager
def claim() -> Iterator[None]:
    """Hold the right to write the table of this network namespace; raises `ClaimedError` if somebody else does.

    Needs a running event loop, to see off those who ask whose it is.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as held:
        try:
            held.bind(_NAME)
        except OSError:
            pid = holder()
            raise ClaimedError(
                f"a gatewrit{f' (pid {pid})' if pid else ''} is enforcing in this network namespace; stop it first: "
                "systemctl stop gatewrit, or end the `gatewrit run` that was started by hand"
            ) from None
        held.listen(_BACKLOG)
        held.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(held, _see_off, held)
        try:
            yield
        finally:
            loop.remove_reader(held)


def _see_off(held: socket.socket) -> None:
    """Hang up on somebody who asked: the kernel has told them who holds the claim."""
    with suppress(OSError):
        held.accept()[0].close()


def holder() -> int | None:
    """Ask the kernel who holds the claim: the process, 0 if that can't be seen from here, None if nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asking:
        asking.setblocking(False)
        try:
            asking.connect(_NAME)
            pid, _, _ = _UCRED.unpack(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        except ConnectionRefusedError:
            return None
        except OSError:
            return 0
        return int(pid)
