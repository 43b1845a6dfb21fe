"""Three networks in a row: subscribers, the gateway where gatewrit runs, and the internet, which has every address.

    subscriber ── access0 ═══ gn0 ── gateway ── gi0 ═══ upstream0 ── internet

Both outer networks answer at whole prefixes (local routes, not addresses), so any address of the real world can be
the other end of a probe. The links have fixed hardware addresses and permanent neighbours: no packet ever waits for
resolution, so packets arrive in the order in which they were sent.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_network
from socket import AF_INET, AF_INET6
from typing import TYPE_CHECKING

from pyroute2 import IPRoute

from lab.namespace import make, sysctl
from lab.process import PATIENCE, LabError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.namespace import Namespace

SUBSCRIBERS = ("100.64.0.0/10", "2001:db8:64::/48")
"""Where subscribers live, unless a test says otherwise: the carriers' shared space, and documentation's."""

INFRASTRUCTURE = ("198.18.0.0/15", "2001:db8:ffff::/48")
"""The lab's own links and fences. What is under test leaves these alone."""

EVERYWHERE = ("0.0.0.0/0", "::/0")

_LO = 1
_TABLE_MAIN = 254
_TABLE_LOCAL = 255
_SCOPE_HOST = 254
_ONLINK = 4  # take the next hop's word for it: among these routes the kernel's own check goes astray
_IFA_F_TENTATIVE = 0x40


@dataclass(frozen=True, slots=True)
class Port:
    """One end of a link."""

    interface: str
    hardware: str
    ipv4: IPv4Interface
    ipv6: IPv6Interface


ACCESS = Port("access0", "02:67:77:00:01:02", IPv4Interface("198.18.1.2/24"), IPv6Interface("2001:db8:ffff:1::2/64"))
GN = Port("gn0", "02:67:77:00:01:01", IPv4Interface("198.18.1.1/24"), IPv6Interface("2001:db8:ffff:1::1/64"))
GI = Port("gi0", "02:67:77:00:02:01", IPv4Interface("198.18.2.1/24"), IPv6Interface("2001:db8:ffff:2::1/64"))
UPSTREAM = Port(
    "upstream0", "02:67:77:00:02:02", IPv4Interface("198.18.2.2/24"), IPv6Interface("2001:db8:ffff:2::2/64")
)

FENCES = {"subscriber": ACCESS.ipv4.ip, "gateway": GN.ipv4.ip, "internet": UPSTREAM.ipv4.ip}
"""An address at each namespace that nothing under test concerns."""


def build(subscribers: Sequence[str], *, rootless: bool | None) -> tuple[Namespace, Namespace, Namespace]:
    """Lay the links and routes; gives subscriber, gateway and internet, in this order."""
    subscriber, gateway, internet = spaces = make(["subscriber", "gateway", "internet"], rootless=rootless)
    try:
        for space in spaces:
            space.run(_quieten, forward=space is gateway)
        gateway.run(_make_gateway, subscriber, internet, subscribers)
        subscriber.run(_make_end, ACCESS, GN, gateway.mark, subscribers, EVERYWHERE)
        internet.run(_make_end, UPSTREAM, GI, gateway.mark, EVERYWHERE, subscribers)
        for space in spaces:
            space.run(_settle)
    except BaseException:
        for space in spaces:
            space.close()
        raise
    return subscriber, gateway, internet


class End:
    """One of the networks, opened from within it, so that it can be hushed."""

    def __init__(self, space: Namespace, subscribers: Sequence[str]) -> None:
        self._own = {"subscriber": subscribers, "gateway": (), "internet": EVERYWHERE}[space.name]
        self._netlink = IPRoute()

    @contextlib.contextmanager
    def hushed(self) -> Iterator[None]:
        """Drop, unanswered, whatever arrives for the addresses that this network has by route."""
        self._replace("blackhole")
        try:
            yield
        finally:
            self._replace("local")

    def _replace(self, kind: str) -> None:
        for prefix in self._own:
            _answer_at(self._netlink, "replace", prefix, kind)


def _answer_at(netlink: IPRoute, command: str, prefix: str, kind: str) -> None:
    family = _family(prefix)
    where = {"oif": _LO, "scope": _SCOPE_HOST} if kind == "local" else {}
    netlink.route(command, dst=prefix, family=family, type=kind, table=_TABLE_LOCAL, **where)


