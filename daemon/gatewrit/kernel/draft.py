"""The operations that lead from the actual ruleset to the desired one, collected by when they are due. Pure.

A set that is to become very different is prepared beside the one in use, under its name with `TWIN` behind it, and the
rules that ask it are switched: no key of a set in use comes and goes in bulk, nobody waits behind a million elements,
and should we die in between, what was in force stays. Which of the two names a set bears means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.kernel.crossing import Asked, Change, Crossing, Way, crossing, look_ups
from gatewrit.kernel.elements import Elements, Verdict, difference
from gatewrit.kernel.expressions import Immediate
from gatewrit.kernel.ruleset import ByMap, InSet, Rule, Ruleset, Set, lower
from gatewrit.kernel.transaction import (
    Actual,
    AddChain,
    AddCounter,
    AddElements,
    AddRule,
    AddSet,
    DeleteChain,
    DeleteElements,
    DeleteRule,
    DeleteSet,
    FlushChain,
    Touch,
    Transaction,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from gatewrit.kernel.expressions import Expression
    from gatewrit.kernel.ruleset import Chain, Statement
    from gatewrit.kernel.transaction import ActualChain, Operation

    #: A rule as it is compared with what the kernel has: its expressions and its comment.
    Lowered = tuple[tuple[Expression, ...], str | None]

#: Ends the name of a set's other place. No set that is compiled is named so.
TWIN = ".b"
#: A set in use is changed in place by so many elements, or this part of them; beyond that its twin takes over.
_FEW, _PART = 256, 16


@dataclass(slots=True)
class Draft:
    """The operations as they are collected. `real` says which name each desired set goes by.

    `room` is how many bytes all changes of sets in use may have together; None for whatever it takes. `way` has the
    chains that packets can come to, each with what it asks; `used` the sets of these, by what they are called without
    `TWIN`. `touched` are the sets of these that few elements of are changed, by their real names.
    """

    desired: Ruleset
    actual: Actual
    coming: Ruleset
    room: int | None = None
    prepare: list[Operation] = field(default_factory=list)
    early: list[Operation] = field(default_factory=list)
    change: list[Operation] = field(default_factory=list)
    late: list[Operation] = field(default_factory=list)
    clear: list[Operation] = field(default_factory=list)
    touched: dict[str, Touch] = field(default_factory=dict)
    real: dict[str, str] = field(default_factory=dict)
    emptied: set[str] = field(default_factory=set)
    way: Mapping[str, Sequence[Asked]] = field(init=False)
    used: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        way = _reachable(self.actual)
        names = {each.name for chain in way.values() for each in chain if each.name in self.actual.sets}
        # Nobody but a stranger has both names asked for; the plain one goes first then.
        self.used = {_plain(name): name for name in sorted(names, reverse=True)}
        self.way = {name: [each.renamed(_plain(each.name)) for each in chain] for name, chain in way.items()}

    def work(self) -> None:
        """Collect what is missing before what refers to it, and what is too much after the last reference to it."""
        desired, actual = self.desired, self.actual
        self.prepare += [AddCounter(each) for name, each in desired.counters.items() if name not in actual.counters]
        missing = [each for name, each in desired.chains.items() if name not in actual.chains]
        self.prepare += [AddChain(each) for each in missing if each.hook is None]
        inside = [*self._sets()]
        self.change += [AddChain(each) for each in missing if each.hook is not None]
        self.change += inside
        for name, chain in desired.chains.items():
            inert = chain.hook is None and name not in self.way
            (self.prepare if inert else self.change).extend(self._rules(chain))
        self._clear()

    def _sets(self) -> Iterator[Operation]:
        """Prepare the sets, and yield the few changes to those in use."""
        few, others = dict[str, tuple[Elements, Elements]](), list[Set]()
        for name, wanted in self.desired.sets.items():
            used = self.used.get(name)
            if used is None or not _same_shape(wanted, there := self.actual.sets[used]):
                others.append(wanted)
            elif wanted.elements is there.elements:
                self.real[name] = used
            else:
                added, removed = difference(wanted.elements, there.elements)
                little = len(added) + len(removed) <= max(_FEW, len(wanted.elements) // _PART)
                if not little or not self._fits(tuple(_elements(self._as(wanted, used), added, removed))):
                    others.append(wanted)
                    continue
                self.real[name] = used
                if len(added) or len(removed):
                    few[name] = added, removed
        found = self._crossing(few, others) if few else Crossing()
        for name in found.anew:
            del self.real[name]
        for wanted in (*others, *(self.desired.sets[name] for name in sorted(found.anew))):
            self._spare(wanted, self.used.get(wanted.spec.name))
        for name in few.keys() - found.anew:
            there, (added, removed) = self._as(self.desired.sets[name], self.used[name]), few[name]
            nothing = added.take(slice(0, 0))
            early, late = found.early.get(name, nothing), found.late.get(name, nothing)
            self.early += _elements(there, early, nothing)
            self.late += _elements(there, nothing, late)
            self.touched[there.spec.name] = Touch(there, added, removed)
            yield from _elements(there, added.minus(early), removed.minus(late))

    def _crossing(self, few: Mapping[str, tuple[Elements, Elements]], others: Sequence[Set]) -> Crossing:
        """Say how sets in use are changed in place, among what else becomes of others."""
        asked: dict[str, list[Asked]] = {name: [] for name in (*few, *(each.spec.name for each in others))}
        for chain in self.desired.chains.values():
            for look_up in (each for rule in chain.rules for each in look_ups(lower(rule))):
                if look_up.name in asked:
                    asked[look_up.name].append(look_up)
        changes = dict[str, Change]()
        for name, (added, removed) in few.items():
            size, count = self.desired.sets[name].spec.size, len(self.desired.sets[name].elements)
            most = max(count, count - len(added) + len(removed))
            changes[name] = Change(asked[name], added, removed, spare=None if size is None else size - most)
        for wanted in others:
            name, elements = wanted.spec.name, wanted.elements
            used = self.used.get(name)
            there = self.actual.sets[used].elements if used is not None else elements.take(slice(0, 0))
            gained, lost = difference(elements, there) if there.width == elements.width else (elements, there)
            changes[name] = Change(asked[name], gained, lost, anew=True)
        gone = self.used.keys() - self.desired.sets.keys()
        for look_up in (each for asks in self.way.values() for each in asks if each.name in gone):
            there = self.actual.sets[self.used[look_up.name]].elements
            changes[look_up.name] = Change([look_up], there.take(slice(0, 0)), there, anew=True)
        return crossing(Way(self.way, self._rewritten, self._unsteady), changes)

    def _rewritten(self, name: str, anew: Collection[str]) -> bool:
        """Whether a chain in use gets other rules; sets that aren't `real` yet, or `anew`, are asked by other names."""
        chain = self.desired.chains.get(name)
        if chain is None or any(each.name in anew or each.name not in self.real for each in self.way[name]):
            return True
        return _lowered(map(self._renamed, chain.rules)) != _found(self.actual.chains[name])

    def _unsteady(self, starts: Collection[str]) -> set[str]:
        """Give which of these chains lead to a chain in use that gets other rules, if only by and by."""
        known = dict[str, bool]()

        def unsteady(name: str) -> bool:
            if name not in known:
                chain = self.desired.chains.get(name)
                onward = _onward(chain, self.desired) if chain else ()
                known[name] = (name in self.way and self._rewritten(name, ())) or any(map(unsteady, onward))
            return known[name]

        return {name for name in starts if unsteady(name)}

    def _fits(self, few: tuple[Operation, ...]) -> bool:
        """Whether there is room for this in the transaction that changes everything; it is taken then."""
        if self.room is None:
            return True
        weight = Transaction(few).weight
        if weight > self.room:
            return False
        self.room -= weight
        return True

    def _spare(self, wanted: Set, used: str | None) -> None:
        """Prepare a set under that of its two names that isn't in use."""
        name = wanted.spec.name
        names = [each for each in both_names(name) if each != used]
        ready = [each for each in names if each in self.actual.sets and _same_shape(wanted, self.actual.sets[each])]
        free = [each for each in names if each not in self.actual.sets]
        spare = (ready or free or names)[0]
        self.real[name] = spare
        there = self.actual.sets.get(spare)
        mine = self._as(wanted, spare)
        if there is not None and not ready:
            # Only chains that were prepared for something else can ask it.
            emptied = [name for name, chain in self.actual.chains.items() if _asks(chain, spare)]
            self.emptied |= {*emptied}
            self.prepare += [*(FlushChain(name) for name in emptied), DeleteSet(spare)]
        if there is None or not ready:
            self.prepare.append(AddSet(mine.spec))
            self.prepare += _elements(mine, wanted.elements, wanted.elements.take(slice(0, 0)))
        else:
            self.prepare += _elements(mine, *difference(wanted.elements, there.elements))

    @staticmethod
    def _as(wanted: Set, name: str) -> Set:
        return wanted if wanted.spec.name == name else Set(replace(wanted.spec, name=name), wanted.elements)

    def _rules(self, chain: Chain) -> Iterator[Operation]:
        actual = self.actual.chains.get(chain.name)
        rules = [self._renamed(rule) for rule in chain.rules]
        wanted = _lowered(rules)
        found = _found(actual) if actual is not None and chain.name not in self.emptied else []
        if wanted == found:
            return
        if actual is not None and found and wanted and found[-len(wanted) :] == wanted:
            # The ladder's first rungs have passed: take just them away, the rest isn't touched.
            yield from (DeleteRule(chain.name, rule.handle) for rule in actual.rules[: -len(wanted)])
            return
        if found:
            yield FlushChain(chain.name)
        yield from (AddRule(chain.name, rule) for rule in rules)

    def _renamed(self, rule: Rule) -> Rule:
        """Give a rule that asks sets by the names that they go by."""

        def named(statement: Statement) -> Statement:
            if not isinstance(statement, InSet | ByMap):
                return statement
            real = self.real.get(statement.name, statement.name)
            return statement if real == statement.name else replace(statement, name=real)

        statements = tuple(named(each) for each in rule.statements)
        return rule if statements == rule.statements else replace(rule, statements=statements)

    def _clear(self) -> None:
        """Delete what neither the desired ruleset nor the coming one has."""
        chains, actual = {*self.desired.chains, *self.coming.chains}, self.actual
        sets = {*self.real.values(), *(each for name in self.coming.sets for each in both_names(name))}
        remade = {each.name for each in self.prepare if isinstance(each, DeleteSet)}
        gone = {name: None for name in actual.chains if name not in chains}
        # What goes out of use but comes again is emptied, for what it leads to may go.
        later = self.coming.chains.keys() - self.desired.chains.keys()
        idle = [name for name in actual.chains if name in self.way and name in later]
        # At once: a further pass wouldn't know these from what is prepared.
        self.change += [FlushChain(name) for name in idle if actual.chains[name].rules]
        for name in gone:
            # Off the hook at once: nobody is to meet it any more, nor may it lead to rules that are for another hook.
            due = self.clear if actual.chains[name].hook is None else self.change
            due += [FlushChain(name)] if actual.chains[name].rules else []
            due += [DeleteChain(name)] if actual.chains[name].hook is not None else []
        for name in sorted(actual.sets.keys() - remade - {*self.real.values()}):
            if name not in sets:
                self.clear.append(DeleteSet(name))
            elif len(dead := _leading_to(actual.sets[name].elements, gone)):
                self.clear.append(DeleteElements(actual.sets[name].spec, dead))
        self.clear += [DeleteChain(name) for name in gone if actual.chains[name].hook is None]


