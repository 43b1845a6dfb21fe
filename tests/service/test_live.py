"""`plan --live`: how many connections a change would cut, counted among those that the kernel tracks; never which."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support.tracked import Tracked, track

if TYPE_CHECKING:
    from support.gateway import Gateway

SYN_SENT, TIME_WAIT = 1, 7
CONNECTIONS = [
    Tracked("100.64.0.1", "203.0.113.9"),
    Tracked("100.64.0.2", "203.0.113.9", dport=443),
    # Translated on its way: what is judged is where it really goes.
    Tracked("100.64.0.3", "198.51.100.1", answers="203.0.113.10"),
    Tracked("100.64.0.4", "203.0.113.11", state=TIME_WAIT),
    Tracked("100.64.0.5", "203.0.113.11", state=SYN_SENT),
    Tracked("203.0.113.20", "100.64.0.6", sport=3101, dport=50000),
    Tracked("100.64.0.7", "203.0.114.1", protocol=17, dport=9),
    Tracked("2001:db8:1::1", "2001:db8::1"),
]


def live(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gateway.cli("plan", "--live", "--json").stdout)["live"]
    return found


def test_only_the_number_of_connections_is_told(gateway: Gateway) -> None:
    gateway.order("alpha", ["203.0.113.0/24", "2001:db8::/48"], "tcp/3101")
    gateway.order("bravo", "203.0.114.0/24", "any", action="observe")
    gateway.order("later", "203.0.113.0/24", "any", start="2100-01-01T00:00:00Z")
    assert "the kernel tracks no connections here" in live(gateway)["unknown"]
    assert gateway.space.run(track, CONNECTIONS) == len(CONNECTIONS)

    # Two are over or not yet open. Of the one that comes from there, the answers are stopped.
    cut = {"connections": 6, "cut": 4, "unclear": 0, "policies": [{"id": "alpha", "cut": 4}]}
    assert live(gateway) == cut
    told = gateway.cli("plan", "--live")
    assert "live: 4 of 6 connections would be cut at once\n      alpha: 4\n" in told.stdout
    assert not any(word in told.stdout + told.stderr for word in ("100.64.", "203.0.113.9", "40000", "50000"))

    # What is in force already cuts nobody any more; what drift let through again would be cut.
    gateway.cli("apply")
    assert live(gateway) == {**cut, "cut": 0, "policies": []}
    gateway.nft("flush chain inet gatewrit forward\n")
    assert live(gateway) == cut

    gateway.write("alpha.yaml", (gateway.policies / "alpha.yaml").read_text() + "scope: {interfaces: [gi0]}\n")
    gateway.write("alpha.yaml", (gateway.policies / "alpha.yaml").read_text().replace("revision: 1", "revision: 2"))
    assert live(gateway) == {**cut, "cut": 0, "unclear": 4, "policies": []}
    assert gateway.cli("plan", "--json").stdout.count('"live": null') == 1
