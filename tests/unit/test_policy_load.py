from __future__ import annotations

import dataclasses
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewrit.policy import files, load
from gatewrit.policy.load import Broken, PolicyDocument, ServiceDocument
from gatewrit.policy.model import Policy, Transport
from gatewrit.policy.terms import Action, Direction, Place, State

POLICY = """\
policy: order-a
title: An order
revision: 3
order: {authority: An authority, reference: Paper 1, issued: 2015-07-24, received: 2015-07-24T18:00:00+05:00}
effective: {from: "2015-12-01T00:00:00[Asia/Karachi]", review_by: 2016-01-01}
state: active
block: {services: [two, one], action: drop, direction: both}
labels: {queue: regulatory, empty: ""}
"""
SERVICE = """\
service: one
title: One
endpoints:
  - prefixes: [192.0.2.0/24, 2001:db8::/32]
    prefixes_from: list.txt
    ports: [tcp/3101, udp/5060-5061, icmp]
  - prefixes: [198.51.100.7]
    ports: [any]
"""
SECOND = "service: two\ntitle: Two\nendpoints: [{prefixes_from: list.txt, ports: [sctp/any]}]\n"
LIST = "203.0.113.4-203.0.113.9\n203.0.113.0/29\n"
GOOD = {
    "order-a.yaml": POLICY,
    "services/one.yaml": SERVICE,
    "services/two.yaml": SECOND,
    "services/list.txt": LIST,
}


