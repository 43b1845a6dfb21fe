"""How large lists may be: what five and ten million take, and what becomes of those that there is no memory for.

    make bench-limits [SIZES=1,2,5,10] [MEMORY=2048]

Each list, of so many million mixed prefixes, is loaded into a fresh gateway whose daemon may have as much memory as
`systemd/gatewrit.service` allows (MemoryMax=), and replaced by another of as many then: for that the kernel holds both.
A list has at most 128 MiB, so that larger ones are several files of one service. It must either come into force or be
refused, and the daemon must live on and take a small order in; else this fails.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from bench import lists
from bench.daemon import STEADY, Standing
from bench.measure import Failed, Watch
from support.gateway import policy

if TYPE_CHECKING:
    from bench.lists import Made

_MILLION = 1_000_000
#: Entries of one file.
_FILE = 4 * _MILLION
#: Seconds that bringing a list into force may take.
_PATIENCE = 600.0
_HEAD = (
    "| entries | to an empty table | processes / kernel, at most | `verify` | one prefix then | replaced by another |\n"
    "|---|---|---|---|---|---|"
)


def main() -> None:
    """Measure and print, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1,2,5,10", help="in millions [1,2,5,10]")
    parser.add_argument("--memory", type=int, default=2048, help="megabytes that the daemon may have [2048]")
    given = parser.parse_args()
    print(f"The daemon may have {given.memory:,} MB.\n\n{_HEAD}", flush=True)
    for family, make in ((4, lists.mixed), (6, lists.mixed6)):
        for size in map(int, given.sizes.split(",")):
            with Standing() as standing:
                if not standing.group.bound(given.memory):
                    sys.exit("no control group can be made here, so nothing bounds the memory: run it as root")
                made = make(size * _MILLION, seed=100)
                # A twentieth stays: to lift all there is would be held.
                kept = made.entries[: len(made.entries) // 20]
                other = make(len(made.entries) - len(kept), seed=50)
                columns = _one(standing, made, lists.Made(other.name, other.what, family, kept + other.entries))
            print(f"| {size} M mixed, IPv{family} | {' | '.join(columns)} |", flush=True)


def _one(standing: Standing, made: Made, other: Made) -> list[str]:
    """Load a list and then another one in its place."""
    with Watch(standing.pid, standing.group) as seen:
        said = _load(standing, made)
    peaks = f"{seen.peak:,.0f} / {seen.kernel_peak - (standing.empty or 0):,.0f} MB"
    verified = standing.cli("verify", may_fail=True)
    if verified.code:
        raise Failed(f"not equal: {verified.output[-300:]}")
    began = time.monotonic()
    standing.small(STEADY, "10.200.0.2")
    standing.reload()
    one = time.monotonic() - began
    return [said, peaks, f"{verified.seconds:.1f} s", f"{1000 * one:.0f} ms", _load(standing, other)]


def _load(standing: Standing, made: Made) -> str:
    """Put a list into place, in several files; gives what became of it."""
    parts = [made.entries[at : at + _FILE] for at in range(0, len(made.entries), _FILE)]
    names = [f"large-{number}" for number in range(len(parts))]
    drafts = [
        standing.draft(lists.Made(made.name, made.what, made.family, part), name)
        for name, part in zip(names, parts, strict=True)
    ]
    began = time.monotonic()
    for name, draft in zip(names, drafts, strict=True):
        draft.replace(draft.with_name(f"{name}.txt"))
    standing.gateway.service("large", *((f"{name}.txt", "any") for name in names))
    standing.gateway.write("large.yaml", policy("large", "large") + "allow_wide: to be measured\n")
    standing.cli("reload", may_fail=True, limit=_PATIENCE)
    seconds = time.monotonic() - began
    process = standing.gateway.process
    if process is None or process.poll() is not None:
        raise Failed("the daemon ended")
    codes = {each["code"] for each in standing.gateway.status()["problems"]}
    if "memory_short" in codes:
        return f"refused after {seconds:.1f} s: too little memory"
    standing.must_be_in_sync()
    standing.until_whole()
    return f"in force after {seconds:.1f} s"


if __name__ == "__main__":
    main()
