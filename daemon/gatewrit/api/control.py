"""The control socket: how the command line asks the running daemon to do something, and who may.

One JSON object a line each way: `{"verb": "reload", …}` and `{"ok": true, "answer": {…}}` or
`{"ok": false, "code": "…", "message": "…"}`. The kernel says who is calling (SO_PEERCRED): root, the daemon's own
user, and the control group may; everybody else is told so and hung up on, whatever the socket's mode has come to be.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pwd
import socket
import stat
import struct
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from gatewrit.api import listen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
    from pathlib import Path

log = structlog.get_logger()

#: The longest request, in bytes; a reason and an instant need a few hundred.
LARGEST_REQUEST = 65536
#: Connections that are served at once, and so many more if it is root or our own user that comes: whoever else keeps
#: the seats taken mustn't keep out who has to end it.
_CONNECTIONS, _KEPT = 64, 16
#: The socket module has no name for it, and takes no option of more bytes than this.
_SO_PEERGROUPS = 59
_LARGEST_OPTION = 1024
_UCRED = struct.Struct("=iII")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the kernel says; `name` is for the journal."""

    uid: int
    pid: int
    name: str


@dataclass(frozen=True, slots=True)
class Verb:
    """What a request may ask for: the function that does it, and the keys it takes besides `verb` with their types."""

    call: Callable[[Mapping[str, Any], Caller], Awaitable[Mapping[str, Any]]]
    takes: Mapping[str, type[str | int | bool]] = field(default_factory=dict)


class VerbError(Exception):
    """A request that isn't carried out; a verb may raise it too. `code` is for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class HeldError(Exception):
    """Another daemon of the same runtime directory is running; the message says which."""


def socket_path(runtime: Path) -> Path:
    """Return where the control socket of a runtime directory is."""
    return runtime / "control.sock"


@asynccontextmanager
async def serve(  # noqa: PLR0913 - each by name
    runtime: Path,
    verbs: Mapping[str, Verb],
    *,
    group: str | None = None,
    owner: int | None = None,
    grace: float = 5.0,
    patience: float = 30.0,
) -> AsyncIterator[Path]:
    """Answer on `runtime`/control.sock; raise HeldError if a living daemon does already, ListenError if we can't.

    The directory may be root's, ours, or that of the user `owner`.

    A client has `patience` seconds to say what it wants, and again to take its answer. At the end a verb under way
    gets `grace` seconds; whoever still waits then sees the connection end.
    """
    path = socket_path(runtime)
    lock = _lock(runtime, {0, os.geteuid(), owner})
    try:
        gid = listen.group_id(group)
        sock = listen.listen_unix(path, 0o600 if gid is None else 0o660, gid)
        own = listen.identity(path)
        desk = _Desk(verbs, gid, patience)
        server = await asyncio.start_unix_server(desk.accept, sock=sock, limit=LARGEST_REQUEST)
        try:
            yield path
        finally:
            server.close()
            listen.remove_own(path, own)
            await desk.close(grace)
    finally:
        os.close(lock)


def _lock(runtime: Path, owners: Collection[int | None]) -> int:
    """Take the lock that says that a daemon lives here; the kernel lets go of it when the daemon dies, however."""
    path = runtime / "control.lock"
    try:
        runtime.mkdir(mode=0o755, parents=True, exist_ok=True)
        _refuse_shared(runtime, owners)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise listen.ListenError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        os.close(lock)
        who = f"another gatewrit (pid {holder})" if holder.isdecimal() else "another gatewrit"
        raise HeldError(f"{who} holds {socket_path(runtime)}") from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _refuse_shared(runtime: Path, owners: Collection[int | None]) -> None:
    """Refuse a directory in which others could put a socket of theirs in the place of ours."""
    status = runtime.stat()
    if status.st_uid not in owners:
        raise listen.ListenError(f"{runtime}: user {status.st_uid} owns it; the runtime directory is to be root's own")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise listen.ListenError(f"{runtime}: others can write to it; chmod 755 {runtime}")


class _Desk:
    """The connections being served."""

    def __init__(self, verbs: Mapping[str, Verb], group: int | None, patience: float) -> None:
        self._verbs = verbs
        self._group = group
        self._patience = patience
        self._open: set[asyncio.Task[None]] = set()
        self._working: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begin to serve a client."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        task.add_done_callback(self._working.discard)

    async def close(self, grace: float) -> None:
        """Let verbs under way finish for `grace` seconds, then end all connections."""
        for task in self._open - self._working:
            task.cancel()
        if self._working:
            await asyncio.wait(set(self._working), timeout=grace)
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except VerbError as refusal:
            with suppress(OSError, TimeoutError):
                await _write(writer, _refused(refusal), self._patience)
                # A socket closed with unread input resets the connection, and the refusal would be lost with it.
                writer.write_eof()
                async with asyncio.timeout(1):
                    while await reader.read(LARGEST_REQUEST):
                        pass
        except (OSError, TimeoutError):
            pass  # the client is gone, or too slow: there is nothing to tell it
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client's requests, one after the other, until it hangs up."""
        caller = await self._admit(writer)
        task = asyncio.current_task()
        while task is not None and (line := await _read(reader, self._patience)) is not None:
            self._working.add(task)
            await _write(writer, await self._answer(line, caller), self._patience)
            self._working.discard(task)

    async def _admit(self, writer: asyncio.StreamWriter) -> Caller:
        sock = writer.get_extra_info("socket")
        pid, uid, gid = peer(sock)
        if len(self._open) > _CONNECTIONS + _KEPT * (uid in {0, os.geteuid()}):
            raise VerbError("busy", "too many requests at once; try again in a moment")
        # The host's user data base may be at the other end of a network.
        groups = await asyncio.to_thread(_groups, sock, uid, gid)
        if not may_control(uid, groups, os.geteuid(), self._group):
            log.warning("control.refused", uid=uid, pid=pid)
            raise VerbError(
                "not_allowed",
                f"user {uid} may not control this daemon: only root, its own user and the members of the control "
                f"group may",
            )
        return Caller(uid, pid, await asyncio.to_thread(_name, uid))

    async def _answer(self, line: bytes, caller: Caller) -> bytes:
        try:
            name, verb, arguments = _parse(line, self._verbs)
        except VerbError as refusal:
            return _refused(refusal)
        try:
            answer = await verb.call(arguments, caller)
            return json.dumps({"ok": True, "answer": answer}).encode() + b"\n"
        except VerbError as refusal:
            return _refused(refusal)
        except Exception:
            log.exception("control.failed", verb=name)
            return _refused(VerbError("internal", f"the daemon made a mistake doing {name}; its log says more"))


