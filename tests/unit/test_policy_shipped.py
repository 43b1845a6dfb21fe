"""The shipped policies are true to the founding case."""

from __future__ import annotations

import ipaddress
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from gatewrit.compile.rails import Judge, Rails
from gatewrit.policy import load
from gatewrit.policy.model import Policy, Ranges, Transport
from gatewrit.policy.terms import Action, Direction, State

POLICIES = Path(__file__).parents[2] / "policies"
AS18705 = [
    "67.223.64.0/19",
    "68.171.224.0/19",
    "74.82.64.0/19",
    "93.186.16.0/20",
    "103.246.200.0/22",
    "173.247.32.0/19",
    "178.239.80.0/20",
    "193.109.81.0/24",
    "206.51.26.0/24",
    "206.53.144.0/20",
    "208.65.75.0/24",
    "208.93.72.0/21",
    "216.9.240.0/20",
    "2401:d100::/32",
    "2607:ffc0::/32",
    "2a03:1b80::/32",
]


def shipped() -> tuple[Policy, load.Reading]:
    (policy,), faults = load.load(POLICIES, Judge(Rails()).faults)
    assert not faults
    return policy, load.read_directory(POLICIES)


def prefixes(ranges: tuple[Ranges, ...]) -> list[str]:
    found: list[str] = []
    for part in ranges:
        address = ipaddress.IPv4Address if part.family == 4 else ipaddress.IPv6Address
        for first, last in zip(part.first, part.last, strict=True):
            ends = [int(end) if part.family == 4 else (int(end["hi"]) << 64) | int(end["lo"]) for end in (first, last)]
            found += map(str, ipaddress.summarize_address_range(*(address(end) for end in ends)))
    return found


def test_the_order_as_it_first_stood() -> None:
    policy, _ = shipped()
    assert (policy.id, policy.revision, policy.state) == ("bes-shutdown", 1, State.ACTIVE)
    assert (policy.order.authority, policy.order.issued) == ("Pakistan Telecommunication Authority", "2015-07-24")
    karachi = ZoneInfo("Asia/Karachi")
    assert policy.effective.start.epoch == datetime(2015, 12, 1, tzinfo=karachi).timestamp()
    assert datetime.fromtimestamp(policy.effective.start.epoch - 1, karachi).isoformat() == "2015-11-30T23:59:59+05:00"
    assert policy.effective.until is None
    assert policy.effective.review_by is not None
    assert policy.effective.review_by > policy.effective.start
    assert policy.block.services == ("blackberry-enterprise",)
    assert (policy.block.action, policy.block.direction) == (Action.REJECT, Direction.TO)
    assert list(policy.must_continue) == ["blackberry-internet", "blackberry-messenger"]


def test_one_port_of_the_whole_of_as18705_is_blocked() -> None:
    policy, _ = shipped()
    (endpoint,) = policy.services["blackberry-enterprise"].endpoints
    assert endpoint.transports == (Transport(6, 3101, 3101),)
    assert prefixes(endpoint.ranges) == AS18705
    assert "204.187.87.0/24" not in prefixes(endpoint.ranges)


def test_the_neighbours_share_the_addresses_and_none_of_the_ports() -> None:
    _, reading = shipped()
    assert sorted(reading.services) == ["blackberry-enterprise", "blackberry-internet", "blackberry-messenger"]
    internet = reading.services["blackberry-internet"].service
    mail = next(end for end in internet.endpoints if Transport(6, 25, 25) in end.transports)
    assert prefixes(mail.ranges) == ["206.51.26.0/24", "216.9.240.0/20", "193.109.81.0/24"]
    messenger = reading.services["blackberry-messenger"].service
    ports = {transport for end in messenger.endpoints for transport in end.transports}
    assert ports == {Transport(6, 443, 443), Transport(6, 8443, 8443), Transport(17)}
    for document in (internet, messenger):
        for end in document.endpoints:
            assert not any(
                part.protocol == 6 and (part.first or 0) <= 3101 <= (part.last or 65535) for part in end.transports
            )
            assert set(prefixes(end.ranges)) <= set(AS18705)