def write(root: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def codes(reading: load.Reading) -> list[tuple[str, str]]:
    return [(Path(fault.place.file).name, fault.code) for fault in reading.faults]


def policy(text: str) -> PolicyDocument:
    document = load.parse_policy(text.encode(), "p.yaml")
    assert isinstance(document, PolicyDocument), document
    return document


def service(text: str, lists: dict[str, bytes] | None = None) -> ServiceDocument:
    document = load.parse_service(text.encode(), "s.yaml", lists or {"list.txt": LIST.encode()})
    assert isinstance(document, ServiceDocument), document
    return document


# -- what is read -----------------------------------------------------------------------------------------------------


def test_a_policy_is_read_whole(tmp_path: Path) -> None:
    (found,), faults = load.load(write(tmp_path, GOOD))
    assert [fault.code for fault in faults] == ["from_hits_more"]
    assert (found.id, found.title, found.revision, found.state) == ("order-a", "An order", 3, State.ACTIVE)
    assert (found.order.issued, found.order.received.epoch if found.order.received else 0) == ("2015-07-24", 1437742800)
    assert found.order.ticket is None
    assert (found.effective.start.epoch, found.effective.until) == (1448910000, None)
    assert found.effective.review_by is not None
    assert (found.effective.review_by.epoch, found.effective.review_by.text) == (1451588400, "2016-01-01")
    assert (found.block.services, found.block.action, found.block.direction) == (
        ("two", "one"),
        Action.DROP,
        Direction.BOTH,
    )
    assert dict(found.labels) == {"queue": "regulatory", "empty": ""}
    assert found.place == Place(str(tmp_path / "order-a.yaml"), 1, 9)
    assert list(found.services) == ["two", "one"]


def test_a_service_is_read_whole_and_each_entry_knows_its_line(tmp_path: Path) -> None:
    (found,), _ = load.load(write(tmp_path, GOOD))
    one = found.services["one"]
    first, second = one.endpoints
    assert first.transports == (Transport(6, 3101, 3101), Transport(17, 5060, 5061), Transport(1))
    assert second.transports == (Transport(None),)
    assert [(part.family, part.file, part.line.tolist()) for part in first.ranges] == [
        (4, str(tmp_path / "services/one.yaml"), [4]),
        (6, str(tmp_path / "services/one.yaml"), [4]),
        (4, str(tmp_path / "services/list.txt"), [1, 2]),
    ]
    assert [part.first.tolist() for part in second.ranges] == [[(198 << 24) + (51 << 16) + (100 << 8) + 7]]
    assert (one.place.line, first.place, second.place.line) == (1, Place(str(tmp_path / "services/one.yaml"), 4, 5), 7)


def test_values_cant_be_changed(tmp_path: Path) -> None:
    (found,), _ = load.load(write(tmp_path, GOOD))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.title = "x"  # type: ignore[misc]
    for mapping in (found.labels, found.services):
        with pytest.raises(TypeError):
            mapping["x"] = "y"  # type: ignore[index]


def test_a_list_that_two_services_name_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(files, "read", lambda *args, _read=files.read: (read.append(args[1]), _read(*args))[1])
    reading = load.read_directory(write(tmp_path, GOOD))
    assert read.count("services/list.txt") == 1
    lists = [document.lists["list.txt"] for document in reading.services.values()]
    assert {(source.file, source.data) for source in lists} == {(str(tmp_path / "services/list.txt"), LIST.encode())}


def test_what_was_kept_reads_back_the_same(tmp_path: Path) -> None:
    reading = load.read_directory(write(tmp_path, GOOD))
    document = reading.policies["order-a"]
    again = load.parse_policy(document.source.data, document.source.file)
    assert isinstance(again, PolicyDocument)
    assert (again.meaning, again.place, again.source) == (document.meaning, document.place, document.source)
    services = {}
    for name, kept in reading.services.items():
        lists = {called: source.data for called, source in kept.lists.items()}
        read = load.parse_service(kept.source.data, kept.source.file, lists)
        assert isinstance(read, ServiceDocument)
        assert (read.service.digest, read.service.place) == (kept.service.digest, kept.service.place)
        services[name] = read
    assert isinstance(load.resolve(again, services), Policy)


def test_a_kept_service_without_its_list_says_so() -> None:
    broken = load.parse_service(SERVICE.encode(), "services/one.yaml", {})
    assert isinstance(broken, Broken)
    assert [(str(fault.place), fault.code) for fault in broken.faults] == [("services/one.yaml:5:20", "not_found")]


# -- what it means ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("policy:", "# a comment\npolicy:"),
        ("title: An order\nrevision: 3\n", "revision: 3\ntitle: 'An order'\n"),
        (
            "{services: [two, one], action: drop, direction: both}",
            "\n  direction: both\n  action: drop\n  services:\n  - one\n  - two",
        ),
        ('"2015-12-01T00:00:00[Asia/Karachi]"', '"2015-11-30T19:00:00Z[Asia/Karachi]"'),
        ("18:00:00+05:00", "13:00:00Z"),
        ("review_by: 2016-01-01", 'review_by: "2016-01-01T00:00:00[Asia/Karachi]"'),
    ],
)
def test_layout_is_no_meaning(old: str, new: str) -> None:
    assert old in POLICY
    assert policy(POLICY.replace(old, new)).meaning == policy(POLICY).meaning


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("order-a", "order-b"),
        ("An order", "Another"),
        ("revision: 3", "revision: 4"),
        ("Paper 1", "Paper 2"),
        ("18:00:00", "18:00:01"),
        ("2015-12-01T00:00:00", "2015-12-02T00:00:00"),
        ("[Asia/Karachi]", "+05:00"),
        ("2016-01-01", "2016-01-02"),
        ("review_by: 2016-01-01", "until: 2016-01-01T00:00:00+05:00"),
        ("state: active", "state: rescinded"),
        ("[two, one]", "[two]"),
        ("action: drop", "action: reject"),
        ("direction: both", "direction: to"),
        ("regulatory", "other"),
        (', empty: ""', ""),
    ],
)
def test_everything_else_is(old: str, new: str) -> None:
    assert old in POLICY
    assert policy(POLICY.replace(old, new)).meaning != policy(POLICY).meaning


def test_the_default_direction_means_what_it_says() -> None:
    said = POLICY.replace("direction: both", "direction: to")
    assert policy(said).meaning == policy(POLICY.replace(", direction: both", "")).meaning


