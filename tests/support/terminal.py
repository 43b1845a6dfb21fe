"""Running a program on a terminal, as a person has it."""

from __future__ import annotations

import os
import pty
import select
from typing import TYPE_CHECKING

from support.gateway import PATIENCE, clean_environment, program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab import Namespace


def on_a_terminal(
    space: Namespace, words: Sequence[str], answers: Sequence[tuple[str, str]] = (), **environ: str
) -> tuple[int, str]:
    """Run gatewrit; each answer is typed once its question is there. Gives its exit code, and all that was shown."""
    ours, theirs = pty.openpty()
    process = space.popen(
        [*program(), *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**clean_environment(), "TERM": "xterm", **environ},
    )
    os.close(theirs)
    seen, at, left = b"", 0, list(answers)
    while True:
        if left and (found := seen.find(left[0][0].encode(), at)) >= 0:
            at = found + len(left[0][0])
            os.write(ours, left.pop(0)[1].encode() + b"\n")
        ready, _, _ = select.select([ours], [], [], PATIENCE)
        assert ready, f"nothing more came after: {seen!r}"
        try:
            seen += os.read(ours, 4096)
        except OSError:
            # The other end is closed.
            break
    os.close(ours)
    assert not left, seen
    return process.wait(PATIENCE), seen.decode()
