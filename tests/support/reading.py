"""What the contract says becomes of a packet: a brute-force reading of the YAML, by the standard library alone.

Nothing of gatewrit is imported, nothing is shared, and but for lists of thousands nothing is made faster: this is what
the real packets are compared with.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Address = IPv4Address | IPv6Address

_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}
_STRICTEST = ("drop", "reject", "observe")


@dataclass(frozen=True)
class Seen:
    """A packet as a gateway forwards it; ports are None where it has none that count."""

    source: Address
    destination: Address
    protocol: int
    source_port: int | None
    destination_port: int | None
    incoming: str
    outgoing: str


@dataclass
class Judged:
    """What becomes of it: REACHED, RESET, PROHIBITED or SILENT, and how often each policy counts it."""

    verdict: str = "REACHED"
    counts: dict[str, int] = field(default_factory=dict)


class Listed:
    """Thousands of prefixes of both families, for `prefixes` of an endpoint."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._first: dict[int, list[int]] = {4: [], 6: []}
        self._last: dict[int, list[int]] = {4: [], 6: []}
        # The wider of those that begin together first; what lies inside the last one adds nothing.
        nets = [ip_network(each) for each in entries]
        for net in sorted(nets, key=lambda each: (each.version, int(each[0]), each.prefixlen)):
            last = self._last[net.version]
            if not last or int(net[-1]) > last[-1]:
                self._first[net.version].append(int(net[0]))
                last.append(int(net[-1]))

    def __contains__(self, address: Address) -> bool:
        at = bisect_right(self._first[address.version], int(address)) - 1
        return at >= 0 and int(address) <= self._last[address.version][at]


def judge(
    policies: Iterable[Mapping[str, Any]],
    services: Mapping[str, Mapping[str, Any]],
    packet: Seen,
    nat64: Sequence[str] = (),
) -> Judged:
    """Judge a forwarded packet by policies in force, each as its file says it: first at `to`, then at `from`."""
    judged = Judged()
    prefixes = [IPv6Network(each) for each in nat64]
    for end in ("to", "from"):
        hits = [policy for policy in policies if _matches(policy, services, packet, end, prefixes)]
        for policy in hits:
            judged.counts[policy["policy"]] = judged.counts.get(policy["policy"], 0) + 1
        actions = [policy["block"]["action"] for policy in hits]
        strictest = next((action for action in _STRICTEST if action in actions), "observe")
        if strictest == "drop" or (strictest == "reject" and end == "from"):
            judged.verdict = "SILENT"
        elif strictest == "reject":
            # A fragment after the first is never answered: its sender couldn't tell what the answer is about.
            answer = "RESET" if packet.protocol == 6 else "PROHIBITED"
            judged.verdict = answer if packet.destination_port is not None else "SILENT"
        if judged.verdict != "REACHED":
            break
    return judged


def _matches(
    policy: Mapping[str, Any],
    services: Mapping[str, Mapping[str, Any]],
    packet: Seen,
    end: str,
    nat64: Sequence[IPv6Network],
) -> bool:
    if policy["state"] != "active" or policy["block"].get("direction", "to") not in {end, "both"}:
        return False
    theirs, ours = packet.destination, packet.source
    port, interface = packet.destination_port, packet.outgoing
    if end == "from":
        theirs, ours, port, interface = ours, theirs, packet.source_port, packet.incoming
    excepted, scope = policy.get("except", {}), policy.get("scope", {})
    if _any(excepted.get("prefixes", ()), theirs, nat64) or _any(excepted.get("sources", ()), ours, nat64):
        return False
    if "sources" in scope and not _any(scope["sources"], ours, nat64):
        return False
    if "interfaces" in scope and not any(_means(pattern, interface) for pattern in scope["interfaces"]):
        return False
    return any(
        _any(endpoint["prefixes"], theirs, nat64) and any(_carries(said, packet, port) for said in endpoint["ports"])
        for name in policy["block"]["services"]
        for endpoint in services[name]["endpoints"]
    )


def _means(pattern: str, interface: str) -> bool:
    return interface.startswith(pattern[:-1]) if pattern.endswith("*") else interface == pattern


def _any(entries: Iterable[str] | Listed, address: Address, nat64: Sequence[IPv6Network]) -> bool:
    """Whether entries name an address: as it is, or the IPv4 address that NAT64 carries in it (/96 prefixes)."""
    carried = [IPv4Address(address.packed[12:]) for prefix in nat64 if address.version == 6 and address in prefix]
    if isinstance(entries, Listed):
        return address in entries or any(inner in entries for inner in carried)
    if any(_names(entry, address) for entry in entries):
        return True
    return any(_names(entry, inner) for entry in entries for inner in carried)


def _names(entry: str, address: Address) -> bool:
    if "-" in entry:
        first, last = map(ip_address, entry.split("-"))
        return first.version == address.version and int(first) <= int(address) <= int(last)
    network = ip_network(entry)
    return network.version == address.version and address in network


def _carries(said: str, packet: Seen, port: int | None) -> bool:
    if said == "any":
        return True
    if said == "icmp":
        return packet.protocol == (1 if packet.source.version == 4 else 58)
    protocol, _, ports = said.partition("/")
    if packet.protocol != _NUMBERS[protocol]:
        return False
    if ports == "any":
        return True
    first, _, last = ports.partition("-")
    return port is not None and int(first) <= port <= int(last or first)
