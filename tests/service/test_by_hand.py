"""What people order from the command line: suspend, resume, release, forget; with the daemon, without, and between."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from support.gateway import instant, until

if TYPE_CHECKING:
    from support.gateway import Gateway

ALPHA, BRAVO = "203.0.1.0/24", "203.0.2.0/24"


@pytest.fixture
def two(gateway: Gateway) -> Gateway:
    """Two orders; nothing runs."""
    gateway.order("alpha", ALPHA, "tcp/3101")
    gateway.order("bravo", BRAVO, "tcp/3101")
    return gateway


def states(gateway: Gateway) -> dict[str, str]:
    return {name: view["state"] for name, view in gateway.views().items()}


def test_a_suspension_holds_over_revisions_and_a_restart_and_ends_early(two: Gateway) -> None:
    two.start()
    code, told = two.told("suspend", "alpha", "--until", "2h", "--reason", "ticket 4711")
    assert (code, told["ok"], told["policies"]) == (0, True, ["alpha"])
    assert states(two) == {"alpha": "suspended", "bravo": "in_force"}
    problem = next(each for each in two.status()["problems"] if each["code"] == "suspended_by_hand")
    assert (problem["severity"], problem["policy"]) == ("warning", "alpha")
    assert "ticket 4711" in problem["message"]
    assert told["until"] in problem["message"]
    assert "root" in problem["message"]
    assert two.status()["enforcement"] == "in_sync"
    assert two.status()["policies"]["suspended"] == 1
    assert two.cli("verify").returncode == 0
    # The kernel has it, but behind a guard: see tests/kernel/test_resume_in_time.py.
    assert "nobody's order acts yet" in two.listing()

    two.policy("alpha", revision=2, action="drop")
    assert two.reload()["ok"]
    assert states(two)["alpha"] == "suspended"
    two.restart(signal.SIGKILL)
    assert states(two) == {"alpha": "suspended", "bravo": "in_force"}
    assert json.loads(two.cli("plan", "--json").stdout)["pending"] is False

    before = int(time.time())
    code, told = two.told("resume", "alpha")
    assert (code, told["policies"]) == (0, ["alpha"])
    assert states(two) == {"alpha": "in_force", "bravo": "in_force"}
    assert "nobody's order acts yet" not in two.listing()
    assert two.problems() == []
    assert two.views()["alpha"]["in_force_since"] >= instant(before)
    assert two.views()["bravo"]["in_force_since"] < two.views()["alpha"]["in_force_since"]
    two.restart()
    assert states(two) == {"alpha": "in_force", "bravo": "in_force"}
    kinds = [each["event"] for name in ("policy.suspended", "policy.resumed") for each in two.logged(name)]
    assert kinds == ["policy.suspended", "policy.resumed"]
    assert two.logged("policy.suspended")[0]["by"] == "root"


def test_a_suspension_ends_by_itself(two: Gateway) -> None:
    two.start()
    assert two.told("suspend", "--all", "--until", "2s", "--reason", "test")[1]["policies"] == ["alpha", "bravo"]
    assert states(two) == {"alpha": "suspended", "bravo": "suspended"}
    until(lambda: states(two) == {"alpha": "in_force", "bravo": "in_force"})
    until(lambda: "nobody's order acts yet" not in two.listing())
    until(lambda: two.problems() == [])
    assert json.loads((two.state / "byhand.json").read_text())["suspensions"] == {}
    assert [each["policy"] for each in two.logged("policy.suspension_ended")] == ["alpha", "bravo"]


def test_in_an_emergency_no_daemon_is_needed(two: Gateway) -> None:
    two.start()
    two.end(signal.SIGKILL)
    assert "nobody's order acts yet" not in two.listing()
    code, told = two.told("suspend", "--all", "--until", "1d", "--reason", "emergency calls fail")
    assert (code, told["policies"]) == (0, ["alpha", "bravo"])
    assert two.listing().count("nobody's order acts yet") == 2
    two.start()
    assert states(two) == {"alpha": "suspended", "bravo": "suspended"}
    two.end()
    assert two.told("resume", "--all")[0] == 0
    assert "nobody's order acts yet" not in two.listing()
    assert two.told("resume", "--all")[1]["policies"] == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["suspend", "alpha", "--until", "8d", "--reason", "x"], "bad_until"),
        (["suspend", "alpha", "--until", "2015-01-01T00:00:00Z", "--reason", "x"], "bad_until"),
        (["suspend", "alpha", "--until", "2h", "--reason", "two\nlines"], "bad_reason"),
        (["suspend", "alpha", "--until", "2h", "--reason", "x" * 301], "bad_reason"),
        (["suspend", "alpha", "--until", "2h", "--reason", "  "], "bad_reason"),
        (["suspend", "alhpa", "--until", "2h", "--reason", "x"], "unknown_policy"),
        (["resume", "alpha"], "not_suspended"),
        (["release", "alpha", "--reason", "x"], "nothing_held"),
        (["forget", "alpha", "--reason", "x"], "file_there"),
        (["forget", "nobody", "--reason", "x"], "unknown_policy"),
    ],
)
def test_what_makes_no_sense_is_refused_with_2(two: Gateway, words: list[str], code: str) -> None:
    two.start()
    before = two.listing()
    for _ in range(2):
        returned, told = two.told(*words)
        assert (returned, told["code"]) == (2, code)
        assert ("did you mean alpha?" in told["message"]) is ("alhpa" in words)
        assert not (two.state / "byhand.json").exists()
        assert two.listing() == before
        if two.process is not None:
            two.end()  # and alike without a daemon


@pytest.mark.parametrize(
    "words",
    [
        ["suspend", "alpha", "--until", "2h"],
        ["suspend", "alpha", "--reason", "x"],
        ["suspend", "alpha", "--until", "tomorrow", "--reason", "x"],
        ["suspend", "alpha", "--until", "", "--reason", "x"],
        ["suspend", "--until", "2h", "--reason", "x"],
        ["suspend", "alpha", "--all", "--until", "2h", "--reason", "x"],
        ["resume"],
        ["release", "alpha"],
        ["forget", "alpha"],
        ["forget", "--reason", "x"],
    ],
)
def test_wrong_usage_is_64(two: Gateway, words: list[str]) -> None:
    verb, *rest = words
    assert two.cli(verb, *rest).returncode == 64
    assert two.listing() == ""


def test_a_large_change_is_held_until_released(two: Gateway) -> None:
    two.start()
    two.service("alpha", (["203.0.1.0/26"], "tcp/3101"))  # lifts 192 of 512: below half
    assert two.reload()["faults"] == []
    two.service("bravo", (["203.0.2.0/29"], "tcp/3101"))  # lifts 248 of 320
    code, told = two.told("reload")
    assert code == 2
    assert [fault["code"] for fault in told["faults"]] == ["change_held"]
    assert two.blocks("203.0.2.0/24")
    assert ("change_held", "bravo") in two.problems()
    assert two.status()["enforcement"] == "degraded"
    plan = two.cli("plan", "--json")
    assert plan.returncode == 2
    assert json.loads(plan.stdout)["held"] == [
        {"id": "bravo", "services": ["bravo"], "addresses_added": "0", "addresses_lifted": "248"}
    ]
    assert json.loads(plan.stdout)["pending"] is False

    # It waits over a restart, and a small change beside it isn't held with it.
    two.restart(signal.SIGKILL)
    two.service("alpha", (["203.0.1.0/26", "203.0.9.1"], "tcp/3101"))
    two.reload()
    assert two.blocks("203.0.2.0/24", "203.0.9.1")
    assert [each for each in two.problems() if each[0] == "change_held"] == [("change_held", "bravo")]

    # What is released is what was held; other content is judged anew.
    code, told = two.told("release", "bravo", "--reason", "new plan")
    assert (code, told["held"]) == (0, False)
    assert two.blocks("203.0.2.0/29")
    assert not two.blocks("203.0.2.0/24")
    assert two.problems() == []
    two.restart()
    assert two.problems() == []


def test_a_released_change_is_just_the_one_that_was_shown(two: Gateway) -> None:
    two.start()
    two.service("bravo", (["203.0.0.0/16"], "tcp/3101"))
    assert two.told("reload")[0] == 2
    two.end()
    two.service("bravo", (["203.0.0.0/16", "198.51.100.0/24"], "tcp/3101"))
    code, told = two.told("release", "bravo", "--reason", "x")
    assert (code, told["ok"], told["held"]) == (2, True, True)
    assert two.blocks(BRAVO)
    code, told = two.told("release", "bravo", "--reason", "this one too")
    assert (code, told["held"]) == (0, False)
    assert two.blocks("198.51.100.0/24")


def test_a_raised_revision_acts_at_once_with_the_content_that_was_good(two: Gateway) -> None:
    two.start()
    two.service("bravo", (["198.51.0.0/16"], "tcp/3101"))
    two.policy("bravo", revision=2, action="drop")
    assert two.told("reload")[0] == 2
    view = two.views()["bravo"]
    assert (view["revision"], view["action"], view["addresses"]["ipv4"]) == (2, "drop", "256")
    assert two.blocks(BRAVO)
    two.policy("bravo", revision=3, state="rescinded")
    assert two.reload()["faults"] == []
    assert states(two)["bravo"] == "rescinded"
    assert not two.blocks(BRAVO)


def test_a_policy_whose_file_is_gone_can_be_forgotten(two: Gateway) -> None:
    two.start()
    (two.policies / "alpha.yaml").unlink()
    two.reload()
    assert two.problems() == [("policy_missing", "alpha")]
    assert two.told("suspend", "alpha", "--until", "1h", "--reason", "x")[0] == 0
    code, told = two.told("forget", "alpha", "--reason", "withdrawn")
    assert (code, told["policies"]) == (0, ["alpha"])
    assert not two.blocks(ALPHA)
    assert two.blocks(BRAVO)
    assert list(two.views()) == ["bravo"]
    assert two.problems() == []
    assert "alpha" not in two.listing()
    for path in two.state.rglob("*"):
        # What was ordered and done stays in the journal.
        assert path.is_dir() or path.name.startswith("journal.db") or b"alpha" not in path.read_bytes(), path
    two.restart(signal.SIGKILL)
    assert list(two.views()) == ["bravo"]

    # Without a daemon, too; and a file that comes back is a new policy.
    (two.policies / "bravo.yaml").unlink()
    two.reload()
    two.end()
    assert two.told("forget", "bravo", "--reason", "withdrawn")[0] == 0
    assert not two.blocks(BRAVO)
    two.policy("bravo")
    two.start()
    assert states(two) == {"bravo": "in_force"}


def test_a_damaged_book_lifts_nothing_and_is_told_until_somebody_acts(two: Gateway) -> None:
    two.start()
    assert two.told("suspend", "alpha", "--until", "1h", "--reason", "x")[0] == 0
    two.end()
    (two.state / "byhand.json").write_text('{"version": 1, "suspensions": {"alpha": {"until": "soon"}}}')
    two.start()
    assert states(two) == {"alpha": "in_force", "bravo": "in_force"}
    assert two.codes() == ["by_hand_lost"]
    assert two.status()["enforcement"] == "degraded"
    two.reload()
    assert two.codes() == ["by_hand_lost"]
    assert two.told("suspend", "alpha", "--until", "1h", "--reason", "again")[0] == 0
    assert two.codes() == ["suspended_by_hand"]


def test_a_damaged_book_is_settled_by_resuming_all_also_over_a_restart(two: Gateway) -> None:
    two.state.mkdir()
    (two.state / "byhand.json").write_text("{")
    two.start()
    assert two.told("resume", "delta")[0] == 2
    assert two.codes() == ["by_hand_lost"]
    assert two.told("resume", "--all")[0] == 0
    assert two.problems() == []
    two.restart()
    assert two.problems() == []
