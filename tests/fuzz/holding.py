"""What several targets hold."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gatewrit.policy.terms import Fault

_HOMES: list[tempfile.TemporaryDirectory[str]] = []
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made there
_BREAK = re.compile(r"\r\n|\n|\r")


def faults_stand_inside(faults: Iterable[Fault], texts: Mapping[str, bytes]) -> None:
    """Each fault is one line that a terminal can show, at a place that the file it names has."""
    for fault in faults:
        assert fault.message, fault
        assert fault.message.isprintable(), fault
        assert len(fault.message) <= 500, fault
        text = texts[fault.place.file].decode("utf-8", "replace")
        # A list's lines end where a newline is, YAML's at any break.
        lines = text.split("\n") if fault.place.file.endswith(".txt") else _BREAK.split(text)
        assert 1 <= fault.place.line <= len(lines), fault
        assert 1 <= fault.place.column <= len(lines[fault.place.line - 1]) + 1, fault


def sections(data: bytes, mark: bytes) -> tuple[bytes, bytes]:
    """Cut an input in two at a line that is `mark`."""
    head, _, tail = data.partition(b"\n" + mark + b"\n")
    return head, tail


def home() -> Path:
    """Make a directory of the target's own, in memory where that can be had; it goes with the process."""
    made = tempfile.TemporaryDirectory(prefix="gw-fuzz-", dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None)
    _HOMES.append(made)
    return Path(made.name)
