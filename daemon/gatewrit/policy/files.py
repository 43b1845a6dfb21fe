"""Reading files that somebody else wrote: regular ones only, of bounded size, and never outside of their folder.

What any user of the host can write, or a folder on the way to it, is refused: nobody could say who ordered what is in
it. A group of people may share it, and what is mounted read-only nobody can write, whatever its mode.

A link is followed as long as it stays within the policies directory, so that directories of links (a mounted
Kubernetes volume, a release switched by one link) work; the file is then opened step by step without following any,
so that a link put there in between is refused rather than followed.
"""

# pathlib knows no directory descriptors, and everything here rests on them.
# ruff: noqa: PTH116, PTH118, PTH206, PTH208
from __future__ import annotations

import errno
import os
import re
import stat
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatewrit.policy.faults import Code

_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK so that a pipe nobody writes to can't hold us; O_NOCTTY so that a terminal can't take us.
_LEAF = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link",
}


#: The manifest of a policy directory; beside it lie its signatures: `MANIFEST.sig`, `MANIFEST.alice.sig`.
MANIFEST = "MANIFEST"
_SIGNATURE = re.compile(rf"{MANIFEST}(\.[A-Za-z0-9][A-Za-z0-9@_.+-]*)?\.sig")
#: How old the last change of a file must be, in nanoseconds, for its stamp to tell the next one.
_SETTLED = 2 * 10**9


class RefusedFile(Exception):  # noqa: N818 - reads as what happened
    """A file that can't or mustn't be read, with the code and the sentence of its fault."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory held open: `path` as the user gave it, `real` without links.

    `sealed`: what somebody vouched for, by path. Then there is nothing else in it, whatever the disk says by now.
    """

    path: str
    real: str
    fd: int
    sealed: Mapping[str, Contents] | None = None


class Stamp(NamedTuple):
    """Which file it is, and by what the system shows that it was changed; sizes in bytes, times in nanoseconds."""

    device: int
    inode: int
    size: int
    mtime: int
    ctime: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What was in a file, when it was last changed (epoch seconds) and whose it is, all of the same moment.

    `stamp` is None where a change could leave it as it is.
    """

    data: bytes
    mtime: int
    uid: int
    stamp: Stamp | None = None


@contextmanager
def open_folder(path: str | os.PathLike[str]) -> Iterator[Folder]:
    """Hold a directory open while its files are read; raises RefusedFile where it can't be."""
    given = os.fspath(path)
    real = os.path.realpath(given)
    try:
        fd = os.open(real, _STEP)
    except OSError as error:
        if error.errno == errno.ENOTDIR:
            raise RefusedFile(
                "directory_missing", "this is a file; give the directory that holds the policies"
            ) from None
        if error.errno == errno.ENOENT:
            raise RefusedFile(
                "directory_missing", "there is no such directory; create it, or correct the path"
            ) from None
        raise RefusedFile("unreadable", _reason(error)) from None
    _closed_to_most(fd, "this directory")
    try:
        yield Folder(given, real, fd)
    finally:
        os.close(fd)


def names(folder: Folder, below: str = "") -> list[str]:
    """List what lies in the folder, or in a folder below it, sorted; raises RefusedFile."""
    if folder.sealed is not None:
        above = f"{below}/" if below else ""
        return sorted({path[len(above) :].split("/")[0] for path in folder.sealed if path.startswith(above)})
    fd = _open(folder, below, _STEP) if below else os.dup(folder.fd)
    try:
        return sorted(os.listdir(fd))
    except OSError as error:
        raise RefusedFile("unreadable", _reason(error)) from None
    finally:
        os.close(fd)


def is_signature(name: str) -> bool:
    """Whether a file is a signature of the manifest, by its name."""
    return _SIGNATURE.fullmatch(name) is not None


def vouches(name: str) -> bool:
    """Whether a file is the manifest or a signature of it, by its name: no policy, and no list."""
    return name == MANIFEST or is_signature(name)


def is_directory(folder: Folder, relative: str) -> bool:
    """Whether a name, links followed, is a directory; what can't be looked at isn't one."""
    if folder.sealed is not None:
        return any(path.startswith(f"{relative}/") for path in folder.sealed)
    try:
        return stat.S_ISDIR(os.stat(relative, dir_fd=folder.fd).st_mode)
    except OSError:
        return False


def read(folder: Folder, relative: str, limit: int, known: Contents | None = None) -> Contents:
    """Read a regular file below the folder, wherever links within it lead; raises RefusedFile.

    If it is the file that `known` was read from, and unchanged, that is given and nothing is read.
    """
    if folder.sealed is None:
        return _read_open(_open(folder, relative, _LEAF), limit, known)
    if (found := folder.sealed.get(relative)) is None:
        raise RefusedFile("not_found", "the manifest doesn't name it")
    if len(found.data) > limit:
        raise RefusedFile("too_large", f"{len(found.data):,} bytes, where {limit:,} are allowed")
    return found


