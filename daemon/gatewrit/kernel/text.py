"""The ruleset in nft's own language: what `gatewrit render` prints, and what `nft -f` loads into the same ruleset.

Time is printed as integer epoch seconds: nft's date text is local time, ambiguous in autumn, and wraps after 2261.
"""

from __future__ import annotations

import hashlib
from ipaddress import IPv6Address
from socket import AF_INET, AF_INET6, inet_ntop
from typing import TYPE_CHECKING

from gatewrit.kernel.elements import Verdict
from gatewrit.kernel.expressions import NFPROTO_IPV4
from gatewrit.kernel.ruleset import (
    IFNAME,
    IPV4,
    IPV6,
    PROTOCOL,
    TABLE,
    TABLE_COMMENT,
    Before,
    ByMap,
    Chain,
    Count,
    Counter,
    InSet,
    Key,
    KeyType,
    LaterFragment,
    PortIs,
    ProtocolIs,
    Reject,
    Rule,
    Ruleset,
    Set,
    SetSpec,
    Statement,
    Unfragmented,
    padded,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatewrit.kernel.elements import Elements

#: Words that nft's grammar knows itself, so that a host without /etc/protocols reads them too.
_PROTOCOLS = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 50: "esp", 51: "ah"} | {
    58: "icmpv6",
    108: "comp",
    132: "sctp",
    136: "udplite",
}


def script(ruleset: Ruleset) -> str:
    """Print the whole table; loading it replaces what the table held, in one transaction."""
    return _script(ruleset, _listed)


def _script(ruleset: Ruleset, listed: Callable[[Set], list[str]]) -> str:
    """Print the whole table, the elements of each set as `listed` does."""
    lines = [f"table inet {TABLE}", f"delete table inet {TABLE}", "", f"table inet {TABLE} {{"]
    lines += [f"\tcomment {_quote(TABLE_COMMENT)}"]
    blocks = (
        *(_counter(counter) for counter in ruleset.counters.values()),
        *(_set(each, listed(each)) for each in ruleset.sets.values()),
        *(_chain(chain) for chain in ruleset.chains.values()),
    )
    for block in blocks:
        lines.append("")
        lines += [f"\t{line}" for line in block]
    return "\n".join([*lines, "}"]) + "\n"


def digest(ruleset: Ruleset) -> str:
    """Give `sha256:…` over the printed ruleset, in which a digest stands for each set's elements.

    Equal digests, equal enforcement. Elements that are a part of several rulesets are gone through once.
    """
    printed = _script(ruleset, lambda each: [f"\telements = {each.elements.digest().hex()}"])
    return "sha256:" + hashlib.sha256(printed.encode()).hexdigest()


def rule(value: Rule) -> str:
    """Print one rule."""
    words = [_statement(statement) for statement in value.statements]
    return " ".join(words + ([f"comment {_quote(value.comment)}"] if value.comment else []))


def spec(value: SetSpec) -> list[str]:
    """Print what a set is, without its elements."""
    key = " . ".join(part.name for part in value.key)
    lines = [f"type {key} : verdict" if value.verdicts else f"type {key}"]
    if value.size is not None:
        lines.append(f"size {value.size}")
    if value.interval:
        lines.append("flags interval")
    if value.comment:
        lines.append(f"comment {_quote(value.comment)}")
    return lines


def elements(value: Elements, key: tuple[KeyType, ...]) -> Iterator[str]:
    """Print each element: `206.51.26.0/24 : goto to.class.…`, `tcp . 3101`."""
    verdicts = {verdict: f" : {verdict}" for verdict in value.verdicts}
    addresses = len(key) == 1 and key[0] in {IPV4, IPV6}
    for first, last, verdict in value.rows():
        if addresses:
            text = _addresses(first, last)
        else:
            text = _range(first, last, key[0]) if len(key) == 1 else " . ".join(_concatenation(first, last, key))
        yield text if verdict is None else text + verdicts[verdict]


def hook(chain: Chain) -> str | None:
    """Print where a base chain is attached."""
    if chain.hook is None:
        return None
    return f"type filter hook {chain.hook.name} priority {chain.hook.priority}; policy accept;"


