"""Blocks begin and end when they should: for connections that are open already, at instants with no daemon alive."""

from __future__ import annotations

import contextlib
import math
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from lab import Lab, Probe, Verdict
from support.gateway import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.gateway import Gateway

SERVICE = ["203.0.113.0/24", "2001:db8:1::/48"]


class Talk:
    """An open TCP connection through the gateway, to a server that sends every line back."""

    def __init__(self, lab: Lab, address: str) -> None:
        self.socket = lab.subscriber.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((address, 3101))
        self.lines = self.socket.makefile("rb")
        assert self.lines.readline().endswith(b" 3101\n")

    def say(self, line: bytes) -> bytes:
        self.socket.sendall(line)
        return self.lines.readline()

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@contextlib.contextmanager
def talking(lab: Lab) -> Iterator[list[Talk]]:
    talks = [Talk(lab, address) for address in ("203.0.113.5", "2001:db8:1::5")]
    try:
        assert [talk.say(b"one\n") for talk in talks] == [b"one\n"] * 2
        yield talks
    finally:
        for talk in talks:
            talk.close()


def test_an_open_connection_is_reset_by_the_reload_that_blocks_it(lab: Lab, gateway: Gateway) -> None:
    lab.listen()
    gateway.start()
    with talking(lab) as talks:
        gateway.order("order", SERVICE, "tcp/3101", action="reject")
        began = time.monotonic()
        assert gateway.reload()["ok"]
        print(f"from the request to enforced and read back: {(time.monotonic() - began) * 1000:.0f} ms")  # noqa: T201

        for talk in talks:
            with pytest.raises(ConnectionResetError):
                talk.say(b"two\n")


def test_an_open_connection_stalls_while_it_is_dropped_and_goes_on_when_that_is_lifted(
    lab: Lab, gateway: Gateway
) -> None:
    lab.listen()
    gateway.start()
    with talking(lab) as talks:
        gateway.order("order", SERVICE, "tcp/3101", action="drop")
        gateway.reload()
        for talk in talks:
            talk.socket.settimeout(0.3)
            with pytest.raises(TimeoutError):
                talk.say(b"two\n")
        assert gateway.counts()["order"] >= 2

        gateway.policy("order", action="drop", revision=2, state="rescinded")
        gateway.reload()
        for talk in talks:
            # TCP sends again what was dropped.
            talk.socket.settimeout(PATIENCE)
            with talk.socket.makefile("rb") as lines:
                assert lines.readline() == b"two\n"


def test_with_direction_from_what_comes_back_is_stopped(lab: Lab, gateway: Gateway) -> None:
    lab.listen()
    gateway.start()
    with talking(lab) as talks:
        gateway.order("order", SERVICE, "tcp/3101", action="reject", direction="from")
        gateway.reload()
        for talk in talks:
            talk.socket.settimeout(0.3)
            with pytest.raises(TimeoutError):
                talk.say(b"two\n")


def test_instants_come_on_time_though_the_daemon_is_dead(lab: Lab, gateway: Gateway) -> None:
    """One order begins, one ends, one hands over to another: each to the second, by the kernel alone."""
    lab.listen()
    gateway.start()
    turn = math.ceil(time.time()) + 2
    gateway.order("starts", ["203.0.1.0/24", "2001:db8:1::/64"], "tcp/3101", start=turn)
    gateway.order("ends", ["203.0.2.0/24", "2001:db8:2::/64"], "tcp/3101", until=turn + 1)
    gateway.service("both", (["203.0.3.0/24", "2001:db8:3::/64"], "tcp/3101"))
    gateway.policy("first", "both", until=turn, action="drop")
    gateway.policy("second", "both", start=turn)
    assert gateway.reload()["ok"]
    assert {name: view["state"] for name, view in gateway.views().items()} == {
        "starts": "scheduled",
        "ends": "in_force",
        "first": "in_force",
        "second": "scheduled",
    }
    gateway.end(signal.SIGKILL)
    killed = time.time()
    assert killed < turn, "the machine is too slow for this test to say anything"

    seen: list[tuple[float, float, dict[Probe, Verdict]]] = []
    hosts = ["203.0.1.5", "2001:db8:1::5", "203.0.2.5", "2001:db8:2::5", "203.0.3.5", "2001:db8:3::5"]
    while not seen or seen[-1][0] < turn + 1:
        before = time.time()
        verdicts = lab.probe(Probe(address, "tcp/3101") for address in hosts)
        seen.append((before, time.time(), verdicts))

    def expect(hosts: list[str], instant: int, earlier: Verdict, later: Verdict) -> None:
        """Say of every probe that was wholly before or wholly after the instant what must have come of it."""
        sides = set()
        for before, after, verdicts in seen:
            if before < instant <= after:
                continue
            wanted = earlier if after < instant else later
            sides.add(wanted)
            assert [verdicts[Probe(host, "tcp/3101")] for host in hosts] == [wanted] * 2, (before, after, instant)
        assert sides == {earlier, later}

    expect(hosts[:2], turn, Verdict.REACHED, Verdict.RESET)
    expect(hosts[2:4], turn + 1, Verdict.RESET, Verdict.REACHED)
    expect(hosts[4:], turn, Verdict.SILENT, Verdict.RESET)

    # A new daemon sweeps what is past, and what was counted meanwhile is not lost.
    gateway.start()
    views = gateway.views()
    assert {name: view["state"] for name, view in views.items()} == {
        "starts": "in_force",
        "ends": "lapsed",
        "first": "lapsed",
        "second": "in_force",
    }
    assert all(view["counters"]["packets"] > 0 for view in views.values())
    assert not gateway.blocks("203.0.2.0/24")
    assert "by.first" not in gateway.listing()
