"""What else decides about packets on this host, and whether they come by our hooks at all."""

from __future__ import annotations

import re
from ipaddress import IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING

from gatewrit.cli.examine.finding import Finding, guarded, problem
from gatewrit.engine.beside import few, troubles
from gatewrit.kernel import beside
from gatewrit.kernel.beside import FAMILIES
from gatewrit.kernel.host import read_links
from gatewrit.kernel.ruleset import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatewrit.cli.examine.finding import Subject
    from gatewrit.kernel.beside import Table
    from gatewrit.kernel.host import Links

#: What the kernel calls links whose packets carry others in them. L2TP's and those of pppd say it by their names.
_TUNNELS = {
    "bareudp", "erspan", "geneve", "gre", "gretap", "gtp", "ip6erspan", "ip6gre", "ip6gretap", "ip6tnl", "ipip", "ppp",
    "sit", "tun", "vti", "vti6", "vxlan", "wireguard", "xfrm",
}  # fmt: skip
_TUNNEL_NAMES = re.compile(r"(l2tpeth|l2tp|ppp)\d+")
#: RFC 6052's well-known prefix, and the one that RFC 8215 adds for local use.
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
#: What Jool's and Tayga's devices are usually called.
_TRANSLATORS = re.compile(r"(nat64|siit|clat|jool).*")
#: Whose tables they are, by the table's name or the beginning of a chain's.
_FIREWALLS = (
    ("firewalld", re.compile(r"firewalld"), None),
    ("ufw", None, re.compile(r"ufw6?-")),
    ("Docker", re.compile(r"docker.*"), re.compile(r"DOCKER")),
    ("libvirt", re.compile(r"libvirt.*"), re.compile(r"LIBVIRT_")),
    ("fail2ban", re.compile(r"f2b.*"), re.compile(r"f2b-")),
    ("Kubernetes", re.compile(r"kube-proxy|cali.*"), re.compile(r"KUBE-|cali-|CILIUM_")),
    ("iptables-nft", re.compile(r"filter|nat|mangle|raw|security"), re.compile(r"INPUT$|FORWARD$|PREROUTING$")),
)
_FLUSH = re.compile(r"^\s*flush\s+ruleset\b", re.MULTILINE)
_SYSCTL = Path("/proc/sys/net")


def examine(subject: Subject) -> Iterator[Finding]:
    """Examine what is set up beside us."""
    yield from guarded("whether this host forwards", _forwarding(subject))
    yield from guarded("other tables", _tables())
    yield from guarded("what passes beside the table", _beside(subject))
    yield from guarded("interfaces", _links(subject))
    yield from guarded("NAT64", _nat64(subject))
    yield from guarded("legacy iptables", _legacy())
    yield from guarded("/etc/nftables.conf", flushing(Path("/etc/nftables.conf"), owned=_owned(subject)))


def _owned(subject: Subject) -> bool | None:
    """Whether the table is the daemon's alone while it runs; None where that isn't known."""
    if subject.settings.table_owner and subject.trial is None:
        return None
    return subject.settings.table_owner and subject.trial is not None and subject.trial.owning


def _forwarding(subject: Subject) -> Iterator[Finding]:
    hooks = {*subject.settings.hooks}
    if not hooks & {"forward", "prerouting"}:
        yield Finding(
            "note", "own_traffic_only", f"hooks [{', '.join(sorted(hooks))}] judge this host's own traffic only"
        )
        return
    off = [
        name
        for name, knob in (("IPv4", "ipv4/ip_forward"), ("IPv6", "ipv6/conf/all/forwarding"))
        if not _is_on(_SYSCTL / knob)
    ]
    if len(off) == 2 and hooks == {"forward"}:
        yield Finding(
            "warning",
            "not_forwarding",
            "this host forwards neither IPv4 nor IPv6, so that the hook [forward] meets no packet: nothing is blocked",
            "sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 if it is to be a gateway; else set `hooks` "
            "to what it is: [input, output]",
        )
    elif off:
        yield Finding(
            "note",
            "not_forwarding",
            f"this host doesn't forward {' and '.join(off)}: orders meet no forwarded packet of that family here",
        )
    else:
        yield Finding("ok", "forwarding", "this host forwards IPv4 and IPv6, and the hooks meet what it forwards")


def _is_on(knob: Path) -> bool:
    try:
        return knob.read_text(encoding="ascii").strip() != "0"
    except FileNotFoundError:
        # A kernel without that family.
        return False


def _tables() -> Iterator[Finding]:
    tables = beside.read_tables()
    others = [each for each in tables if (FAMILIES[each.family], each.name) != ("inet", TABLE)]
    if len(others) < len(tables):
        yield Finding("ok", "table_there", f"the table inet {TABLE} is in the kernel")
    for whose in dict.fromkeys(map(_whose, others)):
        names = few([f"{FAMILIES[each.family]} {each.name}" for each in others if _whose(each) == whose])
        yield Finding(
            "note",
            "other_tables",
            f"{whose} has tables of its own ({names}): what an order stops they can't let pass, and what they stop "
            "doesn't come by our counters",
            "Nothing need be done; never save and restore the ruleset as a whole (`nft list ruleset`, iptables-save)",
        )


