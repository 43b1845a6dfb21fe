"""`status --check`: one line and the exit codes of the Monitoring Plugins Development Guidelines, whatever happens."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gatewrit.api import client
from gatewrit.api.documents import status_document
from gatewrit.cli import plugin
from gatewrit.cli.plugin import CRITICAL, OK, UNKNOWN, WARNING, Thresholds
from gatewrit.engine.snapshot import Enforcement
from support.inplace import invoke
from unit.api_samples import DEGRADED, IN_SYNC, NOW, STARTING, UNREAD_PROBLEM

if TYPE_CHECKING:
    from pathlib import Path

    from gatewrit.engine.snapshot import Snapshot

USUAL = Thresholds()
#: As the guidelines have it: 'label'=value[UOM];[warn];[crit];[min];[max]
PERFORMANCE = re.compile(r"[a-z_0-9]+=(?:U|\d+s?)(?:;\d*){0,4}")


def judged(snapshot: Snapshot, now: int = NOW, thresholds: Thresholds = USUAL) -> plugin.Result:
    return plugin.judge(status_document(snapshot, now), thresholds)


def test_one_line_says_it_all() -> None:
    quiet = replace(IN_SYNC, problems=())
    line = judged(quiet).line()
    said, bar, performance = line.partition(" | ")
    assert said.startswith("GATEWRIT OK - Enforced exactly as ordered; verified ")
    assert bar
    assert performance.startswith("verified_age=12s;120;600;0 in_force=1;;;0 ")
    assert all(PERFORMANCE.fullmatch(each) for each in performance.split(" "))


@pytest.mark.parametrize(
    ("enforcement", "code"),
    [("in_sync", OK), ("starting", WARNING), ("degraded", WARNING), ("drifted", CRITICAL), ("failed", CRITICAL)],
)
def test_every_verdict_has_its_code(enforcement: str, code: int) -> None:
    status = {**status_document(replace(IN_SYNC, problems=()), NOW), "enforcement": enforcement}
    assert plugin.judge(status, USUAL).code == code
    assert set(plugin._ENFORCEMENT) == {each.value for each in Enforcement}


def test_a_warning_is_one_and_the_worst_problem_is_told() -> None:
    warned = replace(IN_SYNC, problems=(replace(UNREAD_PROBLEM, severity="warning", code="review_overdue"),))
    assert judged(warned).code == WARNING
    result = judged(replace(DEGRADED, problems=(*warned.problems, *DEGRADED.problems)))
    assert "; policy_rejected unread: 'prot' isn't a key of an endpoint; and 1 more" in result.sentence


@pytest.mark.parametrize(("later", "code"), [(107, OK), (108, WARNING), (587, WARNING), (588, CRITICAL)])
def test_what_wasnt_verified_for_long_calls_somebody(later: int, code: int) -> None:
    assert judged(replace(IN_SYNC, problems=()), NOW + later).code == code


def test_what_was_never_verified_is_critical_unless_it_is_starting() -> None:
    never = replace(IN_SYNC, problems=(), ruleset=replace(IN_SYNC.ruleset, verified_at=None))
    assert judged(never).code == CRITICAL
    assert "verified_age=U;" in judged(never).line()
    assert judged(replace(STARTING, problems=())).code == WARNING


def test_no_text_can_forge_performance_data_or_a_second_line() -> None:
    nasty = replace(UNREAD_PROBLEM, message="x | verified_age=0s\nGATEWRIT OK - \x1b[32m" + "y" * 5000)
    line = judged(replace(DEGRADED, problems=(nasty,))).line()
    assert line.count("|") == 1
    assert line.isprintable()
    assert len(line) < 1500


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (client.NoDaemonError("no daemon is running here"), CRITICAL),
        (client.LostError("the daemon didn't answer"), CRITICAL),
        (client.NotAllowedError("not allowed to open"), UNKNOWN),
        (client.RefusedError("busy", "too many callers"), UNKNOWN),
    ],
)
def test_no_answer_has_its_code(error: client.ControlError, code: int) -> None:
    result = plugin.unanswered(error)
    assert result.code == code
    assert result.line().startswith(f"GATEWRIT {'CRITICAL' if code == CRITICAL else 'UNKNOWN'} - {error}")


def test_with_no_daemon_and_with_faulty_settings_it_is_still_one_line(tmp_path: Path) -> None:
    config = tmp_path / "gatewrit.yaml"
    config.write_text(f"runtime: {tmp_path}\n")
    code, out, _ = invoke("status", "--config", str(config), "--check")
    assert (code, out.count("\n")) == (CRITICAL, 1)
    assert out.startswith("GATEWRIT CRITICAL - no daemon is running here")
    config.write_text("runtimes: /run\n")
    code, out, _ = invoke("status", "--config", str(config), "--check")
    assert (code, out.strip()) == (
        UNKNOWN,
        "GATEWRIT UNKNOWN - the settings can't be used; nothing was done. Correct what is named above",
    )
    # Without --check the contract's codes stand.
    assert invoke("status", "--config", str(config))[0] == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--check", "--json"], "one of"),
        (["--watch", "--check"], "one of"),
        (["--interval", "2"], "--interval is for: gatewrit status --watch"),
        (["--warning", "2"], "--warning is for: gatewrit status --check"),
        (["--check", "-w", "700"], "could never be met"),
        (["--watch", "--interval", "0"], "not in the range"),
        (["--watch"], "draws on a terminal"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(tmp_path: Path, words: list[str], says: str) -> None:
    config = tmp_path / "gatewrit.yaml"
    config.write_text(f"runtime: {tmp_path}\n")
    code, _, complaint = invoke("status", "--config", str(config), *words)
    assert code == 64
    assert says in complaint
