"""Counts belong to policies and never go back; what somebody else does to the table is undone, and told."""

from __future__ import annotations

import itertools
import re
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest
from pyroute2 import IPRoute

from support.drift import SERVICE, TAMPERING, blocks, generation, orders
from support.gateway import Gateway, until

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    gateway.set(hooks=["output"], table_owner=False)
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
    counting.set(hooks=["output"], priority=-20, table_owner=False)
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
    assert 'gatewrit_policy_packets_total{action="observe",policy="alpha"} 4\n' in text
    # IP and UDP headers, and eight octets.
    assert 'gatewrit_policy_bytes_total{action="observe",policy="alpha"} 144\n' in text


#: Repairs that take more than one: what packets on their way could miss is prepared before, or cleared after it.
TRANSACTIONS = {"every rule flushed": 2, "a chain renamed": 3}


def test_drift_is_seen_as_it_happens_repaired_and_told(gateway: Gateway) -> None:
    """By notification, for the next look is up to ten seconds off; a few at a time, for more of them is a fight.

    In a table that anybody may change: see test_owner.py for one that only the daemon may.
    """
    gateway.set(table_owner=False)
    before = blocks(orders(gateway))
    number_of_ruleset = gateway.status()["ruleset"]["generation"]
    tampering, seen = iter(TAMPERING.items()), generation(gateway)
    while some := [*itertools.islice(tampering, 4)]:
        for number, (what, script) in enumerate(some, 1):
            gateway.nft(script)
            until(lambda: blocks(gateway) == before)
            repaired = f"gatewrit_drift_total {number}\n"
            until(lambda repaired=repaired: repaired in gateway.get("/metrics")[1])  # type: ignore[misc]
            assert gateway.status()["enforcement"] == "in_sync", what
            then, seen = seen, generation(gateway)
            assert seen - then == 1 + TRANSACTIONS.get(what, 1), what
        gateway.restart()
    # Nothing counts there, so that nothing has drifted; it goes with the counters that nobody needs any more.
    gateway.nft("add counter inet gatewrit mine\n")
    until(lambda: blocks(gateway) == before)
    assert len(gateway.logged("drift.repaired")) == len(TAMPERING)
    # It is the same ruleset as before, so the same generation.
    assert gateway.status()["ruleset"]["generation"] == number_of_ruleset


def test_one_element_of_very_many_is_missed_at_once(gateway: Gateway) -> None:
    """Which set was touched is told, so that not all has to be read again to find it."""
    gateway.set(limits={"total_share": 1, "change_share": 1}, table_owner=False)
    gateway.write(
        "services/list.txt", "".join(f"20.{at >> 8 & 255}.{at & 255}.{at >> 16 << 2}\n" for at in range(150_000))
    )
    gateway.order("alpha", "list.txt", "tcp/3101")
    gateway.start()
    asked = re.search(r"@(to4\.(20\.\d+)\.0\.0/\S+\.32\.\S+) ", gateway.listing())
    assert asked is not None
    gateway.nft(f"delete element inet gatewrit {asked[1]} {{ {asked[2]}.7.0 }}\n")
    until(lambda: gateway.blocks(f"{asked[2]}.7.0"), every=0.3)


def test_nobody_is_fought_with_for_ever(gateway: Gateway) -> None:
    gateway.set(table_owner=False)
    before = blocks(orders(gateway))

    def contested() -> dict[str, Any] | None:
        gateway.nft(TAMPERING["an element deleted"])
        until(lambda: blocks(gateway) == before)
        return next((each for each in gateway.status()["problems"] if each["code"] == "table_contested"), None)

    problem = until(contested)
    assert problem["severity"] == "error"
    assert "nft (" in problem["message"]
    assert gateway.status()["enforcement"] == "degraded"
    # It goes on being repaired, only not as fast.
    repairs = len(gateway.logged("drift.repaired"))
    gateway.nft(TAMPERING["no table"])
    until(lambda: blocks(gateway) == before)
    until(lambda: len(gateway.logged("drift.repaired")) > repairs)