def test_a_services_digest_is_over_its_addresses_not_their_layout() -> None:
    base = service(SERVICE).service.digest
    reordered = {"list.txt": b"# comment\n203.0.113.0/29\n203.0.113.0-203.0.113.7\n203.0.113.4 - 203.0.113.9\n"}
    assert service(SERVICE, reordered).service.digest == base
    assert (
        service(
            SERVICE.replace("[tcp/3101, udp/5060-5061, icmp]", "[icmp, tcp/3101, udp/5060-5061, icmp]")
        ).service.digest
        == base
    )
    changed = [
        service(SERVICE, {"list.txt": b"203.0.113.4-203.0.113.9\n203.0.113.0/30\n"}),
        service(SERVICE.replace("2001:db8::/32", "2001:db8::/33")),
        service(SERVICE.replace("tcp/3101", "tcp/3102")),
        service(SERVICE.replace("[any]", "[tcp/any]")),
        service(SERVICE.replace("title: One", "title: Two")),
    ]
    assert len({base, *(document.service.digest for document in changed)}) == 1 + len(changed)


# -- quarantine -------------------------------------------------------------------------------------------------------


def test_faults_of_the_file_and_faults_of_its_service_are_told_apart(tmp_path: Path) -> None:
    bad = POLICY.replace("order-a", "order-b").replace("drop", "dorp")
    reading = load.read_directory(write(tmp_path, {**GOOD, "b.yaml": bad, "services/list.txt": "nonsense\n"}))
    assert list(reading.policies) == ["order-a"]
    assert {name: [fault.code for fault in faults] for name, faults in reading.broken_policies.items()} == {
        "order-b": ["bad_value"]
    }
    assert {name: [fault.code for fault in faults] for name, faults in reading.broken_services.items()} == {
        "one": ["bad_entry"],
        "two": ["bad_entry"],
    }
    refused = load.resolve(reading.policies["order-a"], reading.services, reading.broken_services)
    assert isinstance(refused, tuple)
    assert [(fault.code, fault.place.column) for fault in refused] == [("service_broken", 20), ("service_broken", 25)]
    # The list's fault is one fault, though two services suffer from it.
    assert [code for _, code in codes(reading)].count("bad_entry") == 1


def test_last_good_services_serve_in_place_of_broken_ones(tmp_path: Path) -> None:
    before = load.read_directory(write(tmp_path, GOOD)).services
    now = load.read_directory(write(tmp_path, {"services/list.txt": "\n"}))
    assert not now.services
    assert isinstance(load.resolve(now.policies["order-a"], {**before, **now.services}), Policy)


def test_a_broken_policys_unknown_services_are_told_in_the_same_pass(tmp_path: Path) -> None:
    bad = POLICY.replace("An order", "no").replace("[two, one]", "[tow, one]")
    reading = load.read_directory(write(tmp_path, {**GOOD, "order-a.yaml": bad}))
    assert [fault.code for fault in reading.broken_policies["order-a"]] == ["yaml_trap", "unknown_service"]
    assert "did you mean two?" in reading.broken_policies["order-a"][1].message


@pytest.mark.parametrize(
    ("text", "handle"),
    [
        ("policy: order-x\ntitle: [\n", "order-x"),
        ("title: [\npolicy: 'order-x'   # why\n", "order-x"),
        ("policy: order-x\r\ntitle: [\r\n", "order-x"),
        ("policy: order-x\ntitle: 7\n", "order-x"),
        ("policy: Order X\n", "file"),
        ("\0", "file"),
        ("", "file"),
        ("- policy: order-x\n", "file"),
    ],
)
def test_a_broken_file_goes_by_the_id_it_claims_or_else_by_its_name(tmp_path: Path, text: str, handle: str) -> None:
    reading = load.read_directory(write(tmp_path, {"file.yaml": text}))
    assert list(reading.broken_policies) == [handle]


def test_a_file_that_claims_no_id_contests_none(tmp_path: Path) -> None:
    other = {"file.yaml": POLICY.replace("order-a", "order-b"), "order-a.yaml": "", "order-b.yaml": "\0"}
    reading = load.read_directory(write(tmp_path, {**GOOD, "a.yaml": POLICY, **other}))
    assert sorted(reading.policies) == ["order-a", "order-b"]
    assert sorted(reading.broken_policies) == ["order-a.yaml", "order-b.yaml"]
    assert not reading.duplicate_policies


