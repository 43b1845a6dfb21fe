"""What rtnetlink says of this host: its own addresses, its next hops, which interfaces are in which VRF. Read-only.

A gateway may hold a whole BGP table, of which a dump takes seconds and every change a message. So of the routes only
those are read that an administrator, a router advertisement, DHCP or an interior protocol put there: the kernel picks
them (NETLINK_GET_STRICT_CHK) before anything is copied to us. Changes of addresses and links are told at once; routes
are never subscribed to, and are found out about when the caller reads again.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Who may have put a route there (rtm_protocol, linux/rtnetlink.h): redirect, boot, static, router advertisement,
#: DHCP, keepalived, Babel, Open/R, IS-IS, OSPF, RIP, EIGRP. Not BGP (186), nor BIRD (12) and Zebra (11), which say that
#: also for BGP.
PROTOCOLS = (1, 3, 4, 9, 16, 18, 42, 99, 187, 188, 189, 192)
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
#: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR.
_GROUPS = 0x1 | 0x10 | 0x100
_RECEIVED_AT_ONCE = 1 << 16
_IFF_UP = 0x1


@dataclass(frozen=True, slots=True)
class Host:
    """Addresses as text, link-local ones left out: no policy can name them. `masters` are VRF devices by name."""

    addresses: frozenset[str] = frozenset()
    next_hops: frozenset[str] = frozenset()
    masters: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge with its ports, and whether it shows what it bridges to the hooks of IPv4 and of IPv6 by itself."""

    name: str
    ports: tuple[str, ...]
    calls: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class Links:
    """What of the links decides about packets: bridges, and interfaces with an XDP program.

    `kinds` is each interface that is up with what the kernel calls its kind (gre, vrf, wireguard), "" if it says none.
    """

    bridges: tuple[Bridge, ...] = ()
    xdp: tuple[str, ...] = ()
    kinds: tuple[tuple[str, str], ...] = ()


class HostReader(Protocol):
    """What the engine asks of the host; the real one is `Rtnetlink`."""

    def read(self) -> Host:
        """Read everything; may take a moment. Raises `OSError`."""


class Rtnetlink:
    """The host of the network namespace that the caller is in."""

    def read(self) -> Host:
        """Read addresses, links and routes; raises `OSError`."""
        try:
            with IPRoute(strict_check=True) as netlink:
                links = list(netlink.get_links())
                own = (found.get("IFA_LOCAL") or found.get("IFA_ADDRESS") for found in netlink.get_addr())
                routes = [
                    route
                    for family in _FAMILIES
                    for protocol in PROTOCOLS
                    for route in netlink.route("dump", family=family, proto=protocol)
                ]
        except NetlinkError as error:
            raise OSError(error.code, f"read the host's addresses and routes: {error}") from error
        return Host(_nameable(own), _nameable(hop for route in routes for hop in _next_hops(route)), _masters(links))


def read_links() -> Links:
    """Read bridges and XDP programs; raises `OSError`."""
    try:
        with IPRoute(strict_check=True) as netlink:
            links = list(netlink.get_links())
    except NetlinkError as error:
        raise OSError(error.code, f"read the host's links: {error}") from error
    ports: dict[int, list[str]] = {}
    for link in links:
        ports.setdefault(link.get("IFLA_MASTER"), []).append(link.get("IFLA_IFNAME"))
    bridges = [
        Bridge(link.get("IFLA_IFNAME"), tuple(sorted(ports.get(link["index"], ()))), _calls(link))
        for link in links
        if link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "bridge"
    ]
    programs = [link.get("IFLA_IFNAME") for link in links if link.get_nested("IFLA_XDP", "IFLA_XDP_ATTACHED")]
    kinds = [
        (link.get("IFLA_IFNAME"), link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or "")
        for link in links
        if link["flags"] & _IFF_UP
    ]
    return Links(tuple(sorted(bridges, key=lambda each: each.name)), tuple(sorted(programs)), tuple(sorted(kinds)))


def _calls(bridge: Any) -> tuple[bool, bool]:
    asked = ("IFLA_BR_NF_CALL_IPTABLES", "IFLA_BR_NF_CALL_IP6TABLES")
    ipv4, ipv6 = (bool(bridge.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", each)) for each in asked)
    return ipv4, ipv6


def open_changes() -> socket.socket:
    """Open a socket that is readable when an address or a link has changed; see `drain`. Raises `OSError`."""
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        listener.bind((0, _GROUPS))
    except OSError:
        listener.close()
        raise
    return listener


def drain(listener: socket.socket) -> None:
    """Take what was told and forget it: whatever it was, everything is read anew."""
    while True:
        try:
            listener.recv(_RECEIVED_AT_ONCE)
        except BlockingIOError:
            return
        except OSError as error:
            # More was told than there was room for.
            if error.errno != errno.ENOBUFS:
                raise


def _next_hops(route: Any) -> Iterator[str | None]:
    for hop in (route, *(route.get("RTA_MULTIPATH") or ())):
        via = hop.get("RTA_VIA")
        yield hop.get("RTA_GATEWAY") or (via and via.get("addr"))


def _nameable(found: Iterable[str | None]) -> frozenset[str]:
    addresses = (ip_address(each) for each in found if each)
    return frozenset(str(each) for each in addresses if not each.is_link_local)


def _masters(links: Iterable[Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Give each VRF device with the interfaces that are enslaved to it."""
    links = list(links)
    vrfs = {link["index"]: link for link in links if link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "vrf"}
    members: dict[str, list[str]] = {link.get("IFLA_IFNAME"): [] for link in vrfs.values()}
    for link in links:
        if (master := vrfs.get(link.get("IFLA_MASTER"))) is not None:
            members[master.get("IFLA_IFNAME")].append(link.get("IFLA_IFNAME"))
    return tuple(sorted((name, tuple(sorted(each))) for name, each in members.items()))
