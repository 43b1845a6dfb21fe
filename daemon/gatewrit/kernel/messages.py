"""Operations as nf_tables netlink messages, and the kernel's answers as values (uapi/linux/netfilter/nf_tables.h).

These are our own message classes: pyroute2 has none for named objects, and encoding a set element with its general
one takes 57 µs. Each is pinned byte by byte in tests/unit/test_messages.py.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from gatewrit.kernel import codec, expressions, wire
from gatewrit.kernel.ruleset import (
    HOOK_NUMBERS,
    IFNAME,
    KEY_TYPES,
    TABLE,
    TABLE_COMMENT,
    Hook,
    KeyType,
    Rule,
    Set,
    SetSpec,
    key_length,
    lower,
)
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
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gatewrit.kernel.elements import Elements

NEWTABLE, GETTABLE, DELTABLE = 0, 1, 2
NEWCHAIN, GETCHAIN, DELCHAIN = 3, 4, 5
NEWRULE, GETRULE, DELRULE = 6, 7, 8
NEWSET, GETSET, DELSET = 9, 10, 11
NEWSETELEM, GETSETELEM, DELSETELEM = 12, 13, 14
NEWGEN, GETGEN = 15, 16
NEWOBJ, GETOBJ, DELOBJ = 18, 19, 20
GETFLOWTABLE = 23
#: NFTA_SET_ELEM_LIST_ELEMENTS
ELEMENT_LIST = 3

SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
NFPROTO_INET = 1
NLM_F_CREATE, NLM_F_EXCL, NLM_F_APPEND = 0x400, 0x200, 0x800

SET_INTERVAL, SET_MAP, SET_CONCAT = 0x4, 0x8, 0x80
#: NFTA_SET_EXPR, NFTA_SET_EXPRESSIONS: each element gets them, and they may keep it from matching, as a limit does.
_SET_ACTING = {17, 18}
#: Persist: since Linux 6.9. A table that is persistent but has no owner is an orphan.
TABLE_DORMANT, TABLE_OWNER, TABLE_PERSIST = 0x1, 0x2, 0x4
OBJECT_COUNTER = expressions.OBJECT_COUNTER
VERDICT_TYPE = 0xFFFFFF00
NF_ACCEPT = 1

#: Comment types in userdata (libnftnl's udata.h): 0 everywhere but in sets.
_COMMENT, _SET_COMMENT = 0, 7
#: Nft needs it to list names (NFTNL_UDATA_SET_KEYBYTEORDER, 4 bytes, BYTEORDER_HOST_ENDIAN); it reverses them else.
_HOST_ORDER = bytes([0, 4]) + (1).to_bytes(4, sys.byteorder)
_HOOKS = {number: name for name, number in HOOK_NUMBERS.items()}


@dataclass(frozen=True, slots=True)
class Message:
    """One nf_tables message without its netlink header: `kind` is NFT_MSG_*, `payload` its attributes."""

    kind: int
    payload: bytes
    flags: int = 0


_OWNED = TABLE_OWNER | TABLE_PERSIST
#: A table that isn't there, to be made as ours is: whether the kernel would take it says what it knows.
TRIAL = Message(NEWTABLE, wire.string(1, f"{TABLE}.trial") + wire.be32(2, _OWNED), NLM_F_CREATE)


def encode(operation: Operation) -> Iterator[Message]:
    """Yield the messages for one operation: one, or several where elements fill more than one."""
    table = wire.string(1, TABLE)
    match operation:
        case AddTable(owned):
            comment = wire.attr(6, _userdata(_COMMENT, TABLE_COMMENT))
            yield Message(NEWTABLE, table + wire.be32(2, _OWNED if owned else 0) + comment, NLM_F_CREATE | NLM_F_EXCL)
        case AdoptTable():
            yield Message(NEWTABLE, table + wire.be32(2, _OWNED))
        case DeleteTable():
            yield Message(DELTABLE, table)
        case AddCounter(counter):
            data = wire.nest(4, wire.be64(1, 0), wire.be64(2, 0))
            named = table + wire.string(2, counter.name) + wire.be32(3, OBJECT_COUNTER) + data
            yield Message(NEWOBJ, named + _comment(8, _COMMENT, counter.comment), NLM_F_CREATE | NLM_F_EXCL)
        case DeleteCounter(name):
            yield Message(DELOBJ, table + wire.string(2, name) + wire.be32(3, OBJECT_COUNTER))
        case AddChain(chain):
            hook = _hook(chain.hook) if chain.hook else b""
            named = table + wire.string(3, chain.name) + hook
            yield Message(NEWCHAIN, named + _comment(12, _COMMENT, chain.comment), NLM_F_CREATE | NLM_F_EXCL)
        case FlushChain(name):
            yield Message(DELRULE, table + wire.string(2, name))
        case DeleteChain(name):
            yield Message(DELCHAIN, table + wire.string(3, name))
        case AddRule(chain_name, rule):
            yield Message(NEWRULE, table + _rule(chain_name, rule), NLM_F_CREATE | NLM_F_APPEND)
        case DeleteRule(chain_name, handle):
            yield Message(DELRULE, table + wire.string(2, chain_name) + wire.be64(3, handle))
        case AddSet(spec):
            yield Message(NEWSET, table + _set(spec), NLM_F_CREATE | NLM_F_EXCL)
        case DeleteSet(name):
            yield Message(DELSET, table + wire.string(2, name))
        case AddElements(spec, added):
            for payload in _elements(spec, added):
                yield Message(NEWSETELEM, payload, NLM_F_CREATE | NLM_F_EXCL)
        case DeleteElements(spec, removed):
            for payload in _elements(spec, removed):
                yield Message(DELSETELEM, payload)


def _userdata(kind: int, comment: str) -> bytes:
    data = comment.encode() + b"\0"
    return bytes([kind, len(data)]) + data


def _comment(attribute: int, kind: int, comment: str | None) -> bytes:
    return wire.attr(attribute, _userdata(kind, comment)) if comment else b""


def _hook(hook: Hook) -> bytes:
    attached = wire.nest(4, wire.be32(1, hook.number), wire.be32(2, hook.priority))
    return attached + wire.be32(5, NF_ACCEPT) + wire.string(7, "filter")


def _rule(chain: str, rule: Rule) -> bytes:
    expression_list = wire.attr(4 | wire.NESTED, expressions.encode(lower(rule)))
    return wire.string(2, chain) + expression_list + _comment(7, _COMMENT, rule.comment)


def _set_flags(spec: SetSpec) -> int:
    concatenated = SET_CONCAT if spec.interval and len(spec.key) > 1 else 0
    return (SET_INTERVAL if spec.interval else 0) | (SET_MAP if spec.verdicts else 0) | concatenated


def _key_type(key: tuple[KeyType, ...]) -> int:
    """Give nft's number for a key's type: six bits for each field of a concatenation."""
    number = 0
    for part in key:
        number = number << 6 | part.number
    return number


def _set(spec: SetSpec) -> bytes:
    parts = [
        wire.string(2, spec.name),
        wire.be32(3, _set_flags(spec)),
        wire.be32(4, _key_type(spec.key)),
        wire.be32(5, key_length(spec.key)),
        wire.be32(10, 1),
    ]
    if spec.verdicts:
        parts += [wire.be32(6, VERDICT_TYPE), wire.be32(7, 16)]
    described = [] if spec.size is None else [wire.be32(1, spec.size)]
    if spec.interval and len(spec.key) > 1:
        fields = (wire.nest(1, wire.be32(1, part.length)) for part in spec.key)
        described.append(wire.nest(2, *fields))
    if described:
        parts.append(wire.nest(9, *described))
    userdata = _HOST_ORDER if spec.key == (IFNAME,) else b""
    userdata += _userdata(_SET_COMMENT, spec.comment) if spec.comment else b""
    parts.append(wire.attr(13, userdata) if userdata else b"")
    return b"".join(parts)


def _elements(spec: SetSpec, value: Elements) -> Iterator[bytes]:
    named = wire.string(1, TABLE) + wire.string(2, spec.name)
    for payload in codec.encode(value, interval=spec.interval, concatenated=len(spec.key) > 1):
        yield named + wire.attr(ELEMENT_LIST | wire.NESTED, payload)


def request(kind: int, name: str | None = None) -> Message:
    """Give the question for what the table holds of one kind; `name` is the set whose elements are asked for."""
    table = wire.string(1, TABLE)
    if kind == GETSETELEM:
        return Message(kind, table + wire.string(2, name or ""))
    return Message(kind, b"" if kind == GETGEN else table)


def set_request(name: str) -> Message:
    """Give the question for what a set is."""
    return Message(GETSET, wire.string(1, TABLE) + wire.string(2, name))


def element_request(spec: SetSpec, asked: Elements) -> Message:
    """Give the question for some elements of a hash, by their keys."""
    width, octets = asked.width, asked.first.tobytes()
    singly = (octets[at : at + width] for at in range(0, len(octets), width))
    listed = [wire.nest(1, wire.nest(codec.ELEM_KEY, wire.attr(1, key))) for key in singly]
    named = wire.string(1, TABLE) + wire.string(2, spec.name)
    return Message(GETSETELEM, named + wire.nest(ELEMENT_LIST, *listed))


@dataclass(frozen=True, slots=True)
class Answers:
    """Raw payloads as the kernel dumped them, for all tables where it doesn't filter by table itself."""

    generation: int
    tables: tuple[bytes, ...]
    chains: tuple[bytes, ...] = ()
    rules: tuple[bytes, ...] = ()
    sets: tuple[bytes, ...] = ()
    objects: tuple[bytes, ...] = ()
    flowtables: tuple[bytes, ...] = ()
    elements: Mapping[str, tuple[bytes, ...]] | None = None
    handles: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


