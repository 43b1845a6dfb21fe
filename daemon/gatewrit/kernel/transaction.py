"""What is changed: operations as a value that prints as nft commands, and what the kernel has.

A transaction is carried out by the kernel as a whole or not at all, and between any two packets: no packet ever meets
half of it. `gatewrit.kernel.plan` says which one leads from what the kernel has to what is desired.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto
from types import MappingProxyType
from typing import TYPE_CHECKING

from gatewrit.kernel import text
from gatewrit.kernel.ruleset import TABLE, TABLE_COMMENT, Chain, Counter, Hook, Rule, Set, SetSpec, lower

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatewrit.kernel.elements import Elements
    from gatewrit.kernel.expressions import Expression
    from gatewrit.kernel.ruleset import Ruleset

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


class Tenure(Enum):
    """Who may change the table. `OURS` also where there is none: one that we make will be."""

    #: Anybody: it isn't to be owned, or the kernel can't.
    OPEN = auto()
    OURS = auto()
    #: Owned before, by a socket that is closed: anybody may change it until it is adopted.
    ORPHANED = auto()
    #: Made without NFT_TABLE_F_PERSIST, by an older version or by hand: only one that is made anew can be owned. That
    #: isn't done for this alone, as packets under way would pass.
    PLAIN = auto()
    #: Somebody else's socket, and nobody else.
    HELD = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Touch:
    """A set in use of which a few elements were changed: what it is now, if the kernel did what it acknowledged."""

    now: Set
    added: Elements
    removed: Elements


@dataclass(frozen=True, slots=True, eq=False)
class Actual:
    """What the kernel has under our table's name at one generation; `handle` None: no such table.

    `foreign` names what is in the table though no ruleset of ours can hold it (flowtables, other objects, sets of
    other kinds): it can only be removed together with the table. `handles` tell sets apart that come one after the
    other under one name. `holder` is the netlink port of who owns the table, if that is somebody else. `touched` are
    sets that aren't in `sets`, since they were changed after they were read: their changes alone need be read back.
    """

    generation: int
    handle: int | None = None
    chains: Mapping[str, ActualChain] = field(default_factory=lambda: MappingProxyType({}))
    sets: Mapping[str, Set] = field(default_factory=lambda: MappingProxyType({}))
    counters: Mapping[str, ActualCounter] = field(default_factory=lambda: MappingProxyType({}))
    foreign: tuple[str, ...] = ()
    handles: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    tenure: Tenure = Tenure.OPEN
    holder: int | None = None
    touched: Mapping[str, Touch] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class AddTable:
    """`add table inet gatewrit`; `owned`: nobody else may change it, and it outlives our socket."""

    owned: bool = False


@dataclass(frozen=True, slots=True)
class AdoptTable:
    """`add table inet gatewrit { flags owner, persist; }`: own one that a closed socket owned before."""


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
    | AdoptTable
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
        """How much it changes: one for each object, rule and element. Whose it is changes nothing of what it does."""
        return sum(
            len(operation.elements) if isinstance(operation, AddElements | DeleteElements) else 1
            for operation in self.operations
            if not isinstance(operation, AdoptTable)
        )

    @property
    def weight(self) -> int:
        """About the most bytes that it takes on the wire."""
        return sum(weight for operation in self.operations for _, weight in _parts(operation, _ENDLESS))

    @property
    def sets(self) -> frozenset[str]:
        """The names of the sets that are not as they were after it."""
        changed = [
            each.spec.name for each in self.operations if isinstance(each, AddSet | AddElements | DeleteElements)
        ]
        return frozenset(changed + [each.name for each in self.operations if isinstance(each, DeleteSet)])

    def batches(self, room: int) -> Iterator[Transaction]:
        """Cut into transactions of at most about `room` bytes each, in order; elements of one set may be cut apart."""
        batch: list[Operation] = []
        used = 0
        for operation in self.operations:
            for part, weight in _parts(operation, room):
                if batch and used + weight > room:
                    yield Transaction(tuple(batch))
                    batch, used = [], 0
                batch.append(part)
                used += weight
        if batch:
            yield Transaction(tuple(batch))


_OWNED = "flags owner, persist;"

#: About the most bytes that a rule or an object of ours takes on the wire, and an attribute around a key or a verdict.
_OBJECT_BYTES, _AROUND_BYTES = 700, 12
_ENDLESS = 1 << 62


def _parts(operation: Operation, room: int) -> Iterator[tuple[Operation, int]]:
    """Cut what may be cut into parts that fit, each with its weight in bytes."""
    if not isinstance(operation, AddElements | DeleteElements):
        yield operation, _OBJECT_BYTES
        return
    elements, spec = operation.elements, operation.spec
    keys = (2 if spec.interval else 1) * (2 * _AROUND_BYTES + elements.width)
    longest = max((len(verdict.chain or "") for verdict in elements.verdicts), default=-3 * _AROUND_BYTES)
    weight = keys + 3 * _AROUND_BYTES + longest
    fit = max(1, (room - _OBJECT_BYTES) // weight)
    for start in range(0, len(elements), fit):
        part = elements.take(slice(start, start + fit)) if len(elements) > fit else elements
        yield replace(operation, elements=part), len(part) * weight + _OBJECT_BYTES


def removal(actual: Actual) -> Transaction:
    """Give what takes the table away; empty if there is none."""
    return Transaction(() if actual.handle is None else (DeleteTable(),))


def foreseen(desired: Ruleset) -> Actual:
    """Give what would be read back once a ruleset is in force, as far as packets meet it: no handles, no counts."""
    chains = {
        name: ActualChain(
            name, tuple(ActualRule(0, lower(rule), rule.comment) for rule in chain.rules), chain.hook, chain.comment
        )
        for name, chain in desired.chains.items()
    }
    return Actual(0, 0, chains, desired.sets)


def _shorten(operation: Operation) -> Operation:
    if isinstance(operation, AddElements | DeleteElements):
        return replace(operation, elements=operation.elements.take(slice(0, _EXCERPT_LENGTH)))
    return operation


def _print(operation: Operation) -> Iterator[str]:
    at = f"inet {TABLE}"
    match operation:
        case AddTable(owned):
            flags = f"{_OWNED} " if owned else ""
            yield f'add table {at} {{ {flags}comment "{TABLE_COMMENT}"; }}'
        case AdoptTable():
            yield f"add table {at} {{ {_OWNED} }}"
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
