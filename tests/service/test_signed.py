"""Policies that must be signed: only what enough people signed counts, to the octet, and nothing older than that."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

import gatewrit.cli.hand
import gatewrit.cli.look
import gatewrit.cli.prove
import gatewrit.cli.seal  # noqa: F401 - what is loaded here, no fork for a verb has to load again
from support import signers
from support.gateway import Gateway, policy, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.signers import Signer

FIRST, SECOND = "203.0.1.0/24", "203.0.9.0/24"
ALICE, BOB, CAROL = (signers.ed25519(name, seed=name.encode().ljust(32)) for name in ("alice", "bob", "carol"))
MALLORY = signers.ed25519("mallory", seed=b"m" * 32)


def demand(gateway: Gateway, required: int = 2) -> None:
    gateway.set(signatures={"required": required, "keys": [each.line for each in (ALICE, BOB, CAROL)]})


def sign(gateway: Gateway, *who: Signer, files: dict[str, Signer] | None = None) -> None:
    """Have people sign the manifest that lies there."""
    written = (gateway.policies / "MANIFEST").read_bytes()
    for name, each in (files or {f"MANIFEST.{each.name}.sig": each for each in who}).items():
        gateway.write(name, each.sign(written))


def seal(gateway: Gateway, *who: Signer) -> int:
    """Write a manifest and have people sign it; gives its serial."""
    made = gateway.cli("manifest", "--json")
    assert made.returncode == 0, made.stderr
    sign(gateway, *who)
    serial: int = json.loads(made.stdout)["serial"]
    return serial


@pytest.fixture
def signed(gateway: Gateway) -> Gateway:
    """A gateway on which one order is in force that alice and bob signed, and two must."""
    demand(gateway)
    gateway.order("alpha", FIRST, "tcp/3101")
    assert seal(gateway, ALICE, BOB) == 1
    gateway.start()
    assert gateway.blocks(FIRST)
    assert gateway.problems() == []
    return gateway


def codes(outcome: dict[str, list[dict[str, str]]]) -> list[str]:
    return [each["code"] for each in outcome["faults"] if each["severity"] == "error"]


def change(gateway: Gateway) -> None:
    gateway.policy("alpha", action="drop", revision=2)
    gateway.order("bravo", SECOND, "tcp/3101")


def test_what_nobody_signed_changes_nothing_until_it_is_signed(signed: Gateway) -> None:
    before = signed.listing()
    change(signed)
    outcome = signed.reload()
    assert codes(outcome) == ["not_as_signed"]
    assert "nothing was changed" in outcome["sentence"]
    assert signed.listing() == before
    (problem,) = [each for each in signed.status()["problems"] if each["severity"] == "error"]
    assert (problem["code"], problem["place"]) == ("not_as_signed", f"{signed.policies}/MANIFEST:1:1")
    for named in ("alpha.yaml", "services/bravo.yaml", "bravo.yaml", "manifest serial 1", "what was in force stays"):
        assert named in problem["message"]
    assert "gatewrit manifest" in problem["action"]
    assert signed.status()["enforcement"] == "degraded"
    assert signed.cli("reload").returncode == 2
    assert signed.cli("check").returncode == 2
    assert signed.cli("render").returncode == 2
    assert signed.cli("verify").returncode == 0

    assert seal(signed, ALICE) == 2
    outcome = signed.reload()
    assert codes(outcome) == ["not_signed"]
    assert "signed by alice; needed: 1 more, of bob and carol" in outcome["faults"][0]["message"]
    assert signed.listing() == before
    sign(signed, CAROL)
    assert codes(signed.reload()) == []
    assert signed.blocks(FIRST, SECOND)
    assert signed.problems() == []
    assert signed.status()["enforcement"] == "in_sync"
    checked = signed.cli("check")
    assert checked.returncode == 0
    assert "manifest serial 2" in checked.stdout
    shown = signed.status()["manifest"]
    assert (shown["serial"], [each.split(" ")[0] for each in shown["signers"]]) == (2, ["alice", "carol"])
    assert "manifest 2, signed by alice (SHA256:" in signed.cli("status").stdout
    accepted = [json.loads(each) for each in _kinds(signed, "manifest")]
    assert [(each["serial"], [who["name"] for who in each["signers"]]) for each in accepted] == [
        (1, ["alice", "bob"]),
        (2, ["alice", "carol"]),
    ]
    assert signed.cli("log", "verify").returncode == 0
    assert "signed by alice (SHA256:" in signed.cli("log", "--kind", "manifest").stdout
    assert all(who["fingerprint"].startswith("SHA256:") for each in accepted for who in each["signers"])


def _kinds(gateway: Gateway, kind: str) -> list[str]:
    rows = json.loads(gateway.cli("log", "--kind", kind, "--json").stdout)["items"]
    return [json.dumps(row["data"]) for row in rows]


#: What somebody does to a signed directory, and what is said of it.
TAMPERED: list[tuple[Callable[[Gateway], object], str, str]] = [
    (lambda g: g.service("alpha", (SECOND, "tcp/3101")), "not_as_signed", "services/alpha.yaml (not as signed)"),
    (lambda g: g.policy("alpha", state="rescinded", revision=2), "not_as_signed", "alpha.yaml (not as signed)"),
    (lambda g: (g.policies / "alpha.yaml").unlink(), "not_as_signed", "alpha.yaml (not there"),
    (lambda g: g.order("bravo", SECOND, "tcp/3101"), "not_as_signed", "bravo.yaml and services/bravo.yaml (not in"),
    (lambda g: (g.policies / "bravo.yaml").mkdir(), "not_as_signed", "bravo.yaml (not in the manifest)"),
    (lambda g: shutil.rmtree(g.services), "not_as_signed", "services/alpha.yaml (not there"),
    (lambda g: (shutil.rmtree(g.services), g.services.touch()), "not_as_signed", "can't be listed: "),
    (lambda g: (g.policies / "MANIFEST").unlink(), "not_signed", "there is no MANIFEST"),
    (lambda g: g.write("MANIFEST", "gatewrit-manifest 2\n"), "not_signed", "signed by nobody who may; needed: 2 more"),
    (lambda g: (g.write("MANIFEST", "serial 9\n"), sign(g, ALICE, BOB)), "manifest_invalid", "the first line must be"),
    (
        lambda g: (g.policies / "MANIFEST.bob.sig").unlink(),
        "not_signed",
        "signed by alice; needed: 1 more, of bob and carol",
    ),
    (lambda g: sign(g, files={"MANIFEST.bob.sig": MALLORY}), "not_signed", "signed by alice; needed: 1 more"),
    (lambda g: sign(g, files={"MANIFEST.bob.sig": ALICE}), "not_signed", "signed by alice; needed: 1 more"),
]


def by_hand(signed: Gateway) -> None:
    """What people decide on the gateway itself goes on while nobody signs."""
    signed.write("alpha.yaml", policy("alpha", "alpha", state="rescinded", revision=2))
    assert codes(signed.reload()) == ["not_as_signed"]
    assert signed.cli("suspend", "alpha", "--until", "1h", "--reason", "ticket 1").returncode == 0
    assert signed.views()["alpha"]["state"] == "suspended"
    assert signed.cli("resume", "alpha").returncode == 0
    assert signed.blocks(FIRST)
    (signed.policies / "alpha.yaml").unlink()
    forgot = signed.cli("forget", "alpha", "--reason", "ticket 2")
    assert forgot.returncode == 2
    assert "nobody can say what is gone" in forgot.stderr
    assert signed.blocks(FIRST)
    # Signed away, it stays until it is forgotten, as ever.
    (signed.policies / "services/alpha.yaml").unlink()
    seal(signed, ALICE, BOB)
    assert codes(signed.reload()) == ["policy_missing"]
    assert signed.cli("forget", "alpha", "--reason", "ticket 3").returncode == 0
    assert not signed.blocks(FIRST)


def test_what_isnt_as_enough_people_signed_changes_nothing(signed: Gateway) -> None:
    before = signed.listing()
    shutil.copytree(signed.policies, signed.root / "good")
    for tamper, code, told in TAMPERED:
        tamper(signed)
        outcome = signed.reload()
        assert codes(outcome) == [code], told
        assert told in outcome["faults"][0]["message"]
        assert signed.listing() == before
        assert signed.views()["alpha"]["state"] == "in_force"
        shutil.rmtree(signed.policies)
        shutil.copytree(signed.root / "good", signed.policies)
        assert codes(signed.reload()) == []

    # Signatures that don't count are told, and do no harm.
    sign(signed, files={"MANIFEST.mallory.sig": MALLORY, "MANIFEST.zz.sig": ALICE})
    signed.write("MANIFEST.old.sig", BOB.sign(b"something else"))
    assert codes(signed.reload()) == []
    said = {each["place"].split("/")[-1]: each["message"] for each in signed.status()["problems"] if each["place"]}
    assert "isn't one of signatures.keys: SHA256:" in said["MANIFEST.mallory.sig:1:1"]
    assert "each key counts once" in said["MANIFEST.zz.sig:1:1"]
    assert "made over something else" in said["MANIFEST.old.sig:1:1"]
    assert signed.status()["enforcement"] == "in_sync"
    by_hand(signed)


def test_an_older_manifest_isnt_taken_again(signed: Gateway) -> None:
    shutil.copytree(signed.policies, signed.root / "before")
    change(signed)
    assert seal(signed, BOB, CAROL) == 2
    assert codes(signed.reload()) == []
    now = signed.listing()
    shutil.rmtree(signed.policies)
    shutil.copytree(signed.root / "before", signed.policies)
    outcome = signed.reload()
    assert codes(outcome) == ["manifest_old"]
    assert "serial 1 is older than 2" in outcome["faults"][0]["message"]
    assert signed.listing() == now
    # Neither does a restart take it in: what was last good is, and the serial is known still.
    signed.restart()
    assert signed.listing() == now
    assert signed.views()["alpha"]["state"] == "in_force"
    assert ("manifest_old", None) in signed.problems()

    # The same serial for something else is no better; the older content under a higher serial is.
    made = signed.cli("manifest", "--serial", "2")
    assert made.returncode == 2
    assert "isn't over 2" in made.stderr
    lines = (signed.policies / "MANIFEST").read_text().replace("serial 1", "serial 2")
    signed.write("MANIFEST", lines)
    sign(signed, ALICE, BOB)
    outcome = signed.reload()
    assert codes(outcome) == ["manifest_old"]
    assert "another manifest of the same serial 2" in outcome["faults"][0]["message"]
    assert seal(signed, ALICE, BOB) == 3
    # Its files are read now; that lifts nothing, as ever.
    assert sorted(codes(signed.reload())) == ["policy_missing", "revision_not_raised"]


def test_at_the_very_first_start_nothing_unsigned_is_enforced(gateway: Gateway) -> None:
    demand(gateway)
    gateway.nft("table inet gatewrit {\n chain left { }\n}\n")
    gateway.order("alpha", FIRST, "tcp/3101")
    gateway.start()
    assert not gateway.blocks(FIRST)
    assert "chain left" in gateway.listing()
    assert gateway.status()["enforcement"] == "degraded"
    assert gateway.problems() == [("not_signed", None)]
    suspended = gateway.cli("suspend", "--all", "--until", "1h", "--reason", "try")
    assert suspended.returncode == 2
    assert "gatewrit remove" in suspended.stderr
    assert "chain left" in gateway.listing()
    assert gateway.cli("reload").returncode == 1
    seal(gateway, ALICE, BOB)
    # The watcher sees the last signature by itself.
    until(lambda: gateway.blocks(FIRST))
    until(lambda: gateway.status()["enforcement"] == "in_sync")
    assert "chain left" not in gateway.listing()


def test_once_without_a_daemon(gateway: Gateway) -> None:
    demand(gateway)
    gateway.order("alpha", FIRST, "tcp/3101")
    applied = gateway.cli("apply")
    assert applied.returncode == 1
    assert "isn't as it must be signed" in applied.stdout
    assert not gateway.blocks(FIRST)
    seal(gateway, ALICE, BOB)
    assert gateway.cli("plan").returncode == 2
    assert gateway.cli("apply").returncode == 0
    assert gateway.blocks(FIRST)
    change(gateway)
    planned = gateway.cli("plan")
    assert planned.returncode == 0
    assert "not_as_signed" in planned.stderr
    assert gateway.cli("apply").returncode == 2
    assert not gateway.blocks(SECOND)

    # Nobody can tell what is older without the record: nothing is let in until somebody decides.
    seal(gateway, ALICE, BOB)
    record = gateway.state / "manifest.json"
    record.write_bytes(record.read_bytes()[:20])
    applied = gateway.cli("apply")
    assert applied.returncode == 2
    assert "manifest_unknown" in applied.stderr
    assert gateway.blocks(FIRST)
    assert not gateway.blocks(SECOND)
    record.unlink()
    assert gateway.cli("apply").returncode == 0
    assert gateway.blocks(FIRST, SECOND)


def test_without_the_setting_signatures_mean_nothing(gateway: Gateway) -> None:
    gateway.order("alpha", FIRST, "tcp/3101")
    seal(gateway, MALLORY)
    change(gateway)
    assert gateway.cli("apply").returncode == 0
    assert gateway.blocks(FIRST, SECOND)
    assert not (gateway.state / "manifest.json").exists()
    checked = gateway.cli("check")
    assert checked.returncode == 0
    assert "not_as_signed" in checked.stderr


def test_a_manifest_is_written_of_what_is_sound_and_new(gateway: Gateway) -> None:
    manifest = gateway.policies / "MANIFEST"
    gateway.write("services/list.txt", "203.0.113.0/24\n")
    gateway.order("alpha", "list.txt", "tcp/3101")
    gateway.write("notes.txt", "not read\n")
    first = gateway.cli("manifest", "--serial", "41")
    assert first.returncode == 0
    assert "serial 41, 3 files" in first.stdout
    assert "ssh-keygen -Y sign -n gatewrit" in first.stdout
    written = manifest.read_bytes()
    names = [line.split("  ")[1] for line in written.decode().splitlines()[3:]]
    assert names == ["alpha.yaml", "services/alpha.yaml", "services/list.txt"]
    sign(gateway, ALICE)
    again = gateway.cli("manifest", "--json")
    assert not json.loads(again.stdout)["written"]
    assert manifest.read_bytes() == written

    gateway.write("bravo.yaml", "policy: bravo\n")
    assert gateway.cli("manifest").returncode == 2
    assert manifest.read_bytes() == written
    (gateway.policies / "bravo.yaml").unlink()
    gateway.write("services/list.txt", "203.0.112.0/24\n")
    changed = json.loads(gateway.cli("manifest", "--json").stdout)
    assert (changed["serial"], changed["removed"]) == (42, ["MANIFEST.alice.sig"])
    assert not (gateway.policies / "MANIFEST.alice.sig").exists()
    gateway.write("MANIFEST", "cut off")
    refused = gateway.cli("manifest")
    assert refused.returncode == 2
    assert "MANIFEST that lies there, line 1: " in refused.stderr
    assert manifest.read_text() == "cut off"
