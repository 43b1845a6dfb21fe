"""How things are measured: a program's time and peak memory, what the kernel keeps for it, and this machine's name."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab import Namespace

#: Where Debian keeps programs that aren't in everybody's PATH.
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_CGROUPS = Path("/sys/fs/cgroup")


class Failed(Exception):  # noqa: N818 - it is what happened
    """Something that was to be measured didn't work; the row says why."""


def find(program: str) -> str:
    """Give the path of a program of the system."""
    found = shutil.which(program, path=_PATH)
    if found is None:
        raise Failed(f"the program {program} is missing here")
    return found


# -- figures --------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One line of the table: what was measured, each round's value, and what is aimed at."""

    key: str
    what: str
    unit: str
    values: list[float] = field(default_factory=list)
    target: float | None = None
    note: str = ""

    @property
    def median(self) -> float | None:
        """The middle of all rounds; None if nothing could be measured."""
        return statistics.median(self.values) if self.values else None

    @property
    def met(self) -> bool | None:
        """Whether the median is within the target; None if there is no target or no value."""
        return None if self.target is None or self.median is None else self.median <= self.target


class Table(dict[str, Row]):
    """Rows by key, in the order in which they came up."""

    def row(self, key: str, what: str, unit: str, target: float | None = None, note: str = "") -> Row:
        """Give a row, a new one if there is none of this key."""
        return self.setdefault(key, Row(key, what, unit, target=target, note=note))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Give the ratio of each round."""
    return [a / b for a, b in zip(ours, theirs, strict=False) if b]


def percentile(values: Sequence[float], share: float) -> float:
    """Give the value that this share of all values doesn't exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# -- memory of processes --------------------------------------------------------------------------------------------


def memory(pid: int, what: str = "VmRSS") -> float:
    """Give the megabytes that a process and its descendants have (VmRSS) or had at most, each (VmHWM); 0 once gone."""
    total = 0.0
    for each in _family(pid):
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = Path(f"/proc/{each}/status").read_text(encoding="ascii", errors="replace").splitlines()
            total += int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024
    return total


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                yield from _family(int(child))


def forget_peak(pid: int) -> None:
    """Have the kernel count a process's VmHWM anew from now on."""
    for each in _family(pid):
        Path(f"/proc/{each}/clear_refs").write_text("5", encoding="ascii")


class Watch:
    """Looks every few milliseconds while something goes on: `with Watch(pid, cgroup) as seen: …`, then `seen.peak`.

    Not `ru_maxrss`: that of a child begins with the size of the process that it was forked from.
    """

    def __init__(self, pid: int, cgroup: Cgroup | None = None, every: float = 0.01) -> None:
        self.peak = 0.0
        self.kernel_peak = 0.0
        self._pid, self._cgroup, self._every = pid, cgroup, every
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        self.look()
        while not self._enough.wait(self._every):
            self.look()

    def look(self) -> None:
        """Look once."""
        self.peak = max(self.peak, memory(self._pid, "VmHWM"))
        if self._cgroup is not None and (kernel := self._cgroup.kernel()) is not None:
            self.kernel_peak = max(self.kernel_peak, kernel)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.look()
        self._enough.set()
        self._thread.join()


@dataclass
class Ran:
    """What became of a program: seconds, peak megabytes, and the megabytes that the kernel keeps because of it."""

    seconds: float
    peak: float
    kernel: float | None
    code: int
    output: str