def _same_shape(wanted: Set, found: Set) -> bool:
    mine, theirs = wanted.spec, found.spec
    return mine == theirs or replace(mine, name=theirs.name) == theirs


def _asks(chain: ActualChain, name: str) -> bool:
    """Whether a rule of a chain looks something up in a set."""
    return any(each.name == name for rule in chain.rules for each in look_ups(rule.expressions))


def _lowered(rules: Iterable[Rule]) -> list[Lowered]:
    return [(lower(rule), rule.comment) for rule in rules]


def _found(chain: ActualChain) -> list[Lowered]:
    """Give the rules of a chain as they are compared with those that are wanted."""
    return [(rule.expressions, rule.comment) for rule in chain.rules]


def _leading_to(elements: Elements, chains: Collection[str]) -> Elements:
    """Give the elements of a map that lead to one of these chains."""
    doomed = np.array([verdict.chain in chains for verdict in elements.verdicts], np.bool_)
    return elements.take(doomed[elements.verdict]) if doomed.any() else elements.take(slice(0, 0))


def _elements(desired: Set, added: Elements, removed: Elements) -> Iterator[Operation]:
    if len(removed):
        yield DeleteElements(desired.spec, removed)
    if len(added):
        yield AddElements(desired.spec, added)


def both_names(name: str) -> tuple[str, str]:
    """Give the two names that the kernel may have a desired set under."""
    return name, name + TWIN