def _whose(table: Table) -> str:
    """Guess whose a table is, by what it and its chains are called."""
    for who, name, chain in _FIREWALLS:
        named = name is not None and name.fullmatch(table.name)
        chained = chain is not None and any(map(chain.match, table.chains))
        # iptables' tables have the same names as anybody's could; their chains tell.
        if (named and chained) if who == "iptables-nft" else (named or chained):
            return who
    return "another program"


def _beside(subject: Subject) -> Iterator[Finding]:
    found = [problem(each) for each in troubles(beside.read(), subject.settings.hooks, subject.settings.priority)]
    yield from found
    if not found:
        yield Finding(
            "ok", "no_bypass", "no flowtable, rewriting, proxy, bridge or XDP program lets packets pass beside us"
        )


def _links(subject: Subject) -> Iterator[Finding]:
    links = read_links()
    tunnels = [f"{name} ({kind or 'by its name'})" for name, kind in links.kinds if _is_tunnel(name, kind)]
    if tunnels:
        yield Finding(
            "note",
            "tunnels",
            f"tunnels end here ({few(tunnels)}): what comes out of them and goes into them is judged, but of tunnels "
            "that only pass through this gateway orders see the outer header: what is inside passes",
            "Enforce where subscribers' packets are bare: behind the tunnels' end (the PGW, UPF, LNS, BNG)",
        )
    yield from _vrfs(subject, links)


def _is_tunnel(name: str, kind: str) -> bool:
    return kind in _TUNNELS or (not kind and _TUNNEL_NAMES.fullmatch(name) is not None)


def _vrfs(subject: Subject, links: Links) -> Iterator[Finding]:
    vrfs = [name for name, kind in links.kinds if kind == "vrf"]
    if not vrfs:
        return
    twice = "prerouting" in subject.settings.hooks
    effect = "packets in them come by prerouting twice, and count twice" if twice else "all of them are judged alike"
    yield Finding(
        "note",
        "vrfs",
        f"there are VRFs ({few(vrfs)}): {effect}; `scope.interfaces` means a VRF's device and its members",
        "Use `hooks: [forward]` where counts matter" if twice else None,
    )


def _nat64(subject: Subject) -> Iterator[Finding]:
    given = subject.settings.nat64
    routed = [str(each) for each in _routed() if not any(span.first <= int(each[0]) <= span.last for span in given)]
    devices = [name for name, _ in read_links().kinds if _TRANSLATORS.fullmatch(name) and not given]
    if routed or devices:
        seen = " and ".join([f"a route to {each}" for each in routed] + [f"the device {each}" for each in devices])
        yield Finding(
            "warning",
            "nat64_unknown",
            f"this host has {seen}, of which `nat64` in the settings doesn't know: subscribers reach blocked IPv4 "
            "addresses through it, as IPv6 packets that no order means",
            "Add the prefix that is translated to `nat64` in the settings, and restart the daemon",
        )
    elif given:
        yield Finding("ok", "nat64", "IPv4 addresses are meant inside of the NAT64 prefixes of the settings too")


def _routed() -> Iterator[IPv6Network]:
    """Give the routes to well-known NAT64 prefixes; others can't be told from any route."""
    with Path("/proc/net/ipv6_route").open(encoding="ascii") as routes:
        for line in routes:
            if line.startswith("0064ff9b"):
                network, length = line.split(maxsplit=2)[:2]
                route = IPv6Network((int(network, 16), int(length, 16)), strict=False)
                if any(route.subnet_of(each) for each in _NAT64):
                    yield route


def _legacy() -> Iterator[Finding]:
    try:
        names = Path("/proc/net/ip_tables_names").read_text(encoding="ascii").split()
    except FileNotFoundError:
        return
    if names:
        yield Finding(
            "note",
            "legacy_iptables",
            f"legacy iptables has tables ({few(names)}), whose rules can't be seen from here: a DNAT or TPROXY among "
            "them would take packets past what orders say",
            "See iptables-legacy -t nat -S; or have that program use iptables-nft, whose rules are seen",
        )


def flushing(path: Path, *, owned: bool | None) -> Iterator[Finding]:
    """See whether what nftables.service loads takes everybody's tables out first; raises `OSError`."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    if not _FLUSH.search(text):
        yield Finding("ok", "no_flush", f"{path} leaves other tables alone")
    elif owned:
        yield Finding(
            "ok", "flush_harmless", f"{path} flushes the ruleset, which leaves out our table while the daemon owns it"
        )
    else:
        unless = " (unless the kernel keeps it for the daemon, from Linux 6.9 on)" if owned is None else ""
        yield Finding(
            "note" if owned is None else "warning",
            "flush_ruleset",
            f"{path} flushes the whole ruleset: each reload of nftables.service takes every block out until the daemon "
            f"has put them back, and with no daemon for good{unless}",
            f"In {path}, put `table inet filter` and `delete table inet filter`, for each of its own tables, in the "
            "place of `flush ruleset`",
        )
