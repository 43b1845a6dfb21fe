"""What else in this network decides about packets, and could do so beside our hook: read as plain values. Read-only.

From nftables the other tables' flowtables, and rules that rewrite a destination, hand packets to a local proxy or send
them on at ingress; from rtnetlink bridges and XDP programs (`gatewrit.kernel.host`). What it means for orders is said
in `gatewrit.engine.beside`. Rules of legacy iptables aren't told by any netlink, and stay unseen.
"""

from __future__ import annotations

import errno
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from gatewrit.kernel import messages, wire
from gatewrit.kernel.endpoint import open_endpoint
from gatewrit.kernel.host import read_links
from gatewrit.kernel.ruleset import TABLE

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from gatewrit.kernel.host import Links

Deed = Literal["rewrites", "proxies", "forwards"]

#: NFPROTO_* (include/uapi/linux/netfilter.h), as nft calls them.
FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_INET, _NETDEV, _BRIDGE, _ARP = 1, 5, 7, 3
#: NF_INET_* hooks, where a packet's way is decided upon.
_PREROUTING, _OUTPUT, _INGRESS = 0, 3, 5
#: Targets of iptables-nft that change or take a packet's destination, by the name that xtables gives them.
_TARGETS: dict[str, Deed] = {"DNAT": "rewrites", "REDIRECT": "rewrites", "NETMAP": "rewrites", "TPROXY": "proxies"}
_NAT_DNAT = 1

_REQUEST, _DUMP, _DUMP_INTERRUPTED = 0x1, 0x300, 0x10
_ERROR, _DONE = 2, 3
_AT_ONCE = 1 << 16
_PATIENCE = 10.0
_ATTEMPTS = 5
_BRIDGE_CALLS = Path("/proc/sys/net/bridge")


@dataclass(frozen=True, slots=True)
class Base:
    """A base chain of another table. `hook` and `priority` are the kernel's numbers."""

    family: int
    table: str
    name: str
    kind: str
    hook: int
    priority: int


@dataclass(frozen=True, slots=True)
class Doer:
    """A chain of another table with a rule that does something to a packet's way."""

    family: int
    table: str
    chain: str
    deed: Deed


@dataclass(frozen=True, slots=True)
class Flowtable:
    """A flowtable: what a rule puts into it skips every hook but ingress from then on."""

    family: int
    table: str
    name: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Beside:
    """All of it. `bridged` says whether what is bridged is shown to the hooks of IPv4 and of IPv6 (br_netfilter)."""

    bases: tuple[Base, ...] = ()
    doers: tuple[Doer, ...] = ()
    flowtables: tuple[Flowtable, ...] = ()
    links: Links | None = None
    bridged: tuple[bool, bool] = (False, False)


class BesideReader(Protocol):
    """What the engine asks; the real one is `read`."""

    def __call__(self) -> Beside:
        """Read everything; may take a moment. Raises `OSError`."""


def read() -> Beside:
    """Read all of it in this network namespace. Raises `OSError`."""
    try:
        with closing(open_endpoint()) as endpoint:
            endpoint.settimeout(_PATIENCE)
            bases = tuple(filter(None, (base_chain(*each) for each in _dump(endpoint, messages.GETCHAIN))))
            flowtables = tuple(filter(None, (flowtable(*each) for each in _dump(endpoint, messages.GETFLOWTABLE))))
            asked = dict.fromkeys((each.family, each.table) for each in bases if _decides(each))
            found = (_dump(endpoint, messages.GETRULE, family, wire.string(1, table)) for family, table in asked)
            doers = dict.fromkeys(doer for rules in found for each in rules for doer in doers_in(*each))
    except wire.WireError as error:
        raise OSError(errno.EBADMSG, f"what other tables hold can't be understood: {error}") from error
    return Beside(bases, tuple(doers), flowtables, read_links(), (_calls("iptables"), _calls("ip6tables")))


def _calls(what: str) -> bool:
    try:
        return (_BRIDGE_CALLS / f"bridge-nf-call-{what}").read_text(encoding="ascii").strip() == "1"
    except OSError:
        # No such file: br_netfilter isn't loaded.
        return False


