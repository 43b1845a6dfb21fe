"""The daemon among others: systemd, the log, HTTP, a second daemon, and a large load while people look."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatewrit.engine.generations import MOST
from lab import Namespace
from support.gateway import Gateway, gateway_in, until

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "203.0.1.0/24"
MANY = [
    f"{first}.{second}.{third}.{fourth}/28"
    for first in (44, 45)
    for second in range(200)
    for third in range(250)
    for fourth in (0,)
]


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Gateway]:
    """Another gateway, in another namespace."""
    with Namespace() as space, gateway_in(space, tmp_path / "beside") as gateway:
        yield gateway


def lines(message: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in message.splitlines())


def test_systemd_is_told_of_every_turn(gateway: Gateway) -> None:
    gateway.order("alpha", PREFIX, "tcp/3101")
    started = time.monotonic_ns() // 1000
    gateway.start()
    ready = lines(gateway.hear("READY=1"))
    assert "1 policies in force" in ready["STATUS"]
    gateway.hear("WATCHDOG=1")

    gateway.listen()
    before = len(gateway.heard)
    gateway.reload()
    reloading = lines(gateway.hear("RELOADING=1", before))
    assert started < int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    gateway.hear("READY=1", before)
    order = [next(iter(lines(text))) for _, text in gateway.heard[before:]]
    assert [each for each in order if each in {"RELOADING", "READY"}] == ["RELOADING", "READY"]

    assert gateway.process is not None
    gateway.send(signal.SIGTERM)
    gateway.hear("STOPPING=1")
    assert gateway.process.wait(30) == 0
    assert gateway.blocks(PREFIX)


def test_a_service_manager_that_takes_nothing_holds_nothing_up(gateway: Gateway) -> None:
    # Each reload replaces everything that is blocked, which would be held back.
    gateway.set(limits={"change_share": 1})
    gateway.start()
    # More than its queue holds, and nobody takes it.
    for number in range(1, 15):
        gateway.order("alpha", f"203.0.{number}.0/24", "tcp/3101")
        assert gateway.reload()["ok"]
        assert gateway.blocks(f"203.0.{number}.0/24")
    gateway.listen()
    before = len(gateway.heard)
    # Once it does, it hears how things stand.
    gateway.hear("READY=1", before)
    assert gateway.end() == 0


def test_under_systemd_the_log_is_json_with_priorities(gateway: Gateway) -> None:
    gateway.order("alpha", PREFIX, "tcp/3101")
    gateway.write("bravo.yaml", "policy: bravo\n")
    gateway.start(JOURNAL_STREAM="8:12345")
    gateway.end()
    found = {}
    for line in gateway.log.read_text().splitlines():
        match = re.fullmatch(r"<([2-7])>(\{.*\})", line)
        assert match is not None, line
        event = json.loads(match[2])
        assert {"event", "level", "timestamp"} <= set(event)
        found[event["event"]] = (match[1], event["level"])
    assert found["daemon.started"] == ("6", "info")
    assert found["policy.fault"] == ("3", "error")
    assert found["reconcile.applied"] == ("6", "info")
    assert found["daemon.stopped"] == ("6", "info")


def test_who_isnt_under_systemd_gets_json_without_priorities_unless_on_a_terminal(gateway: Gateway) -> None:
    gateway.start()
    gateway.end()
    assert all(json.loads(line)["event"] for line in gateway.log.read_text().splitlines())
    gateway.log.unlink()
    gateway.set(log={"format": "console", "level": "warning"})
    gateway.write("bravo.yaml", "policy: bravo\n")
    gateway.start()
    gateway.end()
    text = gateway.log.read_text()
    assert "policy.fault" in text
    assert "daemon.started" not in text
    assert not text.startswith("{")


def get(path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", 9451, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def answers(gateway: Gateway) -> bool:
    try:
        return gateway.space.run(get, "/readyz")[0] == 200
    except OSError:
        return False


def test_a_taken_port_keeps_nothing_from_being_enforced(gateway: Gateway) -> None:
    gateway.set(listen=["127.0.0.1:9451"])
    gateway.order("alpha", PREFIX, "tcp/3101")
    with gateway.space.socket() as taken:
        taken.bind(("127.0.0.1", 9451))
        taken.listen(1)
        gateway.start()
        assert gateway.blocks(PREFIX)
        assert gateway.reload()["ok"]
        until(lambda: gateway.logged("http.not_listening"))
    # It comes by itself when the port is free.
    until(lambda: answers(gateway))
    assert gateway.logged("http.listening")


def test_one_daemon_for_each_namespace(gateway: Gateway, beside: Gateway, tmp_path: Path) -> None:
    process = gateway.start()
    # With the same settings, and with others.
    same = gateway.cli("run")
    assert same.returncode == 1
    assert f"pid {process.pid}" in same.stderr
    with gateway_in(gateway.space, tmp_path / "rival") as rival:
        rival.order("bravo", PREFIX, "tcp/3101")
        for verb in ("run", "apply", "remove") * 10:
            refused = rival.cli(verb)
            assert refused.returncode == 1
            assert f"pid {process.pid}" in refused.stderr
        assert not gateway.blocks(PREFIX)
        # Not even its claim survives a daemon that is killed.
        gateway.end(signal.SIGKILL)
        assert rival.cli("apply").returncode == 0
    gateway.start()

    # In another namespace another one lives beside it, and neither sees the other.
    beside.order("charlie", "203.0.3.0/24", "tcp/3101")
    beside.start()
    assert beside.blocks("203.0.3.0/24")
    assert not gateway.blocks("203.0.3.0/24")
    assert beside.status()["policies"]["in_force"] == 1
    assert gateway.status()["policies"]["in_force"] == 0


HOLDING = """
import asyncio, sys
from gatewrit.engine.claim import claim

