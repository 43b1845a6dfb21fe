"""The manifest: what is in a policy directory to the last octet, as text that people can read and tools can check.

    gatewrit-manifest 1
    serial 7
    made 2015-11-30T15:20:00Z
    5b6f…(64 digits)  bes-shutdown.yaml
    e3b0…  services/as18705-2015-11-01.txt
    90aa…  services/blackberry-enterprise.yaml

Each file's line is one of `sha256sum`, so that `tail -n +4 MANIFEST | sha256sum --check` checks it with nothing of ours
at hand. There is one way to write a manifest: whatever else is refused, so that nobody signs what they can't see.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from gatewrit.policy.files import vouches

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A hundred thousand files with long names.
MAX_BYTES = 16 << 20
#: What every reader of JSON can count to; at one manifest a second, enough.
MAX_SERIAL = 2**53 - 1
_MAX_PATH = 1024
_HEADER = "gatewrit-manifest 1"
_FORM = "%Y-%m-%dT%H:%M:%SZ"


class ManifestError(ValueError):
    """Text that is no manifest: on which line, and what is wrong there."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a directory holds: SHA-256 (hexadecimal) by path. `made` is in epoch seconds; `serial` grows each time."""

    serial: int
    made: int
    files: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> bytes:
        """Write it; raises `ManifestError` for a path that can't stand in one."""
        for path in self.files:
            if wrong := _wrong_path(path):
                raise ManifestError(0, f"{path[:200]!r} can't be in a manifest: {wrong}")
        head = f"{_HEADER}\nserial {self.serial}\nmade {instant(self.made)}\n"
        return (head + "".join(f"{digest}  {path}\n" for path, digest in sorted(self.files.items()))).encode()


def instant(epoch: int) -> str:
    """Write an instant as manifests do."""
    return datetime.fromtimestamp(epoch, UTC).strftime(_FORM)


def digest(text: bytes) -> str:
    """Give what a manifest is known by."""
    return f"sha256:{sha256(text).hexdigest()}"


def parse(text: bytes) -> Manifest:
    """Read a manifest; raises `ManifestError`."""
    try:
        lines = text.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ManifestError(text.count(b"\n", 0, error.start) + 1, "this isn't UTF-8") from None
    head = [*lines[:3], "", "", ""]
    if head[0] != _HEADER:
        raise ManifestError(1, f"this isn't a manifest that I know: the first line must be `{_HEADER}`")
    serial = re.fullmatch(r"serial ([1-9][0-9]{0,15})", head[1])
    if serial is None or int(serial[1]) > MAX_SERIAL:
        raise ManifestError(2, f"here must stand `serial N`, a number from 1 to {MAX_SERIAL}")
    made = _made(head[2])
    if lines[-1]:
        raise ManifestError(len(lines), "the last line has no end; the file was cut off")
    files: dict[str, str] = {}
    last = ""
    for number, line in enumerate(lines[3:-1], 4):
        found = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if found is None:
            raise ManifestError(number, "here must stand a SHA-256, two blanks, and a path, as sha256sum writes them")
        path = found[2]
        if wrong := _wrong_path(path):
            raise ManifestError(number, f"{path[:200]!r} can't be in a manifest: {wrong}")
        if files and path <= last:
            raise ManifestError(number, "the paths must be sorted, and each be there once")
        files[path] = found[1]
        last = path
    return Manifest(int(serial[1]), made, files)


def _made(line: str) -> int:
    found = re.fullmatch(r"made ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)", line, re.ASCII)
    try:
        made = datetime.strptime(found[1], _FORM).replace(tzinfo=UTC) if found else None
    except ValueError:
        made = None
    if made is None or made.year < 1970:
        raise ManifestError(3, "here must stand when it was made, as in `made 2015-11-30T15:20:00Z`")
    return int(made.timestamp())


def _wrong_path(path: str) -> str:
    """Say what is wrong with a path; nothing if it names one file below the directory in the one way there is."""
    if len(path) > _MAX_PATH or not path.isprintable() or "\\" in path:
        return f"a path has at most {_MAX_PATH} printable characters, without backslashes"
    if any(part in {"", ".", ".."} for part in path.split("/")):
        return "a path leads from the directory straight down"
    if vouches(path):
        return "it is the manifest itself, or a signature"
    return ""