def test_two_good_files_with_one_id_are_both_at_hand(tmp_path: Path) -> None:
    reading = load.read_directory(write(tmp_path, {**GOOD, "copy.yaml": POLICY}))
    assert not reading.policies
    files_ = [Path(document.place.file).name for document in reading.duplicate_policies["order-a"]]
    assert files_ == ["copy.yaml", "order-a.yaml"]
    assert codes(reading)[:1] == [("copy.yaml", "duplicate_policy")]
    assert ("order-a.yaml", "duplicate_policy") in codes(reading)


def test_a_broken_copy_contests_the_id_too(tmp_path: Path) -> None:
    reading = load.read_directory(write(tmp_path, {**GOOD, "copy.yaml": POLICY.replace("drop", "dorp")}))
    assert not reading.policies
    assert [Path(one.place.file).name for one in reading.duplicate_policies["order-a"]] == ["order-a.yaml"]
    assert [fault.code for fault in reading.broken_policies["order-a"]] == ["bad_value"]


def test_two_services_of_one_name(tmp_path: Path) -> None:
    reading = load.read_directory(write(tmp_path, {**GOOD, "services/copy.yaml": SECOND}))
    assert list(reading.services) == ["one"]
    assert len(reading.duplicate_services["two"]) == 2
    policies, faults = load.load(tmp_path)
    assert not policies
    assert "service_broken" in [fault.code for fault in faults]


def test_a_directory_that_isnt_there(tmp_path: Path) -> None:
    reading = load.read_directory(tmp_path / "nowhere")
    assert reading.missing
    assert [str(fault.place) for fault in reading.faults] == [f"{tmp_path}/nowhere:1:1"]
    assert [fault.code for fault in reading.faults] == ["directory_missing"]
    (tmp_path / "file").write_text("")
    assert [fault.code for fault in load.read_directory(tmp_path / "file").faults] == ["directory_missing"]


def test_an_empty_directory_is_fine(tmp_path: Path) -> None:
    reading = load.read_directory(tmp_path)
    assert (dict(reading.policies), reading.faults, reading.missing) == ({}, (), False)


def test_paths_are_said_as_they_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "policies", {**GOOD, "order-a.yaml": "\0", "services/list.txt": "x\n"})
    monkeypatch.chdir(tmp_path)
    for given_, shown in (("policies", "policies/"), ("./policies/", "./policies/"), (".", "./")):
        os.chdir(tmp_path / ("policies" if given_ == "." else ""))
        assert str(load.read_directory(given_).faults[0].place) == f"{shown}order-a.yaml:1:1"


# -- files that are no files ------------------------------------------------------------------------------------------


def test_a_hundred_megabytes_are_refused_unread(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    for name in ("huge.yaml", "services/list.txt"):
        with (tmp_path / name).open("ab") as file:
            file.truncate(200 * 10**6)
    reading = load.read_directory(tmp_path)
    assert codes(reading).count(("huge.yaml", "too_large")) == 1
    assert [fault.code for fault in reading.broken_services["one"]] == ["too_large"]
    # The size is known before anything is read.
    assert all("200,000,0" in fault.message for fault in reading.faults if fault.code == "too_large")


def test_a_pipe_put_there_at_the_last_moment_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, GOOD)
    os.mkfifo(tmp_path / "pipe.yaml")
    looked: list[os.stat_result] = []
    check = files._check_kind
    monkeypatch.setattr(files, "_check_kind", lambda seen: check(seen) if seen in looked else looked.append(seen))
    assert ("pipe.yaml", "not_regular") in codes(load.read_directory(tmp_path))


