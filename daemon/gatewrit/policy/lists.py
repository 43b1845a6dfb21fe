"""The list files of a policy directory: read once however many services name them, parsed once for each content.

Of a big list that hasn't changed nothing is done at all: neither is it read again as long as the system says that it is
the same file, nor parsed again as long as a shelf has it compiled.
"""

from __future__ import annotations

import posixpath
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gatewrit.policy import compiled, files
from gatewrit.policy.ranges import MAX_LIST_BYTES, AddressList, parse_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: A shorter list is parsed faster than a file is opened and written.
WORTH_KEEPING = 20_000
SERVICES = "services"


class Shelf(Protocol):
    """Where compiled lists are kept, by the SHA-256 of the list; nothing that becomes of it does harm. Never raises."""

    def get(self, digest: str, most: int) -> bytes | None:
        """Give what was put there; None if it isn't there, can't be read or has more than `most` bytes."""

    def put(self, digest: str, parts: Sequence[bytes | memoryview]) -> None:
        """Keep the parts, one behind the other, if that can be done."""


class ListFile(NamedTuple):
    """A list file as it was read, good or not, and how it lay on the disk then."""

    part: AddressList
    contents: files.Contents


def read_list(data: bytes, file: str, shelf: Shelf | None = None, before: AddressList | None = None) -> AddressList:
    """Read a list as `parse_list` does, or take what the shelf has of it."""
    if shelf is None or len(data) < WORTH_KEEPING:
        return parse_list(data, file)
    digest = sha256(data).hexdigest()
    kept = shelf.get(digest, compiled.HEADER_BYTES + compiled.MOST_PER_BYTE * (len(data) + 1))
    if kept is not None and (ranges := compiled.unpack(kept, digest, file)):
        # Whoever has no comments has none that count.
        counts = None if b"#" in data or b";" in data else ()
        return AddressList(file, data, digest, ranges, (), counts)
    made = parse_list(data, file, before=before)
    if not made.faults:
        shelf.put(digest, compiled.pack(made))
    return made


class Lists:
    """The list files that the services of one folder name; `found` has them by their path in the folder."""

    def __init__(self, folder: files.Folder, before: Mapping[str, ListFile], shelf: Shelf | None) -> None:
        self._folder = folder
        self._before = before
        self._shelf = shelf
        self.found: dict[str, ListFile | files.RefusedFile] = {}

    @property
    def good(self) -> dict[str, ListFile]:
        """Those that could be read, whatever is in them."""
        return {path: each for path, each in self.found.items() if isinstance(each, ListFile)}

    def fetch(self, name: str, called: str) -> AddressList:
        """Give the list that a service names, and that messages are to call `called`; raises RefusedFile."""
        path = posixpath.normpath(posixpath.join(SERVICES, name))
        if path not in self.found:
            try:
                self.found[path] = self._read(path, called)
            except files.RefusedFile as refused:
                self.found[path] = refused
        found = self.found[path]
        if isinstance(found, files.RefusedFile):
            raise found
        return found.part

    def _read(self, path: str, called: str) -> ListFile:
        old = self._before.get(path)
        contents = files.read(self._folder, path, MAX_LIST_BYTES, old and old.contents)
        if old is not None and (old.part.file, old.part.data) == (called, contents.data):
            # Of equal bytes one copy is kept.
            return ListFile(old.part, replace(contents, data=old.part.data))
        return ListFile(read_list(contents.data, called, self._shelf, old and old.part), contents)