#: Rules by what the kernel said of them: ten thousand orders' rules are decoded once, not at each look.
Decoded = dict[bytes, tuple[str, ActualRule]]


def decode(answers: Answers, known: Actual | None = None, decoded: Decoded | None = None) -> Actual:
    """Put together what the table holds; what no ruleset of ours can hold is named in `foreign`.

    Of sets of which no elements were dumped, those in `known` are taken. `decoded` is what `decode` made of rules
    before; it is brought up to date.
    """
    table = own_table(answers.tables)
    if table is None:
        return Actual(answers.generation)
    foreign = [
        f"{kind} {wire.text(parts[2])}"
        for kind, payloads in (("object", answers.objects), ("flowtable", answers.flowtables))
        for parts in filter(_ours, map(wire.attributes, payloads))
        if kind == "flowtable" or wire.number(parts[3]) != OBJECT_COUNTER
    ]
    if 2 in table and wire.number(table[2]) & TABLE_DORMANT:
        foreign.append("table flag dormant")
    rules = _rules(answers.rules, {} if decoded is None else decoded)
    chains = {}
    for parts in filter(_ours, map(wire.attributes, answers.chains)):
        chain = _decode_chain(parts, rules)
        if isinstance(chain, str):
            foreign.append(chain)
        else:
            chains[chain.name] = chain
    sets: dict[str, Set] = {}
    asked = answers.elements or {}
    if known is not None:
        sets = {name: known.sets[name] for name in answers.handles if name not in asked}
    for parts in filter(_ours, map(wire.attributes, answers.sets)) if len(sets) < len(answers.handles) else ():
        name = wire.text(parts[2])
        found = sets.get(name) or decode_set(parts, asked.get(name, ()))
        if found is None:
            foreign.append(f"set {name}")
        else:
            sets[name] = found
    counters = {each.name: each for each in map(decode_counter, answers.objects) if each is not None}
    unknown = tuple(sorted(foreign))
    return Actual(answers.generation, wire.number(table[4]), chains, sets, counters, unknown, answers.handles)