def test_pipes_sockets_devices_and_folders_are_refused_and_hold_nothing_up(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.yaml"))
        (tmp_path / "services/list.txt").unlink()
        os.mkfifo(tmp_path / "services/list.txt")
        reading = load.read_directory(tmp_path)
    refused = [name for name, code in codes(reading) if code == "not_regular"]
    assert refused == ["folder.yaml", "pipe.yaml", "one.yaml", "two.yaml", "socket.yaml"]


@pytest.mark.parametrize(
    ("name", "mode", "told"),
    [
        (".", 0o1777, "policies"),
        ("services", 0o777, "services"),
        ("order-a.yaml", 0o646, "order-a.yaml"),
        ("services/list.txt", 0o666, "one.yaml"),
    ],
)
def test_what_every_user_can_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mode: int, told: str
) -> None:
    root = write(tmp_path / "policies", GOOD)
    before = load.read_directory(root)
    (root / name).chmod(mode)
    assert (told, "writable_by_others") in codes(load.read_directory(root, before))
    # A group of people may share it, and on a file system that is mounted read-only nobody can write it.
    (root / name).chmod(mode & ~0o002 | 0o020)
    assert codes(load.read_directory(root)) == codes(before)
    (root / name).chmod(mode)
    mounted = os.statvfs_result((*os.statvfs(root)[:8], os.ST_RDONLY, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _fd: mounted)
    assert codes(load.read_directory(root)) == codes(before)


def test_links_may_lead_about_within_the_directory(tmp_path: Path) -> None:
    # A mounted Kubernetes volume: every name is a link through a link that is switched at once.
    write(tmp_path / "..2015", {name.removeprefix("services/"): text for name, text in GOOD.items()})
    (tmp_path / "..data").symlink_to("..2015")
    (tmp_path / "services").mkdir()
    (tmp_path / "order-a.yaml").symlink_to("..data/order-a.yaml")
    for name in ("one.yaml", "two.yaml", "list.txt"):
        (tmp_path / "services" / name).symlink_to(f"../..data/{name}")
    policies, faults = load.load(tmp_path)
    assert [found.id for found in policies] == ["order-a"]
    assert [fault.code for fault in faults] == ["from_hits_more"]


@pytest.mark.parametrize("name", ["order-b.yaml", "services/three.yaml", "services/list.txt"])
def test_links_may_not_lead_out(tmp_path: Path, name: str) -> None:
    inside = write(tmp_path / "policies", GOOD)
    write(tmp_path / "policies-of-others", {"x": GOOD.get(name, POLICY)})
    (inside / name).unlink(missing_ok=True)
    (inside / name).symlink_to(tmp_path / "policies-of-others/x")
    found = [code for _, code in codes(load.read_directory(inside)) if code != "from_hits_more"]
    assert set(found) == {"outside_policies"}


@pytest.mark.parametrize("name", ['"a\\0b"', '"\\ud800"', "x" * 290, "a/" * 100, '"\\n"', ".", "..", "../..", "/"])
def test_lists_that_no_file_can_be(tmp_path: Path, name: str) -> None:
    write(tmp_path, {**GOOD, "services/one.yaml": SERVICE.replace("list.txt", name)})
    assert "one" in load.read_directory(tmp_path).broken_services


def test_a_services_folder_that_leads_out_is_refused(tmp_path: Path) -> None:
    inside = write(tmp_path / "policies", {"order-a.yaml": POLICY})
    write(tmp_path / "elsewhere", {"one.yaml": SERVICE})
    (inside / "services").symlink_to(tmp_path / "elsewhere")
    reading = load.read_directory(inside)
    assert ("services", "outside_policies") in codes(reading)
    assert list(reading.policies) == ["order-a"]


def test_links_that_lead_nowhere_or_round_and_round(tmp_path: Path) -> None:
    (tmp_path / "gone.yaml").symlink_to("nowhere")
    (tmp_path / "round.yaml").symlink_to("round.yaml")
    assert codes(load.read_directory(tmp_path)) == [("gone.yaml", "not_found"), ("round.yaml", "not_regular")]


def test_a_directory_may_itself_be_a_link(tmp_path: Path) -> None:
    write(tmp_path / "releases/7", GOOD)
    (tmp_path / "policies").symlink_to("releases/7")
    assert [found.id for found in load.load(tmp_path / "policies")[0]] == ["order-a"]


def test_a_file_that_the_system_refuses_is_a_fault_of_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {**GOOD, "b.yaml": POLICY.replace("order-a", "order-b")})

    def refuse(name: object, *args: object, _open: object = os.open, **more: object) -> int:
        if str(name) in ("b.yaml", "list.txt"):
            raise PermissionError(13, "Permission denied")
        return _open(name, *args, **more)  # type: ignore[operator,no-any-return]

    monkeypatch.setattr(os, "open", refuse)
    reading = load.read_directory(tmp_path)
    assert [fault.code for fault in reading.broken_policies["b"]] == ["unreadable"]
    assert f"Permission denied to uid {os.geteuid()}" in reading.broken_services["one"][0].message
    assert list(reading.policies) == ["order-a"]


