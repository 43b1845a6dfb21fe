"""What else in this network decides about packets, and could do so beside our hook: read as plain values. Read-only.

From nftables the other tables' flowtables, and rules that rewrite a destination, hand packets to a local proxy or send
them on at ingress; from rtnetlink bridges and XDP programs (`gatewrit.kernel.host`). What it means for orders is said
in `gatewrit.engine.beside`. Rules of legacy iptables aren't told by any netlink, and stay unseen.
"""

from __future__ import annotations

import errno
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from gatewrit.kernel import messages, wire
from gatewrit.kernel.asking import Asking
from gatewrit.kernel.host import read_links
from gatewrit.kernel.ruleset import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatewrit.kernel.host import Links

#: `writes`: puts another destination into the packet itself, which needs no chain of type nat.
Deed = Literal["rewrites", "writes", "proxies", "forwards"]

#: NFPROTO_* (include/uapi/linux/netfilter.h) of tables that IP packets meet, as nft calls them.
FAMILIES = {1: "inet", 2: "ip", 5: "netdev", 10: "ip6"}
_INET, _NETDEV = 1, 5
#: NF_INET_* hooks, where a packet's way is decided upon.
_PREROUTING, _OUTPUT, _INGRESS = 0, 3, 5
#: Targets of iptables-nft that change or take a packet's destination, by the name that xtables gives them.
_TARGETS: dict[str, Deed] = {"DNAT": "rewrites", "REDIRECT": "rewrites", "NETMAP": "rewrites", "TPROXY": "proxies"}
_NAT_DNAT = 1
#: Where a destination stands, by the header's number (NFT_PAYLOAD_*): of IPv4 and of IPv6, and of TCP, UDP and SCTP.
_DESTINATIONS = {1: ((16, 20), (24, 40)), 2: ((2, 4),)}

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
class Table:
    """A table, whoever's it is, with the names of its chains."""

    family: int
    name: str
    chains: tuple[str, ...]


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
        with closing(Asking()) as asking:
            bases, flowtables, doers = list[Base](), list[Flowtable](), dict[Doer, None]()
            for family in FAMILIES:
                hooked = [base_chain(family, each) for each in _told(asking, messages.GETCHAIN, family)]
                offered = [flowtable(family, each) for each in _told(asking, messages.GETFLOWTABLE, family)]
                bases += filter(None, hooked)
                flowtables += filter(None, offered)
            for family, table in dict.fromkeys((each.family, each.table) for each in bases if _decides(each)):
                for each in _told(asking, messages.GETRULE, family, wire.string(1, table)):
                    doers.update(dict.fromkeys(doers_in(family, each)))
    except wire.WireError as error:
        raise OSError(errno.EBADMSG, f"what other tables hold can't be understood: {error}") from error
    bridged = _calls("iptables"), _calls("ip6tables")
    return Beside(tuple(bases), tuple(doers), tuple(flowtables), read_links(), bridged)


def read_tables() -> tuple[Table, ...]:
    """Read which tables there are in this network namespace, ours too. Raises `OSError`."""
    found: dict[tuple[int, str], list[str]] = {}
    try:
        with closing(Asking()) as asking:
            for family in FAMILIES:
                for each in _told(asking, messages.GETTABLE, family):
                    found.setdefault((family, wire.text(wire.attributes(each)[1])), [])
                for each in _told(asking, messages.GETCHAIN, family):
                    parts = wire.attributes(each)
                    found.setdefault((family, wire.text(parts[1])), []).append(wire.text(parts[3]))
    except wire.WireError as error:
        raise OSError(errno.EBADMSG, f"which tables there are can't be understood: {error}") from error
    return tuple(Table(family, name, tuple(sorted(chains))) for (family, name), chains in sorted(found.items()))


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
    return base.hook in {_PREROUTING, _OUTPUT}


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
        case "payload" if 5 in data:
            first, last = (start := wire.number(data[3])), start + wire.number(data[4])
            places = _DESTINATIONS.get(wire.number(data[2]), ())
            return "writes" if any(first < end and last > begin for begin, end in places) else None
        case "tproxy":
            return "proxies"
        case "fwd":
            return "forwards"
        case "target":
            return _TARGETS.get(wire.text(data[1]))
    return None


def _told(asking: Asking, kind: int, family: int, attributes: bytes = b"") -> tuple[bytes, ...]:
    """Give the attributes of all that the kernel has of a kind; asked again where others change it meanwhile."""
    for _ in range(_ATTEMPTS):
        try:
            asking.open()
            return asking.ask(messages.Message(kind, attributes), family=family)
        except OSError as error:
            # ENOENT: the table is gone by now. EOPNOTSUPP: the kernel has no such tables.
            if error.errno in {errno.ENOENT, errno.EOPNOTSUPP}:
                return ()
            if error.errno not in {errno.EINTR, errno.EAGAIN}:
                raise
    raise OSError(errno.EAGAIN, "other tables keep changing while they are read")
