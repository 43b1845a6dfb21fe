"""Whatever becomes of the files: the good ones enforce, the bad one is told with its place, nothing is lost."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest

from support.gateway import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from support.gateway import Gateway

NAMES = ["alpha", "bravo", "charlie"]
PREFIXES = {"alpha": "203.0.1.0/24", "bravo": "203.0.2.0/24", "charlie": "203.0.3.0/24"}


@pytest.fixture
def three(gateway: Gateway) -> Gateway:
    """Three orders in force; the third one's addresses are in a list file."""
    for name in NAMES[:2]:
        gateway.order(name, PREFIXES[name], "tcp/3101")
    gateway.write("services/charlie.txt", f"# entries: 1\n{PREFIXES['charlie']}\n")
    gateway.order("charlie", "charlie.txt", "tcp/3101")
    gateway.start()
    assert in_force(gateway) == NAMES
    return gateway


def in_force(gateway: Gateway) -> list[str]:
    """Give who is in force, as shown and as the kernel has it; the two must agree."""
    shown = sorted(name for name, view in gateway.views().items() if view["state"] == "in_force")
    in_kernel = sorted(name for name in PREFIXES if gateway.blocks(PREFIXES[name]))
    assert shown == in_kernel
    return shown


def bad_yaml(gateway: Gateway, name: str) -> None:
    gateway.write(f"{name}.yaml", f"policy: {name}\nrevision: [2\n")


def garbage(gateway: Gateway, name: str) -> None:
    (gateway.policies / f"{name}.yaml").write_bytes(bytes(range(256)) * 64)


def unknown_key(gateway: Gateway, name: str) -> None:
    amend(gateway, name, "colour: red")


def contradicts_itself(gateway: Gateway, name: str) -> None:
    amend(gateway, name, f"must_continue: [{name}]")


def amend(gateway: Gateway, name: str, line: str) -> None:
    text = (gateway.policies / f"{name}.yaml").read_text().replace("revision: 1", "revision: 2")
    gateway.write(f"{name}.yaml", f"{text}{line}\n")


def emptied_file(gateway: Gateway, name: str) -> None:
    gateway.write(f"{name}.yaml", "")


def vanished_policy(gateway: Gateway, name: str) -> None:
    (gateway.policies / f"{name}.yaml").unlink()


def unreadable_policy(gateway: Gateway, name: str) -> None:
    vanished_policy(gateway, name)
    (gateway.policies / f"{name}.yaml").mkdir()


def dangling_policy(gateway: Gateway, name: str) -> None:
    vanished_policy(gateway, name)
    (gateway.policies / f"{name}.yaml").symlink_to("nowhere")


def vanished_service(gateway: Gateway, name: str) -> None:
    (gateway.services / f"{name}.yaml").unlink()


def broken_service(gateway: Gateway, name: str) -> None:
    gateway.service(name, ("203.0.113.0/99", "tcp/3101"))


def vanished_list(gateway: Gateway, name: str) -> None:
    (gateway.services / f"{name}.txt").unlink()


def emptied_list(gateway: Gateway, name: str) -> None:
    gateway.write(f"services/{name}.txt", "")


def shortened_list(gateway: Gateway, name: str) -> None:
    path = gateway.services / f"{name}.txt"
    gateway.write(f"services/{name}.txt", path.read_text().replace("entries: 1", "entries: 2"))


def escaping_list(gateway: Gateway, name: str) -> None:
    path = gateway.services / f"{name}.txt"
    outside = gateway.root / "outside.txt"
    path.rename(outside)
    path.symlink_to(outside)


def revision_not_raised(gateway: Gateway, name: str) -> None:
    gateway.policy(name, action="drop")


def revision_lowered(gateway: Gateway, name: str) -> None:
    gateway.policy(name, revision=3)
    gateway.reload()
    gateway.policy(name, revision=2, state="rescinded")


def second_policy_file(gateway: Gateway, name: str) -> None:
    text = (gateway.policies / f"{name}.yaml").read_text()
    gateway.write(f"{name}-2.yaml", text.replace("revision: 1", "revision: 9").replace("active", "rescinded"))


