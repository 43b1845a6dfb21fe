from __future__ import annotations

import pytest

from lab import Lab, Probe, Verdict
from lab.listeners import PORTS

DESTINATIONS = ["206.51.26.0", "206.51.26.255", "8.8.8.8", "2607:ffc0::", "2607:ffc0:ffff:ffff:ffff:ffff:ffff:ffff"]


def test_without_policies_everything_is_reached(lab: Lab) -> None:
    lab.listen()

    verdicts = lab.probe(Probe(address, port) for address in DESTINATIONS for port in (*PORTS, "icmp"))

    assert set(verdicts.values()) == {Verdict.REACHED}
    assert len(verdicts) == len(DESTINATIONS) * (len(PORTS) + 1)


@pytest.mark.parametrize(
    ("action", "tcp", "udp"),
    [
        ("drop", Verdict.SILENT, Verdict.SILENT),
        ("reject with tcp reset", Verdict.RESET, Verdict.REACHED),
        ("reject with icmpx admin-prohibited", Verdict.PROHIBITED, Verdict.PROHIBITED),
        ("reject with icmpx no-route", Verdict.UNREACHABLE, Verdict.UNREACHABLE),
    ],
)
def test_each_way_of_refusing_is_told_apart(lab: Lab, action: str, tcp: Verdict, udp: Verdict) -> None:
    lab.listen()
    udp_rule = "accept" if "tcp" in action else action
    lab.gateway.nft(f"""
        table inet t {{
            chain forward {{
                type filter hook forward priority 0
                tcp dport 3101 {action}
                udp dport 3101 {udp_rule}
            }}
        }}
    """)

    for address in DESTINATIONS:
        assert lab.try_one(address, "tcp/3101") is tcp
        assert lab.try_one(address, "udp/3101") is udp
        assert lab.try_one(address, "tcp/443") is Verdict.REACHED
        assert lab.try_one(address, "udp/443") is Verdict.REACHED
