"""The journal of the real daemon: an order's life is in it, it verifies, and whatever becomes of it, orders hold."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from gatewrit.engine.journal import database
from gatewrit.engine.journal.reader import Past, Reader
from support.gateway import instant, until

if TYPE_CHECKING:
    from support.gateway import Gateway

PREFIX = "203.0.113.0/24"


def rows(gateway: Gateway, *args: str) -> list[dict[str, Any]]:
    answer = gateway.cli("log", "--json", *args)
    assert answer.returncode == 0, answer.stderr
    items: list[dict[str, Any]] = json.loads(answer.stdout)["items"]
    return items


def kinds(gateway: Gateway, *args: str) -> list[str]:
    return [row["kind"] for row in rows(gateway, "--policy", "alpha", *args)]


def test_an_orders_life_is_written_down(gateway: Gateway) -> None:
    nothing = gateway.cli("log")
    assert nothing.returncode == 1
    assert "there is no journal yet" in nothing.stderr

    gateway.order("alpha", PREFIX, "tcp/3101")
    gateway.start()
    until(lambda: gateway.state.joinpath("journal.db").exists() and "enforced" in kinds(gateway))
    assert kinds(gateway) == ["accepted", "enforced", "state"]
    # People read instants, not seconds; and are told where nothing fits.
    assert " since=20" in gateway.cli("log", "--kind", "enforced").stdout
    assert "no row of the journal fits" in gateway.cli("log", "--kind", "enforcd").stderr
    said = rows(gateway, "--kind", "accepted")[0]["data"]
    for file in (gateway.policies / "alpha.yaml", gateway.services / "alpha.yaml"):
        stamp = {"mtime": int(file.stat().st_mtime), "uid": file.stat().st_uid}
        assert stamp in [
            each for name, each in said["files"].items() if name.endswith(str(file.relative_to(gateway.policies)))
        ]

    # Said silently under the same number: refused once, however often it is read.
    gateway.policy("alpha", action="drop")
    gateway.reload()
    gateway.reload()
    assert kinds(gateway, "--kind", "refused") == ["refused"]
    gateway.policy("alpha", action="drop", revision=2)
    gateway.reload()
    assert kinds(gateway)[3:] == ["refused", "accepted", "mended", "enforced"]
    gateway.policy("alpha", action="drop", revision=3, state="rescinded")
    gateway.reload()
    assert kinds(gateway)[7:] == ["accepted", "lifted", "state"]

    before = len(kinds(gateway))
    gateway.restart()
    until(lambda: [row["kind"] for row in rows(gateway) if row["policy"] is None].count("started") == 2)
    gateway.reload()
    assert len(kinds(gateway)) == before
    general = [row["kind"] for row in rows(gateway) if row["policy"] is None]
    assert general[:2] == ["begun", "started"]
    assert "stopped" in general
    assert "alpha" in gateway.cli("log").stdout

    told = gateway.logged("journal.appended")
    assert gateway.cli("log", "verify", "--head", told[0]["head"]).returncode == 0
    assert gateway.cli("log", "verify").returncode == 0
    past = Reader(gateway.state).standing_at(10**10)
    assert isinstance(past, Past)
    assert not past.policies["alpha"].enforced


def test_every_revision_that_was_refused_is_kept_word_by_word(gateway: Gateway) -> None:
    gateway.write("services/list.txt", f"{PREFIX}\n")
    gateway.order("alpha", "list.txt", "tcp/3101")
    gateway.start()
    drafts = []
    for action in ("drop", "observe", "observe"):
        gateway.policy("alpha", action=action)
        drafts.append((gateway.policies / "alpha.yaml").read_bytes())
        gateway.reload()
    drafts.append(gateway.write("alpha.yaml", "policy: alpha\nno: policy\n").read_bytes())
    gateway.reload()
    gateway.restart()
    refused = rows(gateway, "--kind", "refused")
    assert all(row["policy"] == "alpha" for row in refused)
    with database.open_to_read(gateway.state / "journal.db") as journal:
        kept = [database.get_text(journal, row["data"]["texts"]["policy"]["sha256"]) for row in refused]
    # A text that is refused again is one row still; one that has more than one fault has a row for each.
    assert list(dict.fromkeys(kept)) == [drafts[0], drafts[1], drafts[3]]
    lists = refused[0]["data"]["texts"]["services"]["alpha"]["lists"]
    assert [each["sha256"] for each in lists.values()] == [sha256(f"{PREFIX}\n".encode()).hexdigest()]
    assert len(refused[0]["data"]["files"]) == 3
    assert gateway.cli("log", "verify").returncode == 0


def test_what_is_done_by_hand_and_what_drifts_is_written_down(gateway: Gateway) -> None:
    gateway.set(table_owner=False)
    gateway.order("alpha", PREFIX, "tcp/3101")
    gateway.start()
    gateway.reload()
    soon = instant(time.time() + 3600)
    done = gateway.cli("suspend", "alpha", "--until", soon, "--reason", "court")
    assert done.returncode == 0, done.stderr
    gateway.reload()
    suspended = rows(gateway, "--kind", "suspended")[0]["data"]
    assert suspended["reason"] == "court"
    assert suspended["by"]["uid"] == 0
    assert kinds(gateway)[3:] == ["suspended", "problem", "state"]
    # Its rules are there still, with the end of the suspension as their start.
    past = Reader(gateway.state).standing_at(int(time.time()))
    assert isinstance(past, Past)
    suspension = past.policies["alpha"].suspended
    assert suspension is not None
    assert instant(suspension["until"]) == soon

    gateway.nft("delete table inet gatewrit")
    until(lambda: rows(gateway, "--kind", "drift"))
    assert gateway.cli("log", "verify").returncode == 0


def test_who_took_everything_out_is_written_down(gateway: Gateway) -> None:
    gateway.order("alpha", PREFIX, "tcp/3101")
    assert gateway.cli("apply").returncode == 0
    assert rows(gateway, "--kind", "accepted")[0]["data"]["asked"] == [{"uid": 0, "name": "root"}]
    removed = gateway.cli("remove", "--json")
    assert json.loads(removed.stdout)["journal"] is None
    last = rows(gateway)[-1]
    assert (last["kind"], last["data"]) == ("removed", {"by": {"uid": 0, "name": "root"}})
    past = Reader(gateway.state).standing_at(int(time.time()))
    assert isinstance(past, Past)
    assert not past.policies["alpha"].enforced
    # Where there was nothing to take out, nothing is said to have been.
    assert gateway.cli("remove").returncode == 0
    assert rows(gateway)[-1] == last
    assert gateway.cli("apply").returncode == 0
    assert kinds(gateway)[-1] == "enforced"

    # Somebody holds the journal locked: it is told, and the blocks go all the same.
    with closing(sqlite3.connect(gateway.state / "journal.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        removed = gateway.cli("remove")
    assert (removed.returncode, gateway.listing()) == (0, "")
    assert "locked" in removed.stderr


def test_a_row_that_is_changed_is_found(gateway: Gateway) -> None:
    gateway.order("alpha", PREFIX, "tcp/3101")
    gateway.start()
    gateway.reload()
    gateway.end()
    with closing(sqlite3.connect(gateway.state / "journal.db")) as journal, journal:
        journal.execute("UPDATE rows SET at = at + 1 WHERE seq = 3")
    answer = gateway.cli("log", "verify")
    assert answer.returncode == 1
    assert "first bad row 3" in answer.stdout


def test_whatever_becomes_of_the_journal_orders_hold(gateway: Gateway) -> None:
    gateway.order("alpha", PREFIX, "tcp/3101")
    gateway.state.mkdir()
    (gateway.state / "journal.db").write_bytes(b"this was a journal once" * 1000)
    gateway.start()
    assert gateway.blocks(PREFIX)
    gateway.reload()
    assert ("journal_damaged", None) in until(gateway.problems)
    assert [path.name for path in gateway.state.glob("journal.db.damaged-*")]
    assert rows(gateway)[0]["data"]["damaged"]

    # Somebody else holds it locked: what happens waits, and comes in order.
    with closing(sqlite3.connect(gateway.state / "journal.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        gateway.policy("alpha", revision=2)
        gateway.reload()
        until(lambda: ("journal_unwritable", None) in gateway.problems())
        assert gateway.views()["alpha"]["revision"] == 2
        gateway.policy("alpha", revision=3)
        gateway.reload()
    until(lambda: [row["data"]["revision"] for row in rows(gateway, "--kind", "accepted")] == [1, 2, 3])
    until(lambda: ("journal_unwritable", None) not in gateway.problems())
    assert gateway.cli("log", "verify").returncode == 0
