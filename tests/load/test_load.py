"""Two hundred slow and fifty fast HTTP clients at once: orders hold, reloads go on, memory stays, the slow are cut off.

`make load` goes on for five minutes and prints a table; the short form in `make test` ends once the limits must have
acted.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fault.scene import BLOCKED, NEIGHBOURS, Scene
from lab.flood import Flood
from load.clients import QUICKLY_CUT, Account, crowd
from support.gateway import policy

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from lab import Lab
    from support.gateway import Gateway

#: What docs/http.md says, in seconds: for a head to arrive, and for an answer to be taken and the next request to come.
HEAD, READER = 10.0, 60.0 + 75.0
#: Whether this is the long form, and for how long it goes on; the short one ends once each quick limit has acted.
LONG = os.environ.get("LOAD_SECONDS")
SECONDS = float(LONG or 100)
FAST, SLOW, PORT = 50 if LONG else 20, 200, 9451
#: Seconds beyond a limit that a cut may take, besides twice what the slowest answer took: by that the server is late.
LATE = 5.0
#: Megabytes that a process may have more at the end than after the first minute: each of the fifty that read slowly may
#: by then hold a large answer of its own, of 350 kB, where all began with the same.
GROWTH = 12.0


@dataclass(frozen=True)
class Sample:
    """Seconds since the start, resident megabytes of the enforcer and of the HTTP server, and reloads so far."""

    at: float
    enforcer: float
    server: float
    reloads: int


@pytest.mark.timeout(SECONDS + 120)
def test_a_crowd_of_slow_and_fast_clients(lab: Lab, gateway: Gateway) -> None:
    scene = Scene(gateway, "load")
    gateway.set(listen=[f"127.0.0.1:{PORT}"], limits={"total_share": 1, "change_share": 1})
    for number in range(60):
        text = policy(f"observed-{number}", "amended", action="observe")
        gateway.write(f"observed-{number}.yaml", f"{text}labels: {{{_labels()}}}\n")
    gateway.start()
    ours, theirs = Pipe()
    with Flood(lab, [*BLOCKED, *NEIGHBOURS], longest=SECONDS + 90) as flood:
        clients = gateway.space.start(crowd, theirs, PORT, FAST, SLOW)
        samples = _reload_and_watch(scene, ours)
        ours.send("enough")
        account = clients.result()
    leaked = sum(flood.arrived[flow] for flow in BLOCKED)
    lost = sum(flood.sent[flow] - flood.arrived[flow] for flow in NEIGHBOURS)
    print(_table(flood, leaked, lost, samples, account))  # noqa: T201
    assert (leaked, lost) == (0, 0)
    _judge(samples, account)
    assert gateway.cli("verify").returncode == 0


def _labels() -> str:
    return ", ".join(f"label-{number}: '{'x' * 200}'" for number in range(20))


def _reload_and_watch(scene: Scene, crowd: Connection) -> list[Sample]:
    """Amend and reload until time is up or, in the short form, the crowd says so; gives a few samples."""
    samples, began, reloads = list[Sample](), time.monotonic(), 0
    every = min(60.0, SECONDS / 6) if LONG else 2.0
    while time.monotonic() - began < SECONDS and (LONG or not crowd.poll()):
        scene.change()
        assert scene.gateway.reload()["ok"]
        reloads += 1
        elapsed = time.monotonic() - began
        if elapsed >= every * (len(samples) + 1):
            assert scene.gateway.process is not None
            (server,) = scene.gateway.servers()
            samples.append(Sample(elapsed, _resident(scene.gateway.process.pid), _resident(server), reloads))
        time.sleep(0.1)
    return samples


def _resident(pid: int) -> float:
    """Give the megabytes that a process has in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _judge(samples: list[Sample], account: Account) -> None:
    """Hold what was met to the limits."""
    assert set(account.answers) == {"200"}, account.answers
    bounds = {"head": HEAD, "silent": HEAD, "body": 0.0, "reader": READER}
    slack = LATE + 2 * max(account.took)
    late = {kind: took for kind, took in account.longest.items() if took > bounds[kind] + slack}
    assert not late, f"not cut off in time: {late}"
    # Who reads slowly is put up with for longer than the short form goes on.
    assert (bounds.keys() if LONG else QUICKLY_CUT) <= account.cut.keys(), account.cut
    if LONG:
        first, last = samples[0], samples[-1]
        assert last.enforcer - first.enforcer < GROWTH, samples
        assert last.server - first.server < GROWTH, samples


def _table(flood: Flood, leaked: int, lost: int, samples: list[Sample], account: Account) -> str:
    """Give what was seen, as Markdown."""
    took = sorted(account.took)
    p50, p99 = (took[int(len(took) * share)] * 1000 for share in (0.5, 0.99))
    cuts = ", ".join(f"{kind} {account.cut[kind]} ({account.longest[kind]:.0f} s)" for kind in sorted(account.longest))
    answers = ", ".join(f"{status}: {count:,}" for status, count in sorted(account.answers.items()))
    rows = [
        ("seconds; packets/s", f"{flood.seconds:.0f}; {flood.rate:,.0f}"),
        ("packets to what is blocked; leaked", f"{sum(flood.sent[flow] for flow in BLOCKED):,}; {leaked:,}"),
        ("packets to neighbours; wrongly blocked", f"{sum(flood.sent[flow] for flow in NEIGHBOURS):,}; {lost:,}"),
        ("reloads that were answered", f"{samples[-1].reloads:,}"),
        (f"{FAST} fast clients: answers by status", answers),
        ("… their latency, ms: p50 / p99 / longest", f"{p50:.1f} / {p99:.1f} / {took[-1] * 1000:.0f}"),
        (f"{SLOW} slow clients: times that each kind was cut off (the longest that one stayed)", cuts),
        (
            "enforcer's memory, MB, at " + ", ".join(f"{each.at:.0f} s" for each in samples),
            ", ".join(f"{each.enforcer:.1f}" for each in samples),
        ),
        ("HTTP server's memory, MB, then", ", ".join(f"{each.server:.1f}" for each in samples)),
    ]
    return "\n".join(["", "| what | seen |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