def timed(
    space: Namespace,
    args: Sequence[str],
    *,
    stdin: Path | None = None,
    **options: Any,
) -> Ran:
    """Run a program inside a namespace to its end, in a cgroup of its own.

    Options are `limit` in seconds, the environment `env`, and `may_fail`.
    """
    limit, env = options.get("limit", 300.0), options.get("env")
    with Cgroup() as group, contextlib.ExitStack() as stack:
        out = stack.enter_context(tempfile.TemporaryFile("w+"))
        source = stack.enter_context(stdin.open()) if stdin else subprocess.DEVNULL
        began = time.monotonic()
        process = space.popen(
            list(args), stdin=source, stdout=out, stderr=subprocess.STDOUT, env=dict(env) if env else None
        )
        group.take(process.pid)
        with Watch(process.pid) as seen:
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise Failed(f"not done after {limit:g} s") from None
            seconds = time.monotonic() - began
        kernel = group.kernel()
        out.seek(0)
        said = out.read()
    if code and not options.get("may_fail"):
        raise Failed(f"{' '.join(args)[:80]}: exit {code}: {said[-500:].strip()}")
    return Ran(seconds, seen.peak, kernel, code, said)


# -- memory of the kernel -------------------------------------------------------------------------------------------


class Cgroup:
    """A cgroup of ours, of version 2 or 1, for its account of kernel memory; without any where none can be made."""

    how = "no cgroup can be made here"

    def __init__(self) -> None:
        self.folder: Path | None = None

    def __enter__(self) -> Self:
        for folder, file in _places():
            made = folder / f"gatewrit-bench-{os.getpid()}-{time.monotonic_ns()}"
            with contextlib.suppress(OSError):
                made.mkdir()
                if (made / file).exists():
                    self.folder = made
                    Cgroup.how = f"cgroup, {file}"
                    break
                made.rmdir()
        return self

    def __exit__(self, *_: object) -> None:
        if self.folder is None:
            return
        for _attempt in range(50):
            with contextlib.suppress(OSError):
                self.folder.rmdir()
                return
            time.sleep(0.02)

    def take(self, pid: int) -> None:
        """Move a process in here: what the kernel allocates for it from now on is charged here."""
        if self.folder is not None:
            with contextlib.suppress(ProcessLookupError):
                (self.folder / "cgroup.procs").write_text(str(pid), encoding="ascii")

    def bound(self, megabytes: int) -> bool:
        """Allow those in here so much memory, as MemoryMax= does; False if nothing bounds it here."""
        for name in ("memory.max", "memory.limit_in_bytes"):
            if self.folder is not None and (self.folder / name).exists():
                (self.folder / name).write_text(str(megabytes << 20), encoding="ascii")
                return True
        return False

    def kernel(self) -> float | None:
        """Give the megabytes of kernel memory charged here now."""
        if self.folder is None:
            return None
        old = self.folder / "memory.kmem.usage_in_bytes"
        with contextlib.suppress(OSError, StopIteration):
            if old.exists():
                return int(old.read_text(encoding="ascii")) / 2**20
            lines = (self.folder / "memory.stat").read_text(encoding="ascii").splitlines()
            return int(next(line for line in lines if line.startswith("kernel ")).split()[1]) / 2**20
        return None


def _places() -> Iterator[tuple[Path, str]]:
    """Where a cgroup with an account of memory may be made: below our own, or at the top."""
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            yield _CGROUPS / "memory" / path.lstrip("/"), "memory.kmem.usage_in_bytes"
        elif number == "0":
            yield _CGROUPS, "memory.stat"
            yield _CGROUPS / path.lstrip("/"), "memory.stat"


# -- the machine ----------------------------------------------------------------------------------------------------


def machine() -> dict[str, str]:
    """Name what all figures are about."""
    models = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    total = int(Path("/proc/meminfo").read_text(encoding="ascii").split()[1])
    firewalld = _version("firewall-offline-cmd")
    return {
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": models[0] if models else platform.processor() or "unknown",
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{total / 2**20:.1f} GiB",
        "python": platform.python_version(),
        **{name: _version(name) for name in ("nft", "ipset", "iptables")},
        "firewalld": firewalld,
    }


def _version(name: str) -> str:
    try:
        said = subprocess.run([find(name), "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (Failed, subprocess.TimeoutExpired):
        return "missing"
    text = said.stdout or said.stderr
    return text.strip().splitlines()[0] if text.strip() else "unknown"
