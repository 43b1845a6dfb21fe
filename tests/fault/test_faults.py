"""Whatever strikes: no packet to what is ordered passes, none to a neighbour is lost, and what ended has ended.

Traffic runs throughout, as fast as the machine sends. `make chaos` strikes often, a thousand times in all, and prints a
row for each fault; the short form in `make test` strikes once or twice.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from fault.faults import FAULTS
from fault.scene import BLOCKED, ENDED, NEIGHBOURS, Scene
from lab.flood import Flood
from support.gateway import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fault.faults import Fault
    from lab import Lab
    from support.gateway import Gateway

CHAOS = bool(os.environ.get("CHAOS"))
#: Seconds that one strike may take, with what comes after it.
LONGEST = 90.0


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
    "faults", [[each] for each in FAULTS] if CHAOS else [FAULTS], ids=lambda faults: faults[0].name
)
@pytest.mark.timeout(7200 if CHAOS else 480)
def test_what_strikes_leaks_nothing_and_loses_nothing(
    lab: Lab, gateway: Gateway, disk: None, faults: list[Fault]
) -> None:
    scene = Scene(gateway, faults[0].name)
    end = scene.end_soon(6.0)
    gateway.start()
    with Flood(lab, [*BLOCKED, *NEIGHBOURS, ENDED], longest=sum(times(each) for each in faults) * LONGEST) as flood:
        scene.flood = flood
        for fault in faults:
            took = sorted(strike(fault, scene) for _ in range(times(fault)))
            print(f"\n{fault.name}: {len(took)} times; {took[len(took) // 2]:.2f} s, at most {took[-1]:.2f} s", end="")  # noqa: T201
        if time.time() < end - 1:
            assert flood.count()[ENDED] == 0
        until(lambda: time.time() > end)
        before = flood.count()[ENDED]
        until(lambda: flood.count()[ENDED] > before)
    leaked = sum(flood.arrived[flow] for flow in BLOCKED) - scene.excused
    lost = sum(flood.sent[flow] - flood.arrived[flow] for flow in NEIGHBOURS)
    blocked, free = (sum(flood.sent[flow] for flow in flows) for flows in (BLOCKED, NEIGHBOURS))
    print(f"; leaked {leaked} of {blocked:,}, lost {lost} of {free:,}")  # noqa: T201
    assert (leaked, lost) == (0, 0)


def times(fault: Fault) -> int:
    return fault.often if CHAOS else 1


def strike(fault: Fault, scene: Scene) -> float:
    """Let a fault strike; gives the seconds until all is well again."""
    fault.strike(scene)
    return scene.converge()
