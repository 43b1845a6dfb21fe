"""Large changes of content are held: what counts as one, measured against sets of addresses on paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.compile.acting import Local
from gatewrit.compile.rails import Rails
from gatewrit.engine.extent import Delta, measure
from gatewrit.engine.holds import Rules, hold_back
from gatewrit.engine.intake import Intake, take_in
from gatewrit.policy.load import Reading, parse_policy, parse_service
from gatewrit.policy.terms import Action, Direction
from support.gateway import policy as policy_text
from support.gateway import service as service_text
from support.strategies import policy_sets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.engine.holds import Held
    from gatewrit.engine.store import Kept
    from gatewrit.policy.model import Policy
    from gatewrit.policy.terms import Family

NOW = 1_700_000_000
#: A port for packets that have none, and enough ports to tell all ranges of the strategies apart.
SOME_PORTS = [-1, 0, 1, 2, 9, 3000, 3101, 3150, 3199, 3201, 65535]
PROTOCOLS = [1, 6, 17, 50, 132]


def blocked(family: Family, policies: list[Policy]) -> dict[int, set[tuple[Direction, int, int]]]:
    """Say for each address what is blocked there: by hand, address by address."""
    found: dict[int, set[tuple[Direction, int, int]]] = {}
    for policy in policies:
        direction = policy.block.direction
        ends = [Direction.TO, Direction.FROM] if direction is Direction.BOTH else [direction]
        for service in policy.services.values():
            for endpoint in service.endpoints:
                ways = {
                    (end, protocol, port)
                    for end in ends
                    for each in endpoint.transports
                    for protocol in PROTOCOLS
                    if each.protocol in {None, protocol}
                    for port in SOME_PORTS
                    if each.first is None or each.last is None or each.first <= port <= each.last
                }
                for part in endpoint.ranges:
                    if part.family == family:
                        for address in numbers(part.first.tolist(), part.last.tolist()):
                            found.setdefault(address, set()).update(ways)
    return found


def numbers(first: list[object], last: list[object]) -> list[int]:
    def number(value: object) -> int:
        return value if isinstance(value, int) else (value[0] << 64) + value[1]  # type: ignore[index]

    # The strategies' anchors are far apart; ranges that span two of them are left to `short`.
    return [
        address
        for low, high in zip(map(number, first), map(number, last), strict=True)
        if high - low < 64
        for address in range(low, high + 1)
    ]


def short(policies: list[Policy]) -> bool:
    """Whether every range can be gone through address by address."""
    return all(
        numbers([low], [high])
        for policy in policies
        for service in policy.services.values()
        for endpoint in service.endpoints
        for part in endpoint.ranges
        for low, high in zip(part.first.tolist(), part.last.tolist(), strict=True)
    )


@given(policy_sets(2).filter(short), policy_sets(2).filter(short), st.sampled_from([4, 6]))
def test_a_change_is_measured_address_by_address(before: list[Policy], after: list[Policy], family: Family) -> None:
    old, new = blocked(family, before), blocked(family, after)
    everywhere = {*old, *new}
    added = sum(not new.get(address, set()) <= old.get(address, set()) for address in everywhere)
    lifted = sum(not old.get(address, set()) <= new.get(address, set()) for address in everywhere)
    assert measure(family, before, after) == Delta(added, lifted)


class Desk:
    """A gateway's reloads, one after the other, as the daemon makes them."""

    def __init__(self, share: float = 0.5) -> None:
        self.share = share
        self.kept: Mapping[str, Kept] = {}
        self.held: tuple[Held, ...] = ()
        self.now = NOW
        self.files: dict[str, str] = {}

    def order(self, name: str, *prefixes: str, ports: str = "tcp/3101", **fields: object) -> None:
        self.files[f"services/{name}"] = service_text(name, (prefixes, ports))
        self.files[name] = policy_text(name, name, **fields)  # type: ignore[arg-type]

    def reload(self, suspended: Mapping[str, int] | None = None, **released: str) -> Intake:
        documents = {
            name: parse_policy(text.encode(), f"{name}.yaml") for name, text in self.files.items() if "/" not in name
        }
        services = {
            name.removeprefix("services/"): parse_service(text.encode(), f"{name}.yaml", {})
            for name, text in self.files.items()
            if "/" in name
        }
        reading = Reading(documents, services, {}, {}, {}, {}, ())  # type: ignore[arg-type]
        local = Local(("core-1",), suspended or {})
        rules = Rules(self.share, {each.policy: each.content for each in self.held}, released, local, Rails())
        intake, self.held = hold_back(take_in(reading, self.kept, self.now, Rails()), self.kept, rules, self.now)
        self.kept = intake.kept
        return intake

    def waiting(self, **released: str) -> list[str]:
        self.reload(**released)
        return [each.policy for each in self.held]