def _quieten(*, forward: bool) -> None:
    """No spontaneous packets, no waiting, no limits on what a gateway answers; before there is any link."""
    for scope in ("all", "default"):
        sysctl(f"ipv4/conf/{scope}/forwarding", int(forward))
        sysctl(f"ipv6/conf/{scope}/forwarding", int(forward))
        sysctl(f"ipv4/conf/{scope}/rp_filter", 0)
        sysctl(f"ipv4/conf/{scope}/send_redirects", 0)
        sysctl(f"ipv6/conf/{scope}/accept_dad", 0)
        sysctl(f"ipv6/conf/{scope}/accept_ra", 0)
        sysctl(f"ipv6/conf/{scope}/router_solicitations", 0)
    for family in ("ipv4", "ipv6"):
        sysctl(f"{family}/ip_nonlocal_bind", 1)
    sysctl("ipv4/icmp_ratelimit", 0)
    sysctl("ipv6/icmp/ratelimit", 0)
    # Types outside the mask do not count against the limit that all namespaces share either.
    sysctl("ipv4/icmp_ratemask", 0)
    with contextlib.suppress(FileNotFoundError):
        sysctl("ipv6/icmp/ratemask", 0)


def _make_gateway(subscriber: Namespace, internet: Namespace, subscribers: Sequence[str]) -> None:
    with IPRoute() as netlink:
        for near, far, space in ((GN, ACCESS, subscriber), (GI, UPSTREAM, internet)):
            netlink.link(
                "add",
                kind="veth",
                ifname=near.interface,
                address=near.hardware,
                peer={"ifname": far.interface, "address": far.hardware, "net_ns_fd": space.fileno()},
            )
            index = _raise(netlink, near, far, subscriber.mark)
            _route(netlink, index, far, subscribers if far is ACCESS else EVERYWHERE, _TABLE_MAIN)


def _make_end(near: Port, far: Port, mark: str, own: Sequence[str], others: Sequence[str]) -> None:
    """Answer at all addresses of `own`, and send to `others` through the gateway: the narrower prefix wins.

    Both kinds of route stand in the local table, which is asked first, so that one look-up compares them.
    """
    with IPRoute() as netlink:
        index = _raise(netlink, near, far, mark)
        for prefix in own:
            _answer_at(netlink, "add", prefix, "local")
        netlink.route("add", dst="fe80::/10", oif=index, family=AF_INET6, table=_TABLE_LOCAL)
        _route(netlink, index, far, [*others, *INFRASTRUCTURE], _TABLE_LOCAL)


def _raise(netlink: IPRoute, near: Port, far: Port, mark: str) -> int:
    index: int = netlink.link_lookup(ifname=near.interface)[0]
    netlink.link("set", index=index, ifalias=mark, state="up")
    for mine, other in ((near.ipv4, far.ipv4), (near.ipv6, far.ipv6)):
        netlink.addr("add", index=index, address=str(mine.ip), prefixlen=mine.network.prefixlen)
        netlink.neigh("add", dst=str(other.ip), lladdr=far.hardware, ifindex=index, state="permanent")
    return index


def _route(netlink: IPRoute, index: int, through: Port, prefixes: Sequence[str], table: int) -> None:
    for prefix in prefixes:
        family = _family(prefix)
        hop = str(through.ipv4.ip if family == AF_INET else through.ipv6.ip)
        netlink.route("add", dst=prefix, family=family, gateway=hop, oif=index, flags=_ONLINK, table=table)


def _settle() -> None:
    """Wait until the IPv6 addresses are usable: even without duplicate detection a kernel worker finishes them."""
    deadline = time.monotonic() + PATIENCE
    with IPRoute() as netlink:
        while any(
            address["family"] == AF_INET6 and address.get("IFA_FLAGS", 0) & _IFA_F_TENTATIVE
            for address in netlink.get_addr()
        ):
            if time.monotonic() > deadline:
                raise LabError("an IPv6 address of the lab stays tentative")
            time.sleep(0.001)


def _family(prefix: str) -> int:
    return AF_INET if ip_network(prefix).version == 4 else AF_INET6
