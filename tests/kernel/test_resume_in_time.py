"""A suspension by hand ends to the second, by the kernel alone: nobody has to run for a block to come back."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from lab import Lab, Probe, Verdict
from support.gateway import instant

if TYPE_CHECKING:
    from support.gateway import Gateway

HOSTS = [Probe("203.0.1.5", "tcp/3101"), Probe("2001:db8:1::5", "tcp/3101")]


def test_a_block_comes_back_in_time_though_the_daemon_is_dead(lab: Lab, gateway: Gateway) -> None:
    lab.listen()
    gateway.order("alpha", ["203.0.1.0/24", "2001:db8:1::/64"], "tcp/3101")
    gateway.start()
    assert set(lab.probe(HOSTS).values()) == {Verdict.RESET}

    end = int(time.time()) + 5
    suspended = gateway.cli("suspend", "alpha", "--until", instant(end), "--reason", "test")
    assert (suspended.returncode, suspended.stderr) == (0, "")
    assert set(lab.probe(HOSTS).values()) == {Verdict.REACHED}
    gateway.end(signal.SIGKILL)
    assert time.time() < end, "the machine is too slow for this test to say anything"

    sides = set()
    while time.time() < end + 1:
        before = time.time()
        verdicts = set(lab.probe(HOSTS).values())
        after = time.time()
        if before < end <= after:
            continue
        sides.add(after < end)
        assert verdicts == {Verdict.REACHED if after < end else Verdict.RESET}, (before, after, end)
    assert sides == {True, False}

    # The next daemon finds the suspension over, and says since when the block holds again.
    gateway.start()
    view = gateway.views()["alpha"]
    assert (view["state"], view["in_force_since"]) == ("in_force", instant(end))
    assert gateway.problems() == []
    assert "nobody's order acts yet" not in gateway.listing()