@pytest.mark.parametrize(
    ("prefixes", "held"),
    [
        (["203.0.1.0/25"], False),  # lifts just half
        (["203.0.1.0/26"], True),
        (["203.0.1.0/24", "203.0.2.0/25"], False),  # adds just half
        (["203.0.1.0/24", "203.0.2.0-203.0.2.128"], True),
        (["203.0.1.0/25", "203.0.2.0/25"], False),  # lifts half and adds half: neither is more
        (["203.0.2.0/24"], True),
        (["203.0.1.0/24", "2001:db8::/32"], False),  # nothing of IPv6 was blocked: there is nothing to compare with
    ],
)
def test_the_share_is_of_the_addresses_blocked_now(prefixes: list[str], held: object) -> None:
    desk = Desk()
    desk.order("alpha", "203.0.1.0/24")
    assert desk.waiting() == []
    desk.order("alpha", *prefixes)
    assert bool(desk.waiting()) is held
    fault = [each.fault for each in desk.reload().findings]
    assert [(each.code, each.severity) for each in fault] == [("change_held", "error")] * bool(held)


def test_the_share_is_over_the_gateway_and_changes_count_together() -> None:
    desk = Desk()
    for number, name in enumerate(["alpha", "bravo", "charlie", "delta"]):
        desk.order(name, f"203.0.{number}.0/24")
    desk.reload()
    desk.order("alpha", "198.51.100.0/24")
    assert desk.waiting() == []  # a quarter
    desk.order("alpha", "203.0.0.0/24")
    desk.order("bravo", "198.51.101.0/24")
    assert desk.waiting() == []  # a half
    for number, name in enumerate(["alpha", "bravo", "charlie"]):
        desk.order(name, f"192.0.{number}.0/24")
    desk.order("delta", "203.0.3.0/24", "2001:db8::1")
    assert desk.waiting() == ["alpha", "bravo", "charlie"]


def test_what_another_policy_still_blocks_is_not_lifted() -> None:
    desk = Desk()
    desk.order("alpha", "203.0.1.0/24")
    desk.order("bravo", "203.0.1.0/24", action="drop")
    desk.reload()
    desk.order("alpha", "203.0.1.1")
    assert desk.waiting() == []


def test_other_ports_are_a_change_too() -> None:
    desk = Desk()
    desk.order("alpha", "203.0.1.0/24", ports="tcp/3101")
    desk.reload()
    desk.order("alpha", "203.0.1.0/24", ports="tcp/443")
    intake = desk.reload()
    assert [(each.addresses_added, each.addresses_lifted) for each in desk.held] == [(256, 256)]
    assert intake.policies["alpha"].services["alpha"].endpoints[0].transports[0].first == 3101


