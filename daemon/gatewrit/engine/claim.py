"""One gatewrit for each network namespace: two that enforce different orders in one table would undo each other."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

#: An abstract socket's name belongs to the network namespace, and goes with the process that holds it (unix(7)).
_NAME = "\0gatewrit/table"
_UCRED = struct.Struct("=iII")
_BACKLOG = 16
_LASTS = b"daemon"
#: Seconds within which a daemon says that it is one; whoever is busy with something else may not.
_HURRY = 0.5
#: Seconds between two tries to get the claim.
_PAUSE = 0.1


class ClaimedError(Exception):
    """Another process enforces in this network namespace; says which, and what to stop."""


@contextmanager
def claim(*, lasting: bool = False) -> Iterator[None]:
    """Hold the right to write the table of this network namespace; raises `ClaimedError` if somebody else does.

    Needs a running event loop, to see off those who ask whose it is, and whether it is `lasting`: a daemon's.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as held:
        try:
            held.bind(_NAME)
        except OSError:
            pid = holder()
            raise ClaimedError(
                f"a gatewrit{f' (pid {pid})' if pid else ''} is enforcing in this network namespace; stop it first: "
                "systemctl stop gatewrit, or end the `gatewrit run` that was started by hand; a command that is just "
                "at it ends by itself"
            ) from None
        held.listen(_BACKLOG)
        held.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(held, _see_off, held, lasting)
        try:
            yield
        finally:
            loop.remove_reader(held)


@asynccontextmanager
async def claim_patiently(seconds: float) -> AsyncIterator[None]:
    """Claim for long, after waiting so many seconds for who holds it to do something once; raises `ClaimedError`."""
    deadline = asyncio.get_running_loop().time() + seconds
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(claim(lasting=True))
                break
            except ClaimedError:
                if asyncio.get_running_loop().time() >= deadline or _lasts():
                    raise
                await asyncio.sleep(_PAUSE)
        yield


def _see_off(held: socket.socket, lasting: bool) -> None:  # noqa: FBT001 - add_reader passes by place
    """Hang up on somebody who asked: the kernel has told them who holds the claim, and this says whether it lasts."""
    with suppress(OSError), held.accept()[0] as asking:
        asking.send(_LASTS if lasting else b"")


def _lasts() -> bool:
    """Whether who holds the claim says that it lasts."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asking:
        asking.settimeout(_HURRY)
        try:
            asking.connect(_NAME)
            return asking.recv(len(_LASTS)) == _LASTS
        except OSError:
            return False


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
