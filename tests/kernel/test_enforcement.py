"""What a policy does to packets: actions, directions, ports, overlaps, hooks; the real daemon, real packets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pyroute2 import IPRoute

from lab import Lab, Packet, Probe, Verdict
from lab.topology import UPSTREAM
from support.gateway import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.gateway import Gateway

REACHED, RESET, PROHIBITED, SILENT = Verdict.REACHED, Verdict.RESET, Verdict.PROHIBITED, Verdict.SILENT
#: A subscriber, and the third and fourth octets' worth of a service, in each family.
SUBSCRIBER = {4: "100.64.9.9", 6: "2001:db8:64::9"}
BOTH = [4, 6]


def prefix(number: int) -> list[str]:
    """Give the prefixes of the numbered service: a small one of each family."""
    return [f"203.0.{number}.0/28", f"2001:db8:{number}::/64"]


def host(number: int, family: int, at: int = 5) -> str:
    """Give an address of the numbered service."""
    return f"203.0.{number}.{at}" if family == 4 else f"2001:db8:{number}::{at:x}"


def to(address: str, family: int, protocol: str | int, port: int = 3101, **shape: int) -> Packet:
    return Packet(SUBSCRIBER[family], address, protocol, destination_port=port, **shape)  # type: ignore[arg-type]


def back(address: str, family: int, protocol: str | int, port: int = 3101, **shape: int) -> Packet:
    return Packet(address, SUBSCRIBER[family], protocol, source_port=port, destination_port=40000, **shape)  # type: ignore[arg-type]


def judge(lab: Lab, expected: Sequence[tuple[Packet, Verdict]], *, backwards: bool = False) -> None:
    """Send all of them, and tell those that fared otherwise than expected."""
    origin, target = (lab.internet, lab.subscriber) if backwards else (lab.subscriber, lab.internet)
    seen = lab.exchange([packet for packet, _ in expected], origin=origin, target=target)
    wrong = [(packet, said, came) for (packet, said), came in zip(expected, seen, strict=True) if said is not came]
    assert wrong == []


def test_each_action_does_its_own_and_counts(lab: Lab, gateway: Gateway) -> None:
    for number, action in enumerate(("drop", "reject", "observe"), start=1):
        gateway.order(action, prefix(number), "any", action=action)
    gateway.start()

    for family in BOTH:
        drop, reject, observe, nobody = (host(number, family) for number in (1, 2, 3, 4))
        judge(
            lab,
            [
                *((to(drop, family, protocol), SILENT) for protocol in ("tcp", "udp", "sctp", "icmp", 47)),
                (to(reject, family, "tcp"), RESET),
                *((to(reject, family, protocol), PROHIBITED) for protocol in ("udp", "sctp", "icmp", 47)),
                *((to(observe, family, protocol), REACHED) for protocol in ("tcp", "udp", "sctp", "icmp", 47)),
                *((to(nobody, family, protocol), REACHED) for protocol in ("tcp", "udp", "sctp", "icmp", 47)),
            ],
        )

    assert gateway.counts() == {"drop": 10, "reject": 10, "observe": 10}
    views = gateway.views()
    # IP header and all, as nftables counts: the five packets of each family are alike for all three.
    assert len({view["counters"]["bytes"] for view in views.values()}) == 1


def test_a_prefix_ends_where_it_ends(lab: Lab, gateway: Gateway) -> None:
    gateway.service(
        "edges",
        (["203.0.113.16/28", "203.0.113.40-203.0.113.41", "203.0.113.64", "255.255.255.255"], "tcp/3101"),
        (["2001:db8:7:0:8000::/65", "2001:db8:9::7-2001:db8:9::8"], "tcp/3101"),
    )
    gateway.policy("edges")
    gateway.start()

    inside4, outside4 = (16, 31, 40, 41, 64), (15, 32, 39, 42, 63, 65)
    inside6 = ("7:0:8000::", "7:0:ffff:ffff:ffff:ffff", "9::7", "9::8")
    outside6 = ("7:0:7fff:ffff:ffff:ffff", "7:1::", "9::6", "9::9")
    judge(lab, [(to(f"203.0.113.{last}", 4, "tcp"), RESET) for last in inside4])
    judge(lab, [(to(f"203.0.113.{last}", 4, "tcp"), REACHED) for last in outside4])
    judge(lab, [(to(f"2001:db8:{last}", 6, "tcp"), RESET) for last in inside6])
    judge(lab, [(to(f"2001:db8:{last}", 6, "tcp"), REACHED) for last in outside6])


@pytest.mark.parametrize("family", BOTH)
def test_directions_judge_their_end_and_their_port(lab: Lab, gateway: Gateway, family: int) -> None:
    for number, direction in enumerate(("to", "from", "both"), start=1):
        gateway.order(direction, prefix(number), "tcp/3101", action="reject", direction=direction)
    gateway.order("watched", prefix(4), "any", action="observe", direction="both")
    gateway.start()
    towards, away, either, watched = (host(number, family) for number in (1, 2, 3, 4))

    judge(
        lab,
        [
            (to(towards, family, "tcp"), RESET),
            (to(away, family, "tcp"), REACHED),
            (to(either, family, "tcp"), RESET),
            (to(watched, family, "tcp"), REACHED),
            # The port that counts is the service's, not the subscriber's.
            *((to(each, family, "tcp", 443, source_port=3101), REACHED) for each in (towards, away, either)),
        ],
    )
    judge(
        lab,
        [
            (back(towards, family, "tcp"), REACHED),
            # Nothing is answered towards the service: no backscatter.
            (back(away, family, "tcp"), SILENT),
            (back(either, family, "tcp"), SILENT),
            (back(watched, family, "udp"), REACHED),
            *((back(each, family, "tcp", 443), REACHED) for each in (towards, away, either)),
        ],
        backwards=True,
    )
    # From one end of a policy to the other: what `to` stopped isn't judged by `from`, what it let through is.
    between = [
        Packet(either, host(3, family, 6), "tcp", source_port=3101, destination_port=3101),
        Packet(watched, host(4, family, 6), "udp"),
    ]
    judge(lab, list(zip(between, [SILENT, REACHED], strict=True)))

    assert gateway.counts() == {"to": 1, "from": 1, "both": 3, "watched": 4}


@pytest.mark.parametrize("family", BOTH)
def test_where_policies_overlap_each_counts_and_the_strictest_acts(lab: Lab, gateway: Gateway, family: int) -> None:
    wide, narrow, one = ["203.0.1.0/24", "2001:db8:1::/48"], prefix(1), [host(1, each) for each in BOTH]
    gateway.order("observer", wide, "any", action="observe")
    gateway.order("rejecter", narrow, "tcp/3000-3200", action="reject")
    gateway.order("dropper", one, "tcp/3101", action="drop")
    gateway.order("twin", one, "tcp/3101", action="reject")
    gateway.start()
    single, near, far = host(1, family), host(1, family, 6), "203.0.1.200" if family == 4 else "2001:db8:1:1::5"
    traffic = [
        *[(to(single, family, "tcp", 3101), SILENT)] * 2,
        *[(to(single, family, "tcp", 3100), RESET)] * 3,
        *[(to(single, family, "tcp", 443), REACHED)] * 4,
        *[(to(near, family, "tcp", 3101), RESET)] * 5,
        *[(to(near, family, "udp", 3101), REACHED)] * 6,
        *[(to(far, family, "tcp", 3101), REACHED)] * 7,
    ]

    judge(lab, traffic)
    assert gateway.counts() == {"observer": 27, "rejecter": 10, "dropper": 2, "twin": 2}

    # Lifting one order lifts nothing that another holds, and what was counted stays with its policy.
    gateway.policy("dropper", revision=2, state="rescinded", action="drop")
    gateway.reload()
    judge(lab, [(to(single, family, "tcp", 3101), RESET)])
    gateway.policy("twin", revision=2, state="rescinded")
    gateway.reload()
    judge(lab, [(to(single, family, "tcp", 3101), RESET)])
    gateway.policy("rejecter", revision=2, state="rescinded")
    gateway.reload()
    judge(lab, [(to(single, family, "tcp", 3101), REACHED)])
    assert gateway.counts() == {"observer": 30, "rejecter": 12, "dropper": 2, "twin": 3}


@pytest.mark.parametrize("family", BOTH)
def test_ports_and_protocols_and_later_fragments(lab: Lab, gateway: Gateway, family: int) -> None:
    kinds = ["udp/5060-5061", "icmp", "sctp/any", "udp/any", "any", "tcp/1-65535"]
    for number, ports in enumerate(kinds, start=1):
        gateway.order(f"p{number}", prefix(number), ports, action="drop")
    # More single ports than are held one by one: intervals of protocol and port.
    gateway.order("many", prefix(7), "tcp/1000-1999, tcp/2001, udp/2000-2999", action="drop")
    gateway.start()
    ranged, echo, sctp, udp, everything, tcp, many = (host(number, family) for number in range(1, 8))

    judge(
        lab,
        [
            *((to(ranged, family, "udp", port), SILENT) for port in (5060, 5061)),
            *((to(ranged, family, "udp", port), REACHED) for port in (5059, 5062)),
            (to(ranged, family, "tcp", 5060), REACHED),
            (to(ranged, family, "icmp"), REACHED),
            (to(echo, family, "icmp"), SILENT),
            # `icmp` is each family's own: the other's number is just another protocol.
            (to(echo, family, 58 if family == 4 else 1), REACHED),
            (to(echo, family, "udp"), REACHED),
            (to(sctp, family, "sctp", 1), SILENT),
            (to(sctp, family, "sctp", 65535), SILENT),
            (to(sctp, family, "udp"), REACHED),
            (to(udp, family, "udp", 1), SILENT),
            (to(udp, family, "tcp", 1), REACHED),
            *((to(everything, family, protocol), SILENT) for protocol in ("tcp", "udp", "sctp", "icmp", 47, 253)),
            (to(tcp, family, "tcp", 1), SILENT),
            (to(tcp, family, "tcp", 65535), SILENT),
            *((to(many, family, "tcp", port), SILENT) for port in (1000, 1500, 1999, 2001)),
            *((to(many, family, "tcp", port), REACHED) for port in (999, 2000, 2002)),
            *((to(many, family, "udp", port), SILENT) for port in (2000, 2999)),
            *((to(many, family, "udp", port), REACHED) for port in (1999, 3000)),
            (to(many, family, "sctp", 1500), REACHED),
        ],
    )
    # A first fragment has its port, a later one has none: it passes where a port decides, and only there.
    judge(
        lab,
        [
            (to(ranged, family, "udp", 5060, more=True), SILENT),
            (to(ranged, family, "udp", 5060, offset=1480), REACHED),
            (to(tcp, family, "tcp", 3101, offset=1480), REACHED),
            (to(many, family, "tcp", 1500, offset=1480), REACHED),
            (to(udp, family, "udp", 5060, offset=1480), SILENT),
            (to(sctp, family, "sctp", 5060, offset=1480), SILENT),
            (to(everything, family, "tcp", 3101, offset=1480), SILENT),
            (to(everything, family, "udp", 3101, offset=1480, more=True), SILENT),
        ],
    )


def test_output_judges_what_goes_to_a_service_and_input_what_comes_from_it(lab: Lab, gateway: Gateway) -> None:
    lab.listen()
    lab.listen(at=lab.gateway)
    for number, direction in enumerate(("to", "from"), start=1):
        gateway.order(direction, prefix(number), "tcp/3101", direction=direction)
        gateway.order(f"all-{direction}", prefix(number + 2), "any", action="drop", direction=direction)
    gateway.set(hooks=["input", "output"])
    gateway.start()
    here = {4: "198.18.2.1", 6: "2001:db8:ffff:2::1"}

    for family in BOTH:
        towards, away, all_to, all_from = (host(number, family) for number in (1, 2, 3, 4))
        leaving = [Probe(towards, "tcp/3101"), Probe(towards, "tcp/443"), Probe(all_to, "tcp/443")]
        assert list(lab.probe(leaving, origin=lab.gateway).values()) == [RESET, REACHED, SILENT]
        arriving = [
            Packet(source, here[family], "tcp", source_port=port, destination_port=443)
            for source, port in ((towards, 443), (away, 3101), (away, 443), (all_from, 1))
        ]
        seen = {"to": 0, "from": 0, "all-to": 0, "all-from": 0} | gateway.counts()
        lab.exchange(arriving, origin=lab.internet, target=lab.gateway)
        grown = {name: count - seen[name] for name, count in gateway.counts().items()}
        assert grown == {"to": 0, "from": 1, "all-to": 0, "all-from": 1}
        # What is only forwarded concerns neither hook.
        judge(lab, [(to(address, family, "tcp"), REACHED) for address in (towards, away, all_to, all_from)])


def test_prerouting_judges_both_ends_of_all_that_arrives(lab: Lab, gateway: Gateway) -> None:
    gateway.order("to", prefix(1), "tcp/3101")
    gateway.order("from", prefix(2), "tcp/3101", direction="from")
    gateway.set(hooks=["prerouting", "output"])
    gateway.start()

    for family in BOTH:
        judge(lab, [(to(host(1, family), family, "tcp"), RESET), (to(host(2, family), family, "tcp"), REACHED)])
        judge(lab, [(back(host(2, family), family, "tcp"), SILENT)], backwards=True)
    assert gateway.counts() == {"to": 2, "from": 2}


def test_neighbour_discovery_passes_whatever_is_blocked(lab: Lab, gateway: Gateway) -> None:
    """The next hop itself is blocked, in both directions and whole: packets through it still find it."""
    hop = str(UPSTREAM.ipv6.ip)
    gateway.order("hop", f"{hop}/128", "any", action="drop", direction="both")
    # On input and output the gateway's own traffic with its next hops passes anyway.
    gateway.set(hooks=["prerouting"])
    gateway.start()
    lab.listen()
    # Its answer comes in, which a tap sees, and goes no further.
    lab.probe([Probe(hop, "icmp")], origin=lab.gateway)
    assert gateway.counts()["hop"] > 0

    # Solicited by multicast, answered by unicast from the blocked address.
    lab.gateway.run(forget_neighbour, hop)
    assert lab.gateway.run(neighbour_state, hop) is None
    assert list(lab.probe([Probe("2607:ffc0::1", "icmp")], origin=lab.gateway).values()) == [REACHED]
    # Probed by unicast to the blocked address.
    lab.gateway.run(probe_neighbour, hop)
    assert until(lambda: lab.gateway.run(neighbour_state, hop) in {NUD_REACHABLE, NUD_FAILED, None})
    assert lab.gateway.run(neighbour_state, hop) == NUD_REACHABLE


NUD_REACHABLE, NUD_PROBE, NUD_FAILED = 0x02, 0x10, 0x20


def forget_neighbour(address: str) -> None:
    with IPRoute() as netlink:
        netlink.neigh("del", dst=address, ifindex=netlink.link_lookup(ifname="gi0")[0])


def probe_neighbour(address: str) -> None:
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname="gi0")[0]
        netlink.neigh("replace", dst=address, ifindex=index, lladdr=UPSTREAM.hardware, state="probe")


def neighbour_state(address: str) -> int | None:
    with IPRoute() as netlink:
        return next(
            (each["state"] for each in netlink.get_neighbours(dst=address) if each["state"] != NUD_FAILED), None
        )
