"""The kernel's own rule expressions as values, to and from netlink (include/uapi/linux/netfilter/nf_tables.h).

Only the few kinds that our rules use are understood; anything else that is found in the table comes back as
`Unknown`, so that a foreign rule is seen, compared as different, and removed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gatewrit.kernel import wire
from gatewrit.kernel.elements import Verdict, decode_verdict, encode_verdict

META_IIFNAME, META_OIFNAME, META_NFPROTO, META_L4PROTO, META_TIME_NS, META_SDIFNAME = 6, 7, 15, 16, 30, 34
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
CMP_EQ, CMP_NEQ, CMP_LT, CMP_LTE, CMP_GT, CMP_GTE = range(6)
NFPROTO_IPV4, NFPROTO_IPV6 = 2, 10
IPPROTO_FRAGMENT, IPPROTO_ICMPV6 = 44, 58
EXTHDR_PRESENT = 1
REJECT_TCP_RST, REJECT_ICMPX = 1, 2
ICMPX_ADMIN_PROHIBITED = 3
BYTEORDER_HTON = 1
OBJECT_COUNTER = 1
#: NFT_LOOKUP_F_INV: go on only if the key isn't in the set.
LOOKUP_INVERTED = 1

#: NFT_REG_1: the first 16-byte register; NFT_REG32_00 (8) and on are its 4-byte views, 8 being NFT_REG_1 itself.
FIRST_REGISTER = 1
_FIRST_REG32 = 8


def next_register(register: int, width: int) -> int:
    """Give the register that follows `width` bytes, numbered as the kernel reports it."""
    index = (register - 1) * 4 if register < _FIRST_REG32 else register - _FIRST_REG32
    index += width // 4
    return index // 4 + 1 if index % 4 == 0 else _FIRST_REG32 + index


@dataclass(frozen=True, slots=True)
class Meta:
    """`[ meta load KEY => reg ]`."""

    key: int
    register: int = FIRST_REGISTER

    def into(self, register: int) -> Meta:
        """Load into another register."""
        return replace(self, register=register)


@dataclass(frozen=True, slots=True)
class Payload:
    """`[ payload load LENGTHb @ BASE header + OFFSET => reg ]`."""

    base: int
    offset: int
    length: int
    register: int = FIRST_REGISTER

    def into(self, register: int) -> Payload:
        """Load into another register."""
        return replace(self, register=register)


@dataclass(frozen=True, slots=True)
class Cmp:
    """`[ cmp OP reg 1 DATA ]`."""

    op: int
    data: bytes
    register: int = FIRST_REGISTER


@dataclass(frozen=True, slots=True)
class Byteorder:
    """`[ byteorder reg 1 = hton(reg 1, SIZE, LENGTH) ]`."""

    size: int
    length: int
    op: int = BYTEORDER_HTON
    source: int = FIRST_REGISTER
    target: int = FIRST_REGISTER


@dataclass(frozen=True, slots=True)
class Bitwise:
    """`[ bitwise reg 1 = ( reg 1 & MASK ) ^ XOR ]`."""

    mask: bytes
    xor: bytes
    register: int = FIRST_REGISTER


@dataclass(frozen=True, slots=True)
class ExtensionHeader:
    """`[ exthdr load ipv6 LENGTHb @ TYPE + OFFSET => reg 1 ]`; with `present`: 1 if there is one at all, else 0."""

    type: int
    offset: int
    length: int
    flags: int = 0
    register: int = FIRST_REGISTER


@dataclass(frozen=True, slots=True)
class Lookup:
    """`[ lookup reg 1 set NAME ]`, `dreg 0` to take the element's verdict; flags `0x1`: the key must be missing."""

    name: str
    verdict: bool = False
    register: int = FIRST_REGISTER
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Immediate:
    """`[ immediate reg 0 VERDICT ]`."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class CounterRef:
    """`[ objref type 1 name NAME ]`."""

    name: str


@dataclass(frozen=True, slots=True)
class Reject:
    """`[ reject type TYPE code CODE ]`."""

    type: int
    code: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """An expression that no rule of ours uses, as raw attributes."""

    name: str
    data: bytes


Expression = (
    Meta | Payload | Cmp | Byteorder | Bitwise | ExtensionHeader | Lookup | Immediate | CounterRef | Reject | Unknown
)


def encode(expressions: tuple[Expression, ...]) -> bytes:
    """Encode a rule's expressions as the payload of NFTA_RULE_EXPRESSIONS."""
    return b"".join(wire.nest(1, wire.string(1, name), wire.nest(2, *data)) for name, data in map(_encode, expressions))


