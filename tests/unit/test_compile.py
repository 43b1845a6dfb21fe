from __future__ import annotations

import asyncio
from ipaddress import IPv6Network
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewrit.compile import segments
from gatewrit.compile.cells import label
from gatewrit.compile.dispatch import PortRange, dispatch, union
from gatewrit.compile.ladder import Rung, ladder
from gatewrit.compile.render import compile_policies
from gatewrit.compile.segments import coalesce, segment
from gatewrit.compile.spans import exact_sum, merge
from gatewrit.compile.surroundings import Surroundings
from gatewrit.kernel.plan import diff
from gatewrit.kernel.text import script
from gatewrit.policy.model import Transport
from gatewrit.policy.terms import Action, Direction, State
from support.fake import FakeKernel
from support.paper import Packet, by_policies, by_rules
from support.strategies import (
    ANCHORS,
    INSTANTS,
    INTERFACES,
    MASTERS,
    SIZES,
    TOPS,
    addresses,
    policies,
    policy_sets,
    ranges,
    ranges_of,
    simple,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatewrit.compile.cells import Sizes
    from gatewrit.compile.render import Compiled
    from gatewrit.kernel.ruleset import HookName
    from gatewrit.kernel.transaction import Actual
    from gatewrit.policy.model import Policy, Ranges
    from gatewrit.policy.terms import Family

FAMILIES: tuple[Family, Family] = (4, 6)
HOOKS = [("forward",), ("prerouting",), ("forward", "output"), ("input", "output"), ("forward", "input", "output")]
TCP, UDP, ICMP, ICMPV6, SCTP, GRE = 6, 17, 1, 58, 132, 47


def integers(family: Family, array: np.ndarray) -> list[int]:
    return array.tolist() if family == 4 else [(high << 64) + low for high, low in array.tolist()]


def pairs(part: Ranges) -> list[tuple[int, int]]:
    return list(zip(integers(part.family, part.first), integers(part.family, part.last), strict=True))


def probes(family: Family) -> list[int]:
    """Give every address near which anything that is made up can begin or end."""
    near = {anchor + offset for anchor in ANCHORS[family] for offset in range(-1, 18)}
    return sorted(address for address in near if 0 <= address <= TOPS[family])


# -- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_merged_ranges_cover_exactly_the_given_addresses(family: Family, data: st.DataObject) -> None:
    given_ranges = data.draw(st.lists(ranges(family), max_size=3))
    spans = merge(family, given_ranges)
    merged = list(zip(integers(family, spans.first), integers(family, spans.last), strict=True))
    for address in probes(family):
        wanted = any(low <= address <= high for part in given_ranges for low, high in pairs(part))
        assert any(low <= address <= high for low, high in merged) == wanted
    # Disjoint, sorted, and not even adjacent.
    assert all(before[1] + 1 < after[0] for before, after in pairwise(merged))
    assert spans.addresses == sum(high - low + 1 for low, high in merged)


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_segments_say_exactly_who_covers_each_address(family: Family, data: st.DataObject) -> None:
    owners = [merge(family, [part]) for part in data.draw(st.lists(ranges(family), max_size=5))]
    found = segment(family, owners)
    rows = list(zip(integers(family, found.first), integers(family, found.last), found.group.tolist(), strict=True))
    for address in probes(family):
        wanted = tuple(
            index
            for index, spans in enumerate(owners)
            if any(
                low <= address <= high
                for low, high in zip(integers(family, spans.first), integers(family, spans.last), strict=True)
            )
        )
        here = [found.owners[group] for low, high, group in rows if low <= address <= high]
        assert here == ([wanted] if wanted else [])
    for (_, end, group), (start, _, following) in pairwise(rows):
        assert end < start
        assert end + 1 < start or group != following  # each is as long as it can be


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 40))
def test_groups_have_the_order_of_their_first_segments(groups: list[int], soon: int) -> None:
    group, at = np.array(groups, np.int64), np.arange(len(groups), dtype=np.uint32) * 2
    owners = tuple((each,) for each in range(6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "_SOON", soon)
        found = segments.in_order(segments.Segments(4, at, at, group, owners))
    assert found.owners == tuple((each,) for each in dict.fromkeys(groups))
    assert [found.owners[each][0] for each in found.group.tolist()] == groups


@given(ranges(4, least=1), ranges(4, least=1))
def test_coalesced_segments_join_neighbours_with_one_label(one: Ranges, two: Ranges) -> None:
    found = segment(4, [merge(4, [one]), merge(4, [two])])
    first, last, label_of = coalesce(found, np.zeros(len(found.owners), np.int64))
    union_spans = merge(4, [one, two])
    assert (first.tolist(), last.tolist()) == (union_spans.first.tolist(), union_spans.last.tolist())
    assert not label_of.any()


def test_sums_do_not_overflow() -> None:
    assert exact_sum(np.full(3, 2**64 - 1, np.uint64)) == 3 * (2**64 - 1)


def test_the_whole_of_ipv6_is_counted() -> None:
    whole = simple("all", ["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], [Transport(None)])
    spans = merge(6, whole.services["s"].endpoints[0].ranges)
    assert spans.addresses == 2**128


# -- ports ------------------------------------------------------------------------------------------------------------

transports = st.one_of(
    st.just(Transport(None)),
    st.builds(Transport, st.sampled_from([TCP, UDP, ICMP])),
    st.tuples(st.sampled_from([TCP, UDP]), st.integers(0, 12), st.integers(0, 12)).map(
        lambda row: Transport(row[0], min(row[1:]), max(row[1:]))
    ),
)


@given(st.lists(st.tuples(st.sampled_from("abc"), transports), min_size=1, max_size=8))
def test_dispatch_gives_each_packet_the_policies_that_name_its_port(owners: list[tuple[str, Transport]]) -> None:
    found = dispatch(owners)
    for protocol in (TCP, UDP, ICMP, GRE):
        for port in range(-1, 14):
            wanted = {
                policy
                for policy, wants in owners
                if wants.protocol is None
                or (wants.protocol == protocol and (wants.first is None or wants.first <= port <= wants.last))
            }
            by_port = [
                cell for part, cell in found.ports if part.protocol == protocol and part.first <= port <= part.last
            ]
            by_protocol = dict(found.protocols)
            cell = by_port[0] if by_port else by_protocol.get(protocol, found.other)
            assert len(by_port) < 2
            assert set(cell) == wanted


@given(
    st.lists(
        st.builds(
            lambda p, a, b: PortRange(p, min(a, b), max(a, b)),
            st.sampled_from([6, 17]),
            st.integers(0, 20),
            st.integers(0, 20),
        )
    )
)
def test_port_union_is_exact_and_smallest(parts: list[PortRange]) -> None:
    found = union(parts)
    covered = {(part.protocol, port) for part in parts for port in range(part.first, part.last + 1)}
    assert {(part.protocol, port) for part in found for port in range(part.first, part.last + 1)} == covered
    assert all(one.protocol != two.protocol or one.last + 1 < two.first for one, two in pairwise(found))


# -- time -------------------------------------------------------------------------------------------------------------


@given(st.lists(policies("x"), max_size=5), st.integers(0, 5000))
def test_the_first_rung_that_is_not_past_says_who_is_active(made: list[Policy], now: int) -> None:
    named = [policy for policy in made if policy.state is State.ACTIVE]
    rungs = ladder(named, now)
    for instant in [now, *(at + step for at in INSTANTS for step in (-1, 0, 1))]:
        if instant < now:
            continue
        wanted = sorted(
            policy.id
            for policy in named
            if policy.effective.start.epoch <= instant
            and (policy.effective.until is None or instant < policy.effective.until.epoch)
        )
        first = next((rung for rung in rungs if rung.end is None or instant < rung.end), None)
        assert sorted(first.policies if first else ()) == wanted
    assert all(rung.end is not None for rung in rungs[:-1])
    assert all(one.policies != two.policies for one, two in pairwise(rungs))


def test_the_strictest_acts_while_it_lasts() -> None:
    watch = simple("a-watch", ["10.0.0.1"], [Transport(None)], action=Action.OBSERVE)
    refuse = simple("b-refuse", ["10.0.0.1"], [Transport(None)], action=Action.REJECT)
    assert ladder([refuse, watch], 0) == (
        Rung(1000, (), None),
        Rung(None, ("a-watch", "b-refuse"), Action.REJECT),
    )


# -- the whole --------------------------------------------------------------------------------------------------------


def load(compiled: Compiled) -> Actual:
    async def work() -> Actual:
        kernel = FakeKernel()
        await kernel.commit(diff(compiled.ruleset, await kernel.read()).whole)
        actual = await kernel.read()
        assert not diff(compiled.ruleset, actual).whole
        return actual

    return asyncio.run(work())


ports = st.sampled_from([0, 1, 2, 9, 2999, 3000, 3100, 3101, 3102, 3149, 3150, 3200, 3201, 65535])


@st.composite
def embedded(draw: st.DrawFn, nat64: Sequence[str]) -> int:
    """Give an IPv4 address as it stands behind a NAT64 prefix, not always quite as it should."""
    prefix = IPv6Network(draw(st.sampled_from(nat64)))
    octets = draw(addresses(4)).to_bytes(4, "big")
    packed = prefix.network_address.packed[: prefix.prefixlen // 8] + octets
    if prefix.prefixlen < 96:
        # Where it would cut the address in two, another octet than zero stands for nothing, and nothing is promised.
        octet = st.just(b"\0") if 32 < prefix.prefixlen < 64 else st.sampled_from([b"\0", b"\0", b"\1"])
        packed = packed[:8] + draw(octet) + packed[8:]
    tail = draw(st.sampled_from([b"\0", b"\xff"])) * 16
    return int.from_bytes((packed + tail)[:16], "big")


@st.composite
def packets(draw: st.DrawFn, nat64: Sequence[str] = ()) -> Packet:
    family = draw(st.sampled_from(FAMILIES))
    protocol = draw(st.sampled_from([TCP, UDP, ICMP, ICMPV6, SCTP, GRE]))
    fragment = draw(st.integers(0, 4)) == 0
    place = addresses(6) | embedded(nat64) if family == 6 and nat64 else addresses(family)
    names = st.sampled_from(INTERFACES)
    vrf = draw(st.sampled_from([None, None, *MASTERS]))
    return Packet(
        family,
        draw(place),
        draw(place),
        protocol,
        None if fragment else draw(ports),
        None if fragment else draw(ports),
        draw(st.sampled_from([1, 128, 132, 133, 135, 137, 138])) if protocol == ICMPV6 and not fragment else 0,
        draw(ports | st.just(135)) if fragment else 0,
        vrf or draw(names),
        draw(names),
        draw(st.sampled_from(MASTERS[vrf])) if vrf else "",
    )


#: One of each length that RFC 6052 knows; the first overlaps with addresses that policies name as IPv6.
NAT64 = ["2607:ffc0::/32", "64:ff9b::/96", "2001:db8:a00::/40", "2001:db8:b00::/48", "2001:db8:c00::/56"]
NAT64 += ["2001:db8:d00:1::/64"]
surroundings = st.builds(
    lambda nat64, masters, spared: (nat64, Surroundings(prefixes(nat64), masters, spared)),
    st.just([]) | st.lists(st.sampled_from(NAT64), unique=True, max_size=2),
    st.sampled_from([{}, MASTERS]),
    st.just(()) | st.tuples(ranges(4), ranges(6)),
)


def prefixes(texts: Sequence[str]) -> tuple[Ranges, ...]:
    networks = [IPv6Network(text) for text in texts]
    return (ranges_of(6, [(int(each[0]), int(each[-1])) for each in networks]),)


@settings(max_examples=300)
@given(
    policy_sets(conditions=True),
    st.sampled_from(HOOKS),
    st.sampled_from([0, *INSTANTS]),
    surroundings,
    st.sampled_from(SIZES),
    st.data(),
)
def test_the_rules_do_to_every_packet_what_the_policies_say(  # noqa: PLR0917 - made up by hypothesis
    made: list[Policy],
    hooks: tuple[HookName, ...],
    compiled_at: int,
    here: tuple[list[str], Surroundings],
    sizes: Sizes,
    data: st.DataObject,
) -> None:
    nat64, around = here
    compiled = compile_policies(made, compiled_at, hooks, -10, around, sizes)
    actual = load(compiled)
    sent = data.draw(st.lists(st.tuples(packets(nat64), st.integers(0, 4500)), min_size=20, max_size=40))
    for packet, later in sent:
        now = max(compiled_at, later)
        for hook in hooks:
            wanted = by_policies(made, packet, hook, now, around)
            assert by_rules(actual, compiled.counters, packet, hook, now) == wanted, (packet, hook, now)


@given(policy_sets(conditions=True), st.sampled_from([0, 1500, 2500]))
def test_the_order_in_which_policies_are_read_does_not_matter(made: list[Policy], now: int) -> None:
    one = compile_policies(made, now, ("forward",), -10)
    two = compile_policies(reversed(made), now, ("forward",), -10)
    assert not diff(two.ruleset, load(one)).whole
    assert script(one.ruleset) == script(two.ruleset)


def test_ports_cost_nothing_where_nobody_limits_by_port() -> None:
    compiled = compile_policies([simple("a", ["10.0.0.1"], [Transport(TCP, 3101, 3101)])], 0, ("forward",), -10)
    judge = compiled.ruleset.chains["forward"]
    assert len(judge.rules) == 1  # the gate, and no address is looked at before it
    assert not {"judge-to", "judge-from"} & {*compiled.ruleset.chains}


def test_a_lapsed_or_lifted_policy_leaves_nothing_behind() -> None:
    compiled = compile_policies([], 0, ("forward",), -10)
    assert list(compiled.ruleset.chains) == ["forward"]
    assert not compiled.ruleset.sets
    assert not compiled.ruleset.counters


@pytest.mark.parametrize("whole", ["0.0.0.0-255.255.255.255", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"])
def test_two_who_block_every_address_do(whole: str) -> None:
    made = [simple(name, [whole], [Transport(TCP, 25, 25)]) for name in ("a", "b")]
    compiled = compile_policies(made, 1500, ("forward",), -10)
    family: Family = 6 if ":" in whole else 4
    assert compiled.segments[family] == 1
    actual = load(compiled)
    for address in (0, TOPS[family] // 2, TOPS[family]):
        packet = Packet(family, 1, address, TCP, 4000, 25)
        assert by_rules(actual, compiled.counters, packet, "forward", 2000).verdict == "drop"


def test_comments_name_as_many_policies_as_fit() -> None:
    names = [f"a-rather-long-policy-name-{number:03}" for number in range(100)]
    assert label(names[:2]) == " ".join(names[:2])
    assert label(names) == " ".join(names[:4]) + " +96"
    assert len(label(["x" * 48] * 3)) < 128


def test_chain_names_of_addresses_have_one_length() -> None:
    made = [
        simple("a", ["10.0.0.1"], [Transport(TCP, 1, 1)]),
        simple("order-with-a-long-name", ["10.0.0.1-10.0.0.9"], [Transport(None)], direction=Direction.BOTH),
    ]
    compiled = compile_policies(made, 0, ("forward",), -10)
    verdicts = compiled.ruleset.sets["to4"].elements.verdicts
    assert len({len(verdict.chain or "") for verdict in verdicts}) == 1
