"""Whether an address is blocked, and why: against packets judged on paper, and word for word where people read it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewrit.api.answer import answer_document, lines, sentence
from gatewrit.compile.acting import PLAIN, Local
from gatewrit.compile.rails import Protected, Rails, carved
from gatewrit.compile.surroundings import Surroundings
from gatewrit.engine.answer import NotKeptError, Question, Verdict
from gatewrit.engine.cover import Box, covered
from gatewrit.engine.explain import PROTOCOLS, Facts, explain
from gatewrit.engine.journal.reader import Past, PastPolicy
from gatewrit.engine.ledger import Count
from gatewrit.engine.past import answer_from, explain_past
from gatewrit.engine.places import Index
from gatewrit.policy.model import Exceptions, Scope, Transport
from gatewrit.policy.ranges import Span
from gatewrit.policy.terms import Action, Direction, Effective, Instant, Order, State
from support.paper import Packet, by_policies
from support.strategies import ANCHORS, INTERFACES, MASTERS, addresses, policy_sets, ranges_of, simple

if TYPE_CHECKING:
    from pathlib import Path

    from gatewrit.engine.answer import Answer
    from gatewrit.policy.model import Policy
    from gatewrit.policy.terms import Family

TCP = Transport(6, 3101, 3101)
MADE = {"reset": "reject", "prohibited": "reject"}
NAT64 = (ranges_of(6, [(int(IPv6Address("64:ff9b::")), int(IPv6Address("64:ff9b::ffff:ffff")))]),)
PORTS = [0, 1, 2, 3, 9, 10, 2999, 3000, 3101, 3102, 3150, 3200, 3201, 65535]


def ask(policies: list[Policy], question: Question, now: int = 2000, **more: object) -> Answer:
    facts = Facts("core-1", tuple(policies), PLAIN, ("forward",), {}, {each.id: 0 for each in policies}, None)
    facts = replace(facts, **more)
    return explain(Index(facts.policies), facts, question, now)


def on_paper(policies: list[Policy], question: Question, at: int, around: Surroundings) -> set[str]:
    """Judge a packet to the service and one from it."""
    assert question.protocol is not None
    assert question.source is not None
    family: Family = question.address.version
    protocol = 58 if (family, question.protocol) == (6, "icmp") else PROTOCOLS[question.protocol]
    port, name = question.port or 0, question.interface or ""
    there = Packet(family, int(question.source), int(question.address), protocol, 40000, port, 128, oif=name)
    device = next((device for device, members in MASTERS.items() if name in members), "")
    by = {"iif": device, "sdif": name} if device else {"iif": name}
    back = Packet(family, int(question.address), int(question.source), protocol, port, 40000, 128, **by)
    # Each end by itself: what the other end does to the same packet is another question's answer.
    judged = set()
    for packet, end in ((there, Direction.TO), (back, Direction.FROM)):
        own = [one_end(each, end) for each in policies if each.block.direction in {end, Direction.BOTH}]
        fate = by_policies(own, packet, "forward", at, around)
        judged.add("observe" if fate.verdict == "pass" and fate.counts else MADE.get(fate.verdict, fate.verdict))
    return judged


def one_end(policy: Policy, end: Direction) -> Policy:
    return replace(policy, block=replace(policy.block, direction=end))


def points() -> st.SearchStrategy[Question]:
    def of(family: Family) -> st.SearchStrategy[Question]:
        made = addresses(family).map(lambda number: IPv4Address(number) if family == 4 else IPv6Address(number))
        names = st.sampled_from([name for name in INTERFACES if name not in MASTERS])
        return st.builds(Question, made, st.sampled_from(list(PROTOCOLS)), st.sampled_from(PORTS), made, names).map(
            lambda each: replace(each, port=None) if each.protocol == "icmp" else each
        )

    return st.one_of(of(4), of(6))


@settings(max_examples=250, deadline=None)
@given(policy_sets(), points(), st.sampled_from([999, 1000, 2500, 3000, 4000]))
def test_a_packet_is_judged_as_on_paper(policies: list[Policy], question: Question, at: int) -> None:
    around = Surroundings(masters=MASTERS, nat64=NAT64)
    answer = ask(policies, question, at, around=around)
    judged = on_paper(policies, question, at, around)
    assert answer.blocked is bool(judged & {"drop", "reject"})
    assert answer.partly is False
    if not answer.blocked:
        assert answer.verdict == ("observe" if "observe" in judged else "pass")
    else:
        assert answer.verdict in judged or answer.verdict is Verdict.REJECT


@settings(max_examples=40, deadline=None)
@given(policy_sets(3), points(), st.sampled_from([1000, 2500, 3000]))
def test_what_is_left_open_is_blocked_if_all_of_it_is(policies: list[Policy], question: Question, at: int) -> None:
    around = Surroundings(masters=MASTERS)
    top = (1 << question.address.max_prefixlen) - 1
    sources = {
        0,
        top,
        *(low + step for low in ANCHORS[question.address.version] for step in (-1, 0, 1, 3, 7, 8, 12, 15, 16)),
    }
    whole = replace(question, port=None, source=None, interface=None)
    ports = [*PORTS, 3103, 3149, 3151] if question.protocol != "icmp" else [None]
    fates = {
        bool(
            on_paper(policies, replace(question, port=port, source=made, interface=name), at, around)
            & {"drop", "reject"}
        )
        for port in ports
        for made in (type(question.address)(number) for number in sources if 0 <= number <= top)
        for name in ("other0", "gi0", "gi1", "gi10", "g", "ppp0")
    }
    answer = ask(policies, whole, at, around=around)
    assert (answer.blocked, answer.partly) == (fates == {True}, fates == {True, False})


def test_boxes() -> None:
    everybody = ((0, 9),)
    halves = [Box(5, 9, ((0, 4),)), Box(0, 9, ((5, 9),))]
    assert not covered(halves, 0, 9, everybody)
    assert covered(halves, 5, 9, everybody)
    assert covered([*halves, Box(0, 4, everybody)], 0, 9, everybody)
    assert not covered([*halves, Box(0, 3, everybody)], 0, 9, everybody)


def shutdown(**more: object) -> Policy:
    start = Instant(1451502000, "2015-12-31T00:00:00[Asia/Karachi]", "Asia/Karachi", 18000)
    review = Instant(1456772400, "2016-03-01", "Asia/Karachi", 18000)
    order = Order("Pakistan Telecommunication Authority", "PTA notification of 2015-07-24", "2015-07-24")
    made = simple("bes-shutdown", ["206.51.26.0-206.51.26.255"], [TCP], action=Action.REJECT)
    whole = replace(made, order=order, revision=2, effective=Effective(start, None, review))
    return replace(whole, **more)


NOW = 1451600000
BES = Question(ip_address("206.51.26.33"), "tcp", 3101)
PTA = "Pakistan Telecommunication Authority, PTA notification of 2015-07-24 (bes-shutdown, revision 2)"


def test_yes() -> None:
    answer = ask([shutdown()], BES, NOW)
    assert sentence(answer) == (
        "Yes: TCP port 3101 of 206.51.26.33 is blocked (rejected) since 2015-12-31 00:00 PKT (2015-12-30 19:00 UTC) "
        f"by order of {PTA}; no end is set, review due 2016-03-01."
    )
    assert answer_document(answer) == {
        "address": "206.51.26.33", "protocol": "tcp", "port": 3101, "at": "2015-12-31T22:13:20Z",
        "blocked": True, "partly": False, "verdict": "reject",
        "policies": [{
            "id": "bes-shutdown", "revision": 2, "verdict": "reject", "direction": "to",
            "since": "2015-12-30T19:00:00Z", "until": None, "review_by": "2016-02-29T19:00:00Z",
            "place": "policies/services/made-up.txt:1", "excepted_by": None,
        }],
        "sentence": sentence(answer),
    }  # fmt: skip


def test_partly() -> None:
    answer = ask([shutdown()], Question(BES.address), NOW)
    assert (answer.blocked, answer.partly) == (False, True)
    assert sentence(answer).startswith("Partly: of 206.51.26.33, TCP port 3101 is blocked (rejected) since 2015-12-31")


def test_each_of_several_orders_has_its_own_end() -> None:
    """The first to end doesn't end the block."""
    short = Effective(Instant(1451502000, ""), Instant(1451700000, "2016-01-02T02:00:00Z"))
    other = replace(shutdown(), id="urgent", effective=short, block=replace(shutdown().block, action=Action.DROP))
    told = sentence(ask([shutdown(), other], BES, NOW))
    assert told == (
        "Yes: TCP port 3101 of 206.51.26.33 is blocked (dropped) by 2 orders: "
        f"that of {PTA.replace('bes-shutdown', 'urgent')} drops it since 2015-12-30 19:00 UTC, "
        "it ends at 2016-01-02 02:00 UTC; "
        f"that of {PTA} rejects it since 2015-12-31 00:00 PKT (2015-12-30 19:00 UTC), "
        "no end is set, review due 2016-03-01."
    )
    assert sentence(ask([shutdown(), other], replace(BES, port=None, protocol=None), NOW)).startswith(
        "Partly: some of 206.51.26.33 is blocked (dropped) by 2 orders: that of "
    )


