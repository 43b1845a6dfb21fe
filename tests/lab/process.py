"""Forked helpers that cannot outlive us: a function runs in a child, its result or its exception comes back.

A fork, not a fresh interpreter: the function may be a closure and needs no import path, and a child has one thread,
which is what the kernel asks of a process that is to enter a user namespace. Each child asks the kernel to be killed
when its parent dies, so that neither a crash nor SIGKILL of the test run leaves anything behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 60.0
"""Seconds after which a helper counts as hung; no test waits this long when all is well."""

_PR_SET_PDEATHSIG = 1
_MAX_FDS = 128

_libc = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


class LabError(Exception):
    """The lab itself failed; says nothing about what is being tested."""


def libc(name: str, *args: int) -> None:
    """Call a libc function that Python lacks; a failure becomes OSError."""
    if getattr(_libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def die_with(parent: int) -> None:
    """Have the kernel kill this process once `parent` is gone.

    Changed credentials clear the request: call it after the last `setns`.
    """
    libc("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


@dataclass(frozen=True, slots=True)
class WithFds(Generic[T]):
    """A result that takes open files along; the parent gets descriptors of its own."""

    value: T
    fds: tuple[int, ...]


@dataclass(slots=True)
class Task(Generic[T]):
    """A function that is running in a forked child."""

    pid: int
    name: str
    _channel: socket.socket
    _status: int | None = field(default=None, init=False)

    def result(self, timeout: float = PATIENCE) -> T:
        """Wait for what the function returned, or raise what it raised."""
        value, fds = self.result_with_fds(timeout)
        for fd in fds:
            os.close(fd)
        return value  # type: ignore[no-any-return]

    def result_with_fds(self, timeout: float = PATIENCE) -> tuple[Any, list[int]]:
        """Like `result`, for a function that returns `WithFds`: its value, and the files as descriptors of ours."""
        fds = list[int]()
        try:
            message = self._read(timeout, fds)
        finally:
            self.stop()
        if not message:
            raise LabError(f"{self.name} ended without an answer (exit {self._status})")
        succeeded, value = pickle.loads(message[1:])  # noqa: S301 our own child wrote it
        if not succeeded:
            raise value
        return value, fds

    def stop(self) -> None:
        """Kill the child, if it is still there, and reap it."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._channel.close()

    def alive(self) -> bool:
        """Tell whether the child still runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status is None

    def _read(self, timeout: float, fds: list[int]) -> bytes:
        deadline = time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        message = bytearray()
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            chunk, passed, _, _ = socket.recv_fds(self._channel, 1 << 20, _MAX_FDS)
            fds += passed
            if not chunk:
                return bytes(message)
            message += chunk
        raise LabError(f"{self.name} gave no answer within {timeout:g} s")


def start(func: Callable[..., T], *args: Any, **kwargs: Any) -> Task[T]:
    """Fork, and call `func` there."""
    parent = os.getpid()
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # The child only uses what is safe after a fork from threads: it was the one that forked that lives on.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _child(parent, ours, theirs, lambda: func(*args, **kwargs))
    theirs.close()
    return Task(pid, f"{getattr(func, '__qualname__', func)} (pid {pid})", ours)


def _child(parent: int, ours: socket.socket, theirs: socket.socket, work: Callable[[], object]) -> NoReturn:
    status = 1
    try:
        gc.disable()  # what was inherited belongs to the parent: its finalizers must not run here
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        ours.close()
        die_with(parent)
        fds: tuple[int, ...] = ()
        try:
            value = work()
            if isinstance(value, WithFds):
                value, fds = value.value, value.fds
            message = pickle.dumps((True, value))
        except BaseException as error:  # noqa: BLE001 whatever it is, the parent shall raise it
            message = _portable(error)
        socket.send_fds(theirs, [b"\0"], fds)
        theirs.sendall(message)
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _portable(error: BaseException) -> bytes:
    story = "".join(traceback.format_exception(error))
    try:
        error.add_note(f"in a child of the lab:\n{story}")
        message = pickle.dumps((False, error))
        pickle.loads(message)  # noqa: S301 some exceptions pickle, but cannot be made again
    except Exception:  # noqa: BLE001 then its text has to do
        return pickle.dumps((False, LabError(story)))
    return message
