"""Given packets through the rules in bulk, and the kernel's connections read in bulk, each against one at a time."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewrit.compile.render import compile_policies
from gatewrit.kernel import connections
from gatewrit.kernel.connections import Way
from gatewrit.kernel.transaction import foreseen
from gatewrit.kernel.wire import WireError
from gatewrit.policy.model import Transport
from gatewrit.verify.traffic import Table
from support.paper import Packet, by_policies
from support.strategies import INSTANTS, SIZES, addresses, policy_sets, simple
from support.tracked import Tracked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatewrit.compile.cells import Sizes
    from gatewrit.kernel.ruleset import HookName
    from gatewrit.policy.model import Policy
    from gatewrit.policy.terms import Family

PORTS = st.sampled_from([0, 1, 2, 9, 3000, 3101, 3150, 3200, 65535])
HOOKS: list[tuple[HookName, ...]] = [("forward", "input", "output"), ("prerouting", "output")]


def packet(family: Family) -> st.SearchStrategy[Packet]:
    made = st.builds(
        Packet, st.just(family), addresses(family), addresses(family), st.sampled_from([6, 17, 132, 47]), PORTS, PORTS
    )
    echo = st.builds(Packet, st.just(family), addresses(family), addresses(family), st.just(1 if family == 4 else 58))
    return made | echo.map(lambda each: Packet(family, each.source, each.destination, each.protocol, 0, 0, 128))


def way(family: Family, packets: Sequence[Packet]) -> Way:
    width = 4 if family == 4 else 16
    ends = [[getattr(each, end).to_bytes(width, "big") for each in packets] for end in ("source", "destination")]
    first = [each.icmp_type << 8 if each.protocol in {1, 58} else each.sport for each in packets]
    second = [each.dport for each in packets]
    keys = [np.array(each, f"S{width}") for each in ends]
    return Way(keys[0], keys[1], np.array(first, np.uint16), np.array(second, np.uint16))


@settings(max_examples=40)
@given(
    policy_sets(conditions=True),
    st.sampled_from(INSTANTS),
    st.sampled_from(SIZES),
    st.sampled_from(HOOKS),
    st.sampled_from([4, 6]).flatmap(lambda family: st.lists(packet(family), min_size=1, max_size=12)),
)
def test_packets_in_bulk_fare_as_the_policies_say(
    orders: list[Policy], now: int, sizes: Sizes, hooks: tuple[HookName, ...], packets: list[Packet]
) -> None:
    family = packets[0].family
    compiled = compile_policies(orders, now, hooks, -10, sizes=sizes)
    table = Table(foreseen(compiled.ruleset), family, now)
    protocols = np.array([each.protocol for each in packets], np.uint8)
    limited = any(each.scope.interfaces is not None for each in orders)
    for hook in ("forward", "input", "output", "prerouting"):
        fate = table.judge(hook, protocols, way(family, packets))
        for at, each in enumerate(packets):
            if fate.unclear[at]:
                assert limited
                continue
            wanted = by_policies(orders, each, hook, now).verdict if hook in hooks else "pass"
            if not limited:
                assert bool(fate.blocked[at]) is (wanted != "pass"), each
            if fate.blocked[at]:
                stoppers = compiled.counters[fate.counters[fate.counter[at]]]
                assert any(order.id in stoppers and order.block.action != "observe" for order in orders)


def test_connections_are_decoded_in_bulk() -> None:
    four = [
        Tracked("100.64.0.1", "203.0.113.9"),
        Tracked("100.64.0.2", "203.0.113.8", protocol=17, sport=5353, dport=53, answers="203.0.113.7"),
        Tracked("100.64.0.3", "203.0.113.1", protocol=1, sport=7, dport=8),
        Tracked("100.64.0.4", "203.0.113.2", state=7),
    ]
    found = connections.decode([each.attributes() for each in four], 4)
    assert found.protocol.tolist() == [6, 17, 1]
    assert found.original.first.tolist() == [40000, 5353, 8 << 8]
    assert found.original.second.tolist() == [3101, 53, 0]
    assert (found.reply.first.tolist(), found.reply.second.tolist()) == ([3101, 53, 0], [40000, 5353, 0])
    assert found.original.destination.tolist()[1] == ip_address("203.0.113.8").packed
    assert found.reply.source.tolist()[1] == ip_address("203.0.113.7").packed
    six = connections.decode([Tracked("2001:db8::1", "2001:db8:1::2").attributes()], 6)
    assert six.original.source.tobytes() == ip_address("2001:db8::1").packed
    assert len(connections.decode([], 4)) == 0


@pytest.mark.parametrize("spoil", [lambda data: data[:-6], lambda data: b"\xff\xff" + data[2:], lambda data: data[48:]])
def test_what_is_no_connection_is_refused(spoil: object) -> None:
    data = Tracked("100.64.0.1", "203.0.113.9").attributes()
    with pytest.raises(WireError):
        connections.decode([data, spoil(data)], 4)  # type: ignore[operator]


@pytest.mark.parametrize(("now", "blocked"), [(999, [False, False, False]), (1000, [True, False, True])])
def test_time_ports_and_fragments_are_told_apart(now: int, blocked: list[bool]) -> None:
    order = simple("a", ["203.0.113.1", "203.0.113.9"], [Transport(6, 3101, 3101), Transport(17)])
    table = Table(foreseen(compile_policies([order], now, ("forward",), -10).ruleset), 4, now)
    destination = int(ip_address("203.0.113.1"))
    packets = [Packet(4, 1, destination, *rest) for rest in ((6, 4000, 3101), (6, 3101, 443), (17, 3101, 9))]
    fate = table.judge("forward", np.array([6, 6, 17], np.uint8), way(4, packets))
    assert fate.blocked.tolist() == blocked
