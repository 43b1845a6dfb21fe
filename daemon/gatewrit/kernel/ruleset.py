"""The desired ruleset as immutable values: one `inet gatewrit` table of chains, rules, sets and counters.

A rule is a tuple of statements in nft's own vocabulary. `lower` gives the kernel's expressions for a statement
(what is compared with what the kernel returns); `gatewrit.kernel.text` prints it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from gatewrit.kernel import expressions as nf
from gatewrit.kernel.elements import Elements, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TABLE = "gatewrit"
TABLE_COMMENT = "service-block orders; see: gatewrit status"

#: nft reloads a listing only if its comments fit (`nft` 1.0.6 lists longer ones, then refuses them).
COMMENT_BYTES = 128


@dataclass(frozen=True, slots=True)
class KeyType:
    """What a set's keys are: nft's name and number for the type (include/datatype.h), and its length in bytes.

    The kernel only stores the number; `nft` needs it to list the set.
    """

    name: str
    number: int
    length: int


PROTOCOL = KeyType("inet_proto", 12, 1)
PORT = KeyType("inet_service", 13, 2)
IPV4 = KeyType("ipv4_addr", 7, 4)
IPV6 = KeyType("ipv6_addr", 8, 16)
ICMPV6 = KeyType("icmpv6_type", 29, 1)
#: A name in 16 bytes (IFNAMSIZ), padded with NULs.
IFNAME = KeyType("ifname", 41, 16)
KEY_TYPES = {each.number: each for each in (PROTOCOL, PORT, IPV4, IPV6, ICMPV6, IFNAME)}


@dataclass(frozen=True, slots=True)
class Field:
    """A packet field: how nft writes it, its type, what must hold for the packet to have it, and how it is loaded."""

    nft: str
    type: KeyType
    load: nf.Meta | nf.Payload
    family: int | None = None
    protocol: int | None = None


L4PROTO = Field("meta l4proto", PROTOCOL, nf.Meta(nf.META_L4PROTO))
DPORT = Field("th dport", PORT, nf.Payload(nf.TRANSPORT_HEADER, 2, 2))
SPORT = Field("th sport", PORT, nf.Payload(nf.TRANSPORT_HEADER, 0, 2))
IP_SADDR = Field("ip saddr", IPV4, nf.Payload(nf.NETWORK_HEADER, 12, 4), nf.NFPROTO_IPV4)
IP_DADDR = Field("ip daddr", IPV4, nf.Payload(nf.NETWORK_HEADER, 16, 4), nf.NFPROTO_IPV4)
IP6_SADDR = Field("ip6 saddr", IPV6, nf.Payload(nf.NETWORK_HEADER, 8, 16), nf.NFPROTO_IPV6)
IP6_DADDR = Field("ip6 daddr", IPV6, nf.Payload(nf.NETWORK_HEADER, 24, 16), nf.NFPROTO_IPV6)
ICMPV6_TYPE = Field("icmpv6 type", ICMPV6, nf.Payload(nf.TRANSPORT_HEADER, 0, 1), nf.NFPROTO_IPV6, nf.IPPROTO_ICMPV6)
#: Interfaces by name; a packet without one has the empty name.
IIFNAME = Field("iifname", IFNAME, nf.Meta(nf.META_IIFNAME))
OIFNAME = Field("oifname", IFNAME, nf.Meta(nf.META_OIFNAME))
#: The member through which a packet came into a VRF, whose device `iifname` then is. Only in input and forward.
SDIFNAME = Field("meta sdifname", IFNAME, nf.Meta(nf.META_SDIFNAME))


def padded(length: int) -> int:
    """Give the bytes that a part of `length` takes in a concatenated key: whole 32-bit registers."""
    return -(-length // 4) * 4


def key_length(key: tuple[KeyType, ...]) -> int:
    """Give the bytes of a set's key: the one part itself, or padded parts one after the other."""
    return key[0].length if len(key) == 1 else sum(padded(part.length) for part in key)


@dataclass(frozen=True, slots=True)
class InSet:
    """Go on only if the packet's key is in the set: `meta l4proto . th dport @to.ports`."""

    key: tuple[Field, ...]
    name: str


@dataclass(frozen=True, slots=True)
class ByMap:
    """Take the verdict that the map holds for the packet's key, if any: `ip daddr vmap @to.ip4`."""

    key: tuple[Field, ...]
    name: str


@dataclass(frozen=True, slots=True)
class ProtocolIs:
    """Go on only for this transport protocol: `meta l4proto tcp`."""

    protocol: int


@dataclass(frozen=True, slots=True)
class LaterFragment:
    """Go on only for fragments after the first: `ip frag-off & 8191 != 0`, `frag frag-off != 0`."""

    family: int


@dataclass(frozen=True, slots=True)
class Unfragmented:
    """Go on only for packets that are no fragment: `exthdr frag missing`. Stands after an IPv6 field."""


