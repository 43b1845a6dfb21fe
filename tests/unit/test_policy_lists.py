"""Big lists are read once, parsed once, kept once; and what was kept of them is believed only if it is whole."""

from __future__ import annotations

import os
import socket
import stat
import struct
import time
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Self

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.engine.shelf import Later, Shelf
from gatewrit.engine.store import Kept, Store
from gatewrit.policy import compiled, files, lists
from gatewrit.policy.lists import WORTH_KEEPING, read_list
from gatewrit.policy.load import PolicyDocument, ServiceDocument, read_directory
from gatewrit.policy.ranges import AddressList, parse_list, span_text
from unit.test_policy_load import POLICY, SERVICE
from unit.test_policy_ranges import spans

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatewrit.policy.load import Reading

BIG = "".join(f"203.0.{n >> 8}.{n & 255}\n2001:db8:{n:x}::/48 # why\n" for n in range(1000)).encode()
OTHER = BIG.replace(b"203.0.", b"198.51.")
DIGEST = sha256(BIG).hexdigest()
FAULTY = BIG + b"nonsense\n"


def same(one: AddressList, other: AddressList) -> bool:
    return (one.file, one.data, one.sha256, one.faults) == (other.file, other.data, other.sha256, other.faults) and all(
        (mine.family, mine.file, mine.digest) == (its.family, its.file, its.digest)
        and all(
            np.array_equal(getattr(mine, name), getattr(its, name))
            and getattr(mine, name).dtype == getattr(its, name).dtype
            and not getattr(mine, name).flags.writeable
            and getattr(mine, name).flags.aligned
            for name in ("first", "last", "line")
        )
        for mine, its in zip(one.ranges, other.ranges, strict=True)
    )


def packed(made: AddressList) -> bytes:
    return b"".join(compiled.pack(made))


@contextmanager
def no_parsing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fail(data: bytes, file: str, *, before: AddressList | None = None) -> AddressList:
        raise AssertionError(f"{file} is parsed: {len(data)} bytes, {before and len(before.data)} before")

    with monkeypatch.context() as patch:
        patch.setattr(lists, "parse_list", fail)
        yield


# -- what is kept ------------------------------------------------------------------------------------------------------


@given(st.lists(spans, min_size=1, max_size=12))
def test_a_list_comes_back_as_it_was(entries: list[object]) -> None:
    made = parse_list("\n".join(map(span_text, entries)).encode(), "here")
    found = compiled.unpack(packed(made), made.sha256, "here")
    assert found is not None
    assert same(AddressList("here", made.data, made.sha256, found, ()), made)
    assert len(packed(made)) <= compiled.HEADER_BYTES + compiled.MOST_PER_BYTE * (len(made.data) + 1)


def test_whatever_is_not_as_it_was_written_is_not_there() -> None:
    made = parse_list(b"192.0.2.0/24\n2001:db8::/32\n", "f")
    whole = packed(made)
    for at in range(len(whole)):
        for bit in (1, 128):
            assert compiled.unpack(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :], made.sha256, "f") is None
        assert compiled.unpack(whole[:at], made.sha256, "f") is None
    assert compiled.unpack(whole + b"\0", made.sha256, "f") is None
    assert compiled.unpack(whole, DIGEST, "f") is None
    assert compiled.unpack(whole, made.sha256, "f")


def test_another_version_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    made = parse_list(BIG, "f")
    old = packed(made)
    monkeypatch.setattr(compiled, "VERSION", compiled.VERSION + 1)
    assert compiled.unpack(old, DIGEST, "f") is None
    assert compiled.unpack(packed(made), DIGEST, "f")


@pytest.mark.skipif(struct.pack("=H", 1) != b"\1\0", reason="the figure is that of little-endian machines")
def test_what_is_kept_of_a_list_changes_only_with_the_version() -> None:
    """If this fails, raise `compiled.VERSION`, then put the new figure here: daemons would take old files for new."""
    made = parse_list(b"192.0.2.0/24\n198.51.100.1 # c\n2001:db8::/32\n192.0.2.0-192.0.2.9\n2001:db8::1\n", "f")
    assert (compiled.VERSION, sha256(packed(made)).hexdigest()[:16]) == (1, "ffc4dd7865bc9b57")


# -- the shelf ---------------------------------------------------------------------------------------------------------


def test_a_good_list_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tmp_path / "state")
    first = read_list(BIG, "one", shelf)
    assert same(first, parse_list(BIG, "one"))
    with no_parsing(monkeypatch):
        assert same(read_list(BIG, "one", shelf), first)
        assert same(read_list(BIG, "other", shelf), parse_list(BIG, "other"))
    kept = tmp_path / "state/lists" / DIGEST
    assert [path.name for path in kept.parent.iterdir()] == [DIGEST]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


