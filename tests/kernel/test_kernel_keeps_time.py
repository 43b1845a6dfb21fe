"""How exactly the kernel keeps an order's instants with the daemon dead: measured packet by packet, to milliseconds."""

from __future__ import annotations

import math
import signal
import socket
import struct
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from lab.guard import require_lab

if TYPE_CHECKING:
    from lab import Lab
    from support.gateway import Gateway

#: What the order of an authority may be off by, in nanoseconds.
TOLERANCE = 50_000_000
#: Seconds between two packets to each address.
_EVERY = 0.0005
_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
#: Which order covers each address.
TARGETS = {
    "203.0.1.5": "starts",
    "2001:db8:1::5": "starts",
    "203.0.2.5": "ends",
    "2001:db8:2::5": "ends",
}


@dataclass(frozen=True, slots=True)
class Shot:
    """One packet, in epoch nanoseconds: it left between `before` and `after`; the far kernel saw it at `arrived`."""

    before: int
    after: int
    arrived: int | None


class Range:
    """Sends numbered datagrams to every target at a high rate; the far kernel stamps those that arrive."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        self._lab = lab
        self._near, self._far = {}, {}
        for family in (socket.AF_INET, socket.AF_INET6):
            self._near[family] = stack.enter_context(lab.subscriber.socket(family, socket.SOCK_DGRAM))
            far = self._far[family] = stack.enter_context(lab.internet.socket(family, socket.SOCK_DGRAM))
            far.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            if family == socket.AF_INET6:
                far.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            far.bind(("", 3101))
            far.settimeout(1)
        self._left: list[tuple[str, int, int]] = []
        self._arrived: dict[int, int] = {}

    def shoot(self, until: float) -> dict[str, list[Shot]]:
        """Send until the wall clock shows `until`; gives what became of each packet, by target, in their order."""
        self._lab.subscriber.run(require_lab, self._lab.subscriber.token)
        readers = [threading.Thread(target=self._read, args=(far,)) for far in self._far.values()]
        for reader in readers:
            reader.start()
        while time.time() < until:
            for target in TARGETS:
                near = self._near[socket.AF_INET6 if ":" in target else socket.AF_INET]
                before = time.time_ns()
                near.sendto(struct.pack("!Q", len(self._left)), (target, 3101))
                self._left.append((target, before, time.time_ns()))
            time.sleep(_EVERY)
        for reader in readers:
            reader.join(30)
            assert not reader.is_alive()
        shots: dict[str, list[Shot]] = {target: [] for target in TARGETS}
        for number, (target, before, after) in enumerate(self._left):
            shots[target].append(Shot(before, after, self._arrived.get(number)))
        return shots

    def _read(self, far: socket.socket) -> None:
        """Take in what arrives, until nothing has for a second."""
        while True:
            try:
                data, control, _, _ = far.recvmsg(64, 64)
            except TimeoutError:
                return
            ((_, _, stamp),) = control
            seconds, nanoseconds = struct.unpack("=qq", stamp)
            self._arrived[struct.unpack("!Q", data)[0]] = seconds * 10**9 + nanoseconds


def test_the_kernel_alone_keeps_both_instants_within_50_ms(lab: Lab, gateway: Gateway) -> None:
    """One order begins and one ends, in both families, after the daemon was killed."""
    gateway.start()
    turn = math.ceil(time.time()) + 2
    gateway.order("starts", ["203.0.1.0/24", "2001:db8:1::/64"], "udp/3101", start=turn, action="drop")
    gateway.order("ends", ["203.0.2.0/24", "2001:db8:2::/64"], "udp/3101", until=turn, action="drop")
    assert gateway.reload()["ok"]
    gateway.end(signal.SIGKILL)
    if time.time() > turn - 0.3:
        pytest.fail("the machine is too slow for this test to say anything")
    with ExitStack() as stack:
        shots = Range(lab, stack).shoot(turn + 0.5)

    instant = turn * 10**9
    for target, order in TARGETS.items():
        stopped = [shot for shot in shots[target] if shot.arrived is None]
        passed = [(shot, shot.arrived) for shot in shots[target] if shot.arrived is not None]
        assert len(stopped) > 100
        assert len(passed) > 100
        if order == "starts":
            # The first that was stopped, and the last that came through.
            early, late = stopped[0].after - instant, passed[-1][1] - instant
            nearest = min(shot.before for shot in stopped) - max(shot.after for shot, _ in passed)
        else:
            early, late = passed[0][1] - instant, stopped[-1].before - instant
            nearest = min(shot.before for shot, _ in passed) - max(shot.after for shot in stopped)
        print(  # noqa: T201
            f"{order} {target}: {len(passed)} passed, {len(stopped)} stopped; turned between {late / 1e6:+.3f} ms and "
            f"{early / 1e6:+.3f} ms of the instant"
        )
        assert abs(early) < TOLERANCE, "an order acted too early, or no packet was sent in time to see it"
        assert abs(late) < TOLERANCE, "an order acted too late, or no packet was sent in time to see it"
        # It turned once: nothing of the one kind lies among the other.
        assert nearest >= 0