def _decides(base: Base) -> bool:
    """Whether rules that hang on this chain can do one of the deeds."""
    if base.family == _NETDEV or (base.family == _INET and base.hook == _INGRESS):
        return base.hook in {0, _INGRESS}
    return base.family not in {_BRIDGE, _ARP} and base.hook in {_PREROUTING, _OUTPUT}


def base_chain(family: int, payload: bytes) -> Base | None:
    """Decode a chain of another table; None for our own, and for one without a hook. Raises `WireError`."""
    parts = wire.attributes(payload)
    table = wire.text(parts[1])
    if 4 not in parts or (family, table) == (_INET, TABLE):
        return None
    hook = wire.attributes(parts[4])
    priority = int.from_bytes(hook[2], "big", signed=True)
    return Base(family, table, wire.text(parts[3]), wire.text(parts.get(7, b"")), wire.number(hook[1]), priority)


def flowtable(family: int, payload: bytes) -> Flowtable | None:
    """Decode a flowtable of another table. Raises `WireError`."""
    parts = wire.attributes(payload)
    table = wire.text(parts[1])
    if (family, table) == (_INET, TABLE):
        return None
    hook = wire.attributes(parts.get(3, b""))
    devices = tuple(wire.text(name) for _, name in wire.walk(hook.get(3, b"")))
    return Flowtable(family, table, wire.text(parts[2]), devices)


def doers_in(family: int, payload: bytes) -> Iterator[Doer]:
    """Yield what a rule does to a packet's way. Raises `WireError`."""
    parts = wire.attributes(payload)
    for _, each in wire.walk(parts.get(4, b"")):
        expression = wire.attributes(each)
        deed = _deed(wire.text(expression[1]), wire.attributes(expression.get(2, b"")))
        if deed is not None:
            yield Doer(family, wire.text(parts[1]), wire.text(parts[2]), deed)


def _deed(name: str, data: wire.Attributes) -> Deed | None:
    """Say what an expression does, by its name in the kernel (struct nft_expr_type)."""
    match name:
        case "nat":
            return "rewrites" if wire.number(data[1]) == _NAT_DNAT else None
        case "redir":
            return "rewrites"
        case "tproxy":
            return "proxies"
        case "fwd":
            return "forwards"
        case "target":
            return _TARGETS.get(wire.text(data[1]))
    return None


def _dump(endpoint: socket.socket, kind: int, family: int = 0, attributes: bytes = b"") -> list[tuple[int, bytes]]:
    """Give family and attributes of all that the kernel has of a kind; tried again where others change it meanwhile."""
    for attempt in range(_ATTEMPTS):
        body = wire.NFGENMSG.pack(family, 0, 0) + attributes
        head = (wire.NLMSGHDR.size + len(body), messages.SUBSYSTEM << 8 | kind, _REQUEST | _DUMP, attempt, 0)
        endpoint.send(wire.NLMSGHDR.pack(*head) + body)
        found = _answers(endpoint, attempt)
        if found is not None:
            return found
    raise OSError(errno.EAGAIN, "other tables keep changing while they are read")


def _answers(endpoint: socket.socket, sequence: int) -> list[tuple[int, bytes]] | None:
    """Take the answers to one question; None if somebody changed something in between."""
    found: list[tuple[int, bytes]] = []
    whole = True
    while True:
        data, at = endpoint.recv(_AT_ONCE), 0
        while at + wire.NLMSGHDR.size <= len(data):
            length, kind, flags, number, _ = wire.NLMSGHDR.unpack_from(data, at)
            payload, at = data[at + wire.NLMSGHDR.size : at + length], at + max(wire.NLMSGHDR.size, -(-length // 4) * 4)
            if number != sequence:
                continue
            whole &= not flags & _DUMP_INTERRUPTED
            if kind == _DONE:
                return found if whole else None
            if kind == _ERROR:
                code = -int.from_bytes(payload[:4], sys.byteorder, signed=True)
                if code in {errno.EINTR, errno.EAGAIN, errno.ENOENT}:
                    return None
                raise OSError(code, "other tables can't be read")
            found.append((payload[0], payload[wire.NFGENMSG.size :]))