def _encode(expression: Expression) -> tuple[str, tuple[bytes, ...]]:
    be32 = wire.be32
    match expression:
        case Meta(key, register):
            return "meta", (be32(2, key), be32(1, register))
        case Payload(base, offset, length, register):
            return "payload", (be32(1, register), be32(2, base), be32(3, offset), be32(4, length))
        case Cmp(op, data, register):
            return "cmp", (be32(1, register), be32(2, op), wire.nest(3, wire.attr(1, data)))
        case Byteorder(size, length, op, source, target):
            return "byteorder", (be32(1, source), be32(2, target), be32(3, op), be32(4, length), be32(5, size))
        case Bitwise(mask, xor, register):
            registers = (be32(1, register), be32(2, register), be32(3, len(mask)))
            return "bitwise", (*registers, wire.nest(4, wire.attr(1, mask)), wire.nest(5, wire.attr(1, xor)))
        case ExtensionHeader(kind, offset, length, flags, register):
            load = (be32(1, register), wire.attr(2, bytes([kind])), be32(3, offset), be32(4, length))
            return "exthdr", (*load, be32(5, flags))
        case Lookup(name, verdict, register, flags):
            lookup = (wire.string(1, name), be32(2, register))
            return "lookup", (*lookup, *((be32(3, 0),) if verdict else ()), be32(5, flags))
        case Immediate(verdict):
            return "immediate", (be32(1, 0), wire.attr(2 | wire.NESTED, encode_verdict(verdict)))
        case CounterRef(name):
            return "objref", (be32(1, OBJECT_COUNTER), wire.string(2, name))
        case Reject(kind, code):
            return "reject", (be32(1, kind), wire.attr(2, bytes([code])))
        case Unknown(name, raw):
            return name, (raw,)


def decode(payload: bytes) -> tuple[Expression, ...]:
    """Decode NFTA_RULE_EXPRESSIONS to canonical expressions: those that do nothing are left out.

    nft emits `byteorder` with a length below its size before look-ups in concatenated interval sets; the kernel
    then converts nothing (nft_byteorder.c loops length / size times).
    """
    found = []
    for _kind, element in wire.walk(payload):
        parts = wire.attributes(element)
        expression = _decode(wire.text(parts.get(1, b"")), parts.get(2, b""))
        if not (isinstance(expression, Byteorder) and expression.length < expression.size):
            found.append(expression)
    return tuple(found)


def _decode(name: str, data: bytes) -> Expression:
    parts = wire.attributes(data)

    def num(kind: int, width: int = 4) -> int:
        if len(parts[kind]) != width:
            raise wire.WireError(f"attribute {kind} has {len(parts[kind])} bytes, not {width}")
        return wire.number(parts[kind])

    try:
        match name:
            case "meta" if 1 in parts:
                return Meta(num(2), num(1))
            case "payload" if 1 in parts:
                return Payload(num(2), num(3), num(4), num(1))
            case "cmp":
                return Cmp(num(2), wire.attributes(parts[3])[1], num(1))
            case "byteorder":
                return Byteorder(num(5), num(4), num(3), num(1), num(2))
            case "bitwise" if num(1) == num(2) and (6 not in parts or num(6) == 0):
                return Bitwise(wire.attributes(parts[4])[1], wire.attributes(parts[5])[1], num(1))
            case "exthdr" if 1 in parts and (6 not in parts or num(6) == 0):
                return ExtensionHeader(num(2, 1), num(3), num(4), num(5) if 5 in parts else 0, num(1))
            case "lookup" if 3 not in parts or num(3) == 0:
                return Lookup(wire.text(parts[1]), 3 in parts, num(2), num(5) if 5 in parts else 0)
            case "immediate" if num(1) == 0:
                return Immediate(decode_verdict(parts[2]))
            case "objref" if 2 in parts and num(1) == OBJECT_COUNTER:
                return CounterRef(wire.text(parts[2]))
            case "reject":
                return Reject(num(1), num(2, 1) if 2 in parts else 0)
            case _:
                return Unknown(name, data)
    except wire.WireError:
        return Unknown(name, data)