def test_nobody_waits_until_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Later(Shelf(tmp_path))
    first = read_list(BIG, "f", shelf)
    assert not list(tmp_path.rglob("*"))
    shelf.settle()
    assert not shelf.waiting
    with no_parsing(monkeypatch):
        assert same(read_list(BIG, "f", shelf), first)
    shelf.keep_only([], [])
    assert not list((tmp_path / "lists").iterdir())


def test_what_is_faulty_or_small_is_not_kept(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    small = BIG[: WORTH_KEEPING - 100]
    small = small[: small.rindex(b"\n") + 1]
    for data in (FAULTY, small):
        for _ in range(2):
            assert same(read_list(data, "f", shelf), parse_list(data, "f"))
    assert not list(tmp_path.rglob("*"))


def leave(path: Path) -> None:
    path.unlink()


def shorten(path: Path) -> None:
    os.truncate(path, 1000)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def inflate(path: Path) -> None:
    os.truncate(path, 1 << 40)


def garble(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def lead_elsewhere(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_a_socket(path: Path) -> None:
    path.unlink()
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        # The whole path may be too long for one.
        made.bind(f"/proc/self/fd/{here}/{path.name[:1]}")
    os.close(here)
    path.with_name(path.name[:1]).rename(path)


def lose_the_folder(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()
    path.parent.touch()


def lead_the_folder_elsewhere(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "spoil",
    [
        *(leave, shorten, empty, inflate, garble, lead_elsewhere, become_a_folder, become_a_pipe, become_a_socket),
        *(lose_the_folder, lead_the_folder_elsewhere),
    ],
)
def test_nothing_that_becomes_of_the_shelf_does_harm(tmp_path: Path, spoil: object) -> None:
    shelf = Shelf(tmp_path)
    read_list(BIG, "f", shelf)
    spoil(tmp_path / "lists" / DIGEST)  # type: ignore[operator]
    assert shelf.get(DIGEST, 1 << 20) is None or spoil in (shorten, empty, garble)
    for _ in range(2):
        assert same(read_list(BIG, "f", shelf), parse_list(BIG, "f"))
    shelf.keep_only([], [])


def test_what_cannot_be_written_is_parsed_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    shelf = Shelf(tmp_path)
    for name in ("rename", "open"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            assert same(read_list(BIG, "f", shelf), parse_list(BIG, "f"))
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_only_lists_that_are_needed_stay(tmp_path: Path) -> None:
    state, root = tmp_path / "state", tmp_path / "policies"
    shelf = Shelf(state)
    reading = read(root, shelf, BIG)
    read_list(OTHER, "f", shelf)
    (state / "lists/.draft.1").touch()
    shelf.keep_only([], reading.loaded.values())
    assert [path.name for path in (state / "lists").iterdir()] == [DIGEST]
    shelf.keep_only([kept(reading)], [])
    assert [path.name for path in (state / "lists").iterdir()] == [DIGEST]
    shelf.keep_only([], [])
    assert not list((state / "lists").iterdir())


def test_what_was_kept_of_policies_is_not_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tmp_path / "state")
    reading = read(tmp_path / "policies", shelf, BIG)
    store = Store(tmp_path / "state", shelf)
    store.save({"order-a": kept(reading)}, {})
    with no_parsing(monkeypatch):
        found, damaged = store.load()
        again = read_directory(tmp_path / "policies", None, shelf)
    assert not damaged
    assert found["order-a"].services["one"].service.digest == reading.services["one"].service.digest
    assert again.services["one"].service.digest == reading.services["one"].service.digest


def test_policies_that_name_one_service_are_put_together_with_one(tmp_path: Path) -> None:
    reading = read(
        tmp_path / "policies", None, BIG, {"b.yaml": POLICY.replace("order-a", "order-b").replace("two, ", "")}
    )
    store = Store(tmp_path / "state")
    store.save({name: kept(reading, name) for name in ("order-a", "order-b")}, {})
    found, _ = store.load()
    assert found["order-a"].services["one"] is found["order-b"].services["one"]


# -- the directory -----------------------------------------------------------------------------------------------------


def read(root: Path, shelf: Shelf | None, listed: bytes, more: dict[str, str] | None = None) -> Reading:
    (root / "services").mkdir(parents=True, exist_ok=True)
    (root / "services/list.txt").write_bytes(listed)
    texts = {"a.yaml": POLICY.replace("[two, one]", "[one]"), "services/one.yaml": SERVICE, **(more or {})}
    for name, text in texts.items():
        (root / name).write_text(text)
    return read_directory(root, None, shelf)


def kept(reading: Reading, name: str = "order-a") -> Kept:
    document: PolicyDocument = reading.policies[name]
    services: dict[str, ServiceDocument] = {each: reading.services[each] for each, _ in document.named}
    return Kept(document, services)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files be older than they are."""
    real = time.time_ns
    monkeypatch.setattr(files.time, "time_ns", lambda: real() + 3 * 10**9)


def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have a list of the sizes of all that is read from now on."""
    sizes: list[int] = []
    real = os.fdopen

    def watched(fd: int, *rest: object, **named: object) -> object:
        file = real(fd, *rest, **named)  # type: ignore[call-overload]

        class Watched:
            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def read(self, size: int) -> bytes:
                found = file.read(size)
                sizes.append(len(found))
                return bytes(found)

        return Watched()

    monkeypatch.setattr(files.os, "fdopen", watched)
    return sizes


@pytest.mark.usefixtures("settled")
def test_a_list_that_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(tmp_path, None, BIG)
    (tmp_path / "services/one.yaml").write_text(SERVICE.replace("title: ", "title: Other "))
    sizes = reads(monkeypatch)
    after = read_directory(tmp_path, before)
    assert sum(sizes) < 10_000
    assert after.services["one"].service.title.startswith("Other ")
    again, first = (each.lists["services/list.txt"].part for each in (after, before))
    assert again is first
    loaded = after.loaded[str(tmp_path / "services/list.txt")]
    assert loaded == before.loaded[str(tmp_path / "services/list.txt")] or loaded.source.data is first.data
    assert (loaded.mtime, loaded.uid) == (int((tmp_path / "services/list.txt").stat().st_mtime), os.getuid())


def in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"203.9")


def in_place_and_dated_back(path: Path) -> None:
    status = path.stat()
    in_place(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def by_renaming(path: Path) -> None:
    path.with_name(".new").write_bytes(path.read_bytes().replace(b"203.0", b"203.9"))
    path.with_name(".new").rename(path)


def by_a_link(path: Path) -> None:
    path.rename(path.with_name("old"))
    path.with_name("new").write_bytes(OTHER)
    path.symlink_to("new")


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", [in_place, in_place_and_dated_back, by_renaming, by_a_link])
def test_a_list_of_the_same_size_that_has_changed_is_read(tmp_path: Path, change: object) -> None:
    before = read(tmp_path, None, BIG)
    time.sleep(0.02)
    change(tmp_path / "services/list.txt")  # type: ignore[operator]
    after = read_directory(tmp_path, before)
    assert after.services["one"].service.digest == read_directory(tmp_path).services["one"].service.digest
    assert after.services["one"].service.digest != before.services["one"].service.digest


def test_a_list_that_was_only_just_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(tmp_path, None, BIG)
    sizes = reads(monkeypatch)
    after = read_directory(tmp_path, before)
    assert len(BIG) in sizes
    # Equal bytes are kept once all the same.
    assert after.lists["services/list.txt"].contents.data is before.lists["services/list.txt"].contents.data


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("spoil", [leave, become_a_folder, become_a_pipe])
def test_a_list_that_is_no_file_any_more_is_refused(tmp_path: Path, spoil: object) -> None:
    before = read(tmp_path, None, BIG)
    spoil(tmp_path / "services/list.txt")  # type: ignore[operator]
    after = read_directory(tmp_path, before)
    assert after.faults == read_directory(tmp_path).faults
    assert [fault.code for fault in after.broken_services["one"]] in (["not_found"], ["not_regular"])


@pytest.mark.usefixtures("settled")
def test_a_faulty_list_stays_faulty_unread(tmp_path: Path) -> None:
    before = read(tmp_path, None, FAULTY)
    after = read_directory(tmp_path, before)
    assert [fault.code for fault in after.broken_services["one"]] == ["bad_entry"]
    assert after.faults == before.faults


def test_of_the_bytes_of_a_list_there_is_one_copy(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "state")
    root = tmp_path / "policies"
    for before in (None, read(root, shelf, BIG)):
        reading = read_directory(root, before, shelf)
        part, contents = reading.lists["services/list.txt"]
        (source,) = reading.services["one"].lists.values()
        loaded = reading.loaded[part.file].source
        assert part.data is contents.data is source.data is loaded.data
        ranges = [part for endpoint in reading.services["one"].service.endpoints for part in endpoint.ranges]
        assert all(any(each.first is one.first for one in part.ranges) for each in ranges if each.file == part.file)
