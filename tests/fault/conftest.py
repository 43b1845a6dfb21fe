"""The table at the end of `make chaos`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fault.account import ROWS, table

if TYPE_CHECKING:
    import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if rows := config.stash.get(ROWS, []):
        terminalreporter.write_line(table(rows))
