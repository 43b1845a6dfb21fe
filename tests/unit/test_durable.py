from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gatewrit.engine import durable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("number", [0, 1, 7, 8, 30])
def test_many_files_are_written_as_each_would_be(tmp_path: Path, number: int) -> None:
    wanted = {tmp_path / f"folder-{at % 2}" / str(at): f"content {at}".encode() for at in range(number)}
    durable.write_all(wanted)
    durable.write_all({path: content + b", again" for path, content in wanted.items()})
    found = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {path: content + b", again" for path, content in wanted.items()}
    durable.remove_all([*wanted, *wanted])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("number", [3, 30])
def test_what_cannot_be_written_leaves_what_was_there_and_no_drafts(tmp_path: Path, number: int) -> None:
    old = {tmp_path / str(at): b"old" for at in range(number)}
    durable.write_all(old)
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "in the way").touch()
    with pytest.raises(OSError, match="blocked"):
        durable.write_all({blocked: b"new"} | dict.fromkeys(old, b"new"))
    assert all(path.read_bytes() in {b"old", b"new"} for path in old)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in old} | {"blocked"}


@pytest.mark.parametrize("damage", [b"[" * 100_000, b'{"a": 1e999}', b'{"a": NaN}', b'{"a": 0.5}', b"[]", b"\xff"])
def test_what_nobody_wrote_is_damage(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a.json").write_bytes(damage)
    with pytest.raises(ValueError, match=r"."):
        durable.read_json(tmp_path / "a.json")


def test_a_pipe_or_device_in_the_place_of_a_file_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "device.json").symlink_to("/dev/zero")
    (tmp_path / "folder.json").mkdir()
    for name in ("pipe", "device", "folder"):
        with pytest.raises(OSError, match="not a regular file"):
            durable.read_json(tmp_path / f"{name}.json")


def test_everybody_may_read_what_is_made_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        durable.make_folder(tmp_path / "above/made")
        durable.make_folder(tmp_path / "above/made")
        durable.create(tmp_path / "above/made/file", b"")
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in sorted(tmp_path.rglob("*"))]
    assert modes == [0o755, 0o755, 0o644]


def test_what_is_created_takes_nobodys_place(tmp_path: Path) -> None:
    path = tmp_path / "made"
    durable.create(path, b"made", 0o644)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"made", 0o644)
    with pytest.raises(FileExistsError):
        durable.create(path, b"again")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        durable.create(link, b"again")
    # Nor is a draft left.
    assert (path.read_bytes(), sorted(tmp_path.iterdir())) == (b"made", [link, path])
