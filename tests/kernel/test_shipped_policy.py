"""The founding case as it is shipped: that service is blocked and nothing else, address by address, port by port."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from lab import Lab, Probe, Verdict

if TYPE_CHECKING:
    from support.gateway import Gateway

SHIPPED = Path(__file__).parents[2] / "policies"

#: BlackBerry's announcements in the order's window, as the facts of the case have them: not read from the shipped list.
AS18705 = [
    ip_network(prefix)
    for prefix in """
        67.223.64.0/19 68.171.224.0/19 74.82.64.0/19 93.186.16.0/20 103.246.200.0/22 173.247.32.0/19 178.239.80.0/20
        193.109.81.0/24 206.51.26.0/24 206.53.144.0/20 208.65.75.0/24 208.93.72.0/21 216.9.240.0/20
        2401:d100::/32 2607:ffc0::/32 2a03:1b80::/32
    """.split()  # noqa: SIM905 - as the source has them
]
INSIDE = [str(prefix[at]) for prefix in AS18705 for at in (0, prefix.num_addresses // 2, -1)]
OUTSIDE = [
    str(neighbour)
    for prefix in AS18705
    for neighbour in (prefix[0] - 1, prefix[-1] + 1)
    if not any(neighbour in other for other in AS18705 if other.version == neighbour.version)
]
ELSEWHERE = ["204.187.87.1", "8.8.8.8", "203.0.113.7", "1.0.0.1", "223.255.255.1", "2001:db8::1", "2a00:1450::1"]
NEIGHBOURS = ["tcp/25", "tcp/443", "tcp/8443", "udp/443", "udp/3101"]


def test_one_service_is_blocked_and_its_neighbours_are_not(lab: Lab, gateway: Gateway) -> None:
    assert len(AS18705) == 16
    assert {ip_address(address).version for address in OUTSIDE} == {4, 6}
    lab.listen()
    gateway.set(policies=str(SHIPPED))
    gateway.start()

    expected = {Probe(address, "tcp/3101"): Verdict.RESET for address in INSIDE}
    expected |= {Probe(address, port): Verdict.REACHED for address in INSIDE for port in NEIGHBOURS}
    expected |= {Probe(address, "tcp/3101"): Verdict.REACHED for address in OUTSIDE + ELSEWHERE}
    expected |= {Probe(address, port): Verdict.REACHED for address in OUTSIDE for port in ("tcp/443", "udp/3101")}
    verdicts = lab.probe(expected)

    assert {probe: verdict for probe, verdict in verdicts.items() if verdict is not expected[probe]} == {}
    assert gateway.counts() == {"bes-shutdown": len(INSIDE)}
    view = gateway.views()["bes-shutdown"]
    assert (view["state"], view["action"], view["direction"]) == ("in_force", "reject", "to")
    assert view["addresses"] == {
        "ipv4": str(sum(prefix.num_addresses for prefix in AS18705 if prefix.version == 4)),
        "ipv6": str(sum(prefix.num_addresses for prefix in AS18705 if prefix.version == 6)),
    }
    assert gateway.status()["ruleset"]["segments"] == {"ipv4": 13, "ipv6": 3}
