"""The guard rails, held against a brute-force reading over a small space."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.compile.conflicts import conflicts
from gatewrit.compile.overlap import Atlas, listed, meetings, transport_text
from gatewrit.compile.rails import Judge, Protected, Rails, carved
from gatewrit.compile.segments import subtract
from gatewrit.compile.spans import intersect, merge
from gatewrit.policy.document import PolicyDocument
from gatewrit.policy.load import parse_policy
from gatewrit.policy.model import Exceptions, Transport
from gatewrit.policy.ranges import parse_span, to_ranges
from gatewrit.policy.terms import Action, Direction, Effective, Instant
from gatewrit.policy.values import read_transport
from support.gateway import policy
from support.strategies import TRANSPORTS, policies, ranges, ranges_of, services, simple

if TYPE_CHECKING:
    from gatewrit.compile.spans import Spans
    from gatewrit.policy.model import Policy, Ranges, Service
    from gatewrit.policy.terms import Family

FAMILIES: tuple[Family, Family] = (4, 6)


def prefixed(name: str, entries: list[str], transports: list[Transport]) -> Policy:
    networks = [ip_network(each) for each in entries]
    return simple(name, [f"{each[0]}-{each[-1]}" for each in networks], transports)


def members(parts: tuple[Ranges, ...] | list[Ranges] | list[Spans], family: Family) -> set[int]:
    """Give all ends of ranges and their neighbours: a sample that tells any two sets made of the same ends apart."""
    found: set[int] = set()
    for part in parts:
        if part.family == family:
            for row in (*part.first.tolist(), *part.last.tolist()):
                at = row if family == 4 else (row[0] << 64) + row[1]
                found |= {at - 1, at, at + 1}
    return found


def inside(parts: object, family: Family, address: int) -> bool:
    for part in parts:  # type: ignore[attr-defined]
        if part.family != family:
            continue
        for first, last in zip(part.first.tolist(), part.last.tolist(), strict=True):
            low, high = (first, last) if family == 4 else ((first[0] << 64) + first[1], (last[0] << 64) + last[1])
            if low <= address <= high:
                return True
    return False


def fits(transport: Transport, protocol: int, port: int | None) -> bool:
    if transport.protocol is None:
        return True
    if transport.protocol != protocol:
        return False
    return transport.first is None or (port is not None and transport.first <= port <= (transport.last or 0))


PORTS = [1, 2, 9, 2999, 3000, 3101, 3150, 3200, 3201, 65535]
PACKETS = [(protocol, port) for protocol in (6, 17, 132) for port in PORTS] + [(1, None), (47, None)]


def means(service: Service, family: Family, address: int, packet: tuple[int, int | None], *, hosts: bool) -> bool:
    """Whether a service has this address with this protocol and port; of its hosts, whatever the port."""
    protocol, port = packet
    return any(
        inside(end.ranges, family, address)
        and any(fits(Transport(each.protocol) if hosts else each, protocol, port) for each in end.transports)
        for end in service.endpoints
    )


@given(policies("order-a"), services("held"), st.lists(st.one_of(ranges(4), ranges(6)), max_size=2))
def test_the_proof_finds_exactly_what_is_blocked_and_must_continue(
    made: Policy, held: Service, excepted: list[Ranges]
) -> None:
    judged = replace(made, exceptions=Exceptions(tuple(excepted), ()))
    found = meetings(judged, held, Atlas())
    every = [part for each in (*made.services.values(), held) for end in each.endpoints for part in end.ranges]
    block = made.block
    for family in FAMILIES:
        for address in sorted(members([*every, *excepted], family)):
            for packet in PACKETS:
                for end in (Direction.TO, Direction.FROM):
                    wanted = (
                        block.action is not Action.OBSERVE
                        and block.direction in {end, Direction.BOTH}
                        and not inside(excepted, family, address)
                        and any(means(each, family, address, packet, hosts=False) for each in made.services.values())
                        and means(held, family, address, packet, hosts=end is Direction.FROM)
                    )
                    shown = any(
                        each.direction is end
                        and fits(each.transport, *packet)
                        and inside([each.spans], family, address)
                        for each in found
                    )
                    assert shown == wanted, (family, address, packet, end)


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_what_is_in_both_and_what_is_left(family: Family, data: st.DataObject) -> None:
    one, two = data.draw(ranges(family)), data.draw(ranges(family))
    both, left = (
        intersect(merge(family, [one]), merge(family, [two])),
        subtract(merge(family, [one]), merge(family, [two])),
    )
    for address in members([one, two], family):
        a, b = inside([one], family, address), inside([two], family, address)
        assert inside([both], family, address) == (a and b)
        assert inside([left], family, address) == (a and not b)


@pytest.mark.parametrize("text", ["tcp/80", "udp/5060-5061", "sctp/any", "icmp", "any"])
def test_transports_are_written_as_they_are_read(text: str) -> None:
    assert transport_text(read_transport(text)) == text
    assert {transport_text(each) for each in TRANSPORTS} >= {"any", "tcp/any"}


def test_more_overlaps_than_fit_are_counted() -> None:
    held = prefixed("held", [f"192.0.2.{2 * at}" for at in range(50)], [Transport(6)]).services["s"]
    found = meetings(prefixed("order", ["192.0.2.0/24"], [Transport(6, 80, 80)]), held, Atlas())
    assert listed(found) == "to 192.0.2.0 tcp/80, to 192.0.2.2 tcp/80, to 192.0.2.4 tcp/80 and 47 more"


# -- what was in force before ------------------------------------------------------------------------------------------


def test_protected_addresses_are_carved_out_of_what_is_in_force_already() -> None:
    rails = Rails((Protected(parse_span("192.0.2.8/29"), "management"), Protected(parse_span("2001:db8::/32"))))
    old = prefixed("old", ["192.0.2.0/24"], [Transport(None)])
    beside = prefixed("beside", ["192.0.3.0/24", "2001:db9::/32"], [Transport(None)])
    touched, untouched = carved([old, beside], rails)
    assert untouched is beside
    left = subtract(
        merge(4, [part for end in old.services["s"].endpoints for part in end.ranges]),
        merge(4, touched.exceptions.prefixes),
    )
    assert left.addresses == 256 - 8
    assert carved([old], Rails()) == [old]


# -- behind a NAT64 ---------------------------------------------------------------------------------------------------

NAT64 = to_ranges([(parse_span("64:ff9b::/96"), 0)], "settings")
WEB = [Transport(6, 80, 80)]


@pytest.mark.parametrize(("entry", "hit"), [("192.0.2.0/24", True), ("192.0.3.0/24", False), ("2001:db8::/32", False)])
def test_ipv4_entries_leave_alone_what_is_protected_behind_a_nat64(entry: str, *, hit: bool) -> None:
    rails = Rails((Protected(parse_span("64:ff9b::c000:208/125")),), nat64=NAT64)
    order = prefixed("old", [entry], WEB)
    (left,) = carved([order], rails)
    assert (left is not order) is hit
    assert [each.code for each in Judge(rails).faults(order, documented(order))] == ["protected_hit"] * hit
    assert Judge(replace(rails, nat64=())).faults(order, documented(order)) == ()
    excepting = replace(
        order, exceptions=Exceptions(prefixes=prefixed("x", ["192.0.2.8/29"], WEB).services["s"].endpoints[0].ranges)
    )
    assert Judge(rails).faults(excepting, documented(order)) == ()


@pytest.mark.parametrize(
    ("blocked", "held", "hit"),
    [
        ("192.0.2.0/24", "64:ff9b::c000:205", True),
        ("64:ff9b::c000:200/120", "192.0.2.5", True),
        ("192.0.2.0/24", "64:ff9b::c000:305", False),
        ("64:ff9b::c000:200/120", "192.0.3.5", False),
    ],
)
def test_what_must_continue_is_found_behind_a_nat64(blocked: str, held: str, *, hit: bool) -> None:
    service = replace(prefixed("held", [held], WEB).services["s"], name="held", digest="held")
    order = replace(prefixed("a", [blocked], WEB), must_continue=MappingProxyType({"held": service}))
    faults = Judge(Rails(nat64=NAT64)).faults(order, documented(order))
    assert [each.code for each in faults] == ["must_continue_hit"] * hit
    assert Judge(Rails()).faults(order, documented(order)) == ()


def documented(order: Policy) -> PolicyDocument:
    """Give a document with as many references as the policy has services."""
    written = policy(order.id, *order.services) + f"must_continue: [{', '.join(order.must_continue)}]\n"
    document = parse_policy(
        written.encode() if order.must_continue else policy(order.id, *order.services).encode(), "a"
    )
    assert isinstance(document, PolicyDocument)
    return document


# -- orders against each other -----------------------------------------------------------------------------------------


def holding(made: Policy, *held: Service) -> Policy:
    return replace(made, must_continue=MappingProxyType({each.name: each for each in held}))


def during(made: Policy, start: int, until: int | None) -> Policy:
    end = None if until is None else Instant(until, str(until))
    return replace(made, effective=Effective(Instant(start, str(start)), end))


def order(name: str, prefix: str, port: int) -> Policy:
    made = prefixed(name, [prefix], [Transport(6, port, port)])
    service = replace(made.services["s"], name=f"of-{name}", digest=f"of-{name}")
    return replace(made, services={service.name: service})


def test_what_another_order_blocks_of_what_must_continue_is_told() -> None:
    mail = order("mail", "192.0.2.0/25", 25).services["of-mail"]
    bes = holding(order("bes", "192.0.2.0/24", 3101), mail)
    other = order("other", "192.0.2.64/26", 25)
    (found,) = conflicts([bes, other, order("beside", "192.0.2.0/24", 26)], 1500)
    assert str(found) == (
        "bes says that of-mail must continue, and other drops some of it: to 192.0.2.64/26 tcp/25; both orders stay"
    )
    (found,) = conflicts([bes, other, order("third", "192.0.2.1", 25)], 1500)
    assert (found.other.id, found.more) == ("other", 1)
    assert not conflicts([bes, replace(other, block=replace(other.block, action=Action.OBSERVE))], 1500)
    assert not conflicts([bes, replace(other, exceptions=Exceptions((ranges_of(4, [(0, 2**32 - 1)]),), ()))], 1500)
    # Its own contradiction is for the proof at load.
    assert not conflicts([holding(other, mail)], 1500)


@pytest.mark.parametrize(
    ("start", "until", "now", "told"),
    [(1000, 2000, 1500, False), (1000, 2001, 1500, True), (1000, 2001, 2001, False), (3000, None, 1500, False)],
)
def test_only_at_overlapping_times(start: int, until: int | None, now: int, *, told: bool) -> None:
    mail = order("mail", "192.0.2.0/25", 25).services["of-mail"]
    bes = during(holding(order("bes", "192.0.2.0/24", 3101), mail), 2000, 3000)
    other = during(order("other", "192.0.2.0/24", 25), start, until)
    assert bool(conflicts([bes, other], now)) is told


def test_every_order_that_conflicts_is_counted() -> None:
    mail = order("mail", "10.0.0.0/8", 25).services["of-mail"]
    many = [holding(order(f"order-{at}", f"10.{at >> 8}.{at & 255}.0/24", 25), mail) for at in range(300)]
    judge = Judge(Rails())
    assert all(meetings(each, mail, judge.atlas) for each in many)
    found = conflicts(many, 1500)
    assert len(found) == 300
    assert {each.more for each in found} == {298}
