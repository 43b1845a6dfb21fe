"""The desired ruleset as immutable values: one `inet gatewrit` table of chains, rules, sets and counters.

A rule is a tuple of statements in nft's own vocabulary. `lower` gives the kernel's expressions for a statement
(what is compared with what the kernel returns); `gatewrit.kernel.text` prints it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
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
#: Protocols whose ports nft lists with the protocol's name: TCP, UDP, DCCP, SCTP, UDP-Lite.
WITH_PORTS = frozenset({6, 17, 33, 132, 136})
#: Interfaces by name; a packet without one has the empty name.
IIFNAME = Field("iifname", IFNAME, nf.Meta(nf.META_IIFNAME))
OIFNAME = Field("oifname", IFNAME, nf.Meta(nf.META_OIFNAME))
#: The member through which a packet came into a VRF, whose device `iifname` then is. Only in input and forward.
SDIFNAME = Field("meta sdifname", IFNAME, nf.Meta(nf.META_SDIFNAME))


@dataclass(frozen=True, slots=True)
class Masked:
    """The first `length` bits (1 to all but one) of an address field: `ip daddr & 255.255.255.0`.

    A key of its own, alone: a set looked up by it holds addresses whose other bits are zero.
    """

    field: Field
    length: int

    def __post_init__(self) -> None:
        if self.field.type not in {IPV4, IPV6}:
            raise ValueError(f"{self.field.nft} is no address, it can't be masked")
        if not 0 < self.length < 8 * self.type.length:
            raise ValueError(f"a mask of {self.length} bits for {self.field.nft}")

    @property
    def type(self) -> KeyType:
        """The address's own type: what is left has its length."""
        return self.field.type

    @property
    def load(self) -> nf.Meta | nf.Payload:
        """How the address itself is loaded; the mask comes after it."""
        return self.field.load

    @property
    def family(self) -> int | None:
        """What must hold for the packet to have the address."""
        return self.field.family

    @property
    def protocol(self) -> int | None:
        """What else must hold: nothing for an address."""
        return self.field.protocol

    @property
    def mask(self) -> bytes:
        """The mask in network order, as long as the address."""
        width = self.type.length
        return (((1 << self.length) - 1) << (8 * width - self.length)).to_bytes(width, "big")

    @property
    def nft(self) -> str:
        """How nft writes it."""
        mask = IPv4Address(self.mask) if self.type is IPV4 else IPv6Address(self.mask)
        return f"{self.field.nft} & {mask}"


