"""The founding order's life at speed, under traffic that never stops: no packet fares otherwise than it was ordered.

Notified, scheduled, postponed on its effective day, in force, narrowed while in force, rescinded.
"""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, NamedTuple

from lab import Lab, Packet
from lab.stream import Sent, Stream
from support.gateway import instant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.gateway import Gateway

#: Seconds on either side of an instant within which a packet may fare either way.
TOLERANCE = 0.05
#: Seconds between two packets of a flow.
EVERY = 0.002
SUBSCRIBER = {4: "100.64.9.9", 6: "2001:db8:64::9"}


def syn(address: str, port: int) -> Packet:
    return Packet(SUBSCRIBER[6 if ":" in address else 4], address, "tcp", 40000, port)


BLOCKED = [syn("206.51.26.33", 3101), syn("2607:ffc0::33", 3101)]
FREED = [syn("193.109.81.5", 3101)]
NEIGHBOURS = [syn("206.51.26.33", 443), syn("206.51.26.33", 25), syn("206.51.27.0", 3101), syn("2607:ffc0::33", 443)]


class Turn(NamedTuple):
    """Between these two moments, epoch seconds, a flow turns to be blocked or to pass."""

    earliest: float
    latest: float
    blocked: bool


def wrong(sent: Sequence[Sent], turns: Sequence[Turn], tolerance: float = TOLERANCE) -> list[tuple[Sent, bool]]:
    """Give the packets that fared otherwise than ordered; a flow passes until its first turn."""
    found = []
    for packet in sent:
        if any(turn.earliest - tolerance < packet.after and packet.before < turn.latest + tolerance for turn in turns):
            continue
        past = [turn.blocked for turn in turns if turn.latest < packet.before]
        blocked = bool(past and past[-1])
        if packet.arrived is blocked:
            found.append((packet, blocked))
    return found


def closest(sent: Sequence[Sent], instant: float, *, blocked: bool) -> float:
    """Give by how many milliseconds the last packet of the old fate came after the instant (before it: negative)."""
    old = [packet.before for packet in sent if packet.arrived is blocked and abs(packet.before - instant) < 1]
    return (max(old) - instant) * 1000


def test_the_order_lives_as_it_was_written(lab: Lab, gateway: Gateway) -> None:
    def order(revision: int, prefixes: list[str], **fields: object) -> tuple[float, float]:
        """Put a revision into place, and give the moments between which it came into force."""
        gateway.service(f"bes-{revision}", (prefixes, "tcp/3101"))
        gateway.policy("bes-shutdown", f"bes-{revision}", revision=revision, **fields)
        before = time.time()
        assert gateway.reload()["ok"]
        return before, time.time()

    whole = ["206.51.26.0/24", "193.109.81.0/24", "2607:ffc0::/32"]
    gateway.start()
    with Stream(lab, [*BLOCKED, *FREED, *NEIGHBOURS], EVERY) as stream:
        first = math.ceil(time.time()) + 2
        order(1, whole, start=first)
        assert gateway.views()["bes-shutdown"]["state"] == "scheduled"
        _wait_until(first - 0.4)
        effective = first + 2
        order(2, whole, start=effective)
        _wait_until(first + 0.5)
        assert gateway.views()["bes-shutdown"]["state"] == "scheduled"
        _wait_until(effective + 1.2)
        assert gateway.views()["bes-shutdown"]["state"] == "in_force"
        narrowed = order(3, ["206.51.26.0/24", "2607:ffc0::/32"], start=effective)
        _wait_until(effective + 3.2)
        rescinded = order(4, ["206.51.26.0/24", "2607:ffc0::/32"], start=effective, state="rescinded")
        _wait_until(effective + 4.1)

    begins = Turn(effective, effective, True)
    for flow in BLOCKED:
        assert wrong(stream.fates[flow], [begins, Turn(*rescinded, False)]) == []
    for flow in FREED:
        assert wrong(stream.fates[flow], [begins, Turn(*narrowed, False)]) == []
    for flow in NEIGHBOURS:
        assert wrong(stream.fates[flow], []) == []
    # The amendment of a block that goes on lets nothing slip, however close to it.
    for flow in BLOCKED:
        during = [
            each for each in stream.fates[flow] if effective + TOLERANCE < each.before and each.after < rescinded[0]
        ]
        assert len(during) > 100
        assert not [each for each in during if each.arrived]
    total = sum(map(len, stream.fates.values()))
    late = max(closest(stream.fates[flow], effective, blocked=True) for flow in BLOCKED)
    print(f"{total} packets, none wrong; the last to pass came {late:+.2f} ms after the instant")  # noqa: T201
    assert narrowed[1] < effective + 2, "the machine is too slow for what follows to say anything"
    assert rescinded[1] < effective + 4
    told(gateway, first, effective)


