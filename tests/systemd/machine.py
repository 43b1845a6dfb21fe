"""A Debian booted in systemd-nspawn: its own processes, mounts, network and service manager."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Seconds for a boot, an end, and whatever else is waited for: such machines share processors with others.
PATIENCE = 300.0
_INSIDE = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}


class MachineError(Exception):
    """A machine that doesn't do as it should; the message has what it said."""


def until(what: Callable[[], object], why: str) -> None:
    """Wait until something holds; raises MachineError when it never does."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > deadline:
            raise MachineError(f"not within {PATIENCE:.0f} s: {why}")
        time.sleep(0.1)


class Machine:
    """One that has been booted. `tree` is its file system, as seen from outside."""

    def __init__(self, tree: Path, nspawn: subprocess.Popen[bytes]) -> None:
        self.tree = tree
        self._nspawn = nspawn
        children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
        until(
            lambda: nspawn.poll() is not None or children.read_text().split(), "systemd-nspawn starts its first process"
        )
        if nspawn.poll() is not None:
            raise MachineError("systemd-nspawn ended at once")
        leader = children.read_text().split()[0]
        self._enter = ["nsenter", "--target", leader, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]
        until(lambda: self.ask("systemctl", "is-system-running") in {"running", "degraded"}, "the machine comes up")

    def run(self, *words: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program inside, as root, and give what came of it."""
        return subprocess.run(
            [*self._enter, *words],
            input=stdin,
            capture_output=True,
            text=True,
            env=_INSIDE,
            timeout=2 * PATIENCE,
            check=False,
        )

    def check(self, *words: str | Path, stdin: str | None = None) -> str:
        """Run a program inside that must succeed; give what it printed."""
        ended = self.run(*words, stdin=stdin)
        if ended.returncode:
            raise MachineError(f"{' '.join(map(str, words))}: exit {ended.returncode}\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def typed(self, line: str, answers: Sequence[tuple[str, str]] = ()) -> tuple[int, str]:
        """Run a line as it is typed on a terminal, in root's home; give its exit code and what was to be read.

        `answers` are what is asked, in its order, and what is typed then. Raises MachineError if it doesn't end.
        """
        words = [*self._enter, "script", "--quiet", "--return", "--command", f"cd; {line}", "/dev/null"]
        seen, read, waiting, deadline = "", 0, list(answers), time.monotonic() + 2 * PATIENCE
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_INSIDE
        ) as process:
            keyboard, screen = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
            while True:
                if not select.select([screen], [], [], max(0, deadline - time.monotonic()))[0]:
                    process.kill()
                    raise MachineError(f"{line} doesn't end; it says\n{seen}")
                if not (piece := os.read(screen.fileno(), 1 << 16)):
                    break
                seen += piece.decode(errors="replace")
                if waiting and (at := seen.find(waiting[0][0], read)) >= 0:
                    read = at + len(waiting[0][0])
                    keyboard.write(f"{waiting.pop(0)[1]}\n".encode())
                    keyboard.flush()
            return process.wait(), seen

    def ask(self, *words: str) -> str:
        """Run a program inside; give what it printed, without the line's end, whatever its exit code."""
        return self.run(*words).stdout.strip()

    def json(self, *words: str) -> Any:
        """Run a program inside that prints JSON."""
        return json.loads(self.run(*words).stdout)

    def shown(self, unit: str, name: str) -> str:
        """Give a property of a unit."""
        return self.ask("systemctl", "show", "--value", "--property", name, unit)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Put a file where it belongs, by a rename, as operators should."""
        self.check("mkdir", "-p", str(Path(path).parent))
        draft = f"{path}.draft~"
        self.check("tee", draft, stdin=text)
        self.check("chmod", f"{mode:o}", draft)
        self.check("mv", draft, path)

    def power_off(self) -> None:
        """Shut it down in order."""
        self.run("systemctl", "--no-block", "poweroff")
        self._nspawn.wait(PATIENCE)


@contextmanager
def booted(tree: Path) -> Iterator[Machine]:
    """Boot a tree; what the machine printed is in the file beside it."""
    options = ["--boot", "--private-network", "--register=no", "--keep-unit", "--console=pipe", "--quiet"]
    # As on a host: whether the clock is synchronised can be asked. nspawn leaves nobody CAP_SYS_TIME to set it.
    options.append("--system-call-filter=adjtimex clock_adjtime")
    name = f"--machine=gatewrit-{os.getpid()}"
    with (
        Path(f"{tree}.log").open("ab") as log,
        subprocess.Popen(
            ["systemd-nspawn", *options, name, f"--directory={tree}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Whatever the host has: the tree's systemd wants the unified hierarchy.
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        ) as nspawn,
    ):
        try:
            yield Machine(tree, nspawn)
        finally:
            if nspawn.poll() is None:
                nspawn.terminate()
                with suppress(subprocess.TimeoutExpired):
                    nspawn.wait(PATIENCE)
                nspawn.kill()