def peer(sock: socket.socket) -> tuple[int, int, int]:
    """Return pid, uid and gid of who connected a Unix socket, as the kernel noted them then."""
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid, gid


def may_control(uid: int, groups: Collection[int], own: int, group: int | None) -> bool:
    """Return whether a user may control a daemon of the user `own`; `group` is the control group, if there is one."""
    return uid in (0, own) or (group is not None and group in groups)


def _parse(line: bytes, verbs: Mapping[str, Verb]) -> tuple[str, Verb, dict[str, Any]]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict) or not isinstance(request.get("verb"), str):
        raise VerbError("bad_request", 'a request is a JSON object on one line, as in {"verb": "status"}')
    name = request.pop("verb")
    verb = verbs.get(name)
    if verb is None:
        raise VerbError("unknown_verb", f"this daemon doesn't know {name[:64]!r}; it knows {', '.join(sorted(verbs))}")
    for key, value in request.items():
        if key not in verb.takes:
            takes = ", ".join(verb.takes) or "nothing else"
            raise VerbError("unknown_key", f"{name} doesn't take {key[:64]!r}; it takes {takes}")
        if type(value) is not verb.takes[key]:  # a bool is an int to isinstance
            raise VerbError("bad_value", f"{name} takes {key} as {verb.takes[key].__name__}")
    return name, verb, request


async def _read(reader: asyncio.StreamReader, patience: float) -> bytes | None:
    """Return the next request, None when the client has hung up."""
    try:
        async with asyncio.timeout(patience):
            return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise VerbError("bad_request", "the request ended before its line did") from None
        return None
    except asyncio.LimitOverrunError:
        raise VerbError("too_large", f"a request has at most {LARGEST_REQUEST} bytes") from None
    except TimeoutError:
        raise VerbError("timeout", f"no request within {patience:g} s") from None


async def _write(writer: asyncio.StreamWriter, line: bytes, patience: float) -> None:
    writer.write(line)
    async with asyncio.timeout(patience):
        await writer.drain()


def _refused(refusal: VerbError) -> bytes:
    return json.dumps({"ok": False, "code": refusal.code, "message": refusal.message}).encode() + b"\n"


def _groups(sock: socket.socket, uid: int, primary: int) -> set[int]:
    """Return the groups that the caller had when it connected, as the kernel says."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _LARGEST_OPTION)
    except OSError:
        # More groups than Python lets the kernel return: some directories hand out that many.
        return {primary, *os.getgrouplist(_name(uid), primary)}
    return {primary, *(gid for (gid,) in struct.iter_unpack("=I", raw))}


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
