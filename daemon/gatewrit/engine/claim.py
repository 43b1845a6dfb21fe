"""One gatewrit for each network namespace: two that enforce different orders in one table would undo each other.

Any user of the host can take the name of an abstract socket. So who holds it counts only if the kernel says that it is
a user who may enforce: else that user could keep every order from being enforced, and every block from being removed.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import struct
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

log = structlog.get_logger()

#: An abstract socket's name belongs to the network namespace, and goes with the process that holds it (unix(7)).
_NAME = "\0gatewrit/table"
#: As whom the units enforce.
_USER = "gatewrit"
_UCRED = struct.Struct("=iII")
_BACKLOG = 16
#: What a daemon says to who asks whose the claim is.
_LASTS = b"daemon"
#: Seconds that whoever holds the name has to answer, and between two tries to ask or to get it.
_PATIENCE, _PAUSE = 0.5, 0.05


class ClaimedError(Exception):
    """Another process enforces in this network namespace; says which, and what to stop."""


class Holder(NamedTuple):
    """Who holds the claim, as the kernel noted when it began to listen; None is what can't be seen.

    `pid` is 0 for a process of another PID namespace. `may`: that user may enforce.
    """

    pid: int | None
    uid: int | None
    may: bool


@contextmanager
def claim(owner: int | None, *, lasting: bool = False) -> Iterator[None]:
    """Hold the right to write the table of this network namespace; raises `ClaimedError` if another gatewrit does.

    `owner` is the user whose the state is. Where somebody holds it who may not enforce, that is logged, and we go on
    without: the control socket's lock and the table's owner still tell two gatewrits apart. Needs a running event loop,
    to see off those who ask whose it is, and whether it is `lasting`: a daemon's.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as held:
        if not _take(held, owner):
            yield
            return
        held.listen(_BACKLOG)
        held.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(held, _see_off, held, lasting)
        try:
            yield
        finally:
            loop.remove_reader(held)


@asynccontextmanager
async def claim_patiently(owner: int | None, seconds: float) -> AsyncIterator[None]:
    """Claim for long, after waiting so many seconds for who holds it to do something once; raises `ClaimedError`."""
    deadline = asyncio.get_running_loop().time() + seconds
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(claim(owner, lasting=True))
                break
            except ClaimedError:
                if asyncio.get_running_loop().time() >= deadline or _lasts():
                    raise
                await asyncio.sleep(_PAUSE)
        yield


def _lasts() -> bool:
    """Whether who holds the claim says that it lasts."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asking:
        asking.settimeout(_PATIENCE)
        try:
            asking.connect(_NAME)
            return asking.recv(len(_LASTS)) == _LASTS
        except OSError:
            return False


def _take(held: socket.socket, owner: int | None) -> bool:
    """Take the name; False if somebody has it who may not enforce. Raises `ClaimedError`."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            held.bind(_NAME)
        except OSError:
            found = holder(owner)
        else:
            return True
        if found is not None and found.may:
            who = f" (pid {found.pid})" if found.pid else ""
            raise ClaimedError(
                f"a gatewrit{who} is enforcing in this network namespace; stop it first: "
                "systemctl stop gatewrit, or end the `gatewrit run` that was started by hand; a command that is just "
                "at it ends by itself"
            )
        # One that is just starting listens the next moment, and one that has just ended is gone.
        if found is not None or time.monotonic() > until:
            break
        time.sleep(_PAUSE)
    pid, uid = (found.pid, found.uid) if found else (None, None)
    log.warning("claim.squatted", pid=pid, uid=uid, means="somebody who may not enforce has our name; we go on without")
    return False


def _see_off(held: socket.socket, lasting: bool) -> None:  # noqa: FBT001 - add_reader passes by place
    """Hang up on somebody who asked: the kernel has told them who holds the claim, and this says whether it lasts."""
    with suppress(OSError), held.accept()[0] as asking:
        asking.send(_LASTS if lasting else b"")


def holder(owner: int | None) -> Holder | None:
    """Ask the kernel who holds the claim, None if nobody listens there. `owner` is the user whose the state is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asking:
        asking.settimeout(_PATIENCE)
        try:
            asking.connect(_NAME)
            pid, uid, _ = _UCRED.unpack(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        except ConnectionRefusedError:
            return None
        except OSError:
            return Holder(None, None, may=False)
        return Holder(int(pid), int(uid), may=int(uid) in _enforcing(owner))


def _enforcing(owner: int | None) -> set[int | None]:
    """Give the users as whom a gatewrit of this host may run."""
    users = {0, os.geteuid(), owner}
    with suppress(KeyError):
        users.add(pwd.getpwnam(_USER).pw_uid)
    return users