def test_no() -> None:
    answer = ask([shutdown()], replace(BES, port=443), NOW)
    assert sentence(answer) == "No: TCP port 443 of 206.51.26.33 is not blocked here: no order covers it."
    assert answer_document(answer)["policies"] == []


def test_an_exception_frees_from_its_own_policy_only() -> None:
    spared = shutdown(exceptions=Exceptions((ranges_of(4, [(int(BES.address), int(BES.address))]),)))
    freed = ask([spared], BES, NOW)
    assert sentence(freed) == (
        f"No: TCP port 3101 of 206.51.26.33 is not blocked here: the order of {PTA} excepts 206.51.26.33/32."
    )
    assert answer_document(freed)["policies"][0]["excepted_by"] == "206.51.26.33/32"
    assert ask([spared, replace(shutdown(), id="other")], BES, NOW).blocked


def test_what_the_settings_protect_is_told_as_such() -> None:
    rails = Rails(protected=(Protected(Span(4, int(BES.address), int(BES.address)), "management"),))
    (carved_out,) = carved([shutdown()], rails)
    freed = ask([carved_out], BES, NOW)
    assert sentence(freed) == (
        "No: TCP port 3101 of 206.51.26.33 is not blocked here: this gateway's settings protect 206.51.26.33/32, "
        f"also from the order of {PTA}."
    )
    assert not ask([carved_out], replace(BES, address=ip_address("206.51.26.34")), NOW).reasons[0].protected


