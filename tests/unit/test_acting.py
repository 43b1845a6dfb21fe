"""What of the gateway decides whether a policy acts: its names, and suspensions by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.compile.acting import PLAIN, Local, acting, in_scope
from gatewrit.compile.ladder import ladder
from gatewrit.engine.snapshot import PolicyState
from gatewrit.engine.status import next_change, state_of
from gatewrit.policy.model import Scope, Transport
from gatewrit.policy.terms import State
from support.strategies import INSTANTS, policies, policy_sets, simple

TCP = Transport(6, 3101, 3101)


@pytest.mark.parametrize(
    ("globs", "expected"),
    [
        (None, True),
        (("core-1",), True),
        (("core-*",), True),
        (("edge", "lahore"), True),
        (("LAHORE",), False),
        (("core",), False),
        (("core-[23]",), False),
        (("ore-1",), False),
        ((), False),
    ],
)
def test_a_scope_means_the_name_or_a_tag_whole_and_with_its_case(
    globs: tuple[str, ...] | None, expected: object
) -> None:
    order = replace(simple("a", ["203.0.113.1"], [TCP]), scope=Scope(gateways=globs))
    assert in_scope(order, ("core-1", "lahore")) is expected
    local = Local(("core-1", "lahore"))
    assert (list(acting([order], local, 1500)) == ["a"]) is expected
    assert (state_of(order, 1500, local) is PolicyState.OUT_OF_SCOPE) is not expected
    assert (next_change([order], 500, local) == 1000) is expected


def test_states_come_in_the_order_of_the_contract() -> None:
    """rescinded, lapsed, out_of_scope, suspended, scheduled, in_force: the first that fits."""
    elsewhere = replace(simple("a", ["203.0.113.1"], [TCP]), scope=Scope(gateways=("other",)))
    here = replace(elsewhere, scope=Scope())
    ended = replace(here.effective, until=replace(here.effective.start, epoch=2000))
    by_hand = Local(("core-1",), {"a": 3000})
    assert state_of(replace(elsewhere, state=State.RESCINDED, effective=ended), 2500, by_hand) is PolicyState.RESCINDED
    assert state_of(replace(elsewhere, effective=ended), 2500, by_hand) is PolicyState.LAPSED
    assert state_of(replace(elsewhere, state=State.SUSPENDED), 1500, by_hand) is PolicyState.OUT_OF_SCOPE
    assert state_of(replace(here, state=State.SUSPENDED), 500, PLAIN) is PolicyState.SUSPENDED
    assert state_of(here, 500, by_hand) is PolicyState.SUSPENDED
    assert state_of(here, 500, PLAIN) is PolicyState.SCHEDULED
    assert state_of(here, 1000, PLAIN) is PolicyState.IN_FORCE
    assert state_of(here, 3000, by_hand) is PolicyState.IN_FORCE


@given(policies("a"), st.sampled_from([1500, 2500, 4500]), st.integers(500, 5000), st.integers(500, 5000))
def test_a_suspension_takes_out_just_its_time(order: object, until: int, now: int, instant: int) -> None:
    """At any instant from `now` on the rules act as the order says, but not before the suspension's end."""
    instant = max(now, instant)
    plain = active(ladder(acting([order], PLAIN, now).values(), now), instant)  # type: ignore[list-item]
    chosen = acting([order], Local(suspended={"a": until}), now).values()  # type: ignore[list-item]
    assert active(ladder(chosen, now), instant) == (plain if instant >= until or now >= until else ())


def active(rungs: tuple[object, ...], instant: int) -> tuple[str, ...]:
    return next((rung.policies for rung in rungs if rung.end is None or instant < rung.end), ())  # type: ignore[attr-defined]


@given(policy_sets(), st.sampled_from(INSTANTS), st.integers(500, 5000))
def test_without_scope_and_suspension_all_stay_as_they_are(orders: list[object], until: int, now: int) -> None:
    local = Local(("core-1",), {"somebody-else": until})
    assert list(acting(orders, local, now).values()) == orders  # type: ignore[arg-type]


def test_the_end_of_a_suspension_is_a_change() -> None:
    order = simple("a", ["203.0.113.1"], [TCP])
    assert next_change([order], 1500, Local(suspended={"a": 1800})) == 1800
    assert next_change([order], 1800, Local(suspended={"a": 1800})) is None