@dataclass(frozen=True, slots=True)
class Before:
    """Go on only while the wall clock is before this instant (epoch seconds): `meta time < 1448841600`."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Count:
    """Count the packet on a named counter."""

    counter: str


@dataclass(frozen=True, slots=True)
class Reject:
    """Answer and drop: TCP with a reset, or anything with ICMP(v6) administratively prohibited."""

    reset: bool


Statement = InSet | ByMap | ProtocolIs | LaterFragment | Unfragmented | Before | Count | Reject | Verdict


@dataclass(frozen=True, slots=True)
class Rule:
    """Statements from left to right, and a comment for who reads `nft list ruleset`."""

    statements: tuple[Statement, ...]
    comment: str | None = None


HookName = Literal["prerouting", "input", "forward", "output"]
HOOK_NUMBERS: dict[HookName, int] = {"prerouting": 0, "input": 1, "forward": 2, "output": 3}


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a base chain is attached: netfilter's hook number and priority; the policy is always accept."""

    name: HookName
    priority: int

    @property
    def number(self) -> int:
        """The NF_INET_* number (include/uapi/linux/netfilter.h)."""
        return HOOK_NUMBERS[self.name]


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain: attached to a hook, or jumped to."""

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class SetSpec:
    """A set (or, with `verdicts`, a verdict map) without its elements."""

    name: str
    key: tuple[KeyType, ...]
    interval: bool
    verdicts: bool
    comment: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Set:
    """A set or verdict map with its elements, sorted and disjoint."""

    spec: SetSpec
    elements: Elements


@dataclass(frozen=True, slots=True)
class Counter:
    """A named counter; its value lives in the kernel."""

    name: str
    comment: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Ruleset:
    """All that the table should hold. Each mapping is keyed by name; chains reach only what is in here."""

    chains: Mapping[str, Chain] = field(default_factory=lambda: MappingProxyType({}))
    sets: Mapping[str, Set] = field(default_factory=lambda: MappingProxyType({}))
    counters: Mapping[str, Counter] = field(default_factory=lambda: MappingProxyType({}))


def lower(rule: Rule) -> tuple[nf.Expression, ...]:
    """Give the kernel's expressions for a rule, as `nft` 1.0.6 itself would make them."""
    return tuple(expression for statement in rule.statements for expression in _lower(statement))


def _lower(statement: Statement) -> Iterator[nf.Expression]:
    match statement:
        case InSet(key, name):
            yield from _load(key)
            yield nf.Lookup(name)
        case ByMap(key, name):
            yield from _load(key)
            yield nf.Lookup(name, verdict=True)
        case ProtocolIs(protocol):
            yield nf.Meta(nf.META_L4PROTO)
            yield nf.Cmp(nf.CMP_EQ, bytes([protocol]))
        case LaterFragment(nf.NFPROTO_IPV4):
            yield from _family(nf.NFPROTO_IPV4)
            yield nf.Payload(nf.NETWORK_HEADER, 6, 2)
            yield nf.Bitwise(b"\x1f\xff", bytes(2))
            yield nf.Cmp(nf.CMP_NEQ, bytes(2))
        case LaterFragment():
            yield from _family(nf.NFPROTO_IPV6)
            yield nf.ExtensionHeader(nf.IPPROTO_FRAGMENT, 2, 2)
            yield nf.Bitwise(b"\xff\xf8", bytes(2))
            yield nf.Cmp(nf.CMP_NEQ, bytes(2))
        case Unfragmented():
            yield nf.ExtensionHeader(nf.IPPROTO_FRAGMENT, 0, 1, nf.EXTHDR_PRESENT)
            yield nf.Cmp(nf.CMP_EQ, bytes(1))
        case Before(epoch):
            yield nf.Meta(nf.META_TIME_NS)
            yield nf.Byteorder(size=8, length=8)
            yield nf.Cmp(nf.CMP_LT, (epoch * 1_000_000_000).to_bytes(8, "big"))
        case Count(counter):
            yield nf.CounterRef(counter)
        case Reject(reset):
            yield nf.Reject(nf.REJECT_TCP_RST, 0) if reset else nf.Reject(nf.REJECT_ICMPX, nf.ICMPX_ADMIN_PROHIBITED)
        case Verdict():
            yield nf.Immediate(statement)


def _load(key: tuple[Field, ...]) -> Iterator[nf.Expression]:
    """Load a key into consecutive registers, after making sure that the packet has such a header at all."""
    if key[0].family is not None:
        yield from _family(key[0].family)
    if key[0].protocol is not None:
        yield nf.Meta(nf.META_L4PROTO)
        yield nf.Cmp(nf.CMP_EQ, bytes([key[0].protocol]))
    register = nf.FIRST_REGISTER
    for part in key:
        yield part.load.into(register)
        register = nf.next_register(register, padded(part.type.length))


def _family(number: int) -> Iterator[nf.Expression]:
    """Make sure of a packet's family."""
    yield nf.Meta(nf.META_NFPROTO)
    yield nf.Cmp(nf.CMP_EQ, bytes([number]))