def padded(length: int) -> int:
    """Give the bytes that a part of `length` takes in a concatenated key: whole 32-bit registers."""
    return -(-length // 4) * 4


def key_length(key: tuple[KeyType, ...]) -> int:
    """Give the bytes of a set's key: the one part itself, or padded parts one after the other."""
    return key[0].length if len(key) == 1 else sum(padded(part.length) for part in key)


#: What a set or map is asked by: fields one after the other, or one address under a mask.
Key = tuple[Field, ...] | tuple[Masked]


@dataclass(frozen=True, slots=True)
class InSet:
    """Go on only if the packet's key is in the set, or with `inverted` if it isn't.

    `meta l4proto . th dport @to.ports`, `ip daddr & 255.255.255.0 != @to4.blocks`. A packet that has no such key at
    all (another family) doesn't go on, inverted or not.
    """

    key: Key
    name: str
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class ByMap:
    """Take the verdict that the map holds for the packet's key, if any: `ip daddr vmap @to.ip4`."""

    key: Key
    name: str


@dataclass(frozen=True, slots=True)
class ProtocolIs:
    """Go on only for this transport protocol: `meta l4proto tcp`."""

    protocol: int


@dataclass(frozen=True, slots=True)
class PortIs:
    """Go on only for this transport protocol and these ports: `meta l4proto tcp th dport 5060-5061`.

    `field` is DPORT or SPORT, `first` to `last` are inclusive. nft lists the two tests as one (`tcp dport 5060-5061`),
    which it can't for a protocol that it has no header of: the listing would then lose the protocol.
    """

    protocol: int
    field: Field
    first: int
    last: int

    def __post_init__(self) -> None:
        if self.protocol not in WITH_PORTS:
            raise ValueError(f"nft knows no ports of protocol {self.protocol}")
        if self.field.type is not PORT or not 0 <= self.first <= self.last <= 65535:
            raise ValueError(f"{self.field.nft} {self.first}-{self.last} are no ports")


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


Statement = InSet | ByMap | ProtocolIs | PortIs | LaterFragment | Unfragmented | Before | Count | Reject | Verdict


@dataclass(frozen=True, slots=True)
class Rule:
    """Statements from left to right, and a comment for who reads `nft list ruleset`.

    A `shortcut` only spares packets look-ups: without it, the rules behind it come to the same.
    """

    statements: tuple[Statement, ...]
    comment: str | None = None
    shortcut: bool = False


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
    """A set (or, with `verdicts`, a verdict map) without its elements.

    `size` is the most elements that it can ever hold (the next one is refused with ENFILE). Without intervals the
    kernel then takes the hash whose buckets are allocated once (nft_hash in net/netfilter/nft_set_hash.c), instead of
    the one that grows, which takes several times as long to fill.
    """

    name: str
    key: tuple[KeyType, ...]
    interval: bool
    verdicts: bool
    comment: str | None = None
    size: int | None = None


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


@lru_cache(maxsize=1 << 16)
def lower(rule: Rule) -> tuple[nf.Expression, ...]:
    """Give the kernel's expressions for a rule, as `nft` 1.0.6 itself would make them."""
    return tuple(expression for statement in rule.statements for expression in _lower(statement))


def _lower(statement: Statement) -> Iterator[nf.Expression]:
    match statement:
        case InSet(key, name, inverted):
            yield from _load(key)
            yield nf.Lookup(name, flags=nf.LOOKUP_INVERTED if inverted else 0)
        case ByMap(key, name):
            yield from _load(key)
            yield nf.Lookup(name, verdict=True)
        case ProtocolIs(protocol):
            yield from _protocol(protocol)
        case PortIs(protocol, port, first, last):
            yield from _protocol(protocol)
            yield port.load
            yield from _ports(first, last)
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


def _load(key: Key) -> Iterator[nf.Expression]:
    """Load a key into consecutive registers, after making sure that the packet has such a header at all."""
    if key[0].family is not None:
        yield from _family(key[0].family)
    if key[0].protocol is not None:
        yield from _protocol(key[0].protocol)
    register = nf.FIRST_REGISTER
    for part in key:
        yield part.load.into(register)
        if isinstance(part, Masked):
            yield nf.Bitwise(part.mask, bytes(part.type.length), register)
        register = nf.next_register(register, padded(part.type.length))


def _ports(first: int, last: int) -> Iterator[nf.Expression]:
    """Compare a loaded port; nft 1.0.6 takes two comparisons for a range, the expression `range` only for `!=`."""
    if first == last:
        yield nf.Cmp(nf.CMP_EQ, first.to_bytes(2, "big"))
    else:
        yield nf.Cmp(nf.CMP_GTE, first.to_bytes(2, "big"))
        yield nf.Cmp(nf.CMP_LTE, last.to_bytes(2, "big"))


def _protocol(number: int) -> Iterator[nf.Expression]:
    """Make sure of a packet's transport protocol."""
    yield nf.Meta(nf.META_L4PROTO)
    yield nf.Cmp(nf.CMP_EQ, bytes([number]))


def _family(number: int) -> Iterator[nf.Expression]:
    """Make sure of a packet's family."""
    yield nf.Meta(nf.META_NFPROTO)
    yield nf.Cmp(nf.CMP_EQ, bytes([number]))
