"""What to change: the difference between the desired ruleset and the actual one, step by step. Pure.

What nothing refers to yet is prepared first, in as many transactions as it takes; one small transaction then switches
to it, with a step before and one after it for what packets on their way could miss.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from gatewrit.kernel.draft import Draft, both_names
from gatewrit.kernel.ruleset import Ruleset, Set
from gatewrit.kernel.transaction import (
    Actual,
    AddChain,
    AddTable,
    AdoptTable,
    DeleteCounter,
    DeleteTable,
    Tenure,
    Touch,
    Transaction,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.kernel.transaction import Operation

NOTHING = Transaction()
#: Up to so many objects, rules and elements are one transaction where nothing is in force yet.
AT_ONCE = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How to come from the actual ruleset to the desired one.

    `prepare` changes nothing that a packet can meet, and may be cut anywhere. `early`, `change` and `late` bring the
    desired ruleset into force, each whole; all that is new is so with `change`, the others are for packets that are on
    their way meanwhile (see `gatewrit.kernel.crossing`). `clear` deletes what only such packets can still meet, and may
    be cut. Each of these waits until every packet is through that came before the last one. `sweep` at last deletes the
    counters that nothing uses; it is apart because a counter's last packets must be read after the rules that count on
    it are gone, and before it is deleted. `touched` are the sets of which few elements are changed in place.
    """

    prepare: Transaction = NOTHING
    early: Transaction = NOTHING
    change: Transaction = NOTHING
    late: Transaction = NOTHING
    clear: Transaction = NOTHING
    sweep: Transaction = NOTHING
    touched: Mapping[str, Touch] = field(default_factory=lambda: MappingProxyType({}))

    def __bool__(self) -> bool:
        return bool(self.whole)

    @property
    def steps(self) -> tuple[Transaction, ...]:
        """What follows on the preparation, one after the other."""
        return tuple(each for each in (self.early, self.change, self.late) if each)

    @property
    def whole(self) -> Transaction:
        """All but the sweep, as one transaction."""
        parts = self.prepare, *self.steps, self.clear
        return Transaction(tuple(operation for each in parts for operation in each.operations))


def diff(
    desired: Ruleset,
    actual: Actual,
    coming: Ruleset | None = None,
    at_once: int = AT_ONCE,
    largest: int | None = None,
) -> Plan:
    """Give what makes `actual` hold just `desired`: nothing missing, nothing else, nothing right rewritten.

    What of `coming`, a ruleset that is being prepared for later, is there already stays. Where a transaction may have
    `largest` bytes at most, little is left for `change`; what can't be left out of it is there all the same.
    """
    plan = _diff(desired, actual, coming or Ruleset(), at_once)
    if largest is None or plan.change.weight <= largest:
        return plan
    # A quarter for elements of sets in use, some for what must be done at once.
    return _diff(desired, actual, coming or Ruleset(), 0, largest // 4)


def _diff(desired: Ruleset, actual: Actual, coming: Ruleset, at_once: int, room: int | None = None) -> Plan:
    owned = actual.tenure not in {Tenure.OPEN, Tenure.HELD}
    foreign = actual.handle is not None and (actual.foreign or _reshaped(desired, actual))
    draft = Draft(desired, Actual(0) if foreign else actual, coming, room)
    draft.work()
    whole = (*draft.prepare, *draft.change)
    if foreign:
        # Everything anew, and in one transaction, so that nothing slips through in between.
        return Plan(change=_in_order(desired, Transaction((DeleteTable(), AddTable(owned), *whole))))
    begin: tuple[Operation, ...] = (AddTable(owned),) if actual.handle is None else ()
    if actual.tenure is Tenure.ORPHANED:
        begin = (AdoptTable(),)
    kept = {*desired.counters, *coming.counters}
    sweep = Transaction(tuple(DeleteCounter(name) for name in actual.counters if name not in kept))
    if not draft.way and Transaction(tuple(draft.prepare)).size <= at_once:
        # Nothing is in force, so that nothing can be missed.
        return Plan(change=_in_order(desired, Transaction((*begin, *whole, *draft.clear))), sweep=sweep)
    parts = (*begin, *draft.prepare), draft.early, draft.change, draft.late, draft.clear
    prepare, early, change, late, clear = (Transaction(tuple(part)) for part in parts)
    return Plan(prepare, early, change, late, clear, sweep, draft.touched)


def _in_order(desired: Ruleset, transaction: Transaction) -> Transaction:
    """Have chains added in the order in which the ruleset prints them, so that the kernel lists them in that order."""
    made = [each for each in transaction.operations if isinstance(each, AddChain)]
    if not made:
        return transaction
    others = [each for each in transaction.operations if not isinstance(each, AddChain)]
    at = transaction.operations.index(made[0])
    place = {name: at for at, name in enumerate(desired.chains)}
    made.sort(key=lambda each: place[each.chain.name])
    return Transaction((*others[:at], *made, *others[at:]))


def settled(desired: Ruleset, actual: Actual) -> Actual:
    """Give an `actual` that `diff` found nothing to change in, with the desired elements: one copy of a million."""
    sets = dict(actual.sets)
    for name, each in desired.sets.items():
        for real in both_names(name):
            if real in sets and len(sets[real].elements) == len(each.elements):
                sets[real] = Set(sets[real].spec, each.elements)
    return replace(actual, sets=sets)


def _reshaped(desired: Ruleset, actual: Actual) -> bool:
    """Whether a chain or counter has our name but another shape: the kernel can't change that in place, only anew."""
    chains = ((each, actual.chains[name]) for name, each in desired.chains.items() if name in actual.chains)
    counters = ((each, actual.counters[name]) for name, each in desired.counters.items() if name in actual.counters)
    return any((chain.hook, chain.comment) != (found.hook, found.comment) for chain, found in chains) or any(
        wanted.comment != found.comment for wanted, found in counters
    )
