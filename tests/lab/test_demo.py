"""What `make demo` promises: the matrices, the page, exit codes, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from lab import Probe, Verdict, demo, process

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parents[1]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A short path: those of sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def playing(temporary: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "lab.demo", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(TESTS), "TMPDIR": str(temporary), "NO_COLOR": "1"},
    ) as demonstration:
        try:
            yield demonstration
        finally:
            demonstration.kill()


def read_until(demonstration: subprocess.Popen[str], wanted: str) -> str:
    assert demonstration.stdout is not None
    text = ""
    for line in demonstration.stdout:
        text += line
        if wanted in line:
            return text
    raise AssertionError(f"{wanted!r} never came, but:\n{text}")


def wait_until_gone(folder: Path) -> None:
    deadline = time.monotonic() + process.PATIENCE
    while any(folder.iterdir()) or mentioned(folder):
        assert time.monotonic() < deadline, (list(folder.iterdir()), mentioned(folder))
        time.sleep(0.01)


def mentioned(folder: Path) -> list[str]:
    """Living processes that have the folder in their command line or environment."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(folder) in (one / "cmdline").read_text(errors="replace"):
                found.append(one.name)
    return found


def test_it_shows_all_three_acts_and_ends_well(temporary: Path) -> None:
    with playing(temporary, "--once") as demonstration:
        out, _ = demonstration.communicate(timeout=process.PATIENCE)

    assert demonstration.returncode == 0, out
    assert [line[0] for line in out.splitlines() if re.match(r"\d\. ", line)] == ["1", "2", "3"]
    rows = [line.split() for line in out.splitlines() if line.startswith("tcp/3101")]
    assert [(row[2], row[4]) for row in rows] == [("reached", "reached"), ("reset", "reset"), ("reached", "reached")]
    assert "✗" not in out
    assert "\x1b" not in out  # NO_COLOR
    wait_until_gone(temporary)


def test_the_page_is_there_until_it_is_interrupted_and_then_nothing_is(temporary: Path) -> None:
    with playing(temporary) as demonstration:
        text = read_until(demonstration, "Ctrl-C ends it")
        url = re.search(r"http://127\.0\.0\.1:\d+/", text)
        assert url is not None
        with urllib.request.urlopen(url[0], timeout=process.PATIENCE) as page:  # noqa: S310 it is http
            assert b"bes-shutdown" in page.read()
        assert mentioned(temporary)

        demonstration.send_signal(signal.SIGINT)

        assert demonstration.wait(timeout=process.PATIENCE) == 0
    wait_until_gone(temporary)


def test_nothing_is_left_when_it_is_killed(temporary: Path) -> None:
    with playing(temporary) as demonstration:
        read_until(demonstration, "revision 1 is scheduled")
        assert mentioned(temporary)
        assert any(temporary.iterdir())

        demonstration.kill()

    wait_until_gone(temporary)


GROUPS = [demo.Group("AS18705", "", ("206.51.26.0", "206.51.26.1"), ordered=True)]
IN_FORCE = {
    Probe(address, port): Verdict.RESET if port == "tcp/3101" else Verdict.REACHED
    for address in GROUPS[0].addresses
    for port in demo.SERVICES
}


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({}, True),
        ({Probe("206.51.26.1", "tcp/3101"): Verdict.REACHED}, False),
        ({Probe("206.51.26.1", "tcp/3101"): Verdict.SILENT}, False),
        ({Probe("206.51.26.0", "udp/443"): Verdict.RESET}, False),
    ],
)
def test_one_wrong_cell_is_marked_and_fails(wrong: dict[Probe, Verdict], right: bool) -> None:  # noqa: FBT001
    console = Console(file=StringIO(), width=100)

    fits = demo.matrix(console, "in force", GROUPS, IN_FORCE | wrong, in_force=True)

    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert fits is right
    assert ("✗" in printed) is not right


def test_elsewhere_is_really_elsewhere() -> None:
    prefixes = demo.read_prefixes(demo.ROOT / "policies/services/as18705-2015-11-01.txt")
    assert len(prefixes) == 16

    inside4, inside6, others = demo.groups(prefixes)

    assert (len(inside4.addresses), len(inside6.addresses)) == (39, 9)
    assert "206.51.25.255" in others.addresses
    assert "2607:ffc1::" in others.addresses
