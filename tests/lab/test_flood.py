from __future__ import annotations

import pytest

from lab import Lab, LabError, Packet
from lab.flood import Flood

RULES = """
    table inet t {
        counter dropped {}
        chain forward {
            type filter hook forward priority 0
            ip daddr 206.51.26.7 udp dport 3101 counter name dropped drop
            ip6 daddr 2607:ffc0::7 udp dport 3101 counter name dropped drop
        }
    }
"""
PASS = [Packet("100.64.9.9", "206.51.26.8", "udp", 40000, 3101), Packet("2001:db8:64::9", "2607:ffc0::8", "tcp", 1, 2)]
STOP = [
    Packet("100.64.9.9", "206.51.26.7", "udp", 40000, 3101),
    Packet("2001:db8:64::9", "2607:ffc0::7", "udp", 1, 3101),
]


def test_each_packet_of_a_flood_is_accounted_for(lab: Lab) -> None:
    lab.gateway.nft(RULES)

    with Flood(lab, [*PASS, *STOP]) as flood:
        # Each answer takes a while, and the flood goes on meanwhile.
        for _ in range(5):
            lab.gateway.nft("list ruleset")

    assert all(flood.sent[flow] > 500 for flow in (*PASS, *STOP))
    assert [flood.arrived[flow] for flow in PASS] == [flood.sent[flow] for flow in PASS]
    assert [flood.arrived[flow] for flow in STOP] == [0, 0]
    listed = lab.gateway.nft("list counter inet t dropped")
    assert int(listed.split("packets ")[1].split()[0]) == sum(flood.sent[flow] for flow in STOP)


def test_a_flood_comes_to_its_bound(lab: Lab) -> None:
    flood = Flood(lab, PASS, longest=0)

    with pytest.raises(LabError, match="came to its bound"), flood:
        pass


def test_a_flood_that_the_lab_itself_loses_is_no_measure(lab: Lab) -> None:
    lab.gateway.nft("table inet t { chain forward { type filter hook forward priority 0; policy drop; }\n}\n")

    with pytest.raises(LabError, match="did not come out"), Flood(lab, PASS, patience=0.1):
        pass
