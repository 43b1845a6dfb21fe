"""One pass over the kernel: read, compare, change in one transaction, read back, believe only what was read."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gatewrit.kernel.plan import Plan, diff, settled
from gatewrit.kernel.socket import KernelError
from gatewrit.kernel.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable

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


class InterruptedPassError(Exception):
    """Somebody in a hurry was waiting. What was prepared so far stays, and changes nothing that a packet can meet."""


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What a pass did: `changed` objects, rules and elements. `found` was read before it, `actual` after it."""

    changed: int
    first: Transaction
    found: Actual
    actual: Actual
    sweep: Transaction


@dataclass(frozen=True, slots=True, eq=False)
class Around:
    """What a pass goes by, besides what is desired.

    `known` is what was read before: elements of sets that are still the same sets are taken from there. `coming` is
    what is being prepared for later. `step` is called between batches with how much of how much is prepared; it may
    raise `InterruptedPassError`.
    """

    known: Actual | None = None
    coming: Ruleset | None = None
    step: Callable[[int, int], None] = lambda _done, _all: None


ALONE = Around()


async def reconcile(kernel: Kernel, desired: Ruleset, around: Around = ALONE) -> Pass:
    """Bring the kernel to `desired` and prove it by reading back.

    Raises `KernelError` if the kernel refuses or can't be asked, `NotConvergedError` if it doesn't keep what it
    acknowledged. Either way packets meet what they met before, or what is desired, never half.
    """
    found: Actual | None = None
    first, nothing = Transaction(), Transaction()
    changed = 0
    plan, known = Plan(nothing, nothing, nothing), around.known
    for attempt in range(_ATTEMPTS):
        actual = await kernel.read(known)
        found = found or actual
        # Comparing a large ruleset takes a while; others are answered meanwhile.
        plan = await asyncio.to_thread(diff, desired, actual, around.coming)
        if not plan:
            return Pass(changed, first, found, settled(desired, actual), plan.sweep)
        first = first or plan.whole
        try:
            prepared = await _prepare(kernel, plan.prepare, around.step)
            generation = actual.generation + prepared if attempt < _INSISTING else None
            await kernel.commit(plan.change, generation)
            changed += plan.whole.size
        except KernelError as error:
            # ERESTART: overtaken. ENOBUFS: perhaps done, the answer was lost. Both are settled by reading.
            if error.errno not in {errno.ERESTART, errno.ENOBUFS}:
                raise
        known = without_sets(actual, plan.whole.sets)
    raise NotConvergedError(plan.whole)


async def _prepare(kernel: Kernel, transaction: Transaction, step: Callable[[int, int], None]) -> int:
    """Carry out what changes nothing yet, in batches; gives how many. Our table is ours: nobody's change matters."""
    batches, done, size = 0, 0, transaction.size
    for batch in transaction.batches(kernel.room):
        step(done, size)
        await kernel.commit(batch)
        batches, done = batches + 1, done + batch.size
    return batches


def without_sets(actual: Actual, names: frozenset[str]) -> Actual:
    """Give what is known but for some sets, which are to be read again."""
    return replace(actual, sets={name: each for name, each in actual.sets.items() if name not in names})
