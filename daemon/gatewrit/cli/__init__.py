"""The command line: one verb, one function. Exit codes are the contract's."""

from __future__ import annotations

import os
import sys

import click

from gatewrit.cli.app import COMPLETE, NAME, WRONG_USAGE, Quit, app


def main() -> None:
    """Run the command line; ends the process."""
    try:
        code = app.main(prog_name=NAME, complete_var=COMPLETE, standalone_mode=False, color=_colours())
    except click.exceptions.Abort:
        sys.exit(1)
    except click.UsageError as error:
        error.show()
        sys.exit(WRONG_USAGE)
    except Quit as error:
        error.show()
        sys.exit(error.code)
    sys.exit(code if isinstance(code, int) else 0)


def _colours() -> bool | None:
    """Whether to colour: not where somebody asks not to (no-color.org); None: on a terminal only."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None
