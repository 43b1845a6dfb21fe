"""What came of each fault, as a row of the table that `make chaos` prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Row:
    """One fault: `median` and `longest` are seconds until all was well again; the rest are packets.

    `excused` passed while the machine was down, or as somebody else had just changed our table.
    """

    name: str
    strikes: int
    median: float
    longest: float
    blocked: int
    leaked: int
    excused: int
    free: int
    lost: int

    def __str__(self) -> str:
        """Give the row as Markdown has it."""
        return (
            f"| {self.name} | {self.strikes} | {self.median:.2f} / {self.longest:.2f} | {self.blocked:,} "
            f"| {self.leaked:,} | {self.excused:,} | {self.free:,} | {self.lost:,} |"
        )


ROWS = pytest.StashKey[list[Row]]()
HEAD = (
    "| fault | strikes | well again after, s: median / longest | packets to what is blocked | leaked | excused "
    "| to neighbours | wrongly blocked |\n|---|---|---|---|---|---|---|---|"
)


def table(rows: Iterable[Row]) -> str:
    """Give all rows as a Markdown table."""
    return "\n".join([HEAD, *map(str, rows)])