def second_service_file(gateway: Gateway, name: str) -> None:
    text = (gateway.services / f"{name}.yaml").read_text()
    gateway.write(f"services/{name}-2.yaml", text.replace("203.1.", "203.9."))


#: What befalls the order of that name, with the code of the problem and what its place must have, `?` being the name.
MISHAPS: dict[Callable[[Gateway, str], None], tuple[str, str]] = {
    bad_yaml: ("yaml_syntax", "/?.yaml:2:11"),
    garbage: ("not_text", "/?.yaml:1:1"),
    unknown_key: ("unknown_key", "/?.yaml:8:1"),
    contradicts_itself: ("must_continue_hit", "/?.yaml:8:17"),
    emptied_file: ("empty_file", "/?.yaml:1:1"),
    vanished_policy: ("policy_missing", "/?.yaml:1:"),
    unreadable_policy: ("not_regular", "/?.yaml:1:1"),
    dangling_policy: ("policy_missing", "/?.yaml:1:9"),
    vanished_service: ("policy_missing", "/?.yaml:7:"),
    broken_service: ("service_broken", "/?.yaml:7:"),
    vanished_list: ("policy_missing", "/?.yaml:7:"),
    emptied_list: ("service_broken", "/?.yaml:7:"),
    shortened_list: ("service_broken", "/?.yaml:7:"),
    escaping_list: ("service_broken", "/?.yaml:7:"),
    revision_not_raised: ("revision_not_raised", "/?.yaml:1:9"),
    revision_lowered: ("revision_not_raised", "/?.yaml:1:9"),
    second_policy_file: ("duplicate_policy", "/?-2.yaml:1:"),
    second_service_file: ("duplicate_service", "/?-2.yaml:1:"),
}


def test_whatever_befalls_an_order_it_stays_in_force_and_that_is_told(gateway: Gateway) -> None:
    """One mishap after the other, each to an order of its own; at the end the daemon is killed amid all of them."""
    orders = {befall.__name__.replace("_", "-"): (befall, *told) for befall, told in MISHAPS.items()}
    prefixes = {name: f"203.1.{number}.0/24" for number, name in enumerate(orders)}
    for name, prefix in prefixes.items():
        gateway.write(f"services/{name}.txt", f"# entries: 1\n{prefix}\n")
        gateway.order(name, f"{name}.txt" if "list" in name else prefix, "tcp/3101")
    gateway.order("bravo", PREFIXES["bravo"], "tcp/3101")
    gateway.start()
    assert gateway.status()["policies"]["in_force"] == len(orders) + 1

    for name, (befall, code, place) in orders.items():
        befall(gateway, name)
        assert gateway.reload()["ok"]
        status = gateway.status()
        problem = find(status["problems"], code, place.replace("?", name))
        assert (problem["severity"], problem["policy"]) in {("error", name), ("error", None)}
        assert problem["message"]
        assert problem["action"]
        if problem["policy"] is not None:
            assert re.search(r"stays|stay in force", problem["message"]), problem["message"]
        assert status["enforcement"] == "degraded"
        assert status["policies"] == status["policies"] | {"in_force": len(orders) + 1, "rejected": 0}
        assert gateway.blocks(*prefixes.values())
    assert gateway.get("/readyz")[0] == 200

    # Amid all this one order is lifted at once, and a new one comes.
    gateway.policy("bravo", revision=2, state="rescinded")
    gateway.order("delta", "203.0.4.0/24", "tcp/3101")
    assert gateway.reload()["ok"]
    assert gateway.blocks("203.0.4.0/24", *prefixes.values())
    assert not gateway.blocks(PREFIXES["bravo"])

    before, told = gateway.listing(), sorted(map(str, gateway.problems()))
    gateway.restart(signal.SIGKILL)
    assert gateway.listing() == before
    assert sorted(map(str, gateway.problems())) == told
    in_force = {name for name, view in gateway.views().items() if view["state"] == "in_force"}
    assert in_force == {*orders, "delta"}


