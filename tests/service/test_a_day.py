"""docs/a-day.md holds: every command on it is run for real, and prints what stands there.

`A_DAY=write` puts what they print into the page; then read it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from support.gateway import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.gateway import Gateway

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/a-day.md"
#: What is written into a file first, or commands with what they print.
BLOCK = re.compile(r"^(?:<!-- file: (\S+) -->\n)?```(yaml|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What differs from run to run.
MASKS = (
    (r"verified_age=\d+s", "AGE"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "INSTANT"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?( UTC)?", "INSTANT"),
    (r"sha256:[0-9a-f]+", "DIGEST"),
    (r"\b[0-9a-f]{64}\b", "DIGEST"),
    (r"\b[0-9a-f]{8,16}…?", "DIGEST"),
    (r"just now|\d+ (s|min|h|days?)\b( \d+ (s|min|h)\b)?( ago)?", "A WHILE"),
    (r"\d+ rows, 1 to \d+", "ROWS"),
    (r"^ +\d+  INSTANT", "ROW"),
)


def masked(text: str) -> str:
    for pattern, name in MASKS:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in text.splitlines())


class Desk:
    """A shell on the gateway, where everything is where it is on a host."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        self.gateway = gateway
        self.folder = gateway.policies.parent
        program = folder / "gatewrit"
        words = f'"{sys.executable}" -P -m gatewrit "$verb" --config "{gateway.config}" "$@"'
        program.write_text(f"#!/bin/sh\nverb=$1; shift\nexec {words}\n")
        program.chmod(0o755)
        self.environ = {
            **clean_environment(),
            "EXAMPLES": str(ROOT / "policies"),
            "COLUMNS": "100",
            "LC_ALL": "C.UTF-8",
        }
        self.environ["PATH"] = f"{folder}:{os.environ['PATH']}"

    def run(self, command: str) -> str:
        """Run a command; what it prints, with the paths of a host."""
        if command.startswith("cd "):
            return ""
        with self.gateway.space.popen(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            said, _ = process.communicate(timeout=60)
        for path, shown in (
            (self.gateway.policies, "/etc/gatewrit/policies"),
            (self.gateway.state, "/var/lib/gatewrit"),
            (self.gateway.runtime, "/run/gatewrit"),
            (self.folder, "/etc/gatewrit"),
        ):
            said = said.replace(str(path), shown)
        assert isinstance(said, str)
        return said

    def follow(self, block: str) -> Iterator[tuple[str, str]]:
        """Run the commands of a block; give each with what it printed."""
        for line in block.splitlines():
            if line.startswith("$ "):
                yield line, self.run(line[2:])


def test_the_page_is_what_happens(gateway: Gateway, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    desk = Desk(gateway, folder)
    gateway.program = [sys.executable, str(Path(__file__).parent.parent / "support" / "steady.py")]
    gateway.set(gateway={"name": "core-1"})
    gateway.start()
    page = PAGE.read_text()

    def happen(found: re.Match[str]) -> str:
        file, kind, text = found.groups()
        if file is not None:
            # In place by a rename, as editors do it; the daemon picks it up by itself.
            draft = desk.folder / f"{file}~"
            draft.write_text(text)
            draft.rename(desk.folder / file)
            return found[0]
        assert kind == "console"
        return "```console\n" + "".join(f"{command}\n{said}" for command, said in desk.follow(text)) + "```"

    happened = BLOCK.sub(happen, page)
    if os.environ.get("A_DAY") == "write":
        PAGE.write_text(happened)
    assert masked(happened) == masked(page)