def test_names_of_any_bytes_are_said_in_print(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9\x1b[31m.yaml")).write_text(POLICY.replace("drop", "dorp"))
    write(tmp_path, {"services/one.yaml": SERVICE, "services/two.yaml": SECOND, "services/list.txt": LIST})
    (fault,) = load.read_directory(tmp_path).faults
    assert str(fault).isprintable()
    assert fault.code == "bad_value"


def test_reading_leaves_no_descriptor_open(tmp_path: Path) -> None:
    write(tmp_path, {**GOOD, "b.yaml": "\0"})
    (tmp_path / "gone.yaml").symlink_to("nowhere")
    (tmp_path / "out.yaml").symlink_to("/etc/hostname")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        load.read_directory(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


# -- nothing crashes it -----------------------------------------------------------------------------------------------


@st.composite
def mutated(draw: st.DrawFn, text: str) -> bytes:
    data = bytearray(text.encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 12))
        data[at : at + cut] = draw(
            st.one_of(
                st.binary(max_size=3),
                st.sampled_from(
                    [b"no", b"~", b"[", b"{", b"&a ", b"*a", b"\t", b"\n", b": ", b"'", b"1.10", b"- ", b"#", b"0"]
                ),
            )
        )
    return bytes(data)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(mutated(POLICY))
def test_no_policy_crashes_the_reader(data: bytes) -> None:
    read = load.parse_policy(data, "p.yaml")
    if isinstance(read, Broken):
        assert read.faults
        assert all(str(fault).isprintable() for fault in read.faults)
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") + 1
        assert all(1 <= fault.place.line <= lines for fault in read.faults)
    else:
        assert len(read.references) == len(read.block.services)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(mutated(SERVICE), st.one_of(st.just(LIST.encode()), mutated(LIST)))
def test_no_service_crashes_the_reader(data: bytes, listed: bytes) -> None:
    read = load.parse_service(data, "s.yaml", {"list.txt": listed})
    if isinstance(read, Broken):
        assert read.faults
    else:
        for endpoint in read.service.endpoints:
            assert sum(len(part) for part in endpoint.ranges) > 0
            assert endpoint.transports
            assert all(np.all(part.first <= part.last) for part in endpoint.ranges if part.family == 4)


@pytest.mark.parametrize("changed", [None, "order-a.yaml", "services/one.yaml", "services/list.txt"])
def test_what_has_the_same_bytes_is_not_parsed_again_and_what_has_not_is(tmp_path: Path, changed: str | None) -> None:
    root = write(tmp_path, GOOD)
    before = load.read_directory(root)
    if changed is not None:
        path = root / changed
        path.write_text(
            {"list.txt": "203.0.113.77\n"}.get(path.name, GOOD[changed].replace("title: ", "title: Other "))
        )
    after = load.read_directory(root, before)

    fresh = load.read_directory(root)
    assert after.faults == fresh.faults
    assert {name: each.meaning for name, each in after.policies.items()} == {
        name: each.meaning for name, each in fresh.policies.items()
    }
    assert {name: each.service.digest for name, each in after.services.items()} == {
        name: each.service.digest for name, each in fresh.services.items()
    }
    kept = {name for name, each in after.services.items() if each is before.services[name]}
    assert kept == {None: {"one", "two"}, "order-a.yaml": {"one", "two"}, "services/one.yaml": {"two"}}.get(
        changed, set()
    )
    assert (after.policies["order-a"] is before.policies["order-a"]) is (changed != "order-a.yaml")


def test_a_list_that_broke_is_told_though_its_service_has_the_same_bytes(tmp_path: Path) -> None:
    root = write(tmp_path, GOOD)
    before = load.read_directory(root)
    (root / "services/list.txt").write_text("nonsense\n")
    assert set(load.read_directory(root, before).broken_services) == {"one", "two"}
    (root / "services/list.txt").unlink()
    assert set(load.read_directory(root, before).broken_services) == {"one", "two"}