def test_what_will_be() -> None:
    before = ask([shutdown()], BES, 1451000000)
    assert sentence(before) == (
        f"No: TCP port 3101 of 206.51.26.33 is not blocked here; the order of {PTA} begins at "
        "2015-12-31 00:00 PKT (2015-12-30 19:00 UTC)."
    )
    then = ask([shutdown()], replace(BES, at=Instant(1451502000, "")), 1451000000)
    assert sentence(then).startswith(
        "Yes: TCP port 3101 of 206.51.26.33 will be at 2015-12-30 19:00 UTC blocked (rejected) since 2015-12-31 00:00"
    )


def test_suspended_by_hand_until_it_ends() -> None:
    local = Local((), {"bes-shutdown": NOW + 60})
    assert not ask([shutdown()], BES, NOW, local=local).blocked
    later = ask([shutdown()], replace(BES, at=Instant(NOW + 60, "")), NOW, local=local)
    assert later.blocked
    assert later.reasons[0].since == NOW + 60


def test_since_it_acts_here() -> None:
    assert ask([shutdown()], BES, NOW, installed={"bes-shutdown": NOW - 5}).reasons[0].since == NOW - 5
    assert ask([shutdown()], BES, NOW, installed={}).reasons[0].since is None


def test_rescinded_out_of_scope_and_other_hooks_say_nothing() -> None:
    assert ask([shutdown(state=State.RESCINDED)], BES, NOW).reasons == ()
    assert ask([shutdown(scope=Scope(gateways=("edge-*",)))], BES, NOW).reasons == ()
    assert ask([shutdown()], BES, NOW, hooks=("input",)).reasons == ()


