"""What to change: the difference between the desired ruleset and the actual one, a value that prints as nft commands.

`diff` is pure. A transaction is carried out by the kernel as a whole or not at all, and between any two packets:
no packet ever meets half of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from gatewrit.kernel import text
from gatewrit.kernel.ruleset import TABLE, TABLE_COMMENT, Chain, Counter, Hook, Rule, Ruleset, Set, SetSpec, lower

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatewrit.kernel.elements import Elements
    from gatewrit.kernel.expressions import Expression

_D = TypeVar("_D")
_A = TypeVar("_A")

#: How many commands are shown of a transaction where not all of it can be, and how many characters of each.
_EXCERPT, _EXCERPT_LENGTH = 3, 200


@dataclass(frozen=True, slots=True)
class ActualRule:
    """A rule as the kernel has it, with the handle to delete it by."""

    handle: int
    expressions: tuple[Expression, ...]
    comment: str | None


@dataclass(frozen=True, slots=True)
class ActualChain:
    """A chain as the kernel has it; `policy` is None for a chain without a hook."""

    name: str
    rules: tuple[ActualRule, ...]
    hook: Hook | None
    comment: str | None


@dataclass(frozen=True, slots=True)
class ActualCounter:
    """A counter as the kernel has it. `handle` is never given twice in the life of a table."""

    name: str
    handle: int
    packets: int
    bytes: int
    comment: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Actual:
    """What the kernel has under our table's name at one generation; `handle` None: no such table.

    `foreign` names what is in the table though no ruleset of ours can hold it (flowtables, other objects, sets of
    other kinds): it can only be removed together with the table.
    """

    generation: int
    handle: int | None = None
    chains: Mapping[str, ActualChain] = field(default_factory=lambda: MappingProxyType({}))
    sets: Mapping[str, Set] = field(default_factory=lambda: MappingProxyType({}))
    counters: Mapping[str, ActualCounter] = field(default_factory=lambda: MappingProxyType({}))
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AddTable:
    """`add table inet gatewrit`."""


@dataclass(frozen=True, slots=True)
class DeleteTable:
    """`delete table inet gatewrit`, with all that is in it."""


@dataclass(frozen=True, slots=True)
class AddCounter:
    """`add counter inet gatewrit NAME`."""

    counter: Counter


@dataclass(frozen=True, slots=True)
class DeleteCounter:
    """`delete counter inet gatewrit NAME`."""

    name: str


@dataclass(frozen=True, slots=True)
class AddChain:
    """`add chain inet gatewrit NAME`, without its rules."""

    chain: Chain


@dataclass(frozen=True, slots=True)
class FlushChain:
    """`flush chain inet gatewrit NAME`."""

    name: str


@dataclass(frozen=True, slots=True)
class DeleteChain:
    """`delete chain inet gatewrit NAME`."""

    name: str


@dataclass(frozen=True, slots=True)
class AddRule:
    """`add rule inet gatewrit CHAIN …`: at the chain's end."""

    chain: str
    rule: Rule


@dataclass(frozen=True, slots=True)
class DeleteRule:
    """`delete rule inet gatewrit CHAIN handle N`."""

    chain: str
    handle: int


@dataclass(frozen=True, slots=True)
class AddSet:
    """`add set|map inet gatewrit NAME`, without its elements."""

    spec: SetSpec


@dataclass(frozen=True, slots=True)
class DeleteSet:
    """`delete set inet gatewrit NAME`."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class AddElements:
    """`add element inet gatewrit NAME { … }`."""

    spec: SetSpec
    elements: Elements


@dataclass(frozen=True, slots=True, eq=False)
class DeleteElements:
    """`delete element inet gatewrit NAME { … }`."""

    spec: SetSpec
    elements: Elements


Operation = (
    AddTable
    | DeleteTable
    | AddCounter
    | DeleteCounter
    | AddChain
    | FlushChain
    | DeleteChain
    | AddRule
    | DeleteRule
    | AddSet
    | DeleteSet
    | AddElements
    | DeleteElements
)


@dataclass(frozen=True, slots=True, eq=False)
class Transaction:
    """Operations in the order in which the kernel accepts them, all or none."""

    operations: tuple[Operation, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.operations)

    def __str__(self) -> str:
        return "".join(f"{line}\n" for operation in self.operations for line in _print(operation))

    def excerpt(self) -> list[str]:
        """Print the first few commands, cut short: a transaction may have a million elements."""
        return [line[:_EXCERPT_LENGTH] for each in self.operations[:_EXCERPT] for line in _print(_shorten(each))]

    @property
    def size(self) -> int:
        """How much it changes: one for each object, rule and element."""
        return sum(
            len(operation.elements) if isinstance(operation, AddElements | DeleteElements) else 1
            for operation in self.operations
        )


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """`change` brings the kernel to the desired ruleset; `sweep` afterwards deletes the counters that nothing uses.

    They are apart because a counter's last packets must be read after the rules that count on it are gone, and
    before it is deleted.
    """

    change: Transaction
    sweep: Transaction


def diff(desired: Ruleset, actual: Actual) -> Plan:
    """Give what makes `actual` hold just `desired`: nothing missing, nothing else, nothing right rewritten."""
    if actual.handle is None:
        return Plan(Transaction((AddTable(), *_build(desired, Actual(0)))), Transaction())
    if actual.foreign or _reshaped(desired, actual):
        return Plan(Transaction((DeleteTable(), AddTable(), *_build(desired, Actual(0)))), Transaction())
    unused = tuple(DeleteCounter(name) for name in actual.counters if name not in desired.counters)
    return Plan(Transaction(tuple(_build(desired, actual))), Transaction(unused))


def _reshaped(desired: Ruleset, actual: Actual) -> bool:
    """Whether an object has our name but another shape: the kernel can't change that in place, only anew."""
    return (
        any(
            (chain.hook, chain.comment) != (found.hook, found.comment)
            for chain, found in _pairs(desired.chains, actual.chains)
        )
        or any(wanted.spec != found.spec for wanted, found in _pairs(desired.sets, actual.sets))
        or any(wanted.comment != found.comment for wanted, found in _pairs(desired.counters, actual.counters))
    )


