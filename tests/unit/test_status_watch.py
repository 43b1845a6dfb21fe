"""One screenful of `status --watch`: its age first, what is wrong before what is in order, nothing cut silently."""

from __future__ import annotations

import io

from rich.console import Console

from gatewrit.api.documents import policy_item, status_document
from gatewrit.cli.watch import Screen, Shown
from unit.api_samples import DEGRADED, NOW


def screen(shown: Shown, now: float, *, height: int = 40, width: int = 100) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, highlight=False, markup=False, emoji=False)
    console.print(Screen(shown, now))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def answered(at: float = 100.0) -> Shown:
    answer = {
        "status": status_document(DEGRADED, NOW),
        "policies": [policy_item(view) for view in DEGRADED.policies],
        "clocks": {"bes-shutdown": {"from": "2015-12-31 00:00 Asia/Karachi (+05:00)"}},
    }
    shown = Shown()
    shown.take(answer, at, NOW)
    return shown


def test_age_first_then_verdict_problems_policies() -> None:
    lines = screen(answered(), 103.9)
    assert lines[0] == "As of 12:00:00 UTC, 3 s ago. Ctrl-C ends this, nothing else."
    assert lines[2] == "Degraded: 1 error needs attention"
    text = "\n".join(lines)
    assert text.index("To do: Correct the file") < text.index("in force ")
    assert "from 2015-12-31 00:00 Asia/Karachi (+05:00)" in text


def test_a_daemon_that_is_gone_cannot_look_healthy() -> None:
    shown = answered()
    shown.why = "no daemon is running here: nobody answers at \x1b[2J/run"
    lines = screen(shown, 100.0 + 3720)
    assert lines[0] == "no daemon is running here: nobody answers at \N{REPLACEMENT CHARACTER}[2J/run"
    assert lines[1].startswith("What follows is OLD, of 12:00:00 UTC, 1 h 2 min ago. The rules stay in the kernel")
    assert screen(Shown(why="no daemon is running here"), 5.0)[0] == "no daemon is running here"
    assert screen(Shown(), 5.0)[0] == "Asking the daemon …"


def test_what_does_not_fit_is_counted() -> None:
    whole = screen(answered(), 100.0, height=200)
    short = screen(answered(), 100.0, height=12)
    assert len(short) == 11
    assert short[:10] == whole[:10]
    left = len("\n".join(whole).rstrip().splitlines()) - 10
    assert short[-1] == f"… {left} lines don't fit here; all: gatewrit status"
