"""The wall clock jumps, as the daemon sees it; the kernel, by whose own clock packets are judged, and traffic stay."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING

from support.flows import PORT
from support.gateway import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fault.scene import Scene

HOUR, DAY, YEAR = 3600, 86400, 365 * 86400
#: What begins in twelve hours, and what ends then.
MORNING, EVENING = "81.2.91.1", "81.2.92.1"


@contextlib.contextmanager
def _orders_of_the_day(scene: Scene) -> Iterator[Callable[[], list[str]]]:
    """Have an order that begins in twelve hours, and one that ends then; gives what asks for their states."""
    gateway, noon = scene.gateway, time.time() + 12 * HOUR
    names = {f"begins-{scene.number}": {"start": noon}, f"ends-{scene.number}": {"until": noon}}
    for (name, times), address in zip(names.items(), (MORNING, EVENING), strict=True):
        gateway.order(name, address, f"udp/{PORT}", action="drop", **times)
    assert gateway.reload()["ok"]

    def states() -> list[str]:
        views = gateway.views()
        return [views[name]["state"] for name in names]

    yield states
    for name in names:
        gateway.policy(name, action="drop", state="rescinded", revision=2)
    assert gateway.reload()["ok"]
    for name in names:
        (gateway.policies / f"{name}.yaml").unlink()
        (gateway.services / f"{name}.yaml").unlink()


def _untrusted(scene: Scene) -> bool:
    return ("clock_untrusted", None) in scene.gateway.problems()


def clock_leaps_a_day_and_back(scene: Scene) -> None:
    """The clock is a day ahead and believed; set right, it is behind what was seen, and nothing begins or ends anew."""
    synchronised = scene.dice.random() < 0.5
    scene.change()
    with scene.by_another_clock() as move, _orders_of_the_day(scene) as states:
        assert states() == ["scheduled", "in_force"]
        move(DAY, synchronised=synchronised)
        until(lambda: states() == ["in_force", "lapsed"])
        assert not _untrusted(scene)
        until(lambda: not scene.gateway.blocks(EVENING))
        for moved in (0, DAY + HOUR, -HOUR):
            move(moved, synchronised=synchronised)
            until(lambda behind=moved < DAY: _untrusted(scene) is behind)
            scene.change()
            assert scene.gateway.reload()["ok"]
            assert states() == ["in_force", "lapsed"]
            assert scene.gateway.blocks(scene.newest, MORNING)
            assert not scene.gateway.blocks(EVENING)


def clock_leaps_beyond_belief(scene: Scene) -> None:
    """A clock that nothing synchronises is years ahead: nothing is swept, and once it is right all is as before."""
    scene.change()
    with scene.by_another_clock() as move, _orders_of_the_day(scene) as states:
        move(scene.dice.uniform(1, 30) * YEAR)
        until(lambda: _untrusted(scene))
        scene.change()
        assert scene.gateway.reload()["ok"]
        assert scene.gateway.blocks(scene.newest, MORNING, EVENING)
        move(0)
        until(lambda: not _untrusted(scene))
        assert states() == ["scheduled", "in_force"]
        assert scene.gateway.blocks(scene.newest, MORNING, EVENING)


def clock_falls_back_by_years(scene: Scene) -> None:
    """The clock is years behind, over a kill and a start: nothing in force is lifted, nothing that ended comes back."""
    synchronised = scene.dice.random() < 0.5
    scene.change()
    with scene.by_another_clock() as move, _orders_of_the_day(scene) as states:
        move(-scene.dice.uniform(1, 40) * YEAR, synchronised=synchronised)
        until(lambda: _untrusted(scene))
        scene.kill()
        assert _untrusted(scene)
        scene.change()
        assert scene.gateway.reload()["ok"]
        assert states() == ["scheduled", "in_force"]
        assert scene.gateway.blocks(scene.newest, MORNING, EVENING)
        move(0, synchronised=synchronised)
        until(lambda: not _untrusted(scene))


def clock_steps_in_a_reload(scene: Scene) -> None:
    """The clock is set to and fro, by seconds and by years, while reloads are under way."""
    with scene.by_another_clock() as move:
        for _ in range(12):
            scene.change()
            scene.gateway.send(signal.SIGHUP)
            for _ in range(4):
                time.sleep(scene.dice.uniform(0, 0.03))
                # Not synchronised: one that is would be followed years ahead.
                move(scene.dice.choice((-1, 1)) * 10 ** scene.dice.uniform(0, 9))
        move(0)
        assert scene.gateway.reload()["ok"]
        assert scene.gateway.blocks(scene.newest)