def own_table(tables: Iterable[bytes]) -> wire.Attributes | None:
    """Give what is said of our table; None if there is none."""
    return next(filter(_ours, map(wire.attributes, tables)), None)


def tenure(tables: Iterable[bytes], port: int, *, owning: bool) -> tuple[Tenure, int | None]:
    """Say who may change our table, seen from a socket with this port; and the port of who owns it if that is another.

    `owning`: it is to be ours alone, and the kernel can do that.
    """
    table = own_table(tables)
    if table is None:
        return (Tenure.OURS if owning else Tenure.OPEN), None
    flags = wire.number(table.get(2, b""))
    if flags & TABLE_OWNER:
        # A port is in network order here, unlike in sockaddr_nl (nf_tables_fill_table_info()).
        owner = wire.number(table[7])
        return (Tenure.OURS, None) if owner == port else (Tenure.HELD, owner)
    if not owning:
        return Tenure.OPEN, None
    return (Tenure.ORPHANED if flags & TABLE_PERSIST else Tenure.PLAIN), None


def own_sets(payloads: Iterable[bytes]) -> dict[str, wire.Attributes]:
    """Give what is said of each set of our table, by name."""
    return {wire.text(parts[2]): parts for parts in filter(_ours, map(wire.attributes, payloads))}


