"""How fast somebody else's change of our table is undone: from its notification until the repair is read back.

    make bench-drift                 # each manipulation of the drift suite, ROUNDS=3 times

The table is left open for it (`table_owner: false`), for the kernel refuses them all where it is owned. Transactions
are counted by the ruleset's generation, less the one of the change itself.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from pathlib import Path

from lab import Namespace
from support.drift import TAMPERING, blocks, generation, orders
from support.gateway import Gateway, gateway_in, until

#: More repairs than these within a minute are answered ever later, so the daemon is started anew.
AT_ONCE = 4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each manipulation is made [3]")
    rounds = parser.parse_args().rounds
    with Namespace() as space, tempfile.TemporaryDirectory() as folder, gateway_in(space, Path(folder)) as gateway:
        gateway.set(table_owner=False)
        before = blocks(orders(gateway))
        numbers = itertools.count()
        took = {what: [one(gateway, next(numbers), what, before) for _ in range(rounds)] for what in TAMPERING}
        gateway.end()
    for what, repairs in took.items():
        times = [1000 * after for after, _ in repairs]
        counts = sorted({count for _, count in repairs})
        print(f"{what:36} {statistics.median(times):6.1f} ms, at most {max(times):6.1f}; transactions {counts}")
    everything = [1000 * after for repairs in took.values() for after, _ in repairs]
    print(
        f"{len(everything)} repairs, from notification to read back: median {statistics.median(everything):.1f} ms, "
        f"at most {max(everything):.1f} ms"
    )


def one(gateway: Gateway, number: int, what: str, before: list[str]) -> tuple[float, int]:
    """Make one manipulation; gives the seconds until it was undone, and in how many transactions."""
    if number and number % AT_ONCE == 0:
        gateway.restart()
    known, seen = len(gateway.logged("drift.undone")), generation(gateway)
    gateway.nft(TAMPERING[what])
    told = until(lambda: gateway.logged("drift.undone")[known:])[0]
    until(lambda: blocks(gateway) == before)
    return told["after_s"], generation(gateway) - seen - 1


if __name__ == "__main__":
    main()
