"""One pass over the kernel: read, compare, change in one transaction, read back, believe only what was read."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewrit.kernel.socket import KernelError
from gatewrit.kernel.transaction import Plan, Transaction, diff

if TYPE_CHECKING:
    from gatewrit.kernel.ruleset import Ruleset
    from gatewrit.kernel.socket import Kernel
    from gatewrit.kernel.transaction import Actual

#: Tries of one pass. A transaction that somebody else's change overtook is made anew from what is there now; after
#: the first few the generation isn't insisted on, so that a busy host can't starve us: our table is ours alone.
_ATTEMPTS = 6
_INSISTING = 3


class NotConvergedError(Exception):
    """The kernel acknowledged every transaction, but what it returns still isn't what was asked for."""

    def __init__(self, remaining: Transaction) -> None:
        self.remaining = remaining
        first = remaining.excerpt()[0]
        super().__init__(f"the kernel still differs in {remaining.size} places after {_ATTEMPTS} tries, first: {first}")


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What a pass did: `changed` objects, rules and elements. `found` was read before it, `actual` after it."""

    changed: int
    first: Transaction
    found: Actual
    actual: Actual
    sweep: Transaction


async def reconcile(kernel: Kernel, desired: Ruleset) -> Pass:
    """Bring the kernel to `desired` and prove it by reading back.

    Raises `KernelError` if the kernel refuses or can't be asked, `NotConvergedError` if it doesn't keep what it
    acknowledged. Either way the kernel holds what it held before, or what is desired, never half.
    """
    found: Actual | None = None
    first = Transaction()
    changed = 0
    plan = Plan(first, first)
    for attempt in range(_ATTEMPTS):
        actual = await kernel.read()
        found = found or actual
        # Comparing a large ruleset takes a while; others are answered meanwhile.
        plan = await asyncio.to_thread(diff, desired, actual)
        if not plan.change:
            return Pass(changed, first, found, actual, plan.sweep)
        first = first or plan.change
        try:
            await kernel.commit(plan.change, actual.generation if attempt < _INSISTING else None)
            changed += plan.change.size
        except KernelError as error:
            # ERESTART: overtaken. ENOBUFS: perhaps done, the answer was lost. Both are settled by reading.
            if error.errno not in {errno.ERESTART, errno.ENOBUFS}:
                raise
    raise NotConvergedError(plan.change)