def _counter(value: Counter) -> list[str]:
    body = [f"\tcomment {_quote(value.comment)}"] if value.comment else []
    return [f"counter {value.name} {{", *body, "}"]


def _set(value: Set, listed: list[str]) -> list[str]:
    kind = "map" if value.spec.verdicts else "set"
    return [f"{kind} {value.spec.name} {{", *(f"\t{line}" for line in spec(value.spec)), *listed, "}"]


def _listed(value: Set) -> list[str]:
    if not len(value.elements):
        return []
    printed = (f"\t\t{element}," for element in elements(value.elements, value.spec.key))
    return ["\telements = {", *printed, "\t}"]


def _chain(value: Chain) -> list[str]:
    attached = hook(value)
    lines = [f"chain {value.name} {{"]
    lines += [f"\tcomment {_quote(value.comment)}"] if value.comment else []
    lines += [f"\t{attached}"] if attached else []
    return [*lines, *(f"\t{rule(each)}" for each in value.rules), "}"]


def _statement(statement: Statement) -> str:
    match statement:
        case InSet(key, name, inverted):
            return f"{_key(key)} {'!= ' if inverted else ''}@{name}"
        case ByMap(key, name):
            return f"{_key(key)} vmap @{name}"
        case ProtocolIs(protocol):
            return f"meta l4proto {_protocol(protocol)}"
        case PortIs(protocol, port, first, last):
            ports = str(first) if first == last else f"{first}-{last}"
            return f"meta l4proto {_protocol(protocol)} {port.nft} {ports}"
        case LaterFragment(family):
            return "ip frag-off & 8191 != 0" if family == NFPROTO_IPV4 else "frag frag-off != 0"
        case Unfragmented():
            return "exthdr frag missing"
        case Before(epoch):
            return f"meta time < {epoch}"
        case Count(counter):
            return f"counter name {counter}"
        case Reject(reset):
            return "reject with tcp reset" if reset else "reject with icmpx admin-prohibited"
        case Verdict():
            return str(statement)


def _key(key: Key) -> str:
    return " . ".join(part.nft for part in key)


def _quote(comment: str) -> str:
    """Quote for nft, which knows no escapes inside quotes: what it can't hold is left out."""
    return '"' + comment.replace('"', "'").replace("\n", " ") + '"'


def _concatenation(first: bytes, last: bytes, key: tuple[KeyType, ...]) -> Iterator[str]:
    offset = 0
    for part in key:
        yield _range(first[offset : offset + part.length], last[offset : offset + part.length], part)
        offset += padded(part.length)


def _range(first: bytes, last: bytes, part: KeyType) -> str:
    if part in {IPV4, IPV6}:
        return _addresses(first, last)
    if part is IFNAME:
        return _interface(first, last)
    low, high = int.from_bytes(first, "big"), int.from_bytes(last, "big")
    if part is PROTOCOL:
        return _protocol(low)
    return str(low) if low == high else f"{low}-{high}"


def _interface(first: bytes, last: bytes) -> str:
    """Print a name, or the beginning that all names of a range have: `"ppp*"`."""
    name = first.rstrip(b"\0").decode()
    return f'"{name}"' if first == last else f'"{name}*"'


def _addresses(first: bytes, last: bytes) -> str:
    low = _address(first)
    if first == last:
        return low
    number, bits = int.from_bytes(first, "big"), int.from_bytes(last, "big") - int.from_bytes(first, "big")
    # A network: all of its last bits, and no others.
    if bits & (bits + 1) or number & bits:
        return f"{low}-{_address(last)}"
    return f"{low}/{8 * len(first) - bits.bit_length()}"


def _address(octets: bytes) -> str:
    if len(octets) == 4:
        return inet_ntop(AF_INET, octets)
    # The C library writes the first of IPv6's addresses with a dotted end, Python (up to 3.12) doesn't.
    return str(IPv6Address(octets)) if octets.startswith(bytes(10)) else inet_ntop(AF_INET6, octets)


def _protocol(number: int) -> str:
    return _PROTOCOLS.get(number, str(number))
