"""Whatever strikes: no packet to what is ordered passes, none to a neighbour is lost, and what ended has ended.

Traffic runs throughout, as fast as the machine sends. `make chaos` strikes often, a thousand times in all, and prints a
table with a row for each fault; the short form in `make test` strikes once with each.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from fault.account import ROWS, Row
from fault.faults import FAULTS, LONGEST
from fault.scene import BLOCKED, ENDED, NEIGHBOURS, Scene
from lab.flood import Flood
from support.gateway import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fault.faults import Fault
    from lab import Lab
    from support.gateway import Gateway

CHAOS, TIMES = os.environ.get("CHAOS"), os.environ.get("TIMES")


@pytest.fixture
def disk(gateway: Gateway) -> Iterator[None]:
    """A file system of its own for the state directory, which can be filled and made read-only."""
    gateway.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=750", "state", str(gateway.state)], check=True)
    yield
    if gateway.process is not None:
        gateway.end()
    subprocess.run(["umount", str(gateway.state)], check=True)


@pytest.mark.parametrize(
    "faults",
    [[each] for each in FAULTS] if CHAOS else [[each for each in FAULTS if each.short]],
    ids=lambda faults: faults[0].name,
)
@pytest.mark.timeout(7200 if CHAOS else 900)
def test_what_strikes_leaks_nothing_and_loses_nothing(
    request: pytest.FixtureRequest, lab: Lab, gateway: Gateway, disk: None, faults: list[Fault]
) -> None:
    scene = Scene(gateway, faults[0].name, owner=all(each.owner for each in faults))
    end = scene.end_soon(6.0)
    gateway.start()
    with Flood(lab, [*BLOCKED, *NEIGHBOURS, ENDED], longest=sum(times(each) for each in faults) * LONGEST) as flood:
        scene.flood = flood
        took = sorted(strike(fault, scene) for fault in faults for _ in range(times(fault)))
        if time.time() < end - 1:
            assert flood.count()[ENDED] == 0
        until(lambda: time.time() > end)
        before = flood.count()[ENDED]
        until(lambda: flood.count()[ENDED] > before)
    row = account(faults, took, flood, scene)
    if CHAOS:
        request.config.stash.setdefault(ROWS, []).append(row)
    print(f"\n{row}")  # noqa: T201
    assert (row.leaked, row.lost) == (0, 0)


def times(fault: Fault) -> int:
    return int(TIMES or fault.often) if CHAOS else 1


def strike(fault: Fault, scene: Scene) -> float:
    """Let a fault strike; gives the seconds until all is well again."""
    took = fault.strike(scene)
    return scene.converge() if took is None else took


def account(faults: list[Fault], took: list[float], flood: Flood, scene: Scene) -> Row:
    blocked, free = (sum(flood.sent[flow] for flow in flows) for flows in (BLOCKED, NEIGHBOURS))
    leaked = sum(flood.arrived[flow] for flow in BLOCKED) - scene.excused
    lost = free - sum(flood.arrived[flow] for flow in NEIGHBOURS)
    name = faults[0].name if CHAOS else "each fault"
    return Row(name, len(took), took[len(took) // 2], took[-1], blocked, leaked, scene.excused, free, lost)
