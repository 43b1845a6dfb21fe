"""Counting: what the kernel's counters grew by is added up by policy, read now and then, and saved now and then."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import structlog

from gatewrit.engine import memory
from gatewrit.engine.ledger import Ledger
from gatewrit.engine.timing import RARENESS
from gatewrit.kernel.backend import KernelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.engine.clock import Clock
    from gatewrit.engine.ledger import Count
    from gatewrit.engine.reconcile import Pass
    from gatewrit.engine.scribe import Scribe
    from gatewrit.engine.timing import Agenda
    from gatewrit.kernel.backend import Kernel
    from gatewrit.kernel.transaction import ActualCounter

log = structlog.get_logger()

#: Seconds between two reads of the counters, two saves of them, and the next try where they can't be read.
COUNT_EVERY, SAVE_EVERY, COUNT_AGAIN = 2.0, 60.0, 10.0
#: Packets that were under way when the rules changed have counted by then, and their counter can be read a last time.
_GRACE = 0.05


class Tally:
    """Owns the ledger. It plans `count` on the agenda; the daemon calls `count` when that is due."""

    def __init__(self, kernel: Kernel, clock: Clock, agenda: Agenda, scribe: Scribe) -> None:
        self._kernel = kernel
        self._clock = clock
        self._agenda = agenda
        self._scribe = scribe
        self._ledger = Ledger()
        self._members: Mapping[str, tuple[str, ...]] = MappingProxyType({})
        self._table = ""
        self._save_at = clock.monotonic() + SAVE_EVERY

    @property
    def totals(self) -> Mapping[str, Count]:
        """What was counted for each policy, as last read."""
        return self._ledger.totals

    def load(self) -> None:
        """Read the saved counts back; raises `ValueError` or `OSError`, and then begins with what the kernel has."""
        self._ledger = memory.load_ledger(self._scribe.state)

    async def count(self) -> bool:
        """Read the counters for who looks at them, and save them when it is time; False if they can't be read."""
        began = self._clock.monotonic()
        try:
            counters = await self._kernel.counters()
        except KernelError as error:
            # The next look at the table says what is wrong with it.
            log.warning("counters.unreadable", reason=str(error))
            self._agenda.plan("count", COUNT_AGAIN)
            return False
        self._account(counters)
        self._agenda.plan("count", max(COUNT_EVERY, (self._clock.monotonic() - began) * RARENESS))
        if self._save_at <= self._clock.monotonic():
            await self.save()
        return True

    async def settle(self, members: Mapping[str, tuple[str, ...]], done: Pass) -> bool:
        """Account for the counters after a pass; those that no rule uses any more are read a last time, then go.

        `members` says whom each counter of the new ruleset counts for. True if counters were deleted, so that the
        ruleset is one generation on.
        """
        if done.found.handle not in {None, done.actual.handle}:
            # That table is gone, with counts that nobody had read yet.
            self._table = f"{_here()}/{done.found.handle}"
            self._account(done.found.counters)
        self._members = members
        self._table = f"{_here()}/{done.actual.handle}"
        self._agenda.plan("count", COUNT_EVERY)
        if not done.sweep:
            before = self._ledger.members
            self._account(done.actual.counters)
            if self._ledger.members != before:
                # Should we be killed, the next daemon must know whom each counter counts for.
                await self.save()
            return False
        await self._clock.sleep(_GRACE)
        try:
            self._account(await self._kernel.counters())
            await self.save()
            await self._kernel.commit(done.sweep, done.actual.generation)
        except KernelError as error:
            # They do no harm; the next pass tries again.
            log.info("counters.unswept", reason=str(error))
            return False
        return True

    async def forget(self, policy: str) -> None:
        """End the counts of one policy that no rule counts for any more."""
        self._ledger = self._ledger.without(policy)
        await self.save()

    async def save(self) -> None:
        """Write the counts down."""
        self._save_at = self._clock.monotonic() + SAVE_EVERY
        ledger = self._ledger
        await self._scribe.write("counters", lambda: memory.save_ledger(self._scribe.state, ledger))

    def _account(self, counters: Mapping[str, ActualCounter]) -> None:
        self._ledger = self._ledger.account(counters.values(), self._members, self._table)


def _here() -> str:
    """Name this boot and this network namespace: kernel handles mean something only within them."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/net').stat().st_ino}"
