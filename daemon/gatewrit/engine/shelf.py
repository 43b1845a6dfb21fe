"""Compiled lists on disk: `lists/SHA256` in the state directory, by the SHA-256 of the list that each stands for.

They save time and nothing else, so nothing here ever raises: what can't be read is parsed again, and what can't be
written is parsed again next time. What a file holds vouches for itself (`policy/compiled.py`), which is why nobody
waits for the disk, and a half that a power cut leaves does no harm.
"""

# pathlib knows no directory descriptors, by which a link that is put there can't lead elsewhere.
# ruff: noqa: PTH208

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from gatewrit.engine.store import Kept
    from gatewrit.policy.load import Loaded

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK so that a pipe that somebody put there can't hold us.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Later:
    """A shelf on which things are put when there is time for it: nobody who waits for a reload waits for that."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.waiting: dict[str, Sequence[bytes | memoryview]] = {}

    def get(self, digest: str, most: int) -> bytes | None:
        """Give what lies on the shelf."""
        return self._shelf.get(digest, most)

    def put(self, digest: str, parts: Sequence[bytes | memoryview]) -> None:
        """Have the parts kept, one behind the other, by `settle`."""
        self.waiting[digest] = parts

    def settle(self) -> None:
        """Put what waits onto the shelf."""
        while self.waiting:
            self._shelf.put(*self.waiting.popitem())

    def keep_only(self, kept: Iterable[Kept], loaded: Iterable[Loaded]) -> None:
        """Remove from the shelf what nobody needs."""
        self._shelf.keep_only(kept, loaded)


@dataclass(frozen=True, slots=True)
class Shelf:
    """The state directory's part for compiled lists: a `gatewrit.policy.lists.Shelf`. Calls block on the disk."""

    state: Path

    def get(self, digest: str, most: int) -> bytes | None:
        """Give what was put there; None if it isn't there, can't be read or has more than `most` bytes."""
        with suppress(OSError), self._open() as folder, _reading(folder, digest) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size <= most:
                return file.read(status.st_size)
        return None

    def put(self, digest: str, parts: Sequence[bytes | memoryview]) -> None:
        """Keep the parts, one behind the other, if that can be done: all of them or what was there before."""
        draft = f".{digest}.{os.getpid()}"
        with suppress(OSError):
            self.state.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
        with suppress(OSError), self._open() as folder:
            with suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=folder)
            try:
                with os.fdopen(os.open(draft, _WRITE, 0o600, dir_fd=folder), "wb") as file:
                    file.writelines(parts)
                os.rename(draft, digest, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                os.unlink(draft, dir_fd=folder)

    def keep_only(self, kept: Iterable[Kept], loaded: Iterable[Loaded]) -> None:
        """Remove every list that neither last good revisions nor files need, and whatever else lies there."""
        wanted = {each.source.sha256 for each in loaded}
        wanted |= {source.sha256 for each in kept for one in each.services.values() for source in one.lists.values()}
        with suppress(OSError), self._open() as folder:
            for name in os.listdir(folder):
                if name not in wanted:
                    with suppress(OSError):
                        os.unlink(name, dir_fd=folder)

    @property
    def _folder(self) -> Path:
        return self.state / "lists"

    @contextmanager
    def _open(self) -> Iterator[int]:
        folder = os.open(self._folder, _FOLDER)
        try:
            yield folder
        finally:
            os.close(folder)


def _reading(folder: int, name: str) -> FileIO:
    return FileIO(os.open(name, _READ, dir_fd=folder))
