"""`gatewrit report` of a real daemon's journal, with and without the daemon: an order's life as it was lived here."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from support.gateway import until

if TYPE_CHECKING:
    from support.gateway import Gateway

PREFIX = "203.0.113.0/24"


def report(gateway: Gateway, *args: str) -> dict[str, Any]:
    answer = gateway.cli("report", "--json", *args)
    assert answer.returncode == 0, answer.stderr
    document: dict[str, Any] = json.loads(answer.stdout)
    return document


def test_the_life_of_an_order_as_it_was_lived(gateway: Gateway) -> None:
    nothing = gateway.cli("report")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "there is no journal yet" in nothing.stderr
    # So that somebody else may take the table away.
    gateway.set(table_owner=False)
    gateway.order("alpha", PREFIX, "tcp/3101", start=time.time() - 100)
    gateway.start()
    gateway.reload()
    gateway.policy("alpha", revision=2, action="drop", start=time.time() - 100)
    gateway.reload()
    gateway.nft("delete table inet gatewrit")
    until(lambda: "drift" in [each["kind"] for each in report(gateway)["events"]])

    # Killed, its rules there when the next one comes.
    gateway.end(signal.SIGKILL)
    gateway.start()
    assert gateway.cli("suspend", "alpha", "--until", "1h", "--reason", "court").returncode == 0
    assert report(gateway)["policies"][0]["state"] == "suspended"
    assert gateway.cli("resume", "alpha").returncode == 0
    gateway.reload()
    gateway.end()

    # As after the host was down.
    gateway.nft("delete table inet gatewrit")
    gateway.start()
    gateway.policy("alpha", revision=3, action="drop", state="rescinded", start=time.time() - 100)
    gateway.reload()
    gateway.end()

    document = report(gateway, "--policy", "alpha")
    (policy,) = document["policies"]
    assert policy["state"] == "rescinded"
    assert [each["revision"] for each in policy["revisions"]] == [1, 2, 3]
    kinds = [each["kind"] for each in policy["interruptions"] if each["kind"] not in {"not_in_kernel", "beyond"}]
    assert kinds == ["silent_end", "suspended", "put_in_anew"]
    assert policy["dates"]["lifted"] == policy["events"][-1]["at"]
    coverage = policy["coverage"]
    assert 0 < coverage["enforced_seconds"] < coverage["ordered_seconds"]
    general = [each["kind"] for each in document["events"]]
    assert general == ["begun", "started", "drift", "started", "stopped", "started", "found", "stopped"]
    assert gateway.cli("log", "verify", "--head", document["journal"]["head"]).returncode == 0


def test_what_a_daemon_finds_when_it_comes_back_is_written_down(gateway: Gateway) -> None:
    def found() -> list[str]:
        return [
            row["data"]["found"] for row in json.loads(gateway.cli("log", "--json", "--kind", "found").stdout)["items"]
        ]

    gateway.order("alpha", PREFIX, "tcp/3101")
    assert gateway.cli("apply").returncode == 0
    # What no packet meets is cleared, and says nothing about the order.
    gateway.nft("add chain inet gatewrit left-over")
    assert gateway.cli("apply").returncode == 0
    assert found() == []
    gateway.nft("flush chain inet gatewrit forward")
    assert gateway.cli("apply").returncode == 0
    assert found() == ["changed"]
    kinds = [each["kind"] for each in report(gateway)["policies"][0]["interruptions"]]
    assert "put_in_anew" in kinds


def test_it_is_written_whole_or_not_at_all_and_a_broken_journal_shows(gateway: Gateway) -> None:
    gateway.order("alpha", PREFIX, "tcp/3101")
    assert gateway.cli("apply").returncode == 0
    target = gateway.root / "account.html"
    assert gateway.cli("report", "--output", str(target)).returncode == 0
    assert target.read_text().startswith("<!DOCTYPE html>")
    assert target.stat().st_mode & 0o777 == 0o640
    # What is there keeps its mode; a link isn't written through.
    target.chmod(0o600)
    link = gateway.root / "link.html"
    link.symlink_to(target)
    refused = gateway.cli("report", "--output", str(link), "--public")
    assert refused.returncode == 1
    assert "isn't a regular file" in refused.stderr
    assert gateway.cli("report", "--output", str(gateway.root / "none" / "a.html")).returncode == 1

    with closing(sqlite3.connect(gateway.state / "journal.db")) as journal, journal:
        journal.execute("UPDATE rows SET at = at + 1 WHERE seq = 3")
    broken = gateway.cli("report", "--output", str(target))
    assert broken.returncode == 1
    assert "the journal is broken, as the report says: row 3" in broken.stderr
    assert "BROKEN" in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in gateway.root.glob(".*")) == []

    for words in (["--from", "2026"], ["--from", "2015-01-02T00:00:00Z", "--to", "2015-01-01T00:00:00Z"]):
        assert gateway.call("report", "--config", str(gateway.config), *words).returncode == 64
    unknown = gateway.cli("report", "--policy", "beta")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "tells nothing of a policy beta" in unknown.stderr
