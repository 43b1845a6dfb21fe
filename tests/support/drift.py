"""What others do to our table behind the daemon's back, and with the daemon's own socket."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from gatewrit.kernel import messages, wire
from gatewrit.kernel.endpoint import adopted
from gatewrit.kernel.socket import NftSocket
from gatewrit.kernel.transaction import AdoptTable
from support.deaf import sockets_of
from support.gateway import NFT

if TYPE_CHECKING:
    import socket

    from gatewrit.kernel.transaction import Operation
    from support.gateway import Gateway

SERVICE = "203.0.1.0/24"

#: What somebody might do by hand, or another program by mistake.
TAMPERING = {
    "a rule flushed": "flush chain inet gatewrit forward\n",
    "every rule flushed": "flush table inet gatewrit\n",
    "an element deleted": "delete element inet gatewrit to4 { 203.0.1.0/24 }\n",
    "an IPv6 element deleted": "delete element inet gatewrit to6 { 2001:db8:1::/48 }\n",
    "a map flushed": "flush map inet gatewrit to4\n",
    "an element added": "add element inet gatewrit to4 { 9.9.9.0/24 : drop }\n",
    "an element added that is let off": "add element inet gatewrit to4 { 9.9.8.0/24 : accept }\n",
    "another verdict": "delete element inet gatewrit to4 { 203.0.1.0/24 }\n"
    "add element inet gatewrit to4 { 203.0.1.0/24 : accept }\n",
    "a range grown": "delete element inet gatewrit to4 { 203.0.1.0/24 }\n"
    "add element inet gatewrit to4 { 203.0.0.0-203.0.1.255 : drop }\n",
    "a foreign rule": "add rule inet gatewrit forward counter accept\n",
    "a foreign rule in front": "insert rule inet gatewrit forward accept\n",
    "a foreign rule that drops": "insert rule inet gatewrit forward ip daddr 9.9.9.9 drop\n",
    "a foreign rule in a ladder": "insert rule inet gatewrit to.by.alpha accept\n",
    "a ladder flushed": "flush chain inet gatewrit to.by.alpha\n",
    "a ladder that lets all off": "flush chain inet gatewrit to.by.alpha\nadd rule inet gatewrit to.by.alpha accept\n",
    "the answer flushed": "flush chain inet gatewrit refuse\n",
    "a foreign chain": "add chain inet gatewrit mine { type filter hook input priority 0; policy drop; }\n",
    "a foreign chain without a hook": "add chain inet gatewrit mine\nadd rule inet gatewrit mine drop\n",
    "a chain renamed": "rename chain inet gatewrit refuse refused\n",
    "a foreign set": "add set inet gatewrit mine { type mark; flags timeout; }\n",
    "a foreign set of addresses": "add set inet gatewrit mine { type ipv4_addr; elements = { 9.9.9.9 } }\n",
    "a map that lets off most": "flush chain inet gatewrit to.ports\n"
    "delete map inet gatewrit to4\n"
    "add map inet gatewrit to4 { type ipv4_addr : verdict; flags interval; limit rate 1/minute; }\n"
    "add element inet gatewrit to4 { 203.0.1.0/24 : goto to4.8165dfa668 }\n"
    'add rule inet gatewrit to.ports ip frag-off & 8191 != 0 goto to.any-port comment "no ports"\n'
    'add rule inet gatewrit to.ports frag frag-off != 0 goto to.any-port comment "no ports"\n'
    "add rule inet gatewrit to.ports ip daddr vmap @to4\n"
    "add rule inet gatewrit to.ports ip6 daddr vmap @to6\n"
    "add rule inet gatewrit to.ports goto to.any-port\n",
    "a foreign quota": "add quota inet gatewrit mine { over 10 mbytes; }\n",
    "a base chain gone": "flush chain inet gatewrit forward\ndelete chain inet gatewrit forward\n",
    "another policy of the base chain": "add chain inet gatewrit forward { policy drop; }\n",
    "a dormant table": "add table inet gatewrit { flags dormant; }\n",
    "no table": "delete table inet gatewrit\n",
    "another table of that name": "delete table inet gatewrit\nadd table inet gatewrit\n"
    "add chain inet gatewrit forward { type filter hook forward priority 7; }\n",
    "no ruleset": "flush ruleset\n",
}


def orders(gateway: Gateway) -> Gateway:
    gateway.order("alpha", [SERVICE, "2001:db8:1::/48"], "tcp/3101")
    gateway.order("bravo", "203.0.2.0-203.0.2.9", "any", direction="both", until="2150-01-01T00:00:00Z")
    gateway.start()
    return gateway


def blocks(gateway: Gateway) -> list[str]:
    """Give the listing whatever the order of its chains: what is made anew comes last."""
    return sorted(block.strip() for block in gateway.listing().removesuffix("}\n").split("\n\n"))


def owned(gateway: Gateway) -> bool:
    """Whether somebody owns the table, as nft sees it."""
    return "flags owner" in gateway.space.check([NFT, "list", "table", "inet", "gatewrit"])


def generation(gateway: Gateway) -> int:
    """Give the number of transactions that this network namespace has seen."""
    return gateway.space.run(_generation)


def _generation() -> int:
    async def ask() -> int:
        async with NftSocket() as kernel:
            return await kernel.generation()

    return asyncio.run(ask())


def listens(gateway: Gateway) -> bool:
    """Whether the daemon, or anybody else in its namespace, listens to nftables' notifications."""
    assert gateway.process is not None
    sockets = Path(f"/proc/{gateway.process.pid}/net/netlink").read_text().splitlines()[1:]
    # Address, protocol, port, groups as bits from 1 on.
    fields = [each.split()[1:4] for each in sockets]
    return any(int(protocol) == wire.NETLINK_NETFILTER and int(groups, 16) & 1 << 6 for protocol, _, groups in fields)


def batch(*operations: Operation) -> bytes:
    """Give operations as a transaction on the wire that asks for no answer."""
    begin, end = 0x10, 0x11
    parts = [(begin, 0, wire.NFGENMSG.pack(0, 0, messages.SUBSYSTEM))]
    for each in itertools.chain(*map(messages.encode, operations)):
        body = wire.NFGENMSG.pack(messages.NFPROTO_INET, 0, 0) + each.payload
        parts.append((messages.SUBSYSTEM << 8 | each.kind, each.flags, body))
    parts.append((end, 0, wire.NFGENMSG.pack(0, 0, messages.SUBSYSTEM)))
    return b"".join(_frame(*part) for part in parts)


def _frame(kind: int, flags: int, body: bytes) -> bytes:
    return wire.frame(kind, flags | 1, 1, 0, body)


def adopt(endpoint: socket.socket) -> None:
    """Own an orphan with a socket that isn't the daemon's."""
    endpoint.send(batch(AdoptTable()))


def change_with_the_owners_socket(pid: int, *operations: Operation) -> None:
    """Take the socket out of a running daemon (pidfd_getfd(2), for root) and carry out operations with it."""
    found = [endpoint for each in sockets_of(pid) if (endpoint := adopted(each)) is not None]
    # The listener for changes is of the same kind, but owns nothing.
    owner = min(found, key=lambda each: each.getsockname()[1])
    owner.send(batch(*operations))
