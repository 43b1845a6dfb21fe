"""The real daemon in the lab's gateway, given lists as an operator gives them, and watched from outside.

Enforced means what it says: `gatewrit reload` answers after the kernel was read back, or packets stop arriving.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bench.measure import Cgroup, Failed, Ran, memory, timed
from gatewrit.api import client
from lab import Lab
from support.gateway import clean_environment, gateway_in, policy, program, service, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.lists import Made

#: Seconds that anything may take before it is given up.
PATIENCE = 150.0
#: Seconds for which the daemon has to have nothing to prepare.
_QUIET = 1.0
#: Everything is allowed to be as wide as it likes, and to change at once.
LIMITS = {"widest_ipv4": 1, "widest_ipv6": 1, "total_share": 1, "change_share": 1}
#: A small policy's addresses, which no list of the bench has: of the lab's own subscribers' neighbours in 10/8.
STEADY, MOVING = "10.200.0.1", "10.200.0.2"


class Standing:
    """A gateway whose daemon runs: `with Standing() as standing: standing.load(made)`."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self.lab = stack.enter_context(Lab())
            self.group = stack.enter_context(Cgroup())
            self.gateway = stack.enter_context(gateway_in(self.lab.gateway, folder, limits=LIMITS))
            self.small(STEADY)
            self.gateway.policy("small")
            self.start()
            self.empty = self.group.kernel()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # -- the daemon --------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The daemon's number."""
        assert self.gateway.process is not None
        return self.gateway.process.pid

    def start(self) -> float:
        """Start it; gives the seconds until it says that it is ready."""
        began = time.monotonic()
        process = self.gateway.start(ready=False)
        self.group.take(process.pid)

        def ready() -> bool:
            self.gateway.listen()
            if process.poll() is not None:
                raise Failed(f"the daemon ended with {process.returncode}: {self.gateway.log.read_text()[-500:]}")
            return any("READY=1" in text for _, text in self.gateway.heard)

        until(ready, seconds=PATIENCE, every=0.002)
        return time.monotonic() - began

    def kernel(self) -> float | None:
        """Give the megabytes of kernel memory that came since nothing but the small policy was loaded."""
        now = self.group.kernel()
        return None if now is None or self.empty is None else now - self.empty

    def processor_seconds(self) -> float:
        """Give the processor time that the daemon's threads have had."""
        total = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text(encoding="ascii").split()[0])
        return total / 1e9

    def resident(self) -> float:
        """Give the megabytes that the daemon has."""
        return memory(self.pid)

    def until_whole(self) -> float:
        """Wait until the daemon has nothing more to prepare, for guards come last; gives when that was (monotonic)."""
        quiet_since = time.monotonic()

        def whole() -> bool:
            nonlocal quiet_since
            if self.gateway.status()["progress"] is not None:
                quiet_since = time.monotonic()
            return time.monotonic() - quiet_since > _QUIET

        until(whole, seconds=PATIENCE)
        return quiet_since

    # -- what an operator does ----------------------------------------------------------------------------------------

    def cli(self, *words: str, may_fail: bool = False, limit: float = PATIENCE) -> Ran:
        """Run the program, start and all, for so many seconds at most."""
        args = [*program(), words[0], "--config", str(self.gateway.config), *words[1:]]
        return timed(self.lab.gateway, args, limit=limit, env=clean_environment(), may_fail=may_fail)

    def small(self, *addresses: str) -> None:
        """Write the small policy's service, which is a file of its own."""
        self.gateway.service("small", (addresses, "any"))

    def draft(self, made: Made, name: str = "million") -> Path:
        """Write a list beside where it will be."""
        return made.write(self.gateway.services / f".{name}.txt.new")

    def load(self, made: Made, ports: str = "any", name: str = "million") -> Ran:
        """Put a list, its service and its policy into place, and have the program reload; from the first rename on."""
        draft = self.draft(made, name)
        began = time.monotonic()
        draft.replace(draft.with_name(f"{name}.txt"))
        self.gateway.write(f"services/{name}.yaml", service(name, (f"{name}.txt", ports)))
        self.gateway.write(f"{name}.yaml", policy(name, name) + "allow_wide: to be measured\n")
        ran = self.cli("reload", may_fail=True)
        seconds = time.monotonic() - began
        self.must_be_in_sync(ran.output)
        return Ran(seconds, ran.peak, ran.kernel, ran.code, ran.output)

    def change(self, made: Made, name: str = "million") -> tuple[float, int]:
        """Put another content of the list into place and reload over the control socket: seconds, changes made."""
        draft = self.draft(made, name)
        before = self.changes()
        began = time.monotonic()
        draft.replace(draft.with_name(f"{name}.txt"))
        self.reload()
        seconds = time.monotonic() - began
        self.must_be_in_sync()
        return seconds, self.changes() - before

    def reload(self) -> None:
        """Reload over the control socket, as `gatewrit reload` does once it has started."""
        outcome = asyncio.run(client.call(self.gateway.runtime, "reload", within=PATIENCE))
        if not outcome["ok"]:
            raise Failed(f"reload: {str(outcome)[:400]}")

    # -- what came of it ----------------------------------------------------------------------------------------------

    def changes(self) -> int:
        """Give how many objects, rules and elements were changed in the kernel, by the daemon's own log."""
        applied = [*self.gateway.logged("reconcile.applied"), *self.gateway.logged("drift.repaired")]
        return sum(int(line["changed"]) for line in applied)

    def must_be_in_sync(self, said: str = "") -> dict[str, Any]:
        """Raise Failed unless everything is enforced."""
        status = self.gateway.status()
        if status["enforcement"] != "in_sync":
            problems = "; ".join(str(each["message"]) for each in status["problems"])
            raise Failed(f"{status['enforcement']}: {problems[:300]} {said[-200:]}".strip())
        return status

    @contextlib.contextmanager
    def polled(self, every: float = 0.01) -> Iterator[list[float]]:
        """Ask for /v1/status again and again meanwhile; gives the seconds that each answer took."""
        took = list[float]()
        enough = threading.Event()

        def ask() -> None:
            while not enough.wait(every):
                began = time.monotonic()
                code, _ = self.gateway.get("/v1/status")
                took.append(time.monotonic() - began if code == 200 else float("inf"))

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        try:
            yield took
        finally:
            enough.set()
            thread.join()