def _ours(parts: dict[int, bytes]) -> bool:
    return _named(parts, 1)


def _named(parts: dict[int, bytes], attribute: int) -> bool:
    return wire.text(parts.get(attribute, b"")) == TABLE


def _find_comment(userdata: bytes | None, kind: int) -> str | None:
    """Find the comment in userdata: bytes of type, length, value."""
    offset = 0
    while userdata is not None and offset + 2 <= len(userdata):
        found, length = userdata[offset], userdata[offset + 1]
        if found == kind:
            return wire.text(userdata[offset + 2 : offset + 2 + length])
        offset += 2 + length
    return None


def _rules(payloads: Iterable[bytes], decoded: Decoded) -> dict[str, list[ActualRule]]:
    rules: dict[str, list[ActualRule]] = {}
    before = dict(decoded)
    decoded.clear()
    for payload in payloads:
        found = before.get(payload) or _rule_in(payload)
        if found is not None:
            decoded[payload] = found
            rules.setdefault(found[0], []).append(found[1])
    return rules


def _rule_in(payload: bytes) -> tuple[str, ActualRule] | None:
    """Decode a rule with its chain's name; None for one of another table."""
    parts = wire.attributes(payload)
    if not _ours(parts):
        return None
    found = expressions.decode(parts.get(4, b""))
    return wire.text(parts[2]), ActualRule(wire.number(parts[3]), found, _find_comment(parts.get(7), _COMMENT))


def _decode_chain(parts: dict[int, bytes], rules: dict[str, list[ActualRule]]) -> ActualChain | str:
    """Decode a chain; a string names one of a kind that we never make."""
    name = wire.text(parts[3])
    hook = None
    if 4 in parts:
        attached = wire.attributes(parts[4])
        number, priority = wire.number(attached[1]), int.from_bytes(attached[2], "big", signed=True)
        kind, policy = wire.text(parts.get(7, b"")), wire.number(parts.get(5, b"\1"))
        if number not in _HOOKS or kind != "filter" or policy != NF_ACCEPT or set(attached) - {1, 2}:
            return f"chain {name}"
        hook = Hook(_HOOKS[number], priority)
    return ActualChain(name, tuple(rules.get(name, ())), hook, _find_comment(parts.get(12), _COMMENT))


def decode_set(parts: dict[int, bytes], dumped: Iterable[bytes]) -> Set | None:
    """Decode a set with its elements; None for one of a kind that we never make."""
    flags = wire.number(parts[3]) if 3 in parts else 0
    key = _find_key(wire.number(parts[4]) if 4 in parts else 0)
    known = SET_INTERVAL | SET_MAP | SET_CONCAT
    if key is None or flags & ~known or _SET_ACTING & parts.keys() or wire.number(parts[5]) != key_length(key):
        return None
    if flags & SET_MAP and wire.number(parts[6]) != VERDICT_TYPE:
        return None
    interval = bool(flags & SET_INTERVAL)
    comment = _find_comment(parts.get(13), _SET_COMMENT)
    described = wire.attributes(parts.get(9, b""))
    size = wire.number(described[1]) if 1 in described else None
    spec = SetSpec(wire.text(parts[2]), key, interval, bool(flags & SET_MAP), comment, size)
    lists = (payload for message in dumped for kind, payload in wire.walk(message) if kind == ELEMENT_LIST)
    try:
        found = codec.decode(lists, key_length(key), interval=interval, concatenated=len(key) > 1)
    except (wire.WireError, ValueError):
        return None
    return Set(spec, found)


def _find_key(number: int) -> tuple[KeyType, ...] | None:
    parts = []
    while number:
        parts.append(KEY_TYPES.get(number & 0x3F))
        number >>= 6
    key = tuple(part for part in reversed(parts) if part is not None)
    return key if key and len(key) == len(parts) else None


def decode_counter(payload: bytes) -> ActualCounter | None:
    """Decode a named counter of our table, or None for anything else."""
    parts = wire.attributes(payload)
    if not _ours(parts) or wire.number(parts.get(3, b"")) != OBJECT_COUNTER:
        return None
    data = wire.attributes(parts[4])
    return ActualCounter(
        wire.text(parts[2]),
        wire.number(parts[6]),
        wire.number(data[2]),
        wire.number(data[1]),
        _find_comment(parts.get(8), _COMMENT),
    )
