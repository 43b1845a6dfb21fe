"""The report: a row for each thing that must hold, printed as it is found."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from systemd.machine import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Report:
    """Rows, and whether all of them held."""

    def __init__(self) -> None:
        self.held = 0
        self.failed: list[str] = []

    def part(self, title: str) -> None:
        """Begin a part."""
        print(f"\n{title}", flush=True)

    def row(self, what: str, seen: object, expected: object = True) -> bool:  # noqa: FBT002 - most are yes or no
        """Hold what was seen to what is expected, and say whether it is."""
        if seen == expected:
            self.held += 1
            print(f"  ok      {what}{'' if isinstance(expected, bool) else f': {seen}'}", flush=True)
        else:
            self.failed.append(what)
            print(f"  FAILED  {what}: expected {expected!r}, seen {seen!r}", flush=True)
        return seen == expected

    def seen(self, what: str, value: object) -> None:
        """Tell what was seen and is held to nothing."""
        print(f"  seen    {what}: {value}", flush=True)

    @contextmanager
    def goes_on(self, what: str) -> Iterator[None]:
        """Let a part that breaks off be a row that failed."""
        try:
            yield
        except (MachineError, OSError, ValueError, LookupError) as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            self.row(f"{what}: broke off", seen=False)