def test_what_people_read_has_counts_of_the_whole_order() -> None:
    told = "\n".join(lines(ask([shutdown()], BES, NOW, counts={"bes-shutdown": Count(1234, 56789)})))
    assert "the whole order has stopped or counted 1,234 packets, 56,789 bytes" in told
    assert "the address is in policies/services/made-up.txt:1" in told


def test_embedded_behind_nat64() -> None:
    question = Question(IPv6Address("64:ff9b::206.51.26.33"), "tcp", 3101)
    assert ask([shutdown()], question, NOW, around=Surroundings(nat64=NAT64)).blocked
    assert not ask([shutdown()], question, NOW).blocked


def test_ten_thousand_policies_on_one_address() -> None:
    many = [
        simple(f"order-{number}", ["192.0.2.1"], [Transport(6, number + 1, number + 1)]) for number in range(10_000)
    ]
    facts = Facts("core-1", tuple(many), PLAIN, ("forward",), {}, {}, None)
    index = Index(many)
    answer = explain(index, facts, Question(ip_address("192.0.2.1")), 2000)
    assert answer.partly
    assert len(answer.reasons) == 10_000


def past(**more: object) -> Past:
    held = PastPolicy(shutdown(), enforced=True, since=NOW - 9, accepted=shutdown(), state="in_force", suspended=None)
    gateway = {"name": "core-1", "tags": [], "hooks": ["forward"]}
    stood = Past(NOW, 7, float(NOW), {"bes-shutdown": held}, 3, "", running=True, gateway=gateway, problems=frozenset())
    return replace(stood, **more)


THEN = replace(BES, at=Instant(NOW, "2015-12-31T22:13:20Z"))


def test_back_then() -> None:
    answer = answer_from(past(), THEN, ("forward",), Surroundings())
    assert answer.blocked
    assert answer.reasons[0].since == NOW - 9
    assert lines(answer)[0].startswith(
        "Yes: TCP port 3101 of 206.51.26.33 was at 2015-12-31 22:13:20 UTC blocked (rejected) since "
    )
    assert lines(answer)[0].endswith("This is what the gateway enforced then, as its journal has it.")
    assert "packets" not in "".join(lines(answer)[1:]).replace("judges packets", "")


def test_back_then_ordered_is_not_enforced() -> None:
    lacking = PastPolicy(shutdown(), enforced=False, since=None, accepted=shutdown(), state=None, suspended=None)
    answer = answer_from(past(policies={"bes-shutdown": lacking}, running=False), THEN, ("forward",), Surroundings())
    assert not answer.blocked
    assert answer.notes[1].startswith("No daemon ran then")
    assert answer.notes[2] == "Ordered too, but not in the kernel then: bes-shutdown revision 2."


def test_back_then_it_was_suspended() -> None:
    suspended = {"until": NOW + 60, "reason": "a test", "by": "root"}
    held = replace(past().policies["bes-shutdown"], suspended=suspended)
    answer = answer_from(past(policies={"bes-shutdown": held}), THEN, ("forward",), Surroundings())
    assert not answer.blocked
    assert "is suspended until" in sentence(answer)


def test_without_a_journal_nothing_is_kept(tmp_path: Path) -> None:
    with pytest.raises(NotKeptError, match="the journal can't tell"):
        explain_past(tmp_path, THEN, ("forward",), Surroundings())
