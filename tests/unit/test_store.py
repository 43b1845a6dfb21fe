"""The last good policies on disk: only what changed is written, and what couldn't be written is written next time."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest

from gatewrit.engine import durable
from gatewrit.engine.generations import Generations
from gatewrit.engine.store import Kept, Store
from gatewrit.policy.load import PolicyDocument, ServiceDocument, parse_policy, parse_service
from support.gateway import policy, service
from support.users import can_be


def kept(name: str, *prefixes: str, shared: ServiceDocument | None = None, **fields: object) -> Kept:
    document = parse_policy(policy(name, shared.handle if shared else name, **fields).encode(), f"{name}.yaml")  # type: ignore[arg-type]
    assert isinstance(document, PolicyDocument)
    found = shared or parse_service(service(name, (prefixes, "tcp/1")).encode(), f"services/{name}.yaml", {})
    assert isinstance(found, ServiceDocument)
    return Kept(document, {found.handle: found})


def read(root: Path) -> dict[str, tuple[str, ...]]:
    """Read the disk as a new process does: nothing may be damaged or left over."""
    found, damaged = Store(root).load()
    assert damaged == ()
    wanted = {source.sha256 for each in found.values() for source in each.sources()}
    assert {path.name for path in (root / "texts").iterdir()} == wanted
    return {name: tuple(sorted(source.sha256 for source in each.sources())) for name, each in found.items()}


def said(policies: dict[str, Kept]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(sorted(source.sha256 for source in each.sources())) for name, each in policies.items()}


def steps() -> list[dict[str, Kept]]:
    """Give states one after the other: changes, texts that two policies share, policies that come and go."""
    alpha, bravo = kept("alpha", "203.0.113.1"), kept("bravo", "203.0.113.2")
    beside = kept("charlie", shared=alpha.services["alpha"])
    return [
        {"alpha": alpha, "bravo": bravo},
        {"alpha": alpha, "bravo": kept("bravo", "203.0.113.3")},
        {"alpha": alpha, "bravo": bravo, "charlie": beside},
        {"alpha": kept("alpha", "203.0.113.4", revision=2), "charlie": beside},
        {"charlie": beside},
        {"charlie": beside},
        {},
        {"alpha": alpha},
    ]


def test_the_disk_follows_from_step_to_step(tmp_path: Path) -> None:
    store, before = Store(tmp_path), dict[str, Kept]()
    for after in steps():
        store.save(after, before)
        assert read(tmp_path) == said(after)
        before = after


def test_what_has_not_changed_is_not_even_looked_at(tmp_path: Path) -> None:
    store, policies = Store(tmp_path), steps()[0]
    store.save(policies, {})
    again = dict(policies)
    with patch.object(durable, "write", side_effect=AssertionError), patch("os.scandir", side_effect=AssertionError):
        store.save(again, policies)


@pytest.mark.parametrize("what", ["write", "sync_folder"])
def test_what_could_not_be_written_is_written_the_next_time(tmp_path: Path, what: str) -> None:
    """The daemon goes on with what counts, so the next save comes from a state that the disk never had."""
    for failing in range(6):
        root = tmp_path / str(failing)
        store, before = Store(root), dict[str, Kept]()
        calls, real = iter(range(1000)), getattr(durable, what)

        def sometimes(*args: object, real: object = real, calls: object = calls, failing: int = failing) -> None:
            if next(calls) % 6 == failing:  # type: ignore[call-overload]
                raise OSError(28, "No space left on device")
            real(*args)  # type: ignore[operator]

        for after in steps():
            with patch.object(durable, what, sometimes), suppress(OSError):
                store.save(after, before)
            before = after
            if after:
                store.save(after, before)
                assert read(root) == said(after)


def test_what_was_spoilt_is_written_anew_all_of_it(tmp_path: Path) -> None:
    """One text was found to be another than its name says: nobody knows which others are, for reading ended there."""
    policies = {"alpha": kept("alpha", "203.0.113.1"), "bravo": kept("bravo", "203.0.113.2")}
    Store(tmp_path).save(policies, {})
    for path in (tmp_path / "texts").iterdir():
        data = path.read_bytes()
        path.write_bytes(data[:-1] + b"#")
    store = Store(tmp_path)
    found, damaged = store.load()
    assert (found, len(damaged)) == ({}, 2)
    store.save(policies, found)
    assert read(tmp_path) == said(policies)


@pytest.mark.parametrize("file", [7, None, {}, ["a.yaml"]])
def test_a_file_that_no_file_is_called_is_damage(tmp_path: Path, file: object) -> None:
    store, policies = Store(tmp_path), {"a": kept("a", "192.0.2.0/24")}
    store.save(policies, {})
    path = tmp_path / "policies" / "a.json"
    document = json.loads(path.read_bytes())
    document["policy"]["file"] = file
    path.write_text(json.dumps(document))
    found, (damaged,) = Store(tmp_path).load()
    assert not found
    assert "no file's name" in damaged


def test_a_folder_that_may_not_be_read_isnt_an_empty_one() -> None:
    """As after a restore by root, whose files then aren't the daemon's."""
    before = os.geteuid()
    # Not where pytest's are, which nobody else may even come near.
    with TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o711)
        Store(root).save({"alpha": kept("alpha", "203.0.113.1")}, {})
        (root / "generations").mkdir()
        for each in ("policies", "generations"):
            (root / each).chmod(0)
        # Root may read everything.
        os.seteuid(65534 if can_be(65534) else before)
        try:
            found, damaged = Store(root).load()
            lost = Generations(root).load()
        finally:
            os.seteuid(before)
            for each in ("policies", "generations"):
                (root / each).chmod(0o700)
    assert (found, len(damaged), len(lost)) == ({}, 1, 1)
    assert "Permission denied" in damaged[0]
    assert "Permission denied" in lost[0]


def test_damage_without_end_is_told(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "a.json").write_text('{"version": 1, "policy": ' + "[" * 100_000)
    found, (damaged,) = Store(tmp_path).load()
    assert not found
    assert "nested" in damaged
