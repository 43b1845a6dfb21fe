"""What the kernel returned, read as a program: its own expressions to tests on a packet of one family.

The kernel's registers are followed from load to use. Whatever isn't understood for certain becomes a step that can't be
proved, and a packet that gets there spoils the proof: nothing unknown is ever taken for harmless.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from operator import eq, ge, gt, le, lt, ne
from typing import TYPE_CHECKING, Any

import numpy as np

from gatewrit.kernel import expressions as nf
from gatewrit.verify.addresses import Layer, bits
from gatewrit.verify.space import (
    DESTINATION,
    FIRST_WORD,
    FRAGMENT,
    HEADER,
    INCOMING,
    MEMBER,
    NO_FRAGMENT_HEADER,
    OUTGOING,
    PROTOCOL,
    READABLE,
    SECOND_WORD,
    SOURCE,
    TIME,
    span,
)
from gatewrit.verify.steps import CountOn, During, Find, Keep, Names, Refuse, Say, Unclear

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from gatewrit.kernel.ruleset import Set
    from gatewrit.kernel.transaction import Actual, ActualRule
    from gatewrit.policy.terms import Family
    from gatewrit.verify.steps import Asking, Step

_INVERTED = 1
_LTE, _GT, _GTE = 3, 4, 5
#: What is in the register, and what it is compared with: numbers, or octets in network order, which sort alike.
_HOLDS: dict[int, Callable[[Any, Any], Any]] = {
    nf.CMP_EQ: eq,
    nf.CMP_NEQ: ne,
    nf.CMP_LT: lt,
    _LTE: le,
    _GT: gt,
    _GTE: ge,
}
_ADDRESSES = {
    (4, 12, 4): SOURCE,
    (4, 16, 4): DESTINATION,
    (6, 8, 16): SOURCE,
    (6, 24, 16): DESTINATION,
}
_TRANSPORT = {(0, 2): (FIRST_WORD, 0), (2, 2): (SECOND_WORD, 0), (0, 1): (FIRST_WORD, 8), (2, 1): (SECOND_WORD, 8)}
_ENDS = {SOURCE, DESTINATION}
_NAMES = {nf.META_IIFNAME: INCOMING, nf.META_OIFNAME: OUTGOING, nf.META_SDIFNAME: MEMBER}
_FAMILIES = {4: nf.NFPROTO_IPV4, 6: nf.NFPROTO_IPV6}


@dataclass(frozen=True, slots=True)
class Value:
    """What a register holds: octets of one dimension.

    `shift` drops low bits of the value (the first octet of a word is the word shifted by 8). `mask` and `xor` are what
    was done to it since. `swapped` says that a number in the host's order was brought into network order.
    """

    dimension: int
    width: int
    shift: int = 0
    mask: int | None = None
    xor: int = 0
    swapped: bool = False


@dataclass(frozen=True, slots=True)
class Present:
    """What a register holds: 1 if there is a fragment header, else 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """The table as packets of one family meet it.

    `rows` are the sets but for those of addresses: for each element the values in every dimension, and a verdict.
    `layers` are the sets of addresses, by how they are asked.
    """

    chains: Mapping[str, tuple[tuple[Step, ...], ...]]
    sets: Mapping[str, Set]
    layers: Mapping[Asking, Layer] = field(default_factory=dict)

    def instants(self) -> Iterator[int]:
        """Yield every instant that some rule asks about."""
        for step in self._steps():
            if isinstance(step, During):
                yield from (instant for instant in (step.start, step.end) if instant is not None)

    def names(self) -> Iterator[bytes]:
        """Yield the names of interfaces, and beginnings of names, that some rule or set asks about."""
        for step in self._steps():
            if isinstance(step, Names):
                yield step.first
            elif isinstance(step, Find):
                widths = [part.length for part in self.sets[step.name].spec.key]
                places = [0, *accumulate(width + -width % 4 for width in widths)]
                for dimension, width, at in zip(step.dimensions, widths, places, strict=False):
                    if dimension in _NAMES.values():
                        yield from (key[at : at + width] for key, _, _ in self.sets[step.name].elements.rows())

    def _steps(self) -> Iterator[Step]:
        return (step for rules in self.chains.values() for rule in rules for step in rule)


def read(actual: Actual, family: Family) -> Program:
    """Read all chains and sets as packets of one family meet them."""
    chains = read_chains(actual, family)
    layers = {
        asking: Layer.of_set(actual.sets[asking[1]].elements, asking[2])
        for asking in dict.fromkeys(
            step.layer
            for rules in chains.values()
            for rule in rules
            for step in rule
            if isinstance(step, Find) and step.dimensions[0] in _ENDS
        )
    }
    return Program(chains, actual.sets, layers)


def read_chains(actual: Actual, family: Family) -> dict[str, tuple[tuple[Step, ...], ...]]:
    """Read the rules of all chains, without a look at what their sets hold."""
    return {
        name: tuple(tuple(_Reader(actual, family).read(rule)) for rule in chain.rules)
        for name, chain in actual.chains.items()
    }


