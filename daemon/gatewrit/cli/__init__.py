"""The command line: one verb, one function. Exit codes are the contract's."""

from __future__ import annotations

import sys

import click

from gatewrit.cli.app import WRONG_USAGE, Quit, app


def main() -> None:
    """Run the command line; ends the process."""
    try:
        code = app.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(1)
    except click.UsageError as error:
        error.show()
        sys.exit(WRONG_USAGE)
    except Quit as error:
        error.show()
        sys.exit(error.code)
    sys.exit(code if isinstance(code, int) else 0)