def read_one(path: str | os.PathLike[str], limit: int, *, trusted: bool = False) -> bytes:
    """Read a regular file that the user named, links followed; raises RefusedFile.

    `trusted`: it says what holds for everybody, so it is refused where every user can write it.
    """
    try:
        _check_kind(os.stat(path))
        fd = os.open(path, _LEAF & ~os.O_NOFOLLOW)
    except OSError as error:
        raise RefusedFile(_code(error), _reason(error)) from None
    if trusted:
        _closed_to_most(fd, "it")
    return _read_open(fd, limit).data


def _open(folder: Folder, relative: str, flags: int) -> int:
    try:
        real = os.path.realpath(os.path.join(folder.real, relative))
    except ValueError:  # a NUL, or half a surrogate pair
        raise RefusedFile("not_found", "no file can have such a name") from None
    if os.path.commonpath([real, folder.real]) != folder.real:
        message = f"it leads out of the policies directory, to {real}; put the file itself there"
        raise RefusedFile("outside_policies", message)
    *steps, leaf = os.path.relpath(real, folder.real).split(os.sep)
    at = os.dup(folder.fd)
    try:
        for step in steps:
            below = _closed_to_most(os.open(step, _STEP, dir_fd=at), f"the directory {step}")
            os.close(at)
            at = below
        if not flags & os.O_DIRECTORY:
            # Looked at before it is opened: opening a device can already do something.
            _check_kind(os.stat(leaf, dir_fd=at, follow_symlinks=False))
        return _closed_to_most(os.open(leaf, flags, dir_fd=at), "it")
    except OSError as error:
        raise RefusedFile(_code(error), _reason(error)) from None
    finally:
        os.close(at)


def _read_open(fd: int, limit: int, known: Contents | None = None) -> Contents:
    with os.fdopen(fd, "rb", buffering=0) as file:
        now = time.time_ns()
        status = os.fstat(fd)
        _check_kind(status)
        stamp = _stamp(status, now)
        if known is not None and stamp is not None and stamp == known.stamp:
            return known
        if status.st_size > limit:
            raise RefusedFile("too_large", f"{status.st_size:,} bytes, where {limit:,} are allowed")
        # A file may grow while it is read, and files in /proc say 0. As a rule it comes in one piece, of which no
        # copy is made then.
        parts, left = [], limit + 1
        try:
            while left > 0 and (part := file.read(min(left, max(status.st_size, 1 << 16) + 1))):
                parts.append(part)
                left -= len(part)
        except OSError as error:
            raise RefusedFile("unreadable", _reason(error)) from None
    if left <= 0:
        raise RefusedFile("too_large", f"more than the {limit:,} bytes that are allowed")
    return Contents(b"".join(parts), int(status.st_mtime), status.st_uid, stamp)


def _stamp(status: os.stat_result, now: int) -> Stamp | None:
    """Give what tells a file from any later state of it, or None if nothing does.

    Every write and rename sets ctime, which nobody can set back, but clocks of file systems tick: what is written right
    after we read may have the ctime that we saw. So, as git does with its index, only a ctime that was well past when
    we looked is believed; a change from then on is bound to have another one.
    """
    if status.st_ctime_ns > now - _SETTLED:
        return None
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _check_kind(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise RefusedFile("not_regular", f"this is {kind}, where a file is expected")


def _closed_to_most(fd: int, what: str) -> int:
    """Give the descriptor back if not every user of the host can write what it is of; else close it and refuse."""
    mode = os.fstat(fd).st_mode
    if mode & stat.S_IWOTH and not os.fstatvfs(fd).f_flag & os.ST_RDONLY:
        os.close(fd)
        how = f"mode {stat.S_IMODE(mode):o}; see what it says, then: chmod o-w"
        raise RefusedFile("writable_by_others", f"every user of this host can write {what} ({how})")
    return fd


def _code(error: OSError) -> Code:
    match error.errno:
        case errno.ENOENT:
            return "not_found"
        case errno.ENOTDIR | errno.EISDIR | errno.ENXIO:
            return "not_regular"
    return "unreadable"


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "there is no such file"
    if error.errno == errno.EACCES:
        who = f"{os.strerror(error.errno)} to uid {os.geteuid()}"
        return f"it can't be read: {who}; under systemd the daemon is the user gatewrit: let that one read it"
    return f"it can't be read: {os.strerror(error.errno) if error.errno else error}"
