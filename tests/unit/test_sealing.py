"""A directory as it was signed: what was vouched for is what is parsed, whatever becomes of the disk meanwhile."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from gatewrit.engine import gate, sealing
from gatewrit.engine.sealing import Accepted, NotSealedError, Signing
from gatewrit.policy import files
from gatewrit.policy.load import read_directory
from gatewrit.signing.keys import read_key
from gatewrit.signing.manifest import Manifest
from support import signers
from support.gateway import policy, service

if TYPE_CHECKING:
    from pathlib import Path

    from gatewrit.policy.load import Reading

ALICE, BOB = signers.ed25519("alice"), signers.ed25519("bob")
FOUR_EYES = Signing(2, (read_key(ALICE.line), read_key(BOB.line)))
FILES = {
    "alpha.yaml": policy("alpha", "alpha"),
    "services/alpha.yaml": service("alpha", ("list.txt", "tcp/3101")),
    "services/list.txt": "203.0.113.0/24\n",
}


def put(folder: Path, held: dict[str, str]) -> None:
    for name, text in held.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def sign(folder: Path, serial: int = 1, held: dict[str, str] = FILES) -> None:
    digests = {name: sha256(text.encode()).hexdigest() for name, text in held.items()}
    written = Manifest(serial, 1, digests).text()
    (folder / "MANIFEST").write_bytes(written)
    for who in (ALICE, BOB):
        (folder / f"MANIFEST.{who.name}.sig").write_text(who.sign(written))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path, FILES)
    sign(tmp_path)
    return tmp_path


def read(folder: Path, last: Accepted | None = None, before: Reading | None = None) -> Reading:
    return gate.read_signed(folder, FOUR_EYES, last, before)[0]


def refused(folder: Path, last: Accepted | None = None) -> list[str]:
    with pytest.raises(NotSealedError) as raised:
        read(folder, last)
    return [each.code for each in raised.value.faults]


def test_a_signed_directory_is_read_as_one_that_nobody_signed(folder: Path) -> None:
    signed, plain = read(folder), read_directory(folder)
    assert signed.faults == plain.faults == ()
    assert signed.policies["alpha"].meaning == plain.policies["alpha"].meaning
    assert signed.services["alpha"].service.digest == plain.services["alpha"].service.digest
    assert {each.path for each in plain.loaded.values()} == FILES.keys()


@pytest.mark.parametrize("again", [False, True])
def test_what_was_vouched_for_is_what_is_parsed(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    again: bool,  # noqa: FBT001 - whether it was read before
) -> None:
    before = read(folder) if again else None
    wanted = read(folder).services["alpha"].service.digest
    sealed, vouched = sealing.vouch, []

    def vouch(*args: object) -> object:
        # The moment between verifying and parsing is as long as whoever changes files could wish for.
        found = sealed(*args)  # type: ignore[arg-type]
        vouched.append(found)
        put(folder, {"services/list.txt": "198.51.100.0/24\n", "alpha.yaml": "policy: alpha\n", "bravo.yaml": "x"})
        return found

    monkeypatch.setattr(gate, "vouch", vouch)
    reading = read(folder, before=before)
    assert len(vouched) == 1
    assert reading.faults == ()
    assert set(reading.policies) == {"alpha"}
    assert reading.services["alpha"].service.digest == wanted
    monkeypatch.undo()
    assert refused(folder) == ["not_as_signed"]


def test_nothing_is_parsed_that_nobody_signed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder, {"alpha.yaml": policy("alpha", revision=2)})
    (folder / "MANIFEST.bob.sig").write_text(ALICE.sign((folder / "MANIFEST").read_bytes()))
    with monkeypatch.context() as patched:
        patched.setattr("gatewrit.signing.manifest.parse", lambda *_: pytest.fail("it was parsed"))
        assert refused(folder) == ["not_signed", "signature_ignored"]
    (folder / "MANIFEST.bob.sig").write_text(BOB.sign((folder / "MANIFEST").read_bytes()))
    monkeypatch.setattr("gatewrit.policy.load._read_folder", lambda *_: pytest.fail("it was parsed"))
    assert refused(folder) == ["not_as_signed"]


def test_a_list_that_hasnt_changed_isnt_read_again(folder: Path) -> None:
    for name in FILES:
        os.utime(folder / name, (1, 1))
    before = read(folder)
    again = read(folder, before=before)
    assert again.policies["alpha"] is before.policies["alpha"]
    assert again.services["alpha"] is before.services["alpha"]


def test_a_service_that_names_a_list_outside_of_the_manifest_cant_use_it(folder: Path) -> None:
    less = {name: text for name, text in FILES.items() if not name.endswith(".txt")}
    sign(folder, held=less)
    reading = read(folder)
    assert [each.code for each in reading.faults] == ["not_found"]
    assert "the manifest doesn't name it" in reading.faults[0].message


def test_what_isnt_read_may_lie_there(folder: Path) -> None:
    put(folder, {"notes.txt": "x", ".alpha.yaml.swp": "x", "alpha.yaml~": "x", "below/more.yaml": "x"})
    assert set(read(folder).policies) == {"alpha"}


def test_links_are_followed_within_the_directory_only(folder: Path) -> None:
    (folder / "alpha.yaml").rename(folder / "real")
    (folder / "alpha.yaml").symlink_to("real")
    assert set(read(folder).policies) == {"alpha"}
    outside = folder.parent / "outside.yaml"
    outside.write_text(FILES["alpha.yaml"])
    (folder / "alpha.yaml").unlink()
    (folder / "alpha.yaml").symlink_to(outside)
    assert refused(folder) == ["not_as_signed"]


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (Accepted(6, "sha256:6", 0, (), 0), None),
        (Accepted(7, "sha256:7", 0, (), 0), "manifest_old"),
        (Accepted(8, "sha256:8", 0, (), 0), "manifest_old"),
    ],
)
def test_serials_only_grow(folder: Path, last: Accepted, code: str | None) -> None:
    sign(folder, serial=7)
    if code is None:
        seal = gate.read_signed(folder, FOUR_EYES, last)[1]
        assert seal is not None
        # What was accepted is accepted again, as every reload has to.
        assert read(folder, seal.accepted(1)).faults == ()
    else:
        assert refused(folder, last) == [code]


def test_a_flood_of_signatures_costs_a_bounded_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "MANIFEST.bob.sig").rename(folder / "MANIFEST.zz.sig")
    for number in range(200):
        (folder / f"MANIFEST.{number}.sig").write_text("x" * 20_000)
    opened: list[str] = []
    monkeypatch.setattr(files, "read", lambda *args, _read=files.read: (opened.append(args[1]), _read(*args))[1])
    assert set(refused(folder)) == {"not_signed", "signature_ignored"}
    assert len(opened) == 1 + 64


def test_what_was_accepted_is_read_back_or_said_to_be_lost(tmp_path: Path) -> None:
    accepted = Accepted(7, "sha256:x", 5, ("alice",), 6)
    assert sealing.load_accepted(tmp_path) is None
    sealing.save_accepted(tmp_path, accepted)
    assert sealing.load_accepted(tmp_path) == accepted
    kept = json.loads((tmp_path / sealing.FILE).read_text())
    for key, value in {"version": 2, "serial": 0, "digest": None, "made": -1, "signers": "alice", "at": 2**60}.items():
        (tmp_path / sealing.FILE).write_text(json.dumps({**kept, key: value}))
        with pytest.raises(ValueError, match="not a manifest that was accepted"):
            sealing.load_accepted(tmp_path)