def told(gateway: Gateway, first: int, effective: int) -> None:
    """Hold the journal, and what is explained from it, to the story that the packets told."""

    def blocked(packet: Packet, at: int) -> bool:
        where = [packet.destination, "--protocol", "tcp", "--port", str(packet.destination_port)]
        answer = gateway.cli("explain", *where, "--at", instant(at), "--json")
        assert answer.returncode == 0, answer.stderr
        document = json.loads(answer.stdout)
        assert document["partly"] is False
        return bool(document["blocked"])

    story = {
        # Scheduled, and on the day that it had been for until it was postponed.
        first: [],
        effective - 1: [],
        effective: [*BLOCKED, *FREED],
        effective + 2: BLOCKED,
        effective + 4: [],
    }
    everything = [*BLOCKED, *FREED, *NEIGHBOURS]
    assert {at: [packet for packet in everything if blocked(packet, at)] for at in story} == story
    rows = json.loads(gateway.cli("log", "--policy", "bes-shutdown", "--json").stdout)["items"]
    assert [(row["kind"], row["data"].get("revision", row["data"].get("now"))) for row in rows] == [
        ("accepted", 1),
        ("enforced", 1),
        ("state", "scheduled"),
        ("accepted", 2),
        ("enforced", 2),
        ("state", "in_force"),
        ("accepted", 3),
        ("enforced", 3),
        ("accepted", 4),
        ("lifted", None),
        ("state", "rescinded"),
    ]
    assert gateway.cli("log", "verify").returncode == 0


def test_no_packet_slips_through_an_amendment_and_none_stays_stopped(lab: Lab, gateway: Gateway) -> None:
    """Thirty amendments on end: one prefix stays blocked all the while, another comes and goes."""
    stays, comes_and_goes = ["203.0.113.0/25", "2001:db8:1::/64"], ["198.51.100.7", "2001:db8:2::7"]
    turns = []
    gateway.order("order", [*stays, *comes_and_goes], "tcp/3101")
    gateway.start()
    flows = [syn(address, 3101) for address in ("203.0.113.5", "2001:db8:1::5", *comes_and_goes)]
    with Stream(lab, flows, 0.0005) as stream:
        begun = time.time()
        for revision in range(2, 32):
            blocked = bool(revision % 2)
            gateway.service(f"service-{revision}", ([*stays, *(comes_and_goes if blocked else ())], "tcp/3101"))
            gateway.policy("order", f"service-{revision}", revision=revision)
            before = time.time()
            assert gateway.reload()["ok"]
            turns.append(Turn(before, time.time(), blocked))

    for flow in flows[:2]:
        assert not [each for each in stream.fates[flow] if each.arrived]
    for flow in flows[2:]:
        # Nothing but the moments between asking and having been told is left open.
        assert wrong(stream.fates[flow], [Turn(begun - 10, begun, True), *turns], tolerance=0) == []
        assert len({each.arrived for each in stream.fates[flow]}) == 2
    print(f"{sum(map(len, stream.fates.values()))} packets during {len(turns)} amendments")  # noqa: T201


def _wait_until(instant: float) -> None:
    time.sleep(max(0.0, instant - time.time()))
