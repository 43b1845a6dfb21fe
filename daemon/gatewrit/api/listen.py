"""Sockets to listen on: TCP and Unix sockets, bound so that nothing and nobody else is pushed aside."""

from __future__ import annotations

import errno
import grp
import ipaddress
import os
import re
import socket
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = structlog.get_logger()

#: Linux's sun_path holds 108 bytes with the closing zero.
_LONGEST_UNIX_PATH = 107
#: Binding doesn't wait for the address to be configured. The socket module of Python 3.11 knows no name for it.
_IP_FREEBIND = 15
_BACKLOG = 128
_TCP = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5})", re.ASCII)


class ListenError(Exception):
    """An address can't be listened on; the message says which one and why."""


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An address and a port; port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket in the file system."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


def parse(text: str) -> TcpAddress | UnixAddress:
    """Read `127.0.0.1:9451`, `[::1]:9451` or `unix:/path`."""
    if text.startswith("unix:"):
        path = Path(text.removeprefix("unix:"))
        if not path.is_absolute() or "\0" in text:
            raise ListenError(f"{text!r}: a Unix socket's path starts with /, as in unix:/run/gatewrit/http.sock")
        return UnixAddress(path)
    match = _TCP.fullmatch(text)
    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address
        if match and match["v6"]:
            address = ipaddress.IPv6Address(match["v6"])
        else:
            address = ipaddress.IPv4Address(match["v4"] if match else "")
    except ValueError:
        raise ListenError(f"{text!r} isn't HOST:PORT, [V6]:PORT or unix:/PATH with an address as the host") from None
    port = int(match["port"]) if match else 0
    if port > 65535:
        raise ListenError(f"{text!r}: a port is at most 65535")
    return TcpAddress(str(address), port)


def listen_tcp(address: TcpAddress) -> socket.socket:
    """Return a listening socket."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restart mustn't wait for the last connections' TIME_WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address.host, address.port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ListenError(f"{address}: {_reason(error)}") from error
    return sock


def listen_unix(path: Path, mode: int, group: int | None = None) -> socket.socket:
    """Return a listening socket at `path`, in place of one that a dead process left, never of a live one's.

    It is made ready under another name and then renamed into place: there is no instant without a socket for those
    who connect, and none at which it has the wrong owner or mode. Where the kernel doesn't let us give it to `group`,
    it is left to its owner alone.
    """
    if len(os.fsencode(path)) + len(f".{os.getpid()}.") > _LONGEST_UNIX_PATH:
        raise ListenError(f"{path}: too long for a Unix socket; choose a shorter directory")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    making = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _refuse_live(path)
        making.unlink(missing_ok=True)
        sock.bind(os.fspath(making))
        try:
            making.chmod(mode if group is None or _give(making, group) else mode & 0o700)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
            making.rename(path)
        except OSError:
            making.unlink(missing_ok=True)
            raise
    except OSError as error:
        sock.close()
        raise ListenError(f"{path}: {_reason(error)}") from error
    except ListenError:
        sock.close()
        raise
    return sock


@contextmanager
def bound(addresses: Sequence[str], group: str | None) -> Iterator[list[tuple[str, socket.socket]]]:
    """Listen on all of `addresses`, or raise ListenError; gives each as it is bound, as `127.0.0.1:9451`.

    `group` may use the Unix sockets, besides the daemon's own user. Nobody is answered by this alone.
    """
    parsed = [parse(text) for text in addresses]
    listening: list[tuple[str, socket.socket]] = []
    own: dict[Path, tuple[int, int] | None] = {}
    try:
        for address in parsed:
            if isinstance(address, UnixAddress):
                listening.append((str(address), listen_unix(address.path, 0o660, group_id(group))))
                own[address.path] = identity(address.path)
            else:
                sock = listen_tcp(address)
                listening.append((str(TcpAddress(address.host, sock.getsockname()[1])), sock))
        yield listening
    finally:
        for _, sock in listening:
            sock.close()
        for path, mine in own.items():
            remove_own(path, mine)


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells this file from a later one of the same name, None if there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def remove_own(path: Path, own: tuple[int, int] | None) -> None:
    """Remove the socket at `path` if it is still `own`, not one that a successor has put there."""
    if own is not None and identity(path) == own:
        with suppress(OSError):
            path.unlink()


def group_id(name: str | None) -> int | None:
    """Return the number of a group, None if the host has no group of that name."""
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _refuse_live(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ListenError(f"{path}: exists and isn't a socket; move it away or choose another path")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A full backlog would block a blocking probe; here it says EAGAIN, and somebody lives there.
        probe.setblocking(False)
        code = probe.connect_ex(os.fspath(path))
    if code not in (errno.ECONNREFUSED, errno.ENOENT):
        raise ListenError(f"{path}: another process listens there")


def _give(path: Path, group: int) -> bool:
    try:
        # The daemon's own group, or that of a setgid directory, it has already: then it takes no right.
        if path.lstat().st_gid != group:
            os.chown(path, -1, group)
    except OSError as error:
        log.warning("listen.group_refused", path=str(path), group=group, reason=_reason(error))
        return False
    return True


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process listens there"
    return os.strerror(error.errno) if error.errno else str(error)