def find(problems: Iterable[dict[str, str]], code: str, place: str) -> dict[str, str]:
    found = [each for each in problems if each["code"] == code and place in (each["place"] or "")]
    assert found, (code, place, [(each["code"], each["policy"], each["place"]) for each in problems])
    return found[0]


def test_a_problem_is_told_alike_by_http_and_the_command_line(three: Gateway) -> None:
    bad_yaml(three, "alpha")
    three.reload()

    by_socket, (code, by_http) = three.status(), three.get("/v1/status")
    told = three.cli("status", "--json")
    assert code == 200
    assert told.returncode == 1
    by_program = json.loads(told.stdout)
    for each in (by_http, by_program):
        assert each["problems"] == by_socket["problems"]
        assert each["enforcement"] == "degraded"
        assert each["policies"]["in_force"] == 3
    _, item = three.get("/v1/policies/alpha")
    assert item["problem"] is not None
    assert (item["state"], item["revision"]) == ("in_force", 1)

    table = three.cli("status")
    assert table.returncode == 1
    assert "alpha.yaml" in table.stdout


def test_what_was_bad_from_the_start_is_rejected_and_the_rest_is_enforced(gateway: Gateway) -> None:
    gateway.order("alpha", PREFIXES["alpha"], "tcp/3101")
    gateway.order("bravo", PREFIXES["bravo"], "tcp/99999")
    gateway.write("charlie.yaml", "policy: charlie\n")
    gateway.policy("delta", "no-such-service")
    gateway.start()

    assert in_force(gateway) == ["alpha"]
    views = gateway.views()
    assert {name: view["state"] for name, view in views.items()} == {
        "alpha": "in_force",
        "bravo": "rejected",
        "charlie": "rejected",
        "delta": "rejected",
    }
    assert all(views[name]["problem"] for name in ("bravo", "charlie", "delta"))
    assert gateway.status()["policies"]["rejected"] == 3
    assert gateway.status()["enforcement"] == "degraded"
    find(gateway.status()["problems"], "unknown_service", "delta.yaml:7:")

    # Mended one by one, each comes into force.
    gateway.service("bravo", (PREFIXES["bravo"], "tcp/3101"))
    gateway.order("charlie", PREFIXES["charlie"], "tcp/3101")
    gateway.reload()
    assert in_force(gateway) == NAMES
    gateway.service("no-such-service", ("203.0.4.0/24", "tcp/3101"))
    gateway.reload()
    assert gateway.blocks("203.0.4.0/24")
    assert gateway.status()["enforcement"] == "in_sync"
    assert gateway.problems() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_with_the_whole_directory_gone_all_stays_in_force_over_a_restart(
    three: Gateway, number: signal.Signals
) -> None:
    before = three.listing()
    shutil.rmtree(three.policies)
    three.reload()
    assert in_force(three) == NAMES
    assert [code for code, policy in three.problems() if policy] == ["policy_missing"] * 3

    three.restart(number)
    assert in_force(three) == NAMES
    assert three.listing() == before
    assert three.status()["enforcement"] == "degraded"

    # With the kernel's table lost as well, as over a reboot, it is made anew from what was kept.
    three.end(number)
    three.nft("delete table inet gatewrit\n")
    three.start()
    assert in_force(three) == NAMES
    assert three.listing() == before


def test_rescinding_lifts_at_once_also_with_the_service_broken_or_gone(three: Gateway) -> None:
    broken_service(three, "alpha")
    three.policy("alpha", revision=2, state="rescinded")
    three.reload()
    assert in_force(three) == ["bravo", "charlie"]
    (three.services / "bravo.yaml").unlink()
    three.policy("bravo", revision=2, state="rescinded")
    three.reload()
    assert in_force(three) == ["charlie"]
    three.write("services/charlie.txt", "not an address\n")
    three.policy("charlie", revision=2, state="rescinded")
    three.reload()
    assert in_force(three) == []
    assert three.status()["policies"]["rescinded"] == 3

    three.restart()
    assert in_force(three) == []
    assert three.status()["policies"]["rescinded"] == 3
    # A rescinded policy's file may go.
    (three.policies / "alpha.yaml").unlink()
    three.reload()
    assert "alpha" not in three.views()
    assert ("policy_missing", "alpha") not in three.problems()
    # The old revision coming back doesn't bring the block back.
    three.policy("alpha", revision=1)
    three.service("alpha", (PREFIXES["alpha"], "tcp/3101"))
    three.reload()
    assert in_force(three) == []
    assert ("revision_not_raised", "alpha") in three.problems()
    three.policy("alpha", revision=3)
    three.reload()
    assert in_force(three) == ["alpha"]


