"""The service manager's notification socket and its store of descriptors (sd_notify(3)), without a dependency.

The address is taken out of the environment, so that no child inherits it. Without one, nothing is sent.

Nothing here ever waits: a service manager that is busy or hangs, its queue full, may not hold up enforcement. What it
couldn't take yet is sent later, in order.
"""

from __future__ import annotations

import os
import socket
import time
from array import array
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

#: How much is kept for a manager that takes nothing: the newest, of which the last says how we are.
_KEPT = 32
#: The first descriptor that is passed to a service (sd_listen_fds(3)).
_FIRST_PASSED = 3


def passed(environ: MutableMapping[str, str], name: str) -> list[int]:
    """Take out of the environment the descriptors that the service manager kept for us under a name (sd_listen_fds(3)).

    They are closed on exec from now on; others than those of that name are closed.
    """
    for_whom, number, names = (environ.pop(f"LISTEN_{each}", "") for each in ("PID", "FDS", "FDNAMES"))
    if for_whom != str(os.getpid()) or not number.isdecimal():
        return []
    found = []
    for at, called in enumerate(names.split(":")[: int(number)], _FIRST_PASSED):
        if called == name:
            os.set_inheritable(at, False)
            found.append(at)
        else:
            os.close(at)
    return found


class Notifier:
    """Tells systemd how the daemon is; silently does nothing where nobody listens."""

    def __init__(self, address: str | None) -> None:
        self._socket: socket.socket | None = None
        self._unsent: deque[tuple[bytes, tuple[int, ...]]] = deque(maxlen=_KEPT)
        if address and address[0] in "/@":
            self._address = "\0" + address[1:] if address[0] == "@" else address
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_UNIX, kind)

    @classmethod
    def from_environment(cls) -> Notifier:
        """Take the address from NOTIFY_SOCKET, and out of the environment."""
        return cls(os.environ.pop("NOTIFY_SOCKET", None))

    def ready(self, status: str) -> None:
        """Say that the first complete ruleset is enforced, or that a reload is over."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Say that a reload begins; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def keep(self, name: str, descriptor: int) -> None:
        """Have a descriptor kept over restarts, in place of what was kept under that name."""
        self.drop(name)
        # Not polled: a netlink socket that lost a message for want of room would count as broken, and be dropped.
        self._unsent.append((f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0".encode(), (descriptor,)))
        self._flush()

    def drop(self, name: str) -> None:
        """Have nothing kept under that name any more."""
        self._send("FDSTOREREMOVE=1", f"FDNAME={name}")

    def status(self, status: str) -> None:
        """Say in one line how it is, for `systemctl status`."""
        self._send(f"STATUS={status}")

    def stopping(self) -> None:
        """Say that the daemon ends; the table stays."""
        self._send("STOPPING=1", "STATUS=Stopping; the table stays in force")

    def alive(self) -> None:
        """Feed the watchdog, and send what couldn't be sent before."""
        if self._flush():
            self._try(b"WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        self._unsent.append(("\n".join(lines).encode(), ()))
        self._flush()

    def _flush(self) -> bool:
        """Send what waits; False if some of it still does."""
        while self._unsent and self._try(*self._unsent[0]):
            self._unsent.popleft()
        return not self._unsent

    def _try(self, message: bytes, descriptors: tuple[int, ...] = ()) -> bool:
        if self._socket is not None:
            try:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors).tobytes())
                self._socket.sendmsg([message], [rights] if descriptors else (), 0, self._address)
            except BlockingIOError:
                return False
            except OSError:
                # A manager that is gone can't be told; enforcing goes on.
                pass
        return True
