"""Giving up every privilege for good, before a byte from a stranger is read.

Python has no names for what Linux calls here: numbers are of include/uapi/linux/prctl.h and capability.h.
"""

from __future__ import annotations

import os
import pwd
import resource
from pathlib import Path

import structlog

log = structlog.get_logger()

#: The server's own user, where the host has it; else the one that owns nothing.
USERS = ("gatewrit-http", "nobody")
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 38, 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
#: More capabilities than Linux has, and than fit.
_CAPABILITIES = 64
#: Connections (512), listening sockets, the feed, with room; memory for three snapshots of 10,000 policies, with room.
_FILES, _MEMORY = 1024, 2**30
#: After the enforcer, when both want the processor.
_NICENESS = 5


class PrivilegeError(Exception):
    """Privileges are left that couldn't be given up; the message says which."""


def account(control_group: int | None) -> tuple[int, int] | None:
    """Return uid and gid of who the server is to be, None if the host has nobody fit.

    Whoever has the control group could command the daemon, so a user whose own group that is won't do.
    """
    for name in USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0 and entry.pw_gid != control_group:
            return entry.pw_uid, entry.pw_gid
    return None


def drop(who: tuple[int, int] | None) -> None:
    """Become `who` if we are root, without capabilities, unable to gain any; raises PrivilegeError if any are left.

    Where the service manager has seen to all of it, its system call filter forbids even to try.
    """
    if os.geteuid() != 0 and not _left():
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    os.nice(_NICENESS)
    import ctypes  # noqa: PLC0415 - where memory may not be made executable, loading it is refused

    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        for capability in range(_CAPABILITIES):
            # Past the last one, or without CAP_SETPCAP, it says so; what counts is checked below.
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        _become(who)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    libc.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if kept := _left():
        raise PrivilegeError(f"privileges are left that can't be given up ({', '.join(kept)})")


def _become(who: tuple[int, int] | None) -> None:
    try:
        if who is None:
            raise OSError(0, f"this host has none of the users {', '.join(USERS)}")  # noqa: TRY301
        uid, gid = who
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        # As in a user namespace that maps one user only, or a unit without CAP_SETUID.
        log.warning(
            "http.same_user",
            reason=error.strerror,
            meaning="HTTP is served without capabilities, but by the daemon's own user; "
            "on a gateway use gatewrit-http.service",
        )


def _left() -> list[str]:
    """Return what of privileges any thread has left, in the words of /proc/self/status: each has its own."""
    left: dict[str, None] = {}
    for task in Path("/proc/self/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        kept = [name for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") if int(fields[name], 16)]
        left |= dict.fromkeys(kept if fields["NoNewPrivs"] == "1" else [*kept, "NoNewPrivs"])
    return list(left)
