"""The command line: one verb, one function. Exit codes are the contract's."""

from __future__ import annotations

import importlib
import os
import sys

from gatewrit.cli.completion import COMPLETE, answer


def main() -> None:
    """Run the command line, or answer a shell that asks how to complete a word; ends the process."""
    if asked := os.environ.get(COMPLETE):
        sys.exit(answer(asked))
    # Only now: loading the program takes half a second, and the Tab key does without.
    importlib.import_module("gatewrit.cli.app").main()
