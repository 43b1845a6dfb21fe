"""Every way to have the policies read again, and what a reload answers."""

from __future__ import annotations

import json
import signal
import threading
from typing import TYPE_CHECKING

from support.gateway import until

if TYPE_CHECKING:
    from support.gateway import Gateway

PREFIX = "203.0.1.0/24"


def test_sighup_reads_everything_again(gateway: Gateway) -> None:
    gateway.start()
    gateway.listen()
    before = len(gateway.heard)
    gateway.send(signal.SIGHUP)
    gateway.hear("RELOADING=1", before)
    gateway.hear("READY=1", before)
    assert gateway.process is not None
    assert gateway.process.poll() is None


def test_reload_answers_with_what_came_of_it(gateway: Gateway) -> None:
    nobody = gateway.cli("reload")
    assert nobody.returncode == 1
    assert "no daemon is running here" in nobody.stderr

    gateway.order("alpha", PREFIX, "tcp/3101")
    gateway.start()
    fine = gateway.cli("reload", "--json")
    assert fine.returncode == 0
    assert json.loads(fine.stdout) | {"ok": True, "generation": 1, "changed": 0, "faults": []} == json.loads(
        fine.stdout
    )

    gateway.write("bravo.yaml", "policy: bravo\n")
    bad = gateway.cli("reload", "--json")
    assert bad.returncode == 2
    outcome = json.loads(bad.stdout)
    assert outcome["ok"]
    assert {"file", "line", "column", "code", "message", "severity"} == set(outcome["faults"][0])
    assert outcome["faults"][0]["file"].endswith("/bravo.yaml")
    told = gateway.cli("reload")
    assert told.returncode == 2
    assert "bravo.yaml:1:1: " in told.stderr

    # A warning alone is no fault.
    (gateway.policies / "bravo.yaml").unlink()
    gateway.write("notes.txt", "remember\n")
    assert gateway.cli("reload").returncode == 0


def test_changed_files_are_picked_up_when_they_are_complete(gateway: Gateway) -> None:
    gateway.start()
    generation = gateway.status()["ruleset"]["generation"]

    # Renamed into place.
    gateway.order("alpha", PREFIX, "tcp/3101")
    until(lambda: gateway.blocks(PREFIX))

    # Written where it is: read once it is closed, and never in between.
    gateway.service("bravo", ("203.0.2.0/24", "tcp/3101"))
    text = (gateway.policies / "alpha.yaml").read_text().replace("alpha", "bravo")
    with (gateway.policies / "bravo.yaml").open("w") as file:
        for line in text.splitlines(keepends=True)[:-1]:
            file.write(line)
            file.flush()
        # A whole pass of what reacts to changes, on account of another file, would take in the half one too; so
        # nothing else changes here until the daemon has been asked something after the last write.
        assert "bravo" not in gateway.views()
        assert gateway.problems() == []
        file.write(text.splitlines(keepends=True)[-1])
    until(lambda: gateway.blocks("203.0.2.0/24"))
    assert gateway.problems() == []

    # An editor's own files, in passing.
    before = len(gateway.logged("reconcile.applied"))
    for name in (".alpha.yaml.swp", "alpha.yaml~"):
        (gateway.policies / name).write_text("policy: alpha\n")
    # Taken away.
    (gateway.policies / "bravo.yaml").unlink()
    until(lambda: ("policy_missing", "bravo") in gateway.problems())
    assert len(gateway.logged("reconcile.applied")) == before
    assert gateway.status()["ruleset"]["generation"] > generation

    # A folder that comes later is watched too.
    gateway.policies.rename(gateway.root / "aside")
    until(lambda: len(gateway.problems()) >= 2)
    (gateway.root / "aside").rename(gateway.policies)
    until(lambda: gateway.problems() == [("policy_missing", "bravo")])
    gateway.order("charlie", "203.0.3.0/24", "tcp/3101")
    until(lambda: gateway.blocks("203.0.3.0/24"))


def test_many_who_reload_at_once_all_hear_the_outcome(gateway: Gateway) -> None:
    gateway.start()
    outcomes: list[dict[str, object]] = []

    def reload(number: int) -> None:
        gateway.order(f"order-{number}", f"203.0.{number}.0/24", "tcp/3101")
        outcomes.append(gateway.reload())
        assert gateway.blocks(f"203.0.{number}.0/24")

    threads = [threading.Thread(target=reload, args=(number,)) for number in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 12
    assert all(outcome["ok"] and not outcome["faults"] for outcome in outcomes)
    assert gateway.status()["policies"]["in_force"] == 12
    assert gateway.status()["enforcement"] == "in_sync"
    # No reload is refused or queued in vain: those who come together share one reading.
    assert int(gateway.reload()["generation"]) <= 13


def test_a_client_that_hangs_up_costs_nothing(gateway: Gateway) -> None:
    gateway.start()
    with gateway.connect() as impatient:
        impatient.sendall(b'{"verb": "reload"}\n')
    gateway.order("alpha", PREFIX, "tcp/3101")
    assert gateway.reload()["ok"]
    assert gateway.blocks(PREFIX)
