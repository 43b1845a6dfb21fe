"""The command line in this process: quick, for what starts no daemon and touches no kernel."""

from __future__ import annotations

from click.testing import CliRunner

from gatewrit.cli.app import WRONG_USAGE, Quit, app


def invoke(*words: str) -> tuple[int, str, str]:
    """Run a verb; gives the exit code, and what went to standard output and error."""
    result = CliRunner().invoke(app, words, standalone_mode=False)
    if isinstance(result.exception, Quit):
        return result.exception.code, result.stdout, result.stderr + result.exception.message
    if result.exception is not None:
        return WRONG_USAGE, result.stdout, str(result.exception)
    return int(result.return_value), result.stdout, result.stderr
