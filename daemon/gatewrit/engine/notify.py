"""The service manager's notification socket (sd_notify(3)), without a dependency.

The address is taken out of the environment, so that no child inherits it. Without one, nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress


class Notifier:
    """Tells systemd how the daemon is; silently does nothing where nobody listens."""

    def __init__(self, address: str | None) -> None:
        self._socket: socket.socket | None = None
        if address and address[0] in "/@":
            self._address = "\0" + address[1:] if address[0] == "@" else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

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

    def status(self, status: str) -> None:
        """Say in one line how it is, for `systemctl status`."""
        self._send(f"STATUS={status}")

    def stopping(self) -> None:
        """Say that the daemon ends; the table stays."""
        self._send("STOPPING=1", "STATUS=Stopping; the table stays in force")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        with suppress(OSError):
            # A manager that doesn't take it can't be told; enforcing goes on.
            self._socket.sendto("\n".join(lines).encode(), self._address)
