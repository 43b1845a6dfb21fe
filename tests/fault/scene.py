"""What the faults strike: a gateway with orders that stay, one that ends, and one that keeps being amended.

The traffic to all of them never stops. `Scene.change` orders something new, `Scene.converge` waits until that is
enforced and proved, and says how long it took.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from gatewrit.api.client import ControlError
from support.flows import PORT, PROBES, flow
from support.gateway import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.flood import Flood
    from support.gateway import Gateway

ENDING = "81.2.75.1"
BLOCKED = [flow(blocked) for blocked, _ in PROBES.values()]
NEIGHBOURS = [*(flow(free) for _, free in PROBES.values()), *(flow(blocked, 443) for blocked, _ in PROBES.values())]
ENDED = flow(ENDING)
#: Packets of a flow that may be on their way between two readings of two counters.
_UNDER_WAY = 1000


class Scene:
    """The gateway under traffic, and a seeded dice for what comes when."""

    def __init__(self, gateway: Gateway, seed: str, entries: int = 2000, *, owner: bool = True) -> None:
        self.gateway = gateway
        self.dice = random.Random(seed)  # noqa: S311 - no secret
        self.entries = entries
        self.number = 0
        self.excused = 0
        self.end = 0
        self.flood: Flood | None = None
        gateway.set(limits={"total_share": 1, "change_share": 1}, table_owner=owner)
        self.write_list(0)
        gateway.order("the-list", "list.txt", f"udp/{PORT}", action="drop")
        self._order()

    def end_soon(self, seconds: float) -> float:
        """Have one order end in so many seconds; gives the instant."""
        self.end = int(time.time() + seconds) + 1
        self.gateway.order("ending", ENDING, f"udp/{PORT}", action="drop", until=self.end)
        return self.end

    def change(self) -> None:
        """Order something else than before, in what is amended all the time."""
        self.number += 1
        self._order()

    def _order(self) -> None:
        self.gateway.order("amended", self.newest, f"udp/{PORT}", action="drop")

    @property
    def newest(self) -> str:
        """The address that was ordered last."""
        return f"81.2.{100 + self.number // 200 % 100}.{1 + self.number % 200}"

    def write_list(self, seed: int) -> None:
        """Write the list anew, all of it another but for the probes."""
        dice = random.Random(seed)  # noqa: S311 - no secret
        lines = [*PROBES]
        for number in range(self.entries):
            length = (32, 32, 28)[number % 3]
            bits = dice.getrandbits(24) >> 32 - length << 32 - length
            lines.append(f"{IPv4Address((20 + number % 20) << 24 | bits)}/{length}")
        self.gateway.write("services/list.txt", "\n".join(lines) + "\n")

    def start(self) -> None:
        """Start the daemon if it isn't running."""
        if self.gateway.process is not None and self.gateway.process.poll() is not None:
            self.gateway.end()
        if self.gateway.process is None:
            self.gateway.start()

    def kill(self) -> None:
        """Kill the daemon, as the kernel does that is out of memory, and start it again."""
        self.gateway.end(signal.SIGKILL)
        self.gateway.start()

    def converge(self) -> float:
        """Wait until what was ordered last is enforced and proved; gives the seconds."""
        began = time.monotonic()
        until(self._enforced, seconds=60)
        took = time.monotonic() - began
        proof = self.gateway.cli("verify")
        assert proof.returncode == 0, proof.stdout + proof.stderr
        return took

    def _enforced(self) -> bool:
        # As systemd would.
        self.start()
        with contextlib.suppress(OSError, EOFError, ControlError):
            return bool(self.gateway.reload()["ok"]) and self.gateway.blocks(self.newest)
        return False

    @contextlib.contextmanager
    def by_another_clock(self) -> Iterator[Callable[..., None]]:
        """Have a daemon whose wall clock the given function moves by so many seconds, `synchronised` or not.

        Meanwhile every packet to what has ended must arrive. Afterwards all is as an operator mends it: the latest
        instant seen is forgotten.
        """
        assert self.flood is not None
        until(lambda: time.time() > self.end and not self.gateway.blocks(ENDING))
        file = self.gateway.root / "moved"

        def move(seconds: float, *, synchronised: bool = False) -> None:
            # The jump before may only now be read.
            draft = file.with_suffix(".new")
            draft.write_text(f"{seconds} {'yes' if synchronised else 'no'}")
            draft.replace(file)
            self.gateway.send(signal.SIGUSR1)

        file.write_text("0 no")
        usual = self.gateway.program
        self.gateway.end()
        self.gateway.program = [sys.executable, str(Path(__file__).with_name("moved_clock.py")), str(file)]
        self.gateway.start()
        lost = self._lost_of_what_ended()
        try:
            yield move
        finally:
            self.gateway.end()
            self.gateway.program = usual
            (self.gateway.state / "clock.json").unlink()
            self.gateway.start()
        assert self._lost_of_what_ended() - lost < _UNDER_WAY, "what had ended was blocked again"

    def _lost_of_what_ended(self) -> int:
        assert self.flood is not None
        arrived = self.flood.count()
        return arrived[NEIGHBOURS[0]] - arrived[ENDED]

    @contextlib.contextmanager
    def rebooting(self) -> Iterator[None]:
        """Excuse what passes while the machine is down and the table gone: its network doesn't forward then."""
        with self.excusing():
            self.gateway.nft("delete table inet gatewrit")
            yield

    @contextlib.contextmanager
    def excusing(self) -> Iterator[None]:
        """Count apart what passes meanwhile."""
        before = self._passed()
        yield
        self.excused += self._passed() - before

    def _passed(self) -> int:
        assert self.flood is not None
        arrived = self.flood.count()
        return sum(arrived[flow] for flow in BLOCKED)