def test_what_a_revision_an_instant_or_a_new_policy_brings_is_never_held() -> None:
    desk = Desk()
    desk.order("alpha", "203.0.1.0/24")
    desk.order("bravo", "203.0.2.0/24", start=NOW + 100)
    desk.reload()
    desk.order("charlie", "203.0.128.0/17")
    assert desk.waiting() == []
    desk.order("charlie", "203.0.128.0/17", revision=2, state="rescinded")
    assert desk.waiting() == []
    desk.order("bravo", "198.51.0.0/16", start=NOW + 100)  # isn't in force yet
    assert desk.waiting() == []
    desk.now = NOW + 100
    assert desk.waiting() == []
    desk.files["services/other"] = service_text("other", (["192.0.2.1"], "tcp/1"))
    desk.files["alpha"] = policy_text("alpha", "other", revision=2)
    desk.files["bravo"] = policy_text("bravo", "other", revision=2)
    assert desk.waiting() == []


def test_a_rescission_acts_though_the_content_is_held() -> None:
    desk = Desk()
    desk.order("alpha", "203.0.1.0/24")
    desk.reload()
    desk.order("alpha", "203.0.1.1", revision=2, action="drop")
    intake = desk.reload()
    assert intake.policies["alpha"].block.action is Action.DROP
    assert (intake.policies["alpha"].revision, [each.policy for each in desk.held]) == (2, ["alpha"])
    desk.order("alpha", "203.0.1.1", revision=3, state="rescinded")
    assert desk.waiting() == []


def test_what_is_held_stays_held_and_what_comes_beside_it_is_judged_by_itself() -> None:
    desk = Desk()
    desk.order("alpha", "203.0.1.0/24")
    desk.order("bravo", "203.0.2.0/24")
    desk.reload()
    desk.order("alpha", "198.51.0.0/16")
    assert desk.waiting() == ["alpha"]
    desk.order("bravo", "203.0.2.0/25")
    assert desk.waiting() == ["alpha"]
    # Much more is blocked by now, and still nobody has said that the change is meant.
    desk.order("charlie", "100.64.0.0/10")
    assert desk.waiting() == ["alpha"]
    assert desk.waiting(alpha="sha256:another") == ["alpha"]
    assert desk.waiting(alpha=desk.held[0].content) == []
    assert desk.waiting() == []


def test_what_went_back_is_held_no_more() -> None:
    desk = Desk()
    desk.order("alpha", "203.0.1.0/24")
    desk.reload()
    desk.order("alpha", "203.0.1.1")
    assert desk.waiting() == ["alpha"]
    desk.order("alpha", "203.0.1.0/24")
    assert desk.waiting() == []


def test_a_policy_suspended_by_hand_is_judged_because_it_comes_back() -> None:
    desk = Desk()
    desk.order("alpha", "203.0.1.0/24")
    desk.reload()
    desk.order("alpha", "203.0.1.1")
    desk.reload({"alpha": NOW + 100})
    assert [each.policy for each in desk.held] == ["alpha"]


def test_what_only_observes_lifts_and_adds_nothing() -> None:
    desk = Desk()
    desk.order("alpha", "203.0.1.0/24", action="observe")
    desk.order("bravo", "203.0.2.0/24")
    desk.reload()
    desk.order("alpha", "198.51.0.0/16", action="observe")
    assert desk.waiting() == []


def test_new_fields_that_break_the_rails_with_the_content_of_before_do_not_count() -> None:
    """What the new content would have made way for must continue, but the new content is held."""
    desk = Desk()
    desk.order("alpha", "203.0.1.0/24")
    desk.files["services/spared"] = service_text("spared", (["203.0.1.7"], "tcp/3101"))
    desk.reload()
    desk.order("alpha", "198.51.0.0/24")
    desk.files["alpha"] = policy_text("alpha", "alpha", revision=2) + "must_continue: [spared]\n"
    intake = desk.reload()
    assert intake.policies["alpha"].revision == 1
    assert [each.policy for each in desk.held] == ["alpha"]
    assert {each.fault.code for each in intake.findings} == {"must_continue_hit", "change_held"}
    assert desk.waiting(alpha=desk.held[0].content) == []
    assert desk.kept["alpha"].document.revision == 2
