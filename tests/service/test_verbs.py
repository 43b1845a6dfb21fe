"""The command line without and beside a daemon: exit codes, JSON, and that the kernel ends up as it says."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from lab import LabError, Namespace
from support import gateway as texts
from support.gateway import NFT, clean_environment, listing

if TYPE_CHECKING:
    from support.gateway import Gateway

PREFIX = "203.0.1.0/24"


@pytest.fixture
def mixed(gateway: Gateway) -> Gateway:
    """Policies of every kind, so that the ruleset has all that it can have. Nothing runs."""
    gateway.order("alpha", [PREFIX, "2001:db8:1::/48"], "tcp/3101")
    gateway.order("bravo", ["203.0.1.128/25", "203.0.2.1-203.0.2.9"], "any", action="drop", direction="both")
    gateway.order("charlie", ["2001:db8:1::/64", "255.255.255.255"], "tcp/1000-1999, udp/any, icmp", action="observe")
    gateway.order("later", ["203.0.1.0/28"], "sctp/any", start="2100-01-01T00:00:00Z", direction="from")
    return gateway


def test_the_program_itself(gateway: Gateway) -> None:
    """Run as an operator runs it, from its own start."""
    version = gateway.call("--version")
    assert (version.returncode, version.stdout.split()[0]) == (0, "gatewrit")
    misused = gateway.call("reload", "--no-such-option")
    assert misused.returncode == 64
    assert "--no-such-option" in misused.stderr
    gateway.order("alpha", PREFIX, "tcp/3101")
    applied = gateway.call("apply", "--config", str(gateway.config))
    assert (applied.returncode, applied.stderr) == (0, "")
    assert gateway.blocks(PREFIX)


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-verb"],
        ["reload", "extra"],
        ["render", "--at", "yesterday"],
        ["status", "--config"],
        ["check", "--jsn"],
    ],
)
def test_wrong_usage_exits_with_64(gateway: Gateway, words: list[str]) -> None:
    verb, *rest = words
    ended = gateway.cli(verb, *rest)
    assert (ended.returncode, ended.stdout) == (64, "")
    assert ended.stderr


def test_bad_settings_are_refused_before_anything_is_done(gateway: Gateway) -> None:
    gateway.order("alpha", PREFIX, "tcp/3101")
    gateway.set(hooks=["forward", "prerouting"], colour="red")
    for verb in ("run", "apply", "reload", "remove", "status"):
        ended = gateway.cli(verb)
        assert ended.returncode == 2
        assert "hooks" in ended.stderr or "prerouting" in ended.stderr
        assert "colour" in ended.stderr
    assert gateway.listing() == ""


def test_check_tells_every_fault(mixed: Gateway) -> None:
    warned = mixed.cli("check", "--json")
    assert warned.returncode == 0
    assert {each["severity"] for each in json.loads(warned.stdout)["faults"]} <= {"warning"}
    mixed.write("delta.yaml", "policy: delta\ncolour: red\n")
    told = mixed.cli("check", "--json")
    assert told.returncode == 2
    faults = json.loads(told.stdout)["faults"]
    assert len(faults) > 1
    assert all(set(each) == {"file", "line", "column", "code", "message", "severity"} for each in faults)
    assert mixed.cli("check", str(mixed.policies / "alpha.yaml")).returncode == 0
    assert mixed.cli("check", str(mixed.policies / "delta.yaml")).returncode == 2


def test_apply_enforces_once_without_a_daemon(mixed: Gateway) -> None:
    told = mixed.cli("apply", "--json")
    assert (told.returncode, told.stderr) == (0, "")
    assert json.loads(told.stdout)["ok"]
    before = mixed.listing()
    assert mixed.blocks("203.0.1.0/25")
    assert mixed.cli("apply").returncode == 0
    assert mixed.listing() == before

    # What it enforced once is last good from then on.
    mixed.write("alpha.yaml", "policy: alpha\n")
    bad = mixed.cli("apply")
    assert bad.returncode == 2
    assert "alpha.yaml:1:1: " in bad.stderr
    assert mixed.listing() == before

    # A daemon that starts on this finds nothing to do.
    mixed.start()
    assert mixed.listing() == before
    assert mixed.logged("reconcile.applied") == []
    assert mixed.status()["policies"]["in_force"] == 3


def test_apply_goes_through_the_running_daemon(mixed: Gateway) -> None:
    mixed.start()
    mixed.order("delta", "203.0.4.0/24", "tcp/3101")
    told = mixed.cli("apply", "--json")
    assert told.returncode == 0
    assert json.loads(told.stdout)["generation"] == mixed.status()["ruleset"]["generation"]
    assert mixed.blocks("203.0.4.0/24")
    assert mixed.views()["delta"]["state"] == "in_force"


def test_plan_says_what_would_change_by_policy(mixed: Gateway) -> None:
    def plan() -> tuple[int, bool, dict[str, dict[str, object]]]:
        told = mixed.cli("plan", "--json")
        document = json.loads(told.stdout)
        assert set(document) == {"pending", "policies", "held", "size", "counters_kept", "limits", "live"}
        assert document["held"] == []
        return told.returncode, document["pending"], {each.pop("id"): each for each in document["policies"]}

    code, pending, policies = plan()
    assert (code, pending, set(policies)) == (2, True, {"alpha", "bravo", "charlie", "later"})
    assert policies["alpha"] == {
        "change": "start",
        "segments_added": 2,
        "segments_lifted": 0,
        "addresses_added": str(256 + 2**80),
        "addresses_lifted": "0",
        "notes": ["in force at once, until 2199-01-01T00:00:00Z"],
        "near": [],
        "limits": {
            "total_share": {"ipv4": pytest.approx(256 / 2**32 / 0.01 * 100, abs=1e-6), "ipv6": 0.0},
            "widest": {"ipv4": 24, "ipv6": 48},
            "allow_wide": None,
        },
    }
    assert mixed.listing() == ""

    mixed.cli("apply")
    assert plan() == (0, False, {})
    assert mixed.cli("plan").returncode == 0

    mixed.policy("bravo", revision=2, state="rescinded", action="drop", direction="both")
    mixed.service("alpha", (["203.0.1.0/25", "2001:db8:1::/48", "203.0.9.1"], "tcp/3101"))
    mixed.policy("charlie", revision=2, action="drop")
    code, pending, policies = plan()
    assert (code, pending) == (2, True)
    assert {name: each["change"] for name, each in policies.items()} == {
        "alpha": "amend",
        "bravo": "end",
        "charlie": "amend",
    }
    assert (policies["alpha"]["addresses_added"], policies["alpha"]["addresses_lifted"]) == ("1", "128")
    assert policies["bravo"]["addresses_lifted"] == str(128 + 9)
    told = mixed.cli("plan")
    assert told.returncode == 2
    assert "lifted now: revision 2 is rescinded" in told.stdout
    assert "keeps its count of 0 packets" in told.stdout
    assert "of 265 IPv4 addresses blocked now" in told.stdout
    assert "\x1b" not in told.stdout + told.stderr

    # It says so whoever changed the kernel, and changes nothing itself.
    mixed.cli("apply")
    mixed.nft("flush chain inet gatewrit forward\n")
    drifted = mixed.listing()
    assert plan() == (2, True, {})
    assert mixed.listing() == drifted


def test_render_is_the_ruleset_that_the_daemon_loads(mixed: Gateway) -> None:
    mixed.set(table_owner=False)
    mixed.start()
    rendered = mixed.cli("render")
    assert (rendered.returncode, rendered.stderr) == (0, "")
    told = json.loads(mixed.cli("render", "--json").stdout)
    assert told["ruleset"] == rendered.stdout
    assert told["digest"] == mixed.status()["ruleset"]["digest"]

    with Namespace() as empty:
        for zone in ("UTC", "Asia/Karachi", "America/New_York"):
            empty.check([NFT, "-f", "-"], stdin=rendered.stdout, env={**clean_environment(), "TZ": zone})
            assert listing(empty) == mixed.listing()

    # Loaded over the daemon's own table, it changes nothing either.
    mixed.nft(rendered.stdout)
    assert json.loads(mixed.cli("plan", "--json").stdout)["pending"] is False
    # And so does what nft lists, under TZ=UTC.
    listed = mixed.space.check([NFT, "list", "ruleset"], env={**clean_environment(), "TZ": "UTC"})
    text = "delete table inet gatewrit\n" + listed
    mixed.space.check([NFT, "-f", "-"], stdin=text, env={**clean_environment(), "TZ": "UTC"})
    assert json.loads(mixed.cli("plan", "--json").stdout)["pending"] is False
    assert mixed.cli("reload").returncode == 0

    # At another time it is another ruleset: nothing stands any more of what has ended by then.
    ended = mixed.cli("render", "--at", "2199-01-01T00:00:00Z")
    assert ended.returncode == 0
    assert "by.alpha" not in ended.stdout


def test_remove_takes_everything_out_when_no_daemon_runs(mixed: Gateway) -> None:
    mixed.nft("table inet another { chain c { }\n}\n")
    nothing = mixed.cli("remove", "--json")
    assert (nothing.returncode, json.loads(nothing.stdout)["removed"]) == (0, False)

    process = mixed.start()
    refused = mixed.cli("remove")
    assert refused.returncode == 1
    assert f"pid {process.pid}" in refused.stderr
    assert mixed.blocks("203.0.1.0/25")

    assert mixed.end(signal.SIGTERM) == 0
    assert mixed.blocks("203.0.1.0/25")
    removed = mixed.cli("remove", "--json")
    assert (removed.returncode, json.loads(removed.stdout)["removed"]) == (0, True)
    assert "gatewrit" not in mixed.listing()
    assert "another" in mixed.listing()

    # The orders themselves aren't forgotten: the next start enforces them again.
    mixed.start()
    assert mixed.blocks("203.0.1.0/25")


def ruin_contents(state: Path) -> None:
    for path in state.rglob("*"):
        if path.is_file():
            path.write_bytes(b'{"version": \x00 garbage')


def ruin_meaning(state: Path) -> None:
    for path in state.rglob("*.json"):
        path.write_text('[1, {"version": 1}]')


def ruin_kinds(state: Path) -> None:
    for path in [each for each in state.rglob("*.json") if each.is_file()]:
        path.unlink()
        path.mkdir()


def take_away(state: Path) -> None:
    shutil.rmtree(state)


def replace_by_file(state: Path) -> None:
    shutil.rmtree(state)
    state.write_text("not a directory")


@pytest.mark.parametrize("ruin", [ruin_contents, ruin_meaning, ruin_kinds, take_away, replace_by_file])
def test_whatever_has_become_of_the_state_it_is_told_and_enforcement_goes_on(gateway: Gateway, ruin: object) -> None:
    gateway.order("alpha", PREFIX, "tcp/3101")
    gateway.start()
    gateway.end(signal.SIGKILL)
    ruin(gateway.state)  # type: ignore[operator]

    gateway.start()
    assert gateway.blocks(PREFIX)
    codes = set(gateway.codes())
    if ruin is replace_by_file:
        assert "state_unwritable" in codes
    elif ruin is not take_away:
        # What was damaged is told until a reload, and was written anew by the reading that began this life.
        assert gateway.logged("state.damaged")
    gateway.end(signal.SIGKILL)
    ruin(gateway.state) if gateway.state.is_dir() else None  # type: ignore[operator]

    assert gateway.cli("plan").returncode == 0
    removed = gateway.cli("remove")
    assert removed.returncode == 0
    assert gateway.listing() == ""


def test_who_may_not_read_the_state_is_told_which_file(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_state: Path) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", "/var/lib/gatewrit/clock.json")

    monkeypatch.setattr("gatewrit.cli.plan.settled_now", lambda _clock, state: refused(state))
    told = gateway.cli("plan")
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith("gatewrit: this user may not do that: ")
    assert "'/var/lib/gatewrit/clock.json'; run this as root" in told.stderr


def test_a_draft_is_planned_from_where_it_isnt_read(gateway: Gateway) -> None:
    gateway.order("alpha", PREFIX, "tcp/3101")
    assert gateway.cli("apply").returncode == 0
    draft = gateway.root / "draft"
    shutil.copytree(gateway.policies, draft)
    assert gateway.cli("plan", str(draft)).returncode == 0
    (draft / "alpha.yaml").rename(draft / "bravo.yaml")
    text = (draft / "bravo.yaml").read_text()
    (draft / "bravo.yaml").write_text(text.replace("policy: alpha", "policy: bravo").replace("reject", "drop"))
    planned = json.loads(gateway.cli("plan", str(draft), "--json").stdout)
    # What is in force and has no file there stays, as wherever a file is gone.
    assert [(each["id"], each["change"]) for each in planned["policies"]] == [("bravo", "start")]
    assert gateway.cli("plan").returncode == 0
    for wrong in (gateway.root / "no-such", draft / "bravo.yaml"):
        assert gateway.cli("plan", str(wrong)).returncode == 64


def test_remove_works_with_a_state_that_cannot_be_written(gateway: Gateway) -> None:
    gateway.order("alpha", PREFIX, "tcp/3101")
    gateway.cli("apply")
    # Root may write anywhere but where there is no place at all.
    shutil.rmtree(gateway.state)
    gateway.state.symlink_to("/proc/no-such-place")
    removed = gateway.cli("remove", "--json")
    document = json.loads(removed.stdout)
    assert (removed.returncode, document["removed"]) == (0, True)
    assert "no harm" in document["state"]
    assert "can't be written" in document["journal"]
    assert gateway.listing() == ""


def test_what_somebody_else_did_to_our_table_keeps_nothing_from_being_removed(gateway: Gateway) -> None:
    gateway.order("alpha", PREFIX, "tcp/3101")
    gateway.cli("apply")
    gateway.nft("""
        add set inet gatewrit odd { type mark; flags timeout; }
        add element inet gatewrit odd { 1 timeout 1d }
        add quota inet gatewrit q { over 1 mbytes }
        add chain inet gatewrit nat { type nat hook postrouting priority 100; }
        add rule inet gatewrit nat masquerade
    """)
    assert gateway.cli("plan").returncode == 2
    assert gateway.cli("remove").returncode == 0
    assert gateway.listing() == ""
    with pytest.raises(LabError):
        gateway.nft("delete table inet gatewrit\n")


def test_what_no_hook_can_enforce_is_not_called_in_sync(gateway: Gateway) -> None:
    """On prerouting nobody knows yet where a packet leaves, so that `to` by interface matches nothing there."""
    gateway.set(hooks=["prerouting"])
    scoped = "scope: {interfaces: [gi0]}\n"
    for name, direction in (("way-to", "to"), ("way-from", "from"), ("way-both", "both")):
        gateway.service(name, ("203.0.113.0/24", "tcp/3101"))
        gateway.write(f"{name}.yaml", texts.policy(name, name, direction=direction) + scoped)
    gateway.order("free", "203.0.113.0/24", "tcp/3101")
    checked = gateway.cli("check", "--json")
    told = [each for each in json.loads(checked.stdout)["faults"] if each["severity"] == "error"]
    assert checked.returncode == 2
    assert sorted((each["code"], Path(each["file"]).stem) for each in told) == [
        ("interface_unseen", "way-both"),
        ("interface_unseen", "way-to"),
    ]
    gateway.start()
    status = gateway.status()
    assert status["enforcement"] == "degraded"
    errors = [(each["code"], each["policy"]) for each in status["problems"] if each["severity"] == "error"]
    assert errors == [("interface_unseen", "way-both"), ("interface_unseen", "way-to")]

    gateway.end()
    gateway.set(hooks=["forward"])
    assert gateway.cli("check").returncode == 0
    gateway.start()
    assert gateway.status()["enforcement"] == "in_sync"
