"""A list of hundreds of thousands on its way into the kernel: it is seen, and nobody in a hurry waits behind it."""

from __future__ import annotations

import json
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from support.gateway import until

if TYPE_CHECKING:
    from support.gateway import Gateway

PREFIXES = 400_000
LIST = "\n".join(f"{20 + at // 32768}.{at // 128 % 256}.{at % 128 * 2}.0/28" for at in range(PREFIXES)) + "\n"


def test_an_urgent_order_and_a_suspension_do_not_wait_behind_a_list(gateway: Gateway) -> None:
    gateway.order("first", "203.0.1.0/24", "tcp/3101")
    gateway.start()
    gateway.write("services/bulk.txt", LIST)
    gateway.order("bulk", "bulk.txt", "tcp/3101")
    outcomes: list[dict[str, Any]] = []
    reload = threading.Thread(target=lambda: outcomes.append(gateway.reload()))
    reload.start()

    # It is seen how far it is; what is prepared is nothing yet that a packet meets.
    seen = until(lambda: preparing(gateway), every=0.002)
    assert 0 <= seen["done"] < seen["total"]
    assert seen["total"] >= PREFIXES
    assert seen["since"] is not None

    # It stands still until both have been said, however slow we are.
    gateway.send(signal.SIGSTOP)
    gateway.order("urgent", "203.0.2.0/24", "tcp/3101")
    with gateway.connect() as person, person.makefile() as answers:
        request = {"verb": "suspend", "policy": "first", "until": int(time.time()) + 7200, "reason": "a test"}
        person.sendall(json.dumps(request).encode() + b"\n")
        gateway.send(signal.SIGCONT)
        assert json.loads(answers.readline())["ok"]
    until(lambda: gateway.views().get("urgent", {}).get("state") == "in_force", every=0.002)

    reload.join()
    (outcome,) = outcomes
    assert outcome["ok"], outcome
    assert outcome["faults"] == []
    until(lambda: gateway.status()["progress"] is None)
    states = {name: view["state"] for name, view in gateway.views().items()}
    assert states == {"first": "suspended", "urgent": "in_force", "bulk": "in_force"}
    assert gateway.views()["bulk"]["addresses"]["ipv4"] == str(PREFIXES * 16)
    # What came first: the list was begun before both of them, and switched to after both.
    applied = [(line["cause"], str(line["first"])) for line in gateway.logged("reconcile.applied")]
    (start, *between, switch) = applied
    assert start[0] == switch[0] == "reload"
    assert sorted(cause for cause, _ in between) == ["by hand", "reload"], applied
    assert any("by.urgent" in first for _, first in between)
    assert "to4.b" in switch[1]
    assert gateway.cli("verify").returncode == 0


def preparing(gateway: Gateway) -> dict[str, Any] | None:
    """Give the progress once elements are being prepared in the kernel."""
    progress: dict[str, Any] | None = gateway.status()["progress"]
    return progress if progress and progress["total"] >= PREFIXES else None


def test_what_spares_packets_look_ups_comes_once_all_is_enforced(gateway: Gateway) -> None:
    gateway.order("first", "203.0.1.0/24", "tcp/3101")
    gateway.set(limits={"change_share": 1.0, "total_share": 1.0})
    gateway.start()
    gateway.write("services/bulk.txt", apart(0))
    gateway.order("bulk", "bulk.txt", "any", action="drop")
    assert gateway.reload()["ok"]
    until(lambda: causes(gateway)[-1] == "shortcuts")
    assert causes(gateway)[-2:] == ["reload", "shortcuts"]
    listed = gateway.listing()
    assert ".guard return" in listed
    assert gateway.cli("verify").returncode == 0

    # All of it is another list: what is there of it at its name goes first, and comes back last.
    gateway.write("services/bulk.txt", apart(32))
    assert gateway.reload()["ok"]
    assert gateway.cli("verify").returncode == 0
    until(lambda: causes(gateway)[-2:] == ["reload", "shortcuts"] and causes(gateway).count("shortcuts") == 2)
    assert gateway.listing().count(".guard return") == listed.count(".guard return")
    assert gateway.cli("verify").returncode == 0
    assert gateway.problems() == []

    # Whoever comes next finds nothing to do, whether all of them are there or not.
    applied = causes(gateway)
    gateway.restart(signal.SIGKILL)
    assert causes(gateway) == applied
    gateway.write("services/bulk.txt", apart(0))
    assert gateway.reload()["ok"]
    gateway.restart(signal.SIGKILL)
    until(lambda: causes(gateway)[-1] == "shortcuts" and gateway.status()["progress"] is None)
    assert gateway.cli("verify").returncode == 0


def apart(shift: int) -> str:
    """Give 80,000 ranges of three lengths, far apart: a shortcut stands before their look-ups."""
    lines = (f"{20 + at // 32768}.{at // 128 % 256}.{at % 128 * 2}.{shift}/{28 + at % 3}" for at in range(80_000))
    return "\n".join(lines) + "\n"


def causes(gateway: Gateway) -> list[str]:
    """Say why each change of the kernel was made."""
    return [str(line["cause"]) for line in gateway.logged("reconcile.applied")]
