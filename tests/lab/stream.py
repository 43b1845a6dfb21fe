"""Traffic that goes on while something is changed: packets of several flows, evenly spaced, each with its fate.

A packet is judged between the clock readings around its sending: the links of the lab are queues in the kernel that are
worked off at once.
"""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass
from ipaddress import ip_address
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Self

from lab import packets, topology, wire
from lab.guard import require_lab
from lab.process import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from types import TracebackType

    from lab.lab import Lab
    from lab.namespace import Namespace
    from lab.packets import Packet

#: A flow has no more packets than IPv4 has identifications; nor does a stream go on for longer than this.
_MOST, _LONGEST = 60000, 60.0


@dataclass(frozen=True, slots=True)
class Sent:
    """One packet of a flow: when it was sent (epoch seconds, before and after), and whether it arrived."""

    before: float
    after: float
    arrived: bool


class Stream:
    """`with Stream(lab, flows, every) as stream: …`, then `stream.fates`: for each flow, its packets in order.

    Flows are packets from the subscribers' side to the internet; `every` is the time between two of one flow.
    """

    def __init__(self, lab: Lab, flows: Sequence[Packet], every: float) -> None:
        self.fates: dict[Packet, list[Sent]] = {}
        self._flows = list(flows)
        self._ours, theirs = Pipe()
        self._task = lab.subscriber.start(_run, theirs, lab, self._flows, every)
        theirs.close()

    def __enter__(self) -> Self:
        assert self._ours.poll(PATIENCE), "the stream doesn't begin"
        self._ours.recv()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ours.send("enough")
        self.fates = dict(zip(self._flows, self._task.result(PATIENCE), strict=True))
        self._ours.close()


def _run(control: Connection, lab: Lab, flows: Sequence[Packet], every: float) -> list[list[Sent]]:
    require_lab(lab.subscriber.token)
    wire.stay_on_one_processor()
    with lab.internet.visit():
        far, far_end = wire.Tap(), topology.End(lab.internet, lab.subscribers)
    near_end = topology.End(lab.subscriber, lab.subscribers)
    times: list[list[tuple[float, float]]] = [[] for _ in flows]
    arrived: set[tuple[str, int, int]] = set()
    with near_end.hushed(), far_end.hushed(), contextlib.ExitStack() as stack:
        raw = {
            version: stack.enter_context(socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW))
            for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6))
        }
        control.send("begun")
        begun = time.monotonic()
        for ident in range(1, _MOST):
            for flow, times_of in zip(flows, times, strict=True):
                data = packets.encode(flow, ident)
                before = time.time()
                raw[flow.version].sendto(data, (flow.destination, 0))
                times_of.append((before, time.time()))
            arrived |= _taken_in(far)
            if control.poll(0) or time.monotonic() - begun > _LONGEST:
                break
            time.sleep(max(0.0, begun + ident * every - time.monotonic()))
        _fence(lab.internet)
        arrived |= _taken_in(far)
    return [
        [
            Sent(*when, (str(ip_address(flow.destination)), flow.destination_port, ident) in arrived)
            for ident, when in enumerate(times_of, start=1)
        ]
        for flow, times_of in zip(flows, times, strict=True)
    ]


def _fence(target: Namespace) -> None:
    fence = wire.Fence(topology.FENCES[target.name])
    fence.wait()
    fence.close()


def _taken_in(far: wire.Tap) -> set[tuple[str, int, int]]:
    return {
        (str(seen.destination), seen.flow.destination_port, seen.ident) for seen in far.drain() if seen.flow is not None
    }
