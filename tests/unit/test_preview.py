"""What `plan` says of a change, policy by policy: figures, instants that move, neighbours, and what limits are used."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gatewrit.compile.nearness import near
from gatewrit.compile.rails import Rails
from gatewrit.engine import usage
from gatewrit.engine.preview import preview
from gatewrit.policy.model import Scope, Transport
from gatewrit.policy.terms import Action, Direction, Instant, State
from support.strategies import simple

if TYPE_CHECKING:
    from gatewrit.engine.preview import PolicyChange
    from gatewrit.policy.model import Policy

TCP, WEB = Transport(6, 3101, 3101), Transport(6, 443, 443)
NOW = 1500
BLOCK = "203.0.113.0-203.0.113.255"


def instant(epoch: int) -> Instant:
    return Instant(epoch, f"instant {epoch}")


def policy(start: int = 1000, until: int | None = 4000, entries: tuple[str, ...] = (BLOCK,)) -> Policy:
    made = simple("a", entries, [TCP], action=Action.REJECT)
    ends = None if until is None else instant(until)
    return replace(made, effective=replace(made.effective, start=instant(start), until=ends, review_by=None))


def change(old: Policy | None, new: Policy | None) -> PolicyChange | None:
    before, after = ({} if each is None else {"a": each} for each in (old, new))
    found = preview(before, after, NOW)
    assert len(found) <= 1
    return found[0] if found else None


def figures(found: PolicyChange | None) -> tuple[int, int, int, int]:
    assert found is not None
    return found.segments_added, found.segments_lifted, found.addresses_added, found.addresses_lifted


def notes(old: Policy | None, new: Policy | None) -> tuple[str, ...]:
    found = change(old, new)
    return () if found is None else found.notes


def test_an_order_in_force_that_is_postponed_is_lifted_now() -> None:
    found = change(policy(), policy(start=2000))
    assert found is not None
    assert (found.change, figures(found)) == ("amend", (0, 1, 0, 256))
    assert found.notes == ("postponed: lifted now, in force again from instant 2000",)


def test_one_that_is_brought_forward_is_added_now() -> None:
    found = change(policy(start=2000), policy())
    assert figures(found) == (1, 0, 256, 0)
    assert found is not None
    assert found.notes == ("brought forward: in force at once, instead of from instant 2000",)


def test_one_that_is_postponed_and_shrinks_is_lifted_as_a_whole() -> None:
    smaller = policy(start=2000, entries=("203.0.113.0-203.0.113.3", "203.0.114.1"))
    assert figures(change(policy(), smaller)) == (1, 1, 1, 256)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (None, policy(), ("in force at once, until instant 4000",)),
        (None, policy(start=2000, until=None), ("scheduled: in force from instant 2000, with no end",)),
        (policy(), None, ("lifted now: it no longer means this gateway, or is suspended by hand to its end",)),
        (policy(), replace(policy(), state=State.RESCINDED), ("lifted now: revision 1 is rescinded",)),
        (policy(), replace(policy(), state=State.SUSPENDED), ("lifted now: revision 1 is suspended",)),
        (policy(), policy(until=1400), ("lifted now: it ended at instant 1400",)),
        (policy(), policy(until=3000), ("until instant 3000 instead of instant 4000",)),
        (policy(), policy(until=None), ("until no instant instead of instant 4000",)),
        (policy(start=2000), policy(start=3000), ("from instant 3000 instead of instant 2000",)),
        (policy(), policy(start=900), ("from instant 900 instead of instant 1000; it is in force and stays so",)),
    ],
)
def test_instants_are_told_in_the_orders_own_words(
    old: Policy | None, new: Policy | None, expected: tuple[str, ...]
) -> None:
    assert notes(old, new) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"title": "Other"}, "title 'Other' instead of "),
        ({"labels": {"queue": "night"}}, "labels change"),
        ({"allow_wide": "as ordered"}, "allow_wide: 'as ordered'"),
        ({"scope": Scope(interfaces=("gi0",))}, "interfaces: gi0 instead of any"),
        ({"scope": Scope(sources=())}, "the subscribers that its scope names change"),
    ],
)
def test_an_amendment_of_one_field_says_which(fields: dict[str, Any], expected: str) -> None:
    found = change(policy(), replace(policy(), **fields))
    assert figures(found) == (0, 0, 0, 0)
    (note,) = notes(policy(), replace(policy(), **fields))
    assert note.startswith(expected)


def test_action_direction_and_ports_are_told() -> None:
    drop = replace(policy(), block=replace(policy().block, action=Action.DROP, direction=Direction.BOTH))
    assert notes(policy(), drop) == ("action drop instead of reject", "direction both instead of to")
    other = simple("a", [BLOCK], [TCP, WEB])
    services = {"s": replace(other.services["s"], digest="other")}
    assert notes(policy(), replace(policy(), services=services)) == (
        "ports of s: tcp/3101, tcp/443 instead of tcp/3101",
    )


def test_what_stays_as_it_is_is_not_told() -> None:
    assert change(policy(), policy()) is None
    assert change(None, replace(policy(), state=State.SUSPENDED)) is None


def test_neighbours_that_must_continue_are_told_by_how_near_they_are() -> None:
    def beside(*entries: str) -> tuple[str, ...]:
        service = simple("x", entries, [WEB]).services["s"]
        return tuple(map(str, near(replace(policy(), must_continue={"mail": service}))))

    assert beside("203.0.113.16-203.0.113.31", "203.0.114.1") == (
        "mail must continue on the same addresses (16 of IPv4), at other ports: tcp/443 (blocked: tcp/3101)",
    )
    assert beside("203.0.112.255", "203.0.114.0") == ()
    narrow = replace(policy(entries=("203.0.113.0-203.0.113.7", "2001:db8::1")))
    mail = simple("x", ["203.0.113.250", "203.0.115.1", "2001:db8:0:ffff::"], [WEB]).services["s"]
    assert [str(each) for each in near(replace(narrow, must_continue={"mail": mail}))] == [
        "mail must continue, and has other addresses in 1 of the same /24s of IPv4 and 1 of the same /48s of IPv6"
    ]


def test_what_is_used_of_the_limits() -> None:
    rails = Rails(total_share=0.01)
    found = usage.of_policy(policy(entries=("203.0.113.0-203.0.113.255", "203.0.114.0-203.0.116.0")), rails)
    assert found.total[4] == pytest.approx((256 + 513) / 2**32 / 0.01)
    # 513 addresses need a /22, whatever their range is.
    assert (dict(found.widest), found.allowed) == ({4: 22}, None)
    assert usage.of_policy(policy(entries=("2001:db8::-2001:db8::ffff:ffff:ffff:ffff", "::1")), rails).widest == {6: 64}
    assert usage.of_policy(policy(entries=("2001:db8::-2001:db8:0:1::",)), rails).widest == {6: 63}