def _plain(name: str) -> str:
    """Give the name of a set as it was compiled."""
    return name.removesuffix(TWIN)


def _onward(chain: Chain, desired: Ruleset) -> Iterator[str]:
    """Yield the chains that a chain leads to."""
    for statement in (each for rule in chain.rules for each in rule.statements):
        found: tuple[Verdict, ...] = ()
        if isinstance(statement, Verdict):
            found = (statement,)
        elif isinstance(statement, ByMap):
            found = desired.sets[statement.name].elements.verdicts
        yield from (verdict.chain for verdict in found if verdict.chain is not None)


def _reachable(actual: Actual) -> dict[str, list[Asked]]:
    """Give the chains that a packet can come to, each with its look-ups."""
    waiting = [name for name, chain in actual.chains.items() if chain.hook is not None]
    found: dict[str, list[Asked]] = {name: [] for name in waiting}
    known = set[str]()
    while waiting:
        name = waiting.pop()
        chain = actual.chains.get(name)
        for expressions in (rule.expressions for rule in (chain.rules if chain else ())):
            onward = [part.verdict.chain for part in expressions if isinstance(part, Immediate)]
            for look_up in look_ups(expressions):
                found[name].append(look_up)
                there = actual.sets.get(look_up.name)
                if there is not None and look_up.name not in known:
                    known.add(look_up.name)
                    onward += [verdict.chain for verdict in there.elements.verdicts]
            fresh = {each for each in onward if each is not None and each not in found}
            found |= {each: [] for each in fresh}
            waiting += fresh
    return found
