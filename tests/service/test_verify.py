"""`gatewrit verify` beside a running daemon, and without one."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.gateway import Gateway


def test_what_the_daemon_enforces_is_proved_and_a_hole_is_told_by_policy(gateway: Gateway) -> None:
    gateway.order("order-a", "203.0.113.0/24", "tcp/3101")
    gateway.order("order-b", "198.51.100.0/24", "any", direction="both")
    gateway.start()
    fine = gateway.cli("verify")
    assert (fine.returncode, fine.stdout.split(":")[0], fine.stderr) == (0, "equal", "")
    # A daemon would put it right at once.
    gateway.end()
    gateway.nft("delete element inet gatewrit to4 { 203.0.113.0/24 }\n")
    told = gateway.cli("verify", "--json")
    answer = json.loads(told.stdout)
    assert told.returncode == 1
    assert (answer["equal"], answer["excess"]) == (False, [])
    assert {each["policy"] for each in answer["missing"]} == {"order-a"}
    assert "203.0.113.0-203.0.113.255" in answer["missing"][0]["packets"]
    gateway.start()
    assert json.loads(gateway.cli("verify", "--json").stdout) == {"equal": True, "missing": [], "excess": []}


def test_what_a_faulty_file_leaves_in_force_is_what_counts(gateway: Gateway) -> None:
    gateway.order("order-a", "203.0.113.0/24", "tcp/3101")
    gateway.start()
    gateway.write("order-a.yaml", "policy: order-a\n")
    gateway.reload()
    assert gateway.cli("verify").returncode == 0


def test_without_a_daemon_the_files_say_what_should_be(gateway: Gateway) -> None:
    gateway.order("order-a", "203.0.113.0/24", "tcp/3101")
    before = gateway.cli("verify")
    assert before.returncode == 1
    assert "missing: order-a" in before.stdout
    assert gateway.cli("apply").returncode == 0
    assert gateway.cli("verify").returncode == 0
    assert gateway.cli("remove").returncode == 0
    assert gateway.cli("verify").returncode == 1


def test_until_when_an_order_is_suspended_by_hand_is_proved_too(gateway: Gateway) -> None:
    gateway.order("order-a", "203.0.113.0/24", "tcp/3101")
    gateway.order("order-b", "203.0.113.0/25", "any", direction="both")
    gateway.start()
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    suspended = gateway.cli("suspend", "order-b", "--until", until, "--reason", "a test")
    assert suspended.returncode == 0, suspended.stderr
    assert gateway.cli("verify").stdout.startswith("equal")
    # From when it acts again is part of what is proved.
    gateway.end()
    gateway.nft("flush chain inet gatewrit to.by.order-b\n")
    told = json.loads(gateway.cli("verify", "--json").stdout)
    assert {each["policy"] for each in told["missing"]} == {"order-b"}


def test_scopes_exceptions_and_nat64_are_proved_too(gateway: Gateway) -> None:
    gateway.set(nat64=["64:ff9b::/96"])
    gateway.order("order-a", "203.0.113.0/24", "tcp/3101")
    gateway.order("order-b", "203.0.113.0/25", "any", direction="both")
    for name, more in (
        ("order-a", "scope: {interfaces: [gi0, 'ppp*'], sources: [100.64.0.0/10]}"),
        ("order-b", "except: {prefixes: [203.0.113.7], sources: [100.64.9.0/24]}"),
    ):
        gateway.write(f"{name}.yaml", (gateway.policies / f"{name}.yaml").read_text() + more + "\n")
    gateway.start()
    assert gateway.views().keys() == {"order-a", "order-b"}
    assert gateway.cli("verify").stdout.startswith("equal")
    gateway.end()
    gateway.nft("flush chain inet gatewrit from.by.order-b\n")
    told = json.loads(gateway.cli("verify", "--json").stdout)
    assert {each["policy"] for each in told["missing"]} == {"order-b"}
    assert told["excess"] == []
