"""Measure everything side by side in one run, print the table, write JSON and a picture: `make bench [QUICK=1]`.

Nothing here asserts how long anything takes: times are this machine's, the ratios hold elsewhere. What can't be
measured says why in its row.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import lists, path, plot, updates
from bench.asked import FULL, QUICK
from bench.daemon import Standing
from bench.measure import Failed, Table, machine
from bench.table import markdown, spread
from lab import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.asked import Asked

PARTS = ("load", "later", "firewalld", "changes", "memory", "restart", "path4", "path6", "distributions")
#: Seconds after which no further distribution is begun: a full run stays under 20 minutes.
_MOST = 18 * 60.0
_HERE = Path(__file__).parent


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds: under 3 minutes")
    parser.add_argument("--size", type=int, help="entries of the large lists")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", help=f"parts, with commas between them: {','.join(PARTS)}")
    parser.add_argument("--output", type=Path, default=_HERE / "results.json")
    parser.add_argument(
        "--plot", type=Path, help="where the picture goes, .svg or .png; a full run draws docs/packet-cost.svg"
    )
    given = parser.parse_args()
    asked = (QUICK if given.quick else FULL).sized(given.size, given.rounds, given.only)
    began = time.monotonic()
    results: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": asked.quick,
        "asked": dataclasses.asdict(asked),
        "machine": machine(),
        "curves": {},
        "distributions": [],
    }
    table = Table()
    print("\n".join(f"{name:10} {said}" for name, said in results["machine"].items()))
    print(
        f"{'QUICK: smaller sizes, fewer rounds' if asked.quick else 'full run'}: {asked.size:,} entries\n", flush=True
    )
    _measure(table, asked, results, began)
    results["minutes"] = (time.monotonic() - began) / 60
    results["rows"] = [{**dataclasses.asdict(row), "median": row.median, "met": row.met} for row in table.values()]
    given.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\n{markdown(results)}\nWritten to {given.output}")
    picture = given.plot or (None if asked.quick else _HERE.parent / "docs/packet-cost.svg")
    if picture and results["curves"]:
        with contextlib.suppress(ModuleNotFoundError):
            plot.draw(results, picture)
            print(f"Drawn to {picture}")


def _measure(table: Table, asked: Asked, results: dict[str, Any], began: float) -> None:
    if any(map(asked.wants, ("load", "changes", "memory", "restart"))):
        with _part(table, "loading a list, and what follows"):
            _loaded(table, asked)
    if asked.wants("firewalld"):
        with _part(table, "firewalld"):
            updates.firewalld(table, asked)
    if asked.wants("later") and not asked.quick:
        with _part(table, "nft, later"):
            updates.nft_later(table, asked)
    for family in (4, 6):
        if asked.wants(f"path{family}"):
            with _part(table, f"packets, IPv{family}"):
                path.measure(table, asked, family, results["curves"])
    if asked.wants("distributions") and not asked.quick:
        with _part(table, "distributions"):
            results["distributions"] = updates.distributions(asked, began + _MOST)


def _loaded(table: Table, asked: Asked) -> None:
    """Load round by round, each into a fresh gateway; measure all else at that of the last round.

    The rivals go first in each, for our daemon may listen to nftables, which slows everybody's transactions.
    """
    for round_ in range(asked.rounds):
        updates.rivals_load(table, asked.size, round_)
        with Standing() as standing:
            updates.load(table, asked, standing, round_)
            if round_ < asked.rounds - 1:
                continue
            updates.load_ratios(table)
            if asked.wants("memory"):
                updates.memory(table, standing, asked.idle)
            if asked.wants("changes"):
                updates.one_prefix(table, asked, standing)
                updates.thousandth(table, asked, standing, lists.mixed(asked.size, seed=100 + round_))
                updates.verify(table, standing, asked.rounds)
            if asked.wants("memory"):
                updates.switch(table, asked, standing)
            if asked.wants("restart"):
                updates.restart(table, asked, standing)


@contextlib.contextmanager
def _part(table: Table, name: str) -> Iterator[None]:
    """Say what is going on and what came of it; a part that fails leaves a row that says why."""
    began = time.monotonic()
    known = set(table)
    print(f"-- {name}", flush=True)
    try:
        yield
    except (Failed, LabError, AssertionError, OSError) as why:
        said = " ".join(str(why).split()) or type(why).__name__
        table.row(f"{name} failed", name, "", note=said[:400])
        traceback.print_exc(file=sys.stderr)
    for key, row in table.items():
        if key not in known:
            print(f"   {row.what:90} {spread(row.values, row.unit)}{'; ' + row.note if row.note else ''}")
    print(f"   took {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