def _pairs(desired: Mapping[str, _D], actual: Mapping[str, _A]) -> Iterator[tuple[_D, _A]]:
    return ((desired[name], actual[name]) for name in desired if name in actual)


def _build(desired: Ruleset, actual: Actual) -> Iterator[Operation]:
    """Yield what is missing before what refers to it, and delete what is too much after the last reference to it."""
    yield from (AddCounter(each) for name, each in desired.counters.items() if name not in actual.counters)
    yield from (AddChain(each) for name, each in desired.chains.items() if name not in actual.chains)
    yield from (AddSet(each.spec) for name, each in desired.sets.items() if name not in actual.sets)
    yield from (change for each in desired.sets.values() for change in _elements(each, actual.sets.get(each.spec.name)))
    for name, chain in desired.chains.items():
        yield from _rules(chain, actual.chains.get(name))
    doomed = [name for name in actual.chains if name not in desired.chains]
    yield from (FlushChain(name) for name in doomed if actual.chains[name].rules)
    yield from (DeleteSet(name) for name in actual.sets if name not in desired.sets)
    yield from (DeleteChain(name) for name in doomed)


def _elements(desired: Set, actual: Set | None) -> Iterator[Operation]:
    if actual is None:
        added, removed = desired.elements, desired.elements.take(slice(0, 0))
    else:
        added = desired.elements.minus(actual.elements)
        removed = actual.elements.minus(desired.elements)
    if len(removed):
        yield DeleteElements(desired.spec, removed)
    if len(added):
        yield AddElements(desired.spec, added)


def _rules(chain: Chain, actual: ActualChain | None) -> Iterator[Operation]:
    wanted = [(lower(rule), rule.comment) for rule in chain.rules]
    found = [(rule.expressions, rule.comment) for rule in actual.rules] if actual else []
    if wanted == found:
        return
    if actual is not None and wanted and found[-len(wanted) :] == wanted:
        # The ladder's first rungs have passed: take just them away, the rest isn't touched.
        yield from (DeleteRule(chain.name, rule.handle) for rule in actual.rules[: -len(wanted)])
        return
    if found:
        yield FlushChain(chain.name)
    yield from (AddRule(chain.name, rule) for rule in chain.rules)


def removal(actual: Actual) -> Transaction:
    """Give what takes the table away; empty if there is none."""
    return Transaction(() if actual.handle is None else (DeleteTable(),))


def _shorten(operation: Operation) -> Operation:
    if isinstance(operation, AddElements | DeleteElements):
        return replace(operation, elements=operation.elements.take(slice(0, _EXCERPT_LENGTH)))
    return operation


def _print(operation: Operation) -> Iterator[str]:
    at = f"inet {TABLE}"
    match operation:
        case AddTable():
            yield f'add table {at} {{ comment "{TABLE_COMMENT}"; }}'
        case DeleteTable():
            yield f"delete table {at}"
        case AddCounter(counter):
            yield f"add counter {at} {counter.name}" + _comment(counter.comment)
        case DeleteCounter(name):
            yield f"delete counter {at} {name}"
        case AddChain(chain):
            body = [part for part in (text.hook(chain), _comment_line(chain.comment)) if part]
            yield f"add chain {at} {chain.name}" + (f" {{ {' '.join(body)} }}" if body else "")
        case FlushChain(name):
            yield f"flush chain {at} {name}"
        case DeleteChain(name):
            yield f"delete chain {at} {name}"
        case AddRule(chain_name, rule):
            yield f"add rule {at} {chain_name} {text.rule(rule)}"
        case DeleteRule(chain_name, handle):
            yield f"delete rule {at} {chain_name} handle {handle}"
        case AddSet(spec):
            yield f"add {_kind(spec)} {at} {spec.name} {{ {'; '.join(text.spec(spec))}; }}"
        case DeleteSet(name):
            yield f"delete set {at} {name}"
        case AddElements(spec, elements):
            yield f"add element {at} {spec.name} {{ {', '.join(text.elements(elements, spec.key))} }}"
        case DeleteElements(spec, elements):
            yield f"delete element {at} {spec.name} {{ {', '.join(text.elements(elements, spec.key))} }}"


def _kind(spec: SetSpec) -> str:
    return "map" if spec.verdicts else "set"


def _comment(comment: str | None) -> str:
    return f" {{ {_comment_line(comment)} }}" if comment else ""


def _comment_line(comment: str | None) -> str | None:
    return f'comment "{comment}";' if comment else None
