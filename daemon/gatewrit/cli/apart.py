"""`gatewrit serve`: the process that speaks HTTP, started by itself; `gatewrit-http.service` does."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

from gatewrit.api import launch, listen, unprivileged
from gatewrit.api.door import entrance
from gatewrit.api.feed import socket_path
from gatewrit.cli.app import REFUSED, Quit, verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatewrit.settings import Settings

#: sd_listen_fds(3): the first of the file descriptors that systemd passes.
_FIRST = 3


@verb("gatewrit serve --config /etc/gatewrit/gatewrit.yaml", prints_json=False)
def serve(settings: Settings) -> None:
    """Answer HTTP in a process of its own, without privileges, beside `gatewrit run --without-http`.

    On the sockets that systemd passes, else on those of the settings. It becomes another program that knows nothing of
    the kernel: what it shows, the daemon tells it.
    """
    with ExitStack() as stack:
        sockets = _passed()
        if not sockets:
            bound = listen.bound(settings.listen, settings.control.group)
            sockets = [sock for _, sock in stack.enter_context(bound)]
        _refuse_bare(sockets, settings)
        _become_server(sockets, settings)


def _become_server(sockets: Sequence[socket.socket], settings: Settings) -> NoReturn:
    who = unprivileged.account(listen.group_id(settings.control.group)) if os.geteuid() == 0 else None
    for sock in sockets:
        sock.set_inheritable(True)
    words = launch.command(
        [sock.fileno() for sock in sockets],
        socket_path(settings.runtime),
        settings.gateway.name,
        who,
        (settings.log.format, settings.log.level),
    )
    os.execve(words[0], words, launch.environment())  # noqa: S606 - our own interpreter, no shell


def _passed() -> list[socket.socket]:
    """Give the sockets that systemd passes to this process."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    number = os.environ.get("LISTEN_FDS", "")
    if not number.isdecimal() or not int(number):
        return []
    return [socket.socket(fileno=fd) for fd in range(_FIRST, _FIRST + int(number))]


def _refuse_bare(sockets: Sequence[socket.socket], settings: Settings) -> None:
    beyond = [sock for sock in sockets if entrance(sock).beyond]
    if beyond and settings.tls is None:
        host, port, *_ = beyond[0].getsockname()
        message = f"{host} port {port} can be reached from elsewhere, where TLS and a token are required"
        raise Quit(f"{message}: set `tls` in the settings, or have gatewrit-http.socket listen on loopback", REFUSED)