def test_suspending_and_resuming(three: Gateway) -> None:
    three.policy("alpha", revision=2, state="suspended")
    three.reload()
    assert in_force(three) == ["bravo", "charlie"]
    assert three.views()["alpha"]["state"] == "suspended"
    three.policy("alpha", revision=3)
    three.reload()
    assert in_force(three) == NAMES


def test_postponing_lifts_until_the_new_date_and_an_end_in_the_past_lapses(three: Gateway) -> None:
    three.policy("alpha", revision=2, start=time.time() + 86400)
    three.policy("bravo", revision=2, until=time.time() - 1)
    three.reload()
    views = three.views()
    assert views["alpha"]["state"] == "scheduled"
    assert views["bravo"]["state"] == "lapsed"
    # The rules of a scheduled order are in the kernel, behind their guard.
    assert three.blocks(PREFIXES["alpha"])
    assert not three.blocks(PREFIXES["bravo"])
    assert three.status()["policies"] | {"in_force": 1, "scheduled": 1, "lapsed": 1} == three.status()["policies"]
    assert three.status()["enforcement"] == "in_sync"


def test_with_neither_policies_nor_state_to_read_the_kernel_is_left_alone(gateway: Gateway) -> None:
    """As when a file system isn't mounted, or the settings name the wrong place."""
    gateway.order("alpha", PREFIXES["alpha"], "tcp/3101")
    gateway.cli("apply")
    before = gateway.listing()
    gateway.state.rename(gateway.root / "state-elsewhere")
    gateway.policies.rename(gateway.root / "policies-elsewhere")

    applied = gateway.cli("apply")
    assert applied.returncode == 1
    assert "nothing was done" in applied.stdout
    assert gateway.listing() == before

    gateway.start()
    assert gateway.listing() == before
    assert gateway.status()["enforcement"] == "degraded"
    assert gateway.cli("reload").returncode == 1
    assert gateway.listing() == before

    # Once the files are there again, so is everything else.
    (gateway.root / "policies-elsewhere").rename(gateway.policies)
    until(lambda: gateway.status()["enforcement"] == "in_sync")
    assert in_force(gateway) == ["alpha"]


def test_an_empty_directory_at_the_first_start_is_fine(gateway: Gateway) -> None:
    gateway.start()
    status = gateway.status()
    assert (status["enforcement"], gateway.problems()) == ("in_sync", [])
    assert set(status["policies"].values()) == {0}
    assert gateway.get("/readyz")[0] == 200


def test_a_refused_order_says_that_nothing_of_it_is_enforced(gateway: Gateway) -> None:
    gateway.order("alpha", PREFIXES["alpha"], "tcp/3101")
    amend(gateway, "alpha", "must_continue: [alpha]")
    gateway.start()
    problem = find(gateway.status()["problems"], "must_continue_hit", "alpha.yaml")
    assert problem["message"].endswith("nothing of alpha is enforced")


def test_what_was_lost_of_the_state_is_told_until_a_reload(three: Gateway) -> None:
    """Its file gone and what was kept of it damaged: that order is lifted, and nobody may take that for in sync."""
    three.end()
    (three.state / "policies" / "alpha.json").write_text("{")
    (three.policies / "alpha.yaml").unlink()
    three.start()
    assert ("state_damaged", None) in three.problems()
    assert three.status()["enforcement"] == "degraded"
    three.reload()
    assert three.problems() == []
