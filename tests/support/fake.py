"""A kernel in memory, with the real one's manners: all or nothing, its error codes, its generations, its handles.

It doesn't record calls; it behaves. tests/kernel/test_behaviour.py holds it to the real one.
"""

from __future__ import annotations

import copy
import errno
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from gatewrit.kernel import expressions as nf
from gatewrit.kernel.backend import KernelError
from gatewrit.kernel.elements import Elements
from gatewrit.kernel.ruleset import Set, lower
from gatewrit.kernel.transaction import (
    Actual,
    ActualChain,
    ActualCounter,
    ActualRule,
    AddChain,
    AddCounter,
    AddElements,
    AddRule,
    AddSet,
    AddTable,
    AdoptTable,
    DeleteChain,
    DeleteCounter,
    DeleteElements,
    DeleteRule,
    DeleteSet,
    DeleteTable,
    FlushChain,
    Operation,
    Tenure,
    Transaction,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatewrit.kernel.elements import Verdict


T = TypeVar("T")


@dataclass
class Table:
    """What the table holds."""

    handle: int
    tenure: Tenure = Tenure.OPEN
    chains: dict[str, ActualChain] = field(default_factory=dict)
    sets: dict[str, Set] = field(default_factory=dict)
    counters: dict[str, ActualCounter] = field(default_factory=dict)

    def __deepcopy__(self, memo: object) -> Table:
        return Table(self.handle, self.tenure, dict(self.chains), dict(self.sets), dict(self.counters))


class FakeKernel:
    """Behaves like `NftSocket` with one network namespace behind it.

    `refusals` are the error codes of the next commits, 0 for one that is taken. With more than `memory` elements it has
    no memory left, and it takes no transaction of more than `largest` bytes, if that is said.
    """

    def __init__(self) -> None:
        self.table: Table | None = None
        self.now = 1
        self.committed = 0
        self.refusals: list[int] = []
        self.memory = 1 << 62
        self.largest: int | None = None
        self.owning = False
        self._handles = count(1)

    @property
    def room(self) -> int:
        return 1 << 16

    async def read(self, known: Actual | None = None) -> Actual:
        del known  # everything is cheap to give here
        if self.table is None:
            return Actual(self.now, tenure=Tenure.OURS if self.owning else Tenure.OPEN)
        table = self.table
        held = table.chains, table.sets, table.counters
        return Actual(self.now, table.handle, *map(dict, held), tenure=table.tenure)

    async def read_sets(self, names: Sequence[str]) -> dict[str, tuple[Set, int]]:
        held = {} if self.table is None else self.table.sets
        return {name: (held[name], 0) for name in names if name in held}

    async def generation(self) -> int:
        return self.now

    async def counters(self) -> Mapping[str, ActualCounter]:
        if self.table is None:
            return {}
        return dict(self.table.counters)

    async def commit(self, transaction: Transaction, generation: int | None = None) -> None:
        if not transaction:
            return
        if self.refusals and (code := self.refusals.pop(0)):
            raise KernelError(code, "commit a transaction")
        _must(self.largest is None or transaction.weight <= self.largest, errno.EMSGSIZE)
        if generation is not None and generation != self.now:
            raise KernelError(errno.ERESTART, "commit a transaction")
        draft = copy.deepcopy(self.table)
        for operation in transaction.operations:
            draft = self._do(draft, operation)
        if draft is not None:
            _check_references(draft)
            _must(sum(len(each.elements) for each in draft.sets.values()) <= self.memory, errno.ENOMEM)
        self.table = draft
        self.now += 1
        self.committed += 1

    async def grace(self) -> None:
        """Nothing is ever on its way here."""

    def hit(self, counter: str, packets: int, octets: int) -> None:
        """Pretend that packets came by."""
        assert self.table is not None
        old = self.table.counters[counter]
        self.table.counters[counter] = replace(old, packets=old.packets + packets, bytes=old.bytes + octets)

    def _do(self, table: Table | None, operation: Operation) -> Table | None:  # noqa: C901, PLR0912 - one arm each
        match operation:
            case AddTable(owned):
                _must(table is None, errno.EEXIST)
                return Table(next(self._handles), Tenure.OURS if owned else Tenure.OPEN)
            case DeleteTable():
                _must(table is not None, errno.ENOENT)
                return None
        if table is None:
            raise KernelError(errno.ENOENT, "commit a transaction")
        match operation:
            case AdoptTable():
                _must(table.tenure in {Tenure.OURS, Tenure.ORPHANED}, errno.EOPNOTSUPP)
                table.tenure = Tenure.OURS
            case AddChain(chain):
                _must(chain.name not in table.chains, errno.EEXIST)
                table.chains[chain.name] = ActualChain(chain.name, (), chain.hook, chain.comment)
            case AddCounter(counter):
                _must(counter.name not in table.counters, errno.EEXIST)
                handle = next(self._handles)
                table.counters[counter.name] = ActualCounter(counter.name, handle, 0, 0, counter.comment)
            case AddSet(spec):
                _must(spec.name not in table.sets, errno.EEXIST)
                empty = Elements.of(_width(spec.key), [])
                table.sets[spec.name] = Set(spec, empty)
            case AddRule(name, rule):
                chain = _get(table.chains, name)
                made = ActualRule(next(self._handles), lower(rule), rule.comment)
                table.chains[name] = replace(chain, rules=(*chain.rules, made))
            case FlushChain(name):
                table.chains[name] = replace(_get(table.chains, name), rules=())
            case DeleteRule(name, handle):
                chain = _get(table.chains, name)
                left = tuple(rule for rule in chain.rules if rule.handle != handle)
                _must(len(left) < len(chain.rules), errno.ENOENT)
                table.chains[name] = replace(chain, rules=left)
            case AddElements(spec, elements):
                table.sets[spec.name] = _add(_get(table.sets, spec.name), elements)
            case DeleteElements(spec, elements):
                table.sets[spec.name] = _take(_get(table.sets, spec.name), elements)
            case DeleteSet(name):
                _get(table.sets, name)
                _must(name not in _referenced(table, "set"), errno.EBUSY)
                del table.sets[name]
            case DeleteChain(name):
                chain = _get(table.chains, name)
                table.chains[name] = replace(chain, rules=())
                _must(name not in _referenced(table, "chain"), errno.EBUSY)
                del table.chains[name]
            case DeleteCounter(name):
                _get(table.counters, name)
                _must(name not in _referenced(table, "counter"), errno.EBUSY)
                del table.counters[name]
        return table


def _must(condition: object, code: int) -> None:
    if not condition:
        raise KernelError(code, "commit a transaction")


def _get(objects: Mapping[str, T], name: str) -> T:
    _must(name in objects, errno.ENOENT)
    return objects[name]


def _width(key: tuple[object, ...]) -> int:
    return key[0].length if len(key) == 1 else 4 * len(key)  # type: ignore[attr-defined]


def _add(old: Set, new: Elements) -> Set:
    rows = [*old.elements.rows(), *new.rows()]
    rows.sort(key=lambda row: row[0])
    for before, after in pairwise(rows):
        _must(before[1] < after[0], errno.EEXIST)
    _must(old.spec.size is None or len(rows) <= old.spec.size, errno.ENFILE)
    return Set(old.spec, Elements.of(old.elements.width, rows))


def _take(old: Set, gone: Elements) -> Set:
    keys = {(first, last) for first, last, _ in gone.rows()}
    rows = list(old.elements.rows())
    left = [row for row in rows if row[:2] not in keys]
    _must(len(left) == len(rows) - len(keys), errno.ENOENT)
    return Set(old.spec, Elements.of(old.elements.width, left))


def _verdicts(table: Table) -> list[Verdict]:
    held = [
        each.elements.verdicts[int(index)]
        for each in table.sets.values()
        if each.elements.verdicts
        for index in np.unique(each.elements.verdict)
    ]
    said = [part.verdict for part in _expressions(table) if isinstance(part, nf.Immediate)]
    return held + said


def _expressions(table: Table) -> list[nf.Expression]:
    return [part for chain in table.chains.values() for rule in chain.rules for part in rule.expressions]


def _referenced(table: Table, kind: str) -> set[str | None]:
    if kind == "chain":
        return {verdict.chain for verdict in _verdicts(table)}
    wanted = nf.Lookup if kind == "set" else nf.CounterRef
    return {part.name for part in _expressions(table) if isinstance(part, wanted)}


def _check_references(table: Table) -> None:
    known = {"chain": table.chains, "set": table.sets, "counter": table.counters}
    for kind, objects in known.items():
        for name in _referenced(table, kind):
            _must(name is None or name in objects, errno.ENOENT)
