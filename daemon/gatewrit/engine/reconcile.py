"""One pass over the kernel: read, compare, change in one transaction, read back, believe only what was read."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gatewrit.engine.ahead import Ahead
from gatewrit.kernel.backend import KernelError, NoRoomError
from gatewrit.kernel.plan import Plan, diff, settled
from gatewrit.kernel.ruleset import Ruleset
from gatewrit.kernel.shortcuts import without_shortcuts
from gatewrit.kernel.spare import needed
from gatewrit.kernel.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatewrit.kernel.backend import Kernel
    from gatewrit.kernel.spare import Spare
    from gatewrit.kernel.transaction import Actual, Touch

#: Tries of one pass. A transaction that somebody else's change overtook is made anew from what is there now; after
#: the first few the generation isn't insisted on, so that a busy host can't starve us: our table is ours alone.
_ATTEMPTS = 6
_INSISTING = 3
#: Bytes that nobody asks for before taking them.
_LITTLE = 4 << 20


class NotConvergedError(Exception):
    """The kernel acknowledged every transaction, but what it returns still isn't what was asked for."""

    def __init__(self, remaining: Transaction) -> None:
        self.remaining = remaining
        first = remaining.excerpt()[0]
        super().__init__(f"the kernel still differs in {remaining.size} places after {_ATTEMPTS} tries, first: {first}")


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What a pass did: `changed` objects, rules and elements. `found` was read before it, `actual` after it.

    `met`: whether packets could meet a difference between what was found and what was desired. `complete`: whether it
    has all shortcuts; what packets come to is as desired in any case.
    """

    changed: int
    first: Transaction
    found: Actual
    actual: Actual
    sweep: Transaction
    met: bool
    complete: bool


@dataclass(frozen=True, slots=True, eq=False)
class Around:
    """What a pass goes by, besides what is desired.

    `known` is what was read before: elements of sets that are still the same sets are taken from there. `coming` is
    what is being prepared for later. Shortcuts that lack more elements than `late`, in all, come later; None: never.
    `go_on` is asked before each batch of what is prepared, with how much of how much is done. `spare` says what memory
    is left, before anything is prepared; None where nobody knows.
    """

    known: Actual | None = None
    coming: Ruleset | None = None
    late: int | None = None
    go_on: Callable[[int, int], bool] = lambda _done, _all: True
    spare: Callable[[], Spare | None] = lambda: None


ALONE = Around()


async def reconcile(kernel: Kernel, desired: Ruleset, around: Around = ALONE) -> Pass:
    """Bring the kernel to `desired` and prove it by reading back what was changed.

    Raises `KernelError` if the kernel refuses or can't be asked, `NotConvergedError` if it doesn't keep what it
    acknowledged. Either way packets meet what they met before, or what is desired, never half.
    """
    found: Actual | None = None
    first = Transaction()
    changed, met = 0, False
    plan, known = Plan(), around.known
    touched: Mapping[str, Touch]
    for attempt in range(_ATTEMPTS):
        actual = await kernel.read(known)
        found = found or actual
        # Comparing a large ruleset takes a while; others are answered meanwhile.
        plan, sought = await asyncio.to_thread(_planned, desired, actual, around, kernel.largest)
        if not plan:
            return Pass(changed, first, found, settled(sought, actual), plan.sweep, met, sought is desired)
        whole = plan.whole
        first, met = first or whole, met or bool(plan.steps)
        _must_fit(plan.prepare, around.spare)
        try:
            done, _ = await _prepare(kernel, plan.prepare, lambda done, size: around.go_on(done, size) or True)
            for step in plan.steps:
                if done:
                    await kernel.grace()
                await kernel.commit(step, actual.generation + done if attempt < _INSISTING else None)
                done += 1
            if plan.clear:
                await kernel.grace()
                await _prepare(kernel, plan.clear, lambda _done, _size: True)
            changed += whole.size
            touched = plan.touched
        except KernelError as error:
            # ERESTART: overtaken. ENOBUFS, ETIMEDOUT: perhaps done, the answer was lost. All are settled by reading.
            if error.errno not in {errno.ERESTART, errno.ENOBUFS, errno.ETIMEDOUT}:
                raise
            touched = {}
        known = replace(without_sets(actual, whole.sets), touched=touched)
    raise NotConvergedError(plan.whole)


async def prepare(kernel: Kernel, desired: Ruleset, around: Around) -> tuple[Actual, bool]:
    """Prepare what a later pass to `desired` needs, as long as `around.go_on` says so; packets meet what they met.

    Gives what was read before that, but for the sets that were worked on, of which some were read since, and whether
    all of it is prepared now.
    """
    actual = await kernel.read(around.known)
    plan, _ = await asyncio.to_thread(_planned, desired, actual, replace(around, coming=None), kernel.largest)
    if actual.handle is None or not plan.prepare:
        return actual, True
    _must_fit(plan.prepare, around.spare)
    ahead = Ahead(kernel, plan.prepare)
    try:
        batches, finished = await _prepare(kernel, plan.prepare, around.go_on, ahead.taken)
    finally:
        await ahead.end()
    known, generation = without_sets(actual, plan.prepare.sets), actual.generation + batches
    if await kernel.generation() != generation:
        return known, finished
    # Nobody else has changed anything meanwhile.
    sets = {name: each for name, (each, _) in ahead.found.items()}
    handles = {name: handle for name, (_, handle) in ahead.found.items()}
    known = replace(known, generation=generation, sets={**known.sets, **sets}, handles={**known.handles, **handles})
    return known, finished


def _planned(desired: Ruleset, actual: Actual, around: Around, largest: int | None) -> tuple[Plan, Ruleset]:
    """Give the plan of a pass, and what it is for: all of what is desired, or what matters of it."""
    sought = desired if around.late is None else without_shortcuts(desired, actual.sets, around.late)
    # Only of what is still to come may something be there: what was in force before goes.
    later = Ruleset(sets={name: each for name, each in desired.sets.items() if name not in sought.sets})
    coming = around.coming or later
    return diff(sought, actual, coming, largest=largest), sought


def _must_fit(transaction: Transaction, spare: Callable[[], Spare | None]) -> None:
    """Raise `NoRoomError` if the kernel would take more memory for this than there is: it kills rather than refuses."""
    needs = needed(transaction)
    left = spare() if needs > _LITTLE else None
    lack = left.lacks(needs, f"preparing {transaction.size:,} elements in the kernel") if left is not None else None
    if lack is not None:
        raise NoRoomError(lack)


async def _prepare(
    kernel: Kernel,
    transaction: Transaction,
    go_on: Callable[[int, int], bool],
    taken: Callable[[Transaction], None] = lambda _batch: None,
) -> tuple[int, bool]:
    """Carry out what changes nothing, yet or any more, in batches, at least one; gives how many, and if that was all.

    Whatever generation the ruleset is at: our table is ours, and nobody else's change matters to it.
    """
    batches, done, size = 0, 0, transaction.size
    for batch in transaction.batches(kernel.room):
        if not go_on(done, size) and batches:
            return batches, False
        await kernel.commit(batch)
        taken(batch)
        batches, done = batches + 1, done + batch.size
    return batches, True


def without_sets(actual: Actual, names: frozenset[str]) -> Actual:
    """Give what is known but for some sets, which are to be read again."""
    return replace(actual, sets={name: each for name, each in actual.sets.items() if name not in names})