class _Reader:
    """One rule, from left to right."""

    def __init__(self, actual: Actual, family: Family) -> None:
        self._actual = actual
        self._family = family
        self._registers: dict[int, Value | Present | bytes] = {}

    def read(self, rule: ActualRule) -> Iterator[Step]:
        """Yield the rule's steps; none at all after one that no packet of this family passes."""
        for part in rule.expressions:
            for step in self._step(part):
                yield step
                if isinstance(step, Keep) and not step.mask:
                    return

    def _step(self, part: nf.Expression) -> Iterable[Step]:  # noqa: PLR0911 - one return for each expression
        match part:
            case nf.Meta() | nf.Payload() | nf.ExtensionHeader():
                return self._load(part)
            case nf.Byteorder() | nf.Bitwise():
                return self._change(part)
            case nf.Cmp():
                return self._compare(part)
            case nf.Lookup():
                return (self._find(part),)
            case nf.CounterRef(name):
                return (CountOn(name),)
            case nf.Immediate(verdict):
                return (Say(verdict),)
            case nf.Reject(kind, code):
                return (_refusal(kind, code),)
            case nf.Unknown(name):
                return (Unclear(f"it uses `{name}`, which no rule of gatewrit's does"),)

    def _load(self, part: nf.Meta | nf.Payload | nf.ExtensionHeader) -> Iterable[Step]:
        at, steps = _place(part.register), ()
        loaded = self._loaded(part)
        if loaded is None:
            return (Unclear(f"it looks at something of a packet that no rule of gatewrit's does ({part})"),)
        self._keep(at, loaded)
        if isinstance(part, nf.Payload) and part.base == nf.TRANSPORT_HEADER:
            return (Keep(HEADER, 1 << READABLE),)
        if isinstance(part, nf.ExtensionHeader) and isinstance(loaded, Value):
            return (Keep(FRAGMENT, span(0, 65535)),)
        return steps

    def _keep(self, at: int, loaded: Value | Present | bytes) -> None:
        """Put something into a register; whatever it overwrites a part of is gone."""
        self._registers = {
            other: held
            for other, held in self._registers.items()
            if other + _words(held) <= at or at + _words(loaded) <= other
        }
        self._registers[at] = loaded

    def _loaded(  # noqa: PLR0911 - one return for each thing that can be loaded
        self, part: nf.Meta | nf.Payload | nf.ExtensionHeader
    ) -> Value | Present | bytes | None:
        match part:
            case nf.Meta(nf.META_NFPROTO):
                return bytes([_FAMILIES[self._family]])
            case nf.Meta(nf.META_L4PROTO):
                return Value(PROTOCOL, 1)
            case nf.Meta(nf.META_TIME_NS):
                return Value(TIME, 8)
            case nf.Meta(key) if key in _NAMES:
                return Value(_NAMES[key], 16)
            case nf.Payload(nf.NETWORK_HEADER, 6, 2) if self._family == 4:
                return Value(FRAGMENT, 2)
            case nf.Payload(nf.NETWORK_HEADER, offset, length) if (self._family, offset, length) in _ADDRESSES:
                return Value(_ADDRESSES[self._family, offset, length], length)
            case nf.Payload(nf.TRANSPORT_HEADER, offset, length) if (offset, length) in _TRANSPORT:
                dimension, shift = _TRANSPORT[offset, length]
                return Value(dimension, length, shift)
            case nf.ExtensionHeader(nf.IPPROTO_FRAGMENT, _, 1, nf.EXTHDR_PRESENT) if self._family == 6:
                return Present()
            case nf.ExtensionHeader(nf.IPPROTO_FRAGMENT, 2, 2, 0) if self._family == 6:
                return Value(FRAGMENT, 2)
        return None

    def _change(self, part: nf.Byteorder | nf.Bitwise) -> Iterable[Step]:
        if isinstance(part, nf.Byteorder):
            held = self._registers.get(_place(part.source))
            if (
                isinstance(held, Value)
                and (held.dimension, held.mask, held.swapped) == (TIME, None, False)
                and (part.size, part.length, part.op) == (8, 8, nf.BYTEORDER_HTON)
            ):
                self._keep(_place(part.target), Value(TIME, 8, swapped=True))
                return ()
            return (Unclear("it turns octets round that gatewrit's rules don't"),)
        held = self._registers.get(_place(part.register))
        if not isinstance(held, Value) or held.dimension not in {*_HELD_BY_VALUE, *_ENDS} or held.mask is not None:
            return (Unclear("it masks octets that gatewrit's rules don't"),)
        if len(part.mask) != held.width:
            return (Unclear("it masks octets beyond those that it loaded"),)
        mask, xor = int.from_bytes(part.mask, "big"), int.from_bytes(part.xor, "big")
        if held.dimension in _ENDS and (xor or not _is_prefix(mask, 8 * held.width)):
            return (Unclear("it masks an address by something else than a prefix"),)
        self._registers[_place(part.register)] = Value(held.dimension, held.width, held.shift, mask, xor)
        return ()

    def _compare(self, part: nf.Cmp) -> Iterable[Step]:  # noqa: PLR0911 - one return for each kind of value
        held = self._registers.get(_place(part.register))
        data = part.data
        if isinstance(held, bytes) and len(data) == len(held):
            return () if _HOLDS[part.op](held, data) else (Keep(PROTOCOL, 0),)
        if isinstance(held, Present) and len(data) == 1:
            absent, present = _HOLDS[part.op](b"\0", data), _HOLDS[part.op](b"\1", data)
            return (Keep(FRAGMENT, (absent << NO_FRAGMENT_HEADER) | (span(0, 65535) if present else 0)),)
        if not isinstance(held, Value) or len(data) > held.width:
            return (Unclear("it compares what it didn't load"),)
        if held.dimension == TIME:
            return (_time(part.op, int.from_bytes(data, "big"), held) if len(data) == 8 else _odd_time(),)
        if held.dimension in _NAMES.values() and part.op in {nf.CMP_EQ, nf.CMP_NEQ}:
            return (Names(held.dimension, data, data, part.op == nf.CMP_NEQ),)
        if held.dimension in _HELD_BY_VALUE and len(data) == held.width:
            return (Keep(held.dimension, _values(held, part.op, data)),)
        return (Unclear("it compares in a way that gatewrit's rules don't"),)

    def _find(self, part: nf.Lookup) -> Step:
        found = self._actual.sets.get(part.name)
        if found is None:
            return Unclear(f"it asks set {part.name}, which is of a kind that gatewrit never makes")
        if part.flags & ~_INVERTED or (part.verdict and (part.flags or not found.spec.verdicts)):
            return Unclear(f"it asks set {part.name} in a way that gatewrit's rules don't")
        at, held = _place(part.register), []
        for key in found.spec.key:
            value = self._registers.get(at)
            masked = isinstance(value, Value) and value.mask is not None and value.dimension not in _ENDS
            if not isinstance(value, Value) or value.width != key.length or masked:
                return Unclear(f"it asks set {part.name} about something else than the set holds")
            if value.dimension == TIME:
                return _odd_time()
            held.append(value)
            at += -(-key.length // 4)
        dimensions = tuple(value.dimension for value in held)
        if len(dimensions) > 1 and _ENDS & {*dimensions}:
            return Unclear(f"it asks set {part.name} about an address together with something else")
        shifts = tuple(value.shift for value in held)
        return Find(part.name, dimensions, shifts, part.verdict, bool(part.flags & _INVERTED), held[0].mask)


#: How many values each dimension has that is held value by value.
_HELD_BY_VALUE = {PROTOCOL: 256, FIRST_WORD: 65536, SECOND_WORD: 65536, FRAGMENT: 65536}


def _place(register: int) -> int:
    """Give a register's place in 32-bit words: 1 to 4 are wide, 8 and on are narrow views of the same."""
    return (register - 1) * 4 if register < 8 else register - 8


def _words(held: Value | Present | bytes) -> int:
    """Give the 32-bit words that something takes in the registers."""
    return -(-held.width // 4) if isinstance(held, Value) else 1


def _is_prefix(mask: int, bits: int) -> bool:
    """Whether a mask is ones and then zeros."""
    rest = ~mask & (1 << bits) - 1
    return not rest & rest + 1


@lru_cache(maxsize=4096)
def _values(held: Value, op: int, data: bytes) -> int:
    """Give the values for which a comparison holds, trying each."""
    mask = (1 << 8 * held.width) - 1 if held.mask is None else held.mask
    seen = np.arange(_HELD_BY_VALUE[held.dimension]) >> held.shift & mask ^ held.xor
    return bits(_HOLDS[op](seen, int.from_bytes(data, "big")))


def _time(op: int, instant: int, held: Value) -> Step:
    if not held.swapped or held.mask is not None:
        return _odd_time()
    match op:
        case nf.CMP_LT:
            return During(None, instant)
        case 3:
            return During(None, instant + 1)
        case 4:
            return During(instant + 1, None)
        case 5:
            return During(instant, None)
    return _odd_time()


def _odd_time() -> Unclear:
    return Unclear("it looks at the clock in a way that gatewrit's rules don't")


def _refusal(kind: int, code: int) -> Step:
    if (kind, code) == (nf.REJECT_TCP_RST, 0):
        return Refuse("reset")
    if (kind, code) == (nf.REJECT_ICMPX, nf.ICMPX_ADMIN_PROHIBITED):
        return Refuse("prohibited")
    return Unclear(f"it answers with something else than gatewrit does (type {kind}, code {code})")
