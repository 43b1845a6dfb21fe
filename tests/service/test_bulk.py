"""Content so large that it is prepared beside what is in force: what comes of it, and that nothing of it is left."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.gateway import Gateway

#: More than are taken at once (`BULK` in engine/intake.py).
COUNT = 25_000


def listed(first: str, count: int = COUNT) -> str:
    """Give a list of addresses, every second one: two that begin side by side have blocks in common, and no address."""
    begin = int(IPv4Address(first))
    return "\n".join(str(IPv4Address(begin + 2 * at)) for at in range(count)) + "\n"


def bulk(gateway: Gateway, text: str) -> None:
    """Load a small order first, so that the bulk comes while something is in force, and the bulk then."""
    gateway.set(limits={"change_share": 1.0, "total_share": 0.5})
    gateway.order("small", ["203.0.113.0/24"], "tcp/25")
    gateway.start()
    gateway.write("services/large.txt", text)
    gateway.service("large", ("large.txt", "tcp/3101"))
    gateway.policy("large")
    assert gateway.reload()["ok"]


def test_nothing_is_left_of_what_was_in_force_before_a_switch(gateway: Gateway) -> None:
    bulk(gateway, listed("10.0.0.0"))
    gateway.write("services/large.txt", listed("10.0.0.1"))
    assert gateway.reload()["ok"]
    assert gateway.status()["ruleset"]["segments"]["ipv4"] == COUNT + 1
    names = [line.split()[1] for line in gateway.listing().splitlines() if line.startswith(("\tset ", "\tmap "))]
    assert len({name.removesuffix(".b") for name in names}) == len(names)
    assert gateway.cli("verify").returncode == 0


def test_a_restart_finds_all_of_it_right(gateway: Gateway) -> None:
    bulk(gateway, listed("10.0.0.0"))
    gateway.write("services/large.txt", listed("10.0.0.1"))
    assert gateway.reload()["ok"]
    before, applied = gateway.listing(), len(gateway.logged("reconcile.applied"))
    gateway.restart()
    assert gateway.listing() == before
    assert len(gateway.logged("reconcile.applied")) == applied
    assert gateway.problems() == []
