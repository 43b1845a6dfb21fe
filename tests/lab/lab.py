"""The lab as one value: three namespaces, listeners at the far end, and probes through the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from lab import listeners, topology
from lab.courier import Courier
from lab.probe import Probe, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from lab.namespace import Namespace
    from lab.packets import Packet
    from lab.process import Task


class Lab:
    """A subscriber network, a gateway and an internet, joined by links that lead nowhere else."""

    subscriber: Namespace
    gateway: Namespace
    internet: Namespace

    def __init__(self, subscribers: Sequence[str] = topology.SUBSCRIBERS, *, rootless: bool | None = None) -> None:
        self.subscribers = tuple(subscribers)
        self._couriers: dict[tuple[str, str], Courier] = {}
        self.subscriber, self.gateway, self.internet = topology.build(self.subscribers, rootless=rootless)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def listen(self, ports: Sequence[str] = listeners.PORTS, *, at: Namespace | None = None) -> Task[None]:
        """Answer at these ports, at every address of the internet (or of `at`), until stopped or the lab closes."""
        return listeners.listen(at or self.internet, ports)

    def probe(
        self, probes: Iterable[Probe], *, origin: Namespace | None = None, target: Namespace | None = None
    ) -> dict[Probe, Verdict]:
        """Try to reach each of them from the subscribers' network (or `origin`), all at once."""
        wanted = list(dict.fromkeys(probes))
        return dict(zip(wanted, self._courier(origin, target).probe(wanted), strict=True))

    def exchange(
        self, packets: Sequence[Packet], *, origin: Namespace | None = None, target: Namespace | None = None
    ) -> list[Verdict]:
        """Send raw packets in order, both ends hushed; REACHED is what arrived at the far end, by its own mark."""
        return self._courier(origin, target).exchange(packets)

    def try_one(self, destination: str, port: str, source: str | None = None) -> Verdict:
        """Try to reach one address and port."""
        one = Probe(destination, port, source)
        return self.probe([one])[one]

    def _courier(self, origin: Namespace | None, target: Namespace | None) -> Courier:
        origin, target = origin or self.subscriber, target or self.internet
        way = origin.name, target.name
        if way not in self._couriers:
            self._couriers[way] = Courier(origin, target, self.subscribers)
        return self._couriers[way]

    def close(self) -> None:
        """Kill what was started in the lab, and give up its networks."""
        for courier in self._couriers.values():
            courier.close()
        self._couriers.clear()
        for space in (self.subscriber, self.gateway, self.internet):
            space.close()
