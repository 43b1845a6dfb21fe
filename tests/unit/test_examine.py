"""What `doctor` makes of what it sees, where no lab can bring it about."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatewrit.cli.examine import files, kernel, network, running
from gatewrit.cli.examine.finding import Subject
from gatewrit.kernel.host import Links
from gatewrit.kernel.trial import Trial
from gatewrit.settings import Settings
from support.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatewrit.cli.examine.finding import Finding

FIT = Trial((), owning=True)


def codes(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(each.severity, each.code) for each in findings]


@pytest.mark.parametrize(
    ("text", "owned", "found"),
    [
        ("#!/usr/sbin/nft -f\n\nflush ruleset\n", False, ("warning", "flush_ruleset")),
        ("\tflush  ruleset\n", True, ("ok", "flush_harmless")),
        ("flush ruleset\n", None, ("note", "flush_ruleset")),
        ("# flush ruleset\ntable inet filter\ndelete table inet filter\n", False, ("ok", "no_flush")),
    ],
)
def test_what_nftables_service_loads(tmp_path: Path, text: str, found: tuple[str, str], *, owned: bool | None) -> None:
    path = tmp_path / "nftables.conf"
    assert codes(network.flushing(path, owned=owned)) == []
    path.write_text(text)
    assert codes(network.flushing(path, owned=owned)) == [found]


LOADED = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled", "After": "a nftables.service b"}


@pytest.mark.parametrize(
    ("ours", "firewall", "found"),
    [
        (LOADED, LOADED, [("ok", "units")]),
        ({"LoadState": "not-found"}, LOADED, [("warning", "unit_missing")]),
        ({**LOADED, "UnitFileState": "disabled"}, LOADED, [("warning", "unit_disabled"), ("ok", "units")]),
        ({**LOADED, "NeedDaemonReload": "yes"}, LOADED, [("warning", "unit_changed"), ("ok", "units")]),
        ({**LOADED, "ActiveState": "failed"}, LOADED, [("error", "unit_failing"), ("ok", "units")]),
        (
            {**LOADED, "ActiveState": "activating", "NRestarts": "3"},
            LOADED,
            [("error", "unit_failing"), ("ok", "units")],
        ),
        ({**LOADED, "ActiveState": "activating", "NRestarts": "0"}, LOADED, [("ok", "units")]),
        ({**LOADED, "NRestarts": "3"}, LOADED, [("ok", "units")]),
        ({**LOADED, "After": "local-fs.target"}, LOADED, [("error", "unit_order")]),
        ({**LOADED, "After": ""}, {**LOADED, "UnitFileState": "disabled"}, [("ok", "units")]),
        ({**LOADED, "After": ""}, {"LoadState": "not-found"}, [("ok", "units")]),
    ],
)
def test_units(ours: dict[str, str], firewall: dict[str, str], found: list[tuple[str, str]]) -> None:
    shown = {"gatewrit.service": ours, "nftables.service": firewall}
    assert codes(running.units(shown.__getitem__)) == found


def test_vrfs(monkeypatch: pytest.MonkeyPatch) -> None:
    links = Links(kinds=(("gre0", "gre"), ("l2tpeth0", ""), ("ppp-name", ""), ("red", "vrf")))
    monkeypatch.setattr(network, "read_links", lambda: links)
    told = {each.code: each for each in network._links(Subject(Settings(), True, FIT))}
    assert "gre0 (gre), l2tpeth0 (by its name))" in told["tunnels"].message
    assert told["vrfs"].action is None
    twice = Subject(Settings(hooks=("prerouting",)), True, FIT)
    assert "twice" in {each.code: each for each in network._links(twice)}["vrfs"].message


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    real = os.statvfs(tmp_path)

    def disk(free: int, left: int) -> list[tuple[str, str]]:
        made = os.statvfs_result((1_000_000, 1_000_000, *real[2:4], free, 1000, left, left, *real[8:]))
        monkeypatch.setattr(os, "statvfs", lambda _: made)
        return codes(files._space(settings))

    assert disk(10_000, 1000) == [("ok", "disk")]
    assert disk(1000, 1000) == [("warning", "disk_small")]
    assert disk(10, 1000) == [("error", "disk_full")]
    assert disk(10_000, 0) == [("error", "disk_full")]


def test_what_a_daemon_that_is_not_root_may_not_read(tmp_path: Path) -> None:
    folder, file = tmp_path / "policies", tmp_path / "policies/alpha.yaml"
    folder.mkdir()
    file.write_text("")
    status = file.stat()
    stranger, member = status.st_uid + 1, (status.st_uid + 1, frozenset({status.st_gid}))

    def told(who: tuple[int, frozenset[int]], folder_mode: int, mode: int) -> list[str]:
        folder.chmod(folder_mode)
        file.chmod(mode)
        found = [each.message for each in files.readable([folder, file, tmp_path / "gone"], who)]
        folder.chmod(0o755)
        return [
            path.name for path in (folder, file) for message in found if f"{path}:" in message or f"{path}," in message
        ]

    assert told((stranger, frozenset()), 0o755, 0o644) == []
    assert told((stranger, frozenset()), 0o755, 0o640) == ["alpha.yaml"]
    assert told((stranger, frozenset()), 0o754, 0o604) == ["policies"]
    assert told(member, 0o750, 0o640) == []
    # Its group's rights count, though others have more.
    assert told(member, 0o705, 0o604) == ["policies", "alpha.yaml"]
    assert told((0, frozenset()), 0o700, 0o600) == []


def test_whose_the_directories_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(policies=tmp_path, state=tmp_path)
    for owners, found in (({tmp_path.stat().st_uid}, ("ok", "directory")), ({-1}, ("warning", "foreign_owner"))):
        monkeypatch.setattr(files, "_owners", lambda _, owners=owners: owners)
        assert codes(files._directory(tmp_path, "policies", settings, "")) == [found]


@pytest.mark.parametrize(
    ("wanted", "trial", "found"),
    [
        (True, FIT, [("ok", "kernel_fit"), ("ok", "table_owned")]),
        (True, Trial((), owning=False), [("ok", "kernel_fit"), ("note", "table_open")]),
        (False, FIT, [("ok", "kernel_fit"), ("note", "table_open")]),
        (True, None, [("note", "kernel_untried")]),
    ],
)
def test_whose_the_table_can_be(trial: Trial | None, found: list[tuple[str, str]], *, wanted: bool) -> None:
    assert codes(kernel._features(Subject(Settings(table_owner=wanted), True, trial))) == found


@pytest.mark.parametrize(
    ("wall", "synchronised", "found"),
    [
        (2_000_000_000, True, [("ok", "clock")]),
        (2_000_000_000, False, [("warning", "clock_unsynchronised")]),
        (2_000_000_000, None, [("warning", "clock_unsynchronised")]),
        (1_000_000_000, True, [("error", "clock_untrusted")]),
        (1_000_000_000, False, [("error", "clock_untrusted"), ("warning", "clock_unsynchronised")]),
    ],
)
def test_the_clock(tmp_path: Path, wall: int, synchronised: bool | None, found: list[tuple[str, str]]) -> None:  # noqa: FBT001
    (tmp_path / "clock.json").write_text('{"version": 1, "latest": 1500000000}')
    assert codes(running.clock(FakeClock(wall, synchronised=synchronised), tmp_path)) == found
    # A floor that can't be read is told with the state.
    (tmp_path / "clock.json").write_text("{")
    assert ("error", "clock_untrusted") not in codes(running.clock(FakeClock(wall), tmp_path))


def test_the_page_names_every_code() -> None:
    """A script goes by codes, so that none may be without a word."""
    root = Path(files.__file__).parents[1]
    made = set()
    for path in (root / "doctor.py", *(root / "examine").glob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Name)
                and call.func.id in {"Finding", "Trouble"}
            ):
                given = call.args[1 if call.func.id == "Finding" else 0]
                made |= {given.value} if isinstance(given, ast.Constant) else set()
    page = (root.parents[2] / "docs/doctor.md").read_text()
    assert len(made) > 40
    assert made <= set(re.findall(r"`([a-z0-9_]+)`", page))
