"""Changes that are taken back: by hand, or as nobody confirmed them; with a daemon, without, or when all are gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from support.gateway import clean_environment, instant, program, until

if TYPE_CHECKING:
    from support.gateway import Gateway

ALPHA, BRAVO = "203.0.1.0/24", "203.0.2.0/24"
PORT = "tcp/3101"


@pytest.fixture
def one(gateway: Gateway) -> Gateway:
    """One order in force under a daemon."""
    gateway.order("alpha", ALPHA, PORT)
    gateway.start()
    return gateway


def equal(gateway: Gateway) -> bool:
    """Whether the kernel does exactly what counts."""
    return gateway.cli("verify").returncode == 0


def digest(gateway: Gateway) -> str:
    """Give the digest of the ruleset that is enforced: the same one for the same ruleset."""
    found: str = gateway.status()["ruleset"]["digest"]
    return found


def told_of(gateway: Gateway, kind: str) -> bool:
    """Whether who follows what happens is told of such a thing over HTTP."""
    _, page = gateway.get("/v1/history?event=enforcement")
    return kind in [each["kind"] for each in page["items"]]


def test_a_change_that_nobody_confirms_is_taken_back(one: Gateway) -> None:
    before, generation = digest(one), one.status()["ruleset"]["generation"]
    one.order("bravo", BRAVO, PORT)
    began = time.time()
    code, said = one.told("apply", "--confirm-within", "3s")
    assert (code, said["ok"]) == (0, True)
    assert f"generation {generation} is put back" in said["sentence"]
    assert one.blocks(BRAVO)
    assert ("unconfirmed", None) in one.problems()
    assert one.status()["enforcement"] == "in_sync"
    until(lambda: not one.blocks(BRAVO), seconds=10)
    assert time.time() - began >= 3
    assert one.blocks(ALPHA)
    until(lambda: one.codes() == ["rolled_back"])
    assert digest(one) == before
    assert one.status()["enforcement"] == "degraded"
    assert equal(one)
    until(lambda: told_of(one, "rolled_back"))
    # The file is still there, and isn't followed; not by a restart either.
    one.restart(signal.SIGKILL)
    assert (one.codes(), one.blocks(BRAVO)) == (["rolled_back"], False)
    one.service("bravo", (BRAVO, "tcp/3102"))
    time.sleep(0.5)
    assert not one.blocks(BRAVO)
    assert one.told("apply")[1]["ok"]
    assert one.blocks(BRAVO)
    assert one.codes() == []


def test_a_change_that_is_confirmed_stays(one: Gateway) -> None:
    one.order("bravo", BRAVO, PORT)
    assert one.told("reload", "--confirm-within", "2s")[0] == 0
    code, said = one.told("confirm")
    assert (code, said["ok"]) == (0, True)
    assert one.problems() == []
    until(lambda: told_of(one, "confirmed"))
    time.sleep(2.5)
    assert one.blocks(BRAVO)
    assert not (one.state / "undo.json").exists()
    code, said = one.told("confirm")
    assert (code, said["code"]) == (2, "nothing_waits")


def test_what_is_picked_up_while_a_change_waits_belongs_to_it(one: Gateway) -> None:
    before = digest(one)
    code, said = one.told("apply", "--confirm-within", "3s")
    assert (code, "is put back" in said["sentence"]) == (0, True)
    one.order("bravo", BRAVO, PORT)
    until(lambda: one.blocks(BRAVO))
    until(lambda: not one.blocks(BRAVO), seconds=10)
    until(lambda: one.codes() == ["rolled_back"])
    assert digest(one) == before


def test_a_time_that_passes_without_a_change_takes_nothing_back(one: Gateway) -> None:
    assert one.told("apply", "--confirm-within", "1s")[0] == 0
    assert one.codes() == ["unconfirmed"]
    until(lambda: one.codes() == [], seconds=10)
    one.order("bravo", BRAVO, PORT)
    until(lambda: one.blocks(BRAVO))


@pytest.mark.parametrize("dead", ["terminal", "terminal and daemon"])
def test_it_is_taken_back_when_who_made_it_is_gone(one: Gateway, dead: str) -> None:
    before = digest(one)
    one.order("bravo", BRAVO, PORT)
    words = [*program(), "apply", "--config", str(one.config), "--confirm-within", "3s"]
    terminal = one.space.popen(words, env=clean_environment(), stdout=subprocess.PIPE, start_new_session=True)
    assert terminal.stdout is not None
    assert b"put back" in terminal.stdout.readline()
    assert one.blocks(BRAVO)
    os.killpg(terminal.pid, signal.SIGKILL)
    terminal.wait(10)
    if dead == "terminal and daemon":
        one.end(signal.SIGKILL)
    until(lambda: not one.blocks(BRAVO), seconds=15)
    until(lambda: json.loads((one.state / "undo.json").read_text())["rolled_back"] is not None, seconds=5)
    if dead == "terminal and daemon":
        one.start()
    until(lambda: one.codes() == ["rolled_back"])
    assert digest(one) == before
    assert equal(one)


def test_a_daemon_that_starts_late_takes_back_what_was_due(one: Gateway) -> None:
    before = digest(one)
    one.order("bravo", BRAVO, PORT)
    assert one.ask("apply", confirm_within=2)["ok"]  # nobody but the daemon knows
    one.end(signal.SIGKILL)
    time.sleep(2.1)
    assert one.blocks(BRAVO)
    one.start()
    until(lambda: one.codes() == ["rolled_back"])
    assert digest(one) == before


def test_over_ten_generations_each_is_as_it_was(gateway: Gateway) -> None:
    gateway.start()
    listed = {}
    for number in range(1, 11):
        name = f"order-{number % 4}"
        gateway.service(name, ([f"203.0.{number}.0/24", f"2607:ffc0:{number}::/48"], PORT))
        gateway.policy(name, name, revision=number, action=("drop", "reject")[number % 2])
        assert gateway.reload()["ok"]
        listed[gateway.status()["ruleset"]["generation"]] = digest(gateway)
    assert len(listed) == 10
    code, said = gateway.told("rollback", "--list")
    assert code == 0
    assert {*listed} <= {each["generation"] for each in said["generations"]}
    for generation in [*reversed(listed), *listed]:
        assert gateway.told("rollback", str(generation))[1]["ok"]
        assert digest(gateway) == listed[generation]
        assert equal(gateway)
    assert gateway.reload()["ok"]
    assert digest(gateway) == listed[max(listed)]
    assert gateway.codes() == []


def test_what_was_lifted_since_never_comes_back(gateway: Gateway) -> None:
    names = ("amended", "rescinded", "suspended", "lapsed", "by-hand")
    for at, name in enumerate(names):
        gateway.order(name, f"203.0.{at}.0/24", PORT)
    gateway.start()
    generation = gateway.status()["ruleset"]["generation"]
    gateway.policy("amended", "amended", revision=2, action="reject")
    gateway.policy("rescinded", "rescinded", revision=2, state="rescinded")
    gateway.policy("suspended", "suspended", revision=2, state="suspended")
    gateway.policy("lapsed", "lapsed", revision=2, until=instant(time.time() - 1))
    gateway.order("new", "203.0.9.0/24", PORT)
    assert gateway.reload()["ok"]
    assert gateway.cli("suspend", "by-hand", "--until", "1h", "--reason", "calls fail").returncode == 0
    assert gateway.told("rollback", str(generation))[1]["ok"]
    states = {name: view["state"] for name, view in gateway.views().items()}
    assert states == {
        "amended": "in_force",
        "rescinded": "rescinded",
        "suspended": "suspended",
        "lapsed": "lapsed",
        "by-hand": "suspended",
    }
    assert gateway.views()["amended"]["revision"] == 1
    assert gateway.blocks("203.0.0.0/24")
    assert not any(gateway.blocks(f"203.0.{at}.0/24") for at in (1, 2, 3, 9))
    assert equal(gateway)


def test_what_is_forgotten_never_comes_back(one: Gateway) -> None:
    one.order("bravo", BRAVO, PORT)
    assert one.reload()["ok"]
    generation = one.status()["ruleset"]["generation"]
    (one.policies / "bravo.yaml").unlink()
    assert one.reload()["ok"]
    assert one.cli("forget", "bravo", "--reason", "a mistake").returncode == 0
    assert one.told("rollback", str(generation))[1]["ok"]
    assert [*one.views()] == ["alpha"]


def test_without_a_daemon_it_works_alike(gateway: Gateway) -> None:
    gateway.order("alpha", ALPHA, PORT)
    assert gateway.told("apply")[0] == 0
    gateway.order("bravo", BRAVO, PORT)
    code, said = gateway.told("apply", "--confirm-within", "2s")
    assert (code, "put back" in said["sentence"]) == (0, True)
    assert gateway.blocks(BRAVO)
    until(lambda: not gateway.blocks(BRAVO), seconds=15)
    # Whoever does it writes down what counts after that.
    until(lambda: equal(gateway), every=0.5)
    assert gateway.told("apply")[0] == 0
    assert gateway.blocks(BRAVO)
    assert gateway.told("rollback")[1]["ok"]
    assert not gateway.blocks(BRAVO)
    assert gateway.blocks(ALPHA)
    assert equal(gateway)
    assert gateway.cli("suspend", "alpha", "--until", "1h", "--reason", "x").returncode == 0
    assert not gateway.blocks(BRAVO)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["rollback", "4711"], 0, None),
        (["rollback", "0"], 2, "unknown_generation"),
        (["rollback"], 2, "unknown_generation"),
        (["confirm"], 2, "nothing_waits"),
    ],
)
def test_what_makes_no_sense_is_refused(one: Gateway, words: list[str], code: int, said: str | None) -> None:
    before = one.listing()
    returned, answer = one.told(*words)
    assert (returned, answer.get("code")) == (code, said)
    assert one.listing() == before


@pytest.mark.parametrize("given", ["0s", "", "soon", "5", "-3s"])
def test_a_time_that_makes_no_sense_is_wrong_usage(one: Gateway, given: str) -> None:
    one.order("bravo", BRAVO, PORT)
    ended = one.cli("apply", f"--confirm-within={given}")
    assert ended.returncode == 64
    assert "--confirm-within" in ended.stderr
