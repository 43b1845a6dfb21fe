"""A process that stays in one namespace and sends on request, its taps open: what makes a probe cost a millisecond.

Opening and closing a tap waits for the kernel's grace periods; so it is done once for each pair of namespaces.
"""

from __future__ import annotations

from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any

from lab import packets, probe, topology, wire
from lab.guard import require_lab
from lab.process import PATIENCE, LabError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from lab.namespace import Namespace
    from lab.packets import Packet
    from lab.probe import Probe, Verdict


class Courier:
    """Sends from `origin` what should arrive at `target`."""

    def __init__(self, origin: Namespace, target: Namespace, subscribers: Sequence[str]) -> None:
        self._ours, theirs = Pipe()
        self._task = origin.start(_serve, theirs, origin, target, subscribers)
        theirs.close()

    def probe(self, probes: Sequence[Probe]) -> list[Verdict]:
        """See `probe.probe`."""
        return self._ask("probe", probes)

    def exchange(self, batch: Sequence[Packet]) -> list[Verdict]:
        """See `packets.exchange`."""
        return self._ask("exchange", batch)

    def _ask(self, what: str, subject: Sequence[Any]) -> list[Verdict]:
        try:
            self._ours.send((what, subject))
            if not self._ours.poll(PATIENCE):
                raise LabError(f"{self._task.name} gave no answer within {PATIENCE:g} s")
            answer = self._ours.recv()
        except (EOFError, ConnectionError):
            self._task.result()  # raises what ended it
            raise LabError(f"{self._task.name} is gone") from None
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the process."""
        self._task.stop()
        self._ours.close()


def _serve(requests: Connection, origin: Namespace, target: Namespace, subscribers: Sequence[str]) -> None:
    require_lab(origin.token)
    wire.stay_on_one_processor()
    with target.visit():
        far, far_end = wire.Tap(), topology.End(target, subscribers)
    near, near_end = wire.Tap(), topology.End(origin, subscribers)
    fence = wire.Fence(topology.FENCES[target.name])
    while True:
        try:
            what, subject = requests.recv()
        except EOFError:
            return
        require_lab(origin.token)
        try:
            near.forget()
            far.forget()
            if what == "probe":
                answer: Any = probe.probe(subject, near, far, fence)
            else:
                with near_end.hushed(), far_end.hushed():
                    answer = packets.exchange(subject, near, far, fence)
        except (LabError, OSError) as error:
            answer = error
        requests.send(answer)
