"""`gatewrit explain` and `/v1/explain` with the real process, and without one."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from support.gateway import instant, until

if TYPE_CHECKING:
    from support.gateway import Gateway


@pytest.fixture
def ordered(gateway: Gateway) -> Gateway:
    gateway.order("alpha", ["203.0.1.0/24"], "tcp/3101", action="reject")
    gateway.order("later", ["203.0.2.0/24"], "any", action="drop", start="2100-01-01T00:00:00Z")
    return gateway


def test_the_daemon_answers_alike_on_both_ways(ordered: Gateway) -> None:
    ordered.start()
    told = ordered.cli("explain", "203.0.1.7", "--protocol", "tcp", "--port", "3101", "--json")
    assert (told.returncode, told.stderr) == (0, "")
    status, document = ordered.get("/v1/explain?address=203.0.1.7&protocol=tcp&port=3101")
    assert status == 200
    said = json.loads(told.stdout)
    assert {**said, "at": None} == {**document, "at": None}
    assert (said["blocked"], said["partly"], said["verdict"]) == (True, False, "reject")
    (policy,) = said["policies"]
    assert policy["id"] == "alpha"
    assert policy["since"] is not None
    assert policy["place"] == f"{ordered.services}/alpha.yaml:4"
    people = ordered.cli("explain", "203.0.1.7")
    assert people.returncode == 0
    assert people.stdout.startswith("Partly: of 203.0.1.7, TCP port 3101 is blocked (rejected) since ")


def test_what_is_to_come_and_what_is_past(ordered: Gateway) -> None:
    ordered.start()
    now = ordered.cli("explain", "203.0.2.7")
    assert now.stdout.startswith("No: 203.0.2.7 is not blocked here; the order of ")
    then = json.loads(ordered.cli("explain", "203.0.2.7", "--at", "2100-01-01T00:00:00Z", "--json").stdout)
    assert (then["blocked"], then["policies"][0]["since"]) == (True, "2100-01-01T00:00:00Z")
    past = ordered.cli("explain", "203.0.2.7", "--at", "2001-01-01T00:00:00Z")
    assert (past.returncode, past.stdout) == (1, "")
    assert "not kept" in past.stderr
    status, problem = ordered.get("/v1/explain?address=203.0.2.7&at=2001-01-01T00:00:00Z")
    assert (status, problem["code"]) == (404, "not_kept")


def test_without_a_daemon_the_last_good_policies_answer(ordered: Gateway) -> None:
    assert ordered.cli("apply").returncode == 0
    told = ordered.cli("explain", "203.0.1.7", "--protocol", "tcp", "--port", "3101")
    assert told.returncode == 0
    assert told.stdout.startswith("Yes: TCP port 3101 of 203.0.1.7 is blocked (rejected) since ")
    assert "no daemon answers" in told.stderr


def test_nothing_of_a_question_is_logged(ordered: Gateway) -> None:
    ordered.start()
    ordered.get("/v1/explain?address=203.0.1.7&source=198.51.100.77")
    ordered.cli("explain", "203.0.1.7", "--source", "198.51.100.77")
    assert "198.51.100.77" not in ordered.log.read_text()


@pytest.mark.parametrize("words", [[], ["203.0.1.0/24"], ["203.0.1.1", "--port", "x"], ["203.0.1.1", "--at", "noon"]])
def test_wrong_usage(gateway: Gateway, words: list[str]) -> None:
    ended = gateway.cli("explain", *words)
    assert (ended.returncode, ended.stdout) == (64, "")
    assert ended.stderr


def test_the_journal_tells_of_what_has_been_lifted_since(gateway: Gateway) -> None:
    gateway.order("alpha", ["203.0.1.0/24"], "tcp/3101", action="reject")
    gateway.start()
    question = ("203.0.1.7", "--protocol", "tcp", "--port", "3101")
    (told,) = json.loads(gateway.cli("explain", *question, "--json").stdout)["policies"]
    began = int(time.time()) + 1
    until(lambda: time.time() > began + 1)
    gateway.order("alpha", ["203.0.1.0/24"], "tcp/3101", action="reject", state="rescinded", revision=2)
    gateway.reload()
    assert gateway.cli("explain", *question).stdout.startswith("No: ")

    def then() -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(gateway.cli("explain", *question, "--json", "--at", instant(began)).stdout)
        return answer

    while_running = then()
    assert while_running["blocked"]
    assert while_running["policies"] == [told]
    status, document = gateway.get(f"/v1/explain?address=203.0.1.7&protocol=tcp&port=3101&at={instant(began)}")
    assert (status, document) == (200, while_running)
    gateway.end()
    assert then() == while_running
