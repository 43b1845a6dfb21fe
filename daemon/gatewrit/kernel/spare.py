"""How much memory is left for us, and how much of it the kernel takes for our sets.

What the kernel keeps for a table is charged to the control group of who fills it (GFP_KERNEL_ACCOUNT, nf_tables_api.c),
and who goes beyond the limit of a control group isn't refused but killed. So whoever fills asks here before.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gatewrit.kernel.transaction import AddElements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatewrit.kernel.transaction import Transaction

#: What an element takes at most in a hash and in an interval set, its share of the table and the slab's loss included,
#: and what a verdict takes besides; measured (`make bench-limits`).
_HASHED, _RANGED, _VERDICT = 128, 256, 32
#: What is to be left, for the transactions that fill and for everything else that goes on.
RESERVE = 64 << 20
_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
#: From here on a limit of version 1 is none (PAGE_COUNTER_MAX in mm/page_counter.c).
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Spare:
    """The bytes that are left to us, and what it is that bounds them."""

    size: int
    bound: str

    def lacks(self, needed: int, what: str) -> str | None:
        """Say that there is too little for what is meant, `needed` bytes; None if there is enough.

        In words that stay the same however much is left: who is told each time isn't told anew each time.
        """
        if needed + RESERVE <= self.size:
            return None
        return f"{what} takes some {_megabytes(needed)}, which is more than what is left of {self.bound}"


def needed(transaction: Transaction) -> int:
    """Give about the most bytes that the kernel needs for the elements that a transaction adds."""
    return sum(
        len(each.elements) * ((_RANGED if each.spec.interval else _HASHED) + _VERDICT * each.spec.verdicts)
        for each in transaction.operations
        if isinstance(each, AddElements)
    )


def spare(proc: Path = _PROC, groups: Path = _GROUPS) -> Spare | None:
    """Read what is left by all the limits there are, the tightest; None where the system doesn't tell."""
    return min((*_machine(proc), *_limits(proc, groups)), key=lambda each: each.size, default=None)


def _machine(proc: Path) -> Iterator[Spare]:
    with suppress(OSError, ValueError, KeyError):
        lines = (line.split() for line in (proc / "meminfo").read_text(encoding="ascii").splitlines())
        kilobytes = {words[0]: int(words[1]) for words in lines if len(words) > 1}
        total = _megabytes(kilobytes["MemTotal:"] << 10)
        yield Spare(kilobytes["MemAvailable:"] << 10, f"the machine's {total}")


def _limits(proc: Path, groups: Path) -> Iterator[Spare]:
    """Yield what is left of the limit of each control group that we are in (cgroups(7)), and of those around it."""
    with suppress(OSError, ValueError):
        for line in (proc / "self/cgroup").read_text(encoding="utf-8").splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                yield from _upward(groups, path, ("memory.max", "memory.current", "inactive_file"))
            elif "memory" in controllers.split(","):
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                yield from _upward(groups / "memory", path, names)


def _upward(root: Path, path: str, names: tuple[str, str, str]) -> Iterator[Spare]:
    limit, usage, idle = names
    inside = [part for part in path.split("/") if part]
    if ".." in inside:
        # A group beside our root in this namespace: nothing of it can be seen.
        inside = []
    for depth in range(len(inside), -1, -1):
        folder = root.joinpath(*inside[:depth])
        # The root has no files of these, and most others no limit ("max").
        with suppress(OSError, ValueError):
            most = int((folder / limit).read_text(encoding="ascii"))
            if most < _NO_LIMIT:
                used = int((folder / usage).read_text(encoding="ascii")) - _idle(folder, idle)
                yield Spare(max(0, most - used), f"the {_megabytes(most)} that {folder.name} is allowed (MemoryMax=)")


def _idle(folder: Path, name: str) -> int:
    """Give the bytes of files that are kept in memory as long as nobody needs it."""
    with suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    return 0


def _megabytes(size: int) -> str:
    return f"{-(-size >> 20):,} MB"