async def hold():
    with claim(None):
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(hold())
"""


def test_a_daemon_waits_at_its_start_for_a_command_that_is_just_at_it(gateway: Gateway) -> None:
    words = [sys.executable, "-c", HOLDING]
    with gateway.space.popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holding:
        assert holding.stdin is not None
        assert holding.stdout is not None
        assert holding.stdout.readline() == "held\n"
        gateway.start(ready=False)
        until(lambda: gateway.log.exists() and gateway.logged("daemon.started"))
        holding.stdin.close()
        gateway.hear("READY=1")


def test_people_are_answered_while_a_large_list_is_applied(gateway: Gateway) -> None:
    gateway.service("large", ("large.txt", "tcp/3101"))
    gateway.write("services/large.txt", "\n".join(MANY))
    gateway.policy("large")
    asked = Asker(gateway)
    began = time.monotonic()
    gateway.start(ready=False)
    gateway.hear("READY=1")
    took = time.monotonic() - began
    # READY comes after the rules, all of them, and /readyz hasn't said so earlier.
    assert gateway.status()["enforcement"] == "in_sync"
    assert gateway.status()["ruleset"]["segments"] == {"ipv4": len(MANY), "ipv6": 0}
    assert MANY[-1].removesuffix("/28") in gateway.listing()
    until(lambda: asked.ready_at)
    ready = next(at for at, text in gateway.heard if "READY=1" in text.split("\n"))
    assert asked.ready_at >= ready - 0.5

    asked.worst = 0.0
    count = asked.count
    gateway.write("services/large.txt", "\n".join(MANY[1:]))
    began = time.monotonic()
    assert gateway.reload()["ok"]
    changed = time.monotonic() - began
    during = asked.count - count
    asked.stop()
    assert during > 0
    assert asked.errors == []
    print(  # noqa: T201
        f"{len(MANY)} prefixes: ready {took:.2f} s after the start, {changed:.2f} s for one prefix less; "
        f"meanwhile {during} answers, the slowest after {asked.worst * 1000:.0f} ms"
    )


class Asker:
    """Asks for the status again and again, as a page that is looked at would."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.count, self.worst, self.ready_at = 0, 0.0, 0.0
        self.errors: list[str] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        while not self._stopped.wait(0.005):
            began = time.monotonic()
            try:
                code, _ = self.gateway.get("/readyz")
                status, body = self.gateway.get("/v1/status")
            except (FileNotFoundError, ConnectionRefusedError) as error:
                if self.count:
                    self.errors.append(repr(error))
                continue
            except OSError as error:
                self.errors.append(repr(error))
                continue
            if status != 200 or (self.ready_at and (code, body["enforcement"]) != (200, "in_sync")):
                self.errors.append(f"{code} {status} {body}")
            if code == 200 and not self.ready_at:
                self.ready_at = time.monotonic()
            self.count += 1
            self.worst = max(self.worst, (time.monotonic() - began) / 2)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


def test_fifty_reloads_leave_nothing_behind(gateway: Gateway) -> None:
    process = gateway.start()
    for number in range(1, 20):
        gateway.order(f"order-{number}", [f"203.0.{number}.0/24", f"2001:db8:{number}::/48"], "tcp/3101, udp/any")

    def weigh() -> tuple[int, int, int]:
        status = Path(f"/proc/{process.pid}/status").read_text()
        resident = int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]
        threads = int(re.search(r"Threads:\s+(\d+)", status)[1])  # type: ignore[index]
        return len(list(Path(f"/proc/{process.pid}/fd").iterdir())), threads, resident

    def churn(times: int) -> None:
        for number in range(times):
            gateway.order("flapping", f"198.51.100.{number % 200}", "any", action="drop")
            assert gateway.reload()["ok"]

    churn(10)
    files, threads, resident = weigh()
    churn(50)
    assert until(lambda: weigh()[0] <= files), (files, weigh())
    assert weigh()[1] <= threads + 2
    grown = weigh()[2] - resident
    assert grown < 8 * 1024, f"{grown} KiB more after fifty reloads"
    # Those that count, and of the flapping one those of the generations that are kept.
    assert len(list((gateway.state / "texts").iterdir())) <= 2 * 20 + 2 * MOST
