"""Counts belong to policies and never go back; what somebody else does to the table is undone, and told."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import pytest
from pyroute2 import IPRoute

from lab import Namespace
from support.gateway import Gateway, short_folder, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVICE = "203.0.1.0/24"


def route() -> None:
    """Let the namespace's own loopback have the service's addresses, so that packets to them pass output."""
    with IPRoute() as netlink:
        netlink.route("add", dst="203.0.0.0/16", type="local", table=255, scope=254, oif=1)


def send(count: int, address: str = "203.0.1.5") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(b"gatewrit", (address, 3101))


@pytest.fixture
def counting(gateway: Gateway) -> Iterator[Gateway]:
    """A daemon that watches what its own host sends."""
    gateway.set(hooks=["output"])
    gateway.order("alpha", SERVICE, "udp/3101", action="observe")
    gateway.order("bravo", "203.0.1.0/28", "udp/any", action="observe")
    gateway.space.run(route)
    gateway.start()
    return gateway


def test_counts_survive_reloads_amendments_restarts_and_kills(counting: Gateway) -> None:
    run = counting.space.run
    run(send, 3)
    run(send, 2, "203.0.1.99")
    assert counting.counts() == {"alpha": 5, "bravo": 3}

    # An amendment that gives every packet to other counters than before.
    counting.policy("bravo", revision=2, action="observe", until="2150-01-01T00:00:00Z")
    counting.order("charlie", SERVICE, "udp/any", action="observe")
    counting.reload()
    run(send, 1)
    assert counting.counts() == {"alpha": 6, "bravo": 4, "charlie": 1}

    # What passes while nobody runs is the kernel's to count.
    counting.end(signal.SIGKILL)
    run(send, 10)
    counting.start()
    assert counting.counts() == {"alpha": 16, "bravo": 14, "charlie": 11}
    counting.end(signal.SIGTERM)
    run(send, 1)
    counting.policy("bravo", revision=3, state="rescinded")
    counting.start()
    assert counting.counts() == {"alpha": 17, "bravo": 15, "charlie": 12}
    run(send, 1)
    assert counting.counts() == {"alpha": 18, "bravo": 15, "charlie": 13}

    # Settings that make another table of it.
    counting.end(signal.SIGKILL)
    run(send, 2)
    counting.set(hooks=["output"], priority=-20)
    counting.start()
    assert counting.counts() == {"alpha": 20, "bravo": 15, "charlie": 15}


def test_counts_never_go_back_whatever_becomes_of_the_table(counting: Gateway) -> None:
    run = counting.space.run
    run(send, 5)
    assert counting.counts() == {"alpha": 5, "bravo": 5}
    for script in ("flush ruleset\n", "delete table inet gatewrit\n", "reset counters\n"):
        shown = counting.counts()
        counting.nft(script)
        counting.reload()
        run(send, 2)
        assert counting.counts() == {name: count + 2 for name, count in shown.items()}
    # Also when it happens while nobody looks.
    shown = counting.counts()
    counting.end(signal.SIGTERM)
    counting.nft("flush ruleset\n")
    counting.start()
    run(send, 3)
    assert counting.counts() == {name: count + 3 for name, count in shown.items()}


def test_the_metrics_count_alike(counting: Gateway) -> None:
    counting.space.run(send, 4)
    counting.counts()
    _, text = counting.get("/metrics")
    assert 'gatewrit_policy_packets_total{action="observe",policy="alpha"} 4.0' in text
    # IP and UDP headers, and eight octets.
    assert 'gatewrit_policy_bytes_total{action="observe",policy="alpha"} 144.0' in text


#: What somebody might do by hand, or another program by mistake.
TAMPERING = {
    "a rule flushed": "flush chain inet gatewrit forward\n",
    "an element deleted": "delete element inet gatewrit to4 { 203.0.1.0/24 }\n",
    "an element added": "add element inet gatewrit to4 { 9.9.9.0/24 : drop }\n",
    "a foreign rule": "add rule inet gatewrit forward counter accept\n",
    "a foreign rule in front": "insert rule inet gatewrit forward accept\n",
    "a foreign chain": "add chain inet gatewrit mine { type filter hook input priority 0; policy drop; }\n",
    "a foreign set": "add set inet gatewrit mine { type mark; flags timeout; }\n",
    "a base chain gone": "flush chain inet gatewrit forward\ndelete chain inet gatewrit forward\n",
    "another policy of the base chain": "add chain inet gatewrit forward { policy drop; }\n",
    "a dormant table": "add table inet gatewrit { flags dormant; }\n",
    "no table": "delete table inet gatewrit\n",
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


def test_every_pass_repairs_whatever_was_tampered_with(gateway: Gateway) -> None:
    before = blocks(orders(gateway))
    generation = gateway.status()["ruleset"]["generation"]
    for what, script in TAMPERING.items():
        gateway.nft(script)
        assert blocks(gateway) != before, what
        assert gateway.reload()["ok"], what
        assert blocks(gateway) == before, what
    # It is the same ruleset as before, so the same generation.
    assert gateway.status()["ruleset"]["generation"] == generation


def test_drift_is_repaired_without_being_asked_and_told(gateway: Gateway, tmp_path: Path) -> None:
    """At the next look, which comes every ten seconds: two gateways, so that it is waited for once."""
    with Namespace() as beside, short_folder() as short:
        other = Gateway(beside, tmp_path / "beside", short=short)
        before = {each: blocks(orders(each)) for each in (gateway, other)}
        other.nft("flush ruleset\n")
        gateway.nft("".join(TAMPERING[what] for what in ("an element deleted", "a foreign rule", "a foreign chain")))
        for each in (gateway, other):
            until(lambda each=each: blocks(each) == before[each], every=0.1)  # type: ignore[misc]
            until(lambda each=each: "gatewrit_drift_total 1.0" in each.get("/metrics")[1])  # type: ignore[misc]
            assert len(each.logged("drift.repaired")) == 1
            assert each.status()["enforcement"] == "in_sync"
        other.close()
