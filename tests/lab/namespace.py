"""Network namespaces without a name: they live in file descriptors, and vanish with the last process that holds one.

Root makes them directly. Anybody else gets a user namespace first, in which they are root over these networks and
nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import socket
import subprocess
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from pyroute2 import IPRoute

from lab import process
from lab.guard import mark_of, require_lab
from lab.process import LabError, Task, WithFds, die_with, libc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

T = TypeVar("T")


class _Held(NamedTuple):
    """The descriptors that keep one namespace alive, and what its interfaces are marked with."""

    token: str
    user: int | None
    net: int


class Namespace:
    """One network namespace. `with Namespace() as ns:` makes a fresh one, loopback up and nothing else in it."""

    def __init__(self, name: str = "namespace", *, rootless: bool | None = None, held: _Held | None = None) -> None:
        self.name = name
        self.token, self._user, self._net = held or _hold(1, rootless=rootless)[0]
        self._tasks: list[Task[Any]] = []
        self._programs: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def mark(self) -> str:
        """What every interface in here carries as its alias, and senders look for."""
        return mark_of(self.token)

    @property
    def inode(self) -> int:
        """The kernel's number for this namespace."""
        return os.fstat(self._net).st_ino

    def fileno(self) -> int:
        """The descriptor that keeps the namespace alive."""
        return self._net

    def enter(self) -> None:
        """Move the calling process in here for good; it must have a single thread, as a fresh fork has."""
        if self._user is not None:
            libc("setns", self._user, _CLONE_NEWUSER)
        libc("setns", self._net, _CLONE_NEWNET)

    @contextlib.contextmanager
    def visit(self) -> Iterator[None]:
        """Step over from another namespace of the same lab: sockets opened meanwhile belong here, and stay usable."""
        here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc("setns", self._net, _CLONE_NEWNET)
            try:
                yield
            finally:
                libc("setns", here, _CLONE_NEWNET)
        finally:
            os.close(here)

    def run(self, func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call `func` in a child inside the namespace; its result (picklable) or its exception comes back."""
        return self.start(func, *args, **kwargs).result()

    def start(self, func: Callable[..., T], *args: Any, **kwargs: Any) -> Task[T]:
        """Like `run`, without waiting: `.result(timeout)` waits, `.stop()` kills."""
        parent = os.getpid()

        def inside() -> T:
            self.enter()
            die_with(parent)
            return func(*args, **kwargs)

        task = process.start(inside)
        task.name = f"{getattr(func, '__qualname__', func)} in {self.name} (pid {task.pid})"
        self._tasks = [known for known in self._tasks if known.alive()]
        self._tasks.append(task)
        return task

    def popen(self, args: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Run a program in here; options are those of `subprocess.Popen`. It is killed with the namespace."""
        parent = os.getpid()

        def inside() -> None:
            self.enter()
            die_with(parent)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # see process.start
            program = subprocess.Popen(args, preexec_fn=inside, **options)  # noqa: PLW1509
        self._programs.append(program)
        return program

    def check(self, args: Sequence[str], *, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
        """Run a program in here to its end and return its output; a failure raises LabError with what it said."""
        with self.popen(
            args,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=None if env is None else dict(env),
        ) as program:
            try:
                out, complaint = program.communicate(stdin, timeout=process.PATIENCE)
            except BaseException:
                program.kill()
                raise
        if program.returncode != 0:
            raise LabError(f"{' '.join(args)} in {self.name}: exit {program.returncode}: {complaint.strip()}")
        return str(out)

    def nft(self, script: str) -> str:
        """Load a script with Debian's `nft`, the second opinion on what the kernel takes; or list with it."""
        program = shutil.which("nft", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
        if program is None:
            raise LabError("the program nft is missing: install the package nftables")
        return self.check([program, "-f", "-"], stdin=script)

    def socket(
        self,
        family: socket.AddressFamily = socket.AF_INET,
        kind: socket.SocketKind = socket.SOCK_STREAM,
        proto: int = 0,
    ) -> socket.socket:
        """A socket of this namespace, usable from outside: sockets stay in the network that they were made in."""

        def made() -> WithFds[None]:
            require_lab(self.token)
            return WithFds(None, (socket.socket(family, kind, proto).detach(),))

        _, fds = self.start(made).result_with_fds()
        return socket.socket(fileno=fds[0])

    def close(self) -> None:
        """Kill, by pid, whatever was started here, and let go of the namespace."""
        for program in self._programs:
            program.kill()
            program.wait()
            for stream in (program.stdin, program.stdout, program.stderr):
                if stream is not None:
                    stream.close()
        for task in self._tasks:
            task.stop()
        self._programs, self._tasks = [], []
        for fd in (self._net, self._user):
            if fd is not None and fd >= 0:
                os.close(fd)
        self._net, self._user = -1, None


def make(names: Sequence[str], *, rootless: bool | None = None) -> list[Namespace]:
    """Make one fresh namespace per name; `rootless` forces a user namespace (True) or forbids one (False).

    Those made together share their user namespace, so that links can be laid between them.
    """
    held = _hold(len(names), rootless=rootless)
    return [Namespace(name, held=one) for name, one in zip(names, held, strict=True)]


def _hold(count: int, *, rootless: bool | None) -> list[_Held]:
    token = secrets.token_hex(8)
    try:
        has_user, fds = _born(count, token, rootless=rootless)
    except OSError as error:
        raise LabError(f"cannot make network namespaces ({error}). {_advice()}") from error
    if not has_user:
        return [_Held(token, None, net) for net in fds]
    *nets, user = fds
    return [_Held(token, os.dup(user) if i else user, net) for i, net in enumerate(nets)]


def _born(count: int, token: str, *, rootless: bool | None) -> tuple[bool, list[int]]:
    if rootless is None:
        if os.geteuid() == 0:
            with contextlib.suppress(PermissionError):  # root in a container is often no more than anybody
                return _born(count, token, rootless=False)
        rootless = True
    return process.start(_unshare, count, token, rootless=rootless).result_with_fds()


def sysctl(path: str, value: int) -> None:
    """Set a value under /proc/sys/net of the namespace that the caller is in."""
    try:
        Path("/proc/sys/net", path).write_text(f"{value}\n", encoding="ascii")
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        raise LabError("/proc/sys is read-only, as in many containers: the gateway could not forward") from error


def _unshare(count: int, token: str, *, rootless: bool) -> WithFds[bool]:
    fds = list[int]()
    if rootless:
        uid, gid = os.geteuid(), os.getegid()
        libc("unshare", _CLONE_NEWUSER)
        me = Path("/proc/self")
        with contextlib.suppress(FileNotFoundError):
            (me / "setgroups").write_text("deny", encoding="ascii")  # the kernel's condition for a gid_map of one's own
        (me / "uid_map").write_text(f"0 {uid} 1\n", encoding="ascii")
        (me / "gid_map").write_text(f"0 {gid} 1\n", encoding="ascii")
    for _ in range(count):
        libc("unshare", _CLONE_NEWNET)
        fds.append(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        with IPRoute() as netlink:
            netlink.link("set", index=1, state="up", ifalias=mark_of(token))
    if rootless:
        fds.append(os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC))
    return WithFds(rootless, tuple(fds))


def _advice() -> str:
    for name, wrong, right in (
        ("user/max_user_namespaces", "0", "10000"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ):
        knob = Path("/proc/sys", name)
        if knob.exists() and knob.read_text(encoding="ascii").strip() == wrong:
            return f"User namespaces are restricted: run as root, or  sysctl -w {name.replace('/', '.')}={right}"
    return "Neither root's way nor a user namespace is open here: a container needs the capability SYS_ADMIN for it."
