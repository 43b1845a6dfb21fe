"""SIGKILL at random instants of journal writes: no row that was acknowledged is lost, and the chain stays whole.

The writer does nothing else, so that most kills fall into a transaction: between a page and its sync, into the log's
growing, its writing back into the file, or retention. `make chaos` kills five hundred times.
"""

from __future__ import annotations

import os
import random
import select
import signal
import time
from itertools import count
from typing import TYPE_CHECKING

import pytest

from gatewrit.engine.journal.database import path_in
from gatewrit.engine.journal.rows import Entry
from gatewrit.engine.journal.verify import verify
from gatewrit.engine.journal.writer import Journal, Keeping
from lab import process

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 500 if os.environ.get("CHAOS") else 25
_DIGEST = 64
#: So small that retention has something to do all the time.
_SMALL = Keeping(max_bytes=400_000)


@pytest.mark.timeout(1800)
def test_a_writer_that_is_killed_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    path, dice, rows, cut = path_in(tmp_path), random.Random("journal"), 0, 0  # noqa: S311 - no secret
    for number in range(KILLS):
        acknowledged, unfinished = _killed(path, seed=number, after=dice.uniform(0, 0.03))
        verdict = verify(path, acknowledged)
        assert verdict.whole, (number, verdict.flaws)
        rows += verdict.rows
        cut += unfinished
    # A kill that falls between two writes shows nothing.
    assert cut > KILLS / 2
    print(f"\n{KILLS} kills in journal writes, {cut} inside a transaction; {rows:,} rows were verified after them")  # noqa: T201


def _killed(path: Path, *, seed: int, after: float) -> tuple[str, bool]:
    """Kill a writer some time after its first rows; gives the last digest that it acknowledged."""
    ours, theirs = os.pipe()
    task = process.start(_write, path, seed, theirs)
    os.close(theirs)
    select.select([ours], [], [])
    time.sleep(after)
    os.kill(task.pid, signal.SIGKILL)
    task.stop()
    said = b""
    while data := os.read(ours, 1 << 20):
        said += data
    os.close(ours)
    words = said.decode().split()
    return next(word for word in reversed(words) if len(word) == _DIGEST), words[-1] == "writing"


def _write(path: Path, seed: int, told: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - no secret
    journal = Journal.open(path, 1)
    os.write(told, f"{journal.head().digest}\n".encode())
    for number in count():
        entries = [
            Entry(number, "note", None, {"text": dice.randbytes(dice.randrange(2000)).hex()})
            for _ in range(dice.randrange(1, 5))
        ]
        os.write(told, b"writing\n")
        head = journal.append(entries, {})
        os.write(told, f"{head.digest}\n".encode())
        if dice.random() < 0.1:
            os.write(told, b"writing\n")
            head = journal.prune(number, _SMALL).head
            os.write(told, f"{head.digest}\n".encode())
        if dice.random() < 0.02:
            # Closing has the log written back into the file.
            os.write(told, b"writing\n")
            journal.close()
            journal = Journal.open(path, number)
