"""Files that survive a crash at any step: the old content or the new, never half of one."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import NoReturn

_LIBC = ctypes.CDLL(None, use_errno=True)
#: From so many files on, waiting once for the whole file system takes less than waiting for each.
_MANY = 8


def write(path: Path, content: bytes) -> None:
    """Write a file so that after a crash or a power cut it holds all of `content` or what it held before.

    Raises `OSError`; what was there is then untouched.
    """
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def create(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file that isn't there yet, all of it or nothing, whole from the first instant that it can be seen.

    Raises `FileExistsError` if anything has that name by then, else `OSError`. The folder must be there.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link never takes another's place.
        os.link(draft, path, follow_symlinks=False)
    finally:
        with suppress(OSError):
            draft.unlink()
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, that everybody may read, whatever the umask; fine if it is there.

    Raises `OSError`.
    """
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=0o755)
        path.chmod(0o755)


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Write many files, each as `write` would, and wait for the disk once.

    Raises `OSError`; each file then holds all of its old or all of its new content.
    """
    if len(contents) < _MANY:
        for path, content in contents.items():
            write(path, content)
        return
    drafts = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in contents}
    folders = {path.parent for path in contents}
    try:
        for folder in folders:
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        for path, content in contents.items():
            descriptor = os.open(
                drafts[path], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640
            )
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
        for folder in folders:
            _sync_filesystem(folder)
        for path, draft in drafts.items():
            draft.replace(path)
    except BaseException:
        for draft in drafts.values():
            with suppress(OSError):
                draft.unlink()
        raise
    for folder in folders:
        sync_folder(folder)


def remove_all(paths: Iterable[Path]) -> None:
    """Delete files for good, and wait for the disk once; fine if they aren't there."""
    gone = list(paths)
    for path in gone:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in gone}:
        sync_folder(folder)


def remove(path: Path) -> None:
    """Delete a file for good; fine if it isn't there."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document durably."""
    write(path, to_json(value))


def to_json(value: Any) -> bytes:
    """Give a JSON document as it is written."""
    # Half a surrogate pair, which a damaged file can bring in, is written as it was read.
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass") + b"\n"


def read(path: Path) -> bytes:
    """Read a regular file. Raises `OSError`, also for a pipe or a device, which could hold us up or never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def documents(folder: Path) -> list[Path]:
    """Give the JSON files in a folder, sorted; none if there is no such folder. Raises `OSError` if it can't be read.

    `Path.glob` gives none for a folder that may not be read, as if nothing had been kept.
    """
    try:
        return sorted(folder / name for name in os.listdir(folder) if name.endswith(".json"))  # noqa: PTH208 - names do
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None if there is no such file. Raises `ValueError` if it is damaged, else `OSError`.

    No file of ours holds a fraction, or nests deep.
    """
    try:
        value = json.loads(read(path), parse_float=_no_fraction, parse_constant=_no_fraction)
    except FileNotFoundError:
        return None
    except RecursionError:
        raise ValueError(f"{path}: nested deeper than anything that was ever written") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: not a JSON object")  # noqa: TRY004 - as any other damage
    return value


def _no_fraction(text: str) -> NoReturn:
    raise ValueError(f"the number {text} isn't a whole one")


def whole(value: object, most: int | None = None) -> int:
    """Give a number as it was read back: a whole one from 0 to `most`; raises `ValueError`."""
    if type(value) is not int or value < 0 or (most is not None and value > most):
        raise ValueError(f"{value!r:.100} isn't a whole number from 0 to {'any' if most is None else most}")
    return value


def _sync_filesystem(folder: Path) -> None:
    """Have everything that was written on this file system reach the disk (syncfs(2))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _LIBC.syncfs(descriptor) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Have what was renamed, made or deleted in a folder outlive a power cut; raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
