"""Exceptions, scopes, NAT64 and the gateway's own traffic: the real daemon or the real table, real packets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gatewrit.compile.render import compile_policies
from gatewrit.compile.surroundings import Surroundings
from gatewrit.engine.reconcile import reconcile
from gatewrit.kernel.socket import NftSocket
from gatewrit.kernel.text import script
from gatewrit.policy.model import Scope, Transport
from gatewrit.policy.terms import Action, Direction
from lab import Packet, Probe, Verdict
from support import gateway as texts
from support.strategies import ranges_of, simple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatewrit.kernel.ruleset import Ruleset
    from lab import Lab, Namespace
    from support.gateway import Gateway

REACHED, RESET, SILENT = Verdict.REACHED, Verdict.RESET, Verdict.SILENT
#: Subscribers inside and outside of what the policies here name, in each family.
INSIDE = {4: "100.64.9.9", 6: "2001:db8:64:9::9"}
OUTSIDE = {4: "100.64.10.9", 6: "2001:db8:64:a::9"}
SOURCES = "[100.64.9.0/24, '2001:db8:64:9::/64']"
BOTH = [4, 6]


def order(gateway: Gateway, name: str, number: int, *lines: str, **fields: Any) -> None:
    """Write a policy over the numbered service's addresses, with more lines of its own."""
    gateway.service(name, ([f"203.0.{number}.0/28", f"2001:db8:{number}::/64"], "any"))
    gateway.write(f"{name}.yaml", texts.policy(name, name, **fields) + "".join(f"{line}\n" for line in lines))


def host(number: int, family: int, at: int = 5) -> str:
    return f"203.0.{number}.{at}" if family == 4 else f"2001:db8:{number}::{at:x}"


def fates(lab: Lab, packets: Sequence[Packet], *, backwards: bool = False) -> list[Verdict]:
    origin, target = (lab.internet, lab.subscriber) if backwards else (lab.subscriber, lab.internet)
    return lab.exchange(packets, origin=origin, target=target)


@pytest.mark.parametrize("family", BOTH)
def test_conditions_hold_for_packets_to_the_service(lab: Lab, gateway: Gateway, family: int) -> None:
    order(gateway, "prefix", 1, "except: {prefixes: [203.0.1.5, '2001:db8:1::5']}")
    order(gateway, "spared", 2, f"except: {{sources: {SOURCES}}}")
    order(gateway, "only", 3, f"scope: {{sources: {SOURCES}}}")
    order(gateway, "gi", 4, "scope: {interfaces: ['gi*', gx7]}")
    order(gateway, "gn", 5, "scope: {interfaces: [gn0, 'g', 'gi00*']}")
    gateway.start()

    def sent(number: int, source: dict[int, str], at: int = 5) -> Packet:
        return Packet(source[family], host(number, family, at), "tcp", destination_port=3101)

    expected = [
        (sent(1, INSIDE), REACHED),
        (sent(1, INSIDE, 6), RESET),
        (sent(2, INSIDE), REACHED),
        (sent(2, OUTSIDE), RESET),
        (sent(3, INSIDE), RESET),
        (sent(3, OUTSIDE), REACHED),
        (sent(4, INSIDE), RESET),
        (sent(5, INSIDE), REACHED),
    ]
    assert fates(lab, [packet for packet, _ in expected]) == [fate for _, fate in expected]
    assert gateway.counts() == {"prefix": 1, "spared": 1, "only": 1, "gi": 1, "gn": 0}


@pytest.mark.parametrize("family", BOTH)
def test_conditions_hold_for_packets_from_the_service(lab: Lab, gateway: Gateway, family: int) -> None:
    order(gateway, "prefix", 1, "except: {prefixes: [203.0.1.5, '2001:db8:1::5']}", direction="from")
    order(gateway, "spared", 2, f"except: {{sources: {SOURCES}}}", direction="from")
    order(gateway, "only", 3, f"scope: {{interfaces: ['g*'], sources: {SOURCES}}}", direction="both")
    order(gateway, "gn", 4, "scope: {interfaces: [gn0]}", direction="from")
    gateway.start()

    def sent(number: int, target: dict[int, str], at: int = 5) -> Packet:
        return Packet(host(number, family, at), target[family], "tcp", source_port=3101)

    expected = [
        (sent(1, INSIDE), REACHED),
        (sent(1, INSIDE, 6), SILENT),
        (sent(2, INSIDE), REACHED),
        (sent(2, OUTSIDE), SILENT),
        (sent(3, INSIDE), SILENT),
        (sent(3, OUTSIDE), REACHED),
        (sent(4, INSIDE), REACHED),
    ]
    assert fates(lab, [packet for packet, _ in expected], backwards=True) == [fate for _, fate in expected]
    assert gateway.counts() == {"prefix": 1, "spared": 1, "only": 1, "gn": 0}


def test_an_exception_exempts_from_its_own_policy_only(lab: Lab, gateway: Gateway) -> None:
    order(gateway, "lenient", 1, f"except: {{sources: {SOURCES}}}", action="drop")
    order(gateway, "watching", 1, "scope: {interfaces: [gi0]}", action="observe")
    order(gateway, "strict", 1, action="reject")
    gateway.start()
    packets = [Packet(each, host(1, 4), "tcp", destination_port=3101) for each in (INSIDE[4], OUTSIDE[4])]
    assert fates(lab, packets) == [RESET, SILENT]
    assert gateway.counts() == {"lenient": 1, "watching": 2, "strict": 2}


def test_ipv4_is_met_behind_nat64_too(lab: Lab, gateway: Gateway) -> None:
    gateway.set(nat64=["64:ff9b::/96", "2001:db8:aa00::/40"])
    order(gateway, "a", 1, "except: {prefixes: [203.0.1.7]}")
    gateway.start()
    # Behind a /40 the first 24 bits of the address, the octet `u`, and its last 8.
    embedded = ["64:ff9b::203.0.1.5", "2001:db8:aacb:1:5::"]
    others = ["64:ff9b::203.0.1.7", "64:ff9b::203.0.1.16", "64:ff9c::203.0.1.5", "2001:db8:aacb:1:7::"]
    packets = [Packet(INSIDE[6], each, "tcp", destination_port=3101) for each in embedded + others]
    assert fates(lab, packets) == [RESET] * 2 + [REACHED] * 4


def enforce(desired: Ruleset) -> None:
    async def work() -> None:
        async with NftSocket() as kernel:
            await reconcile(kernel, desired)

    asyncio.run(work())


def test_the_gateways_own_traffic_is_spared_and_forwarded_traffic_is_not(lab: Lab) -> None:
    made = simple("a", ["203.0.1.0-203.0.1.15"], [Transport(None)], action=Action.REJECT)
    resolver = ranges_of(4, [(int.from_bytes(bytes([203, 0, 1, 5])), int.from_bytes(bytes([203, 0, 1, 5])))])
    compiled = compile_policies([made], 2000, ("forward", "output"), -10, Surroundings(spared=(resolver,)))
    lab.gateway.run(enforce, compiled.ruleset)
    lab.listen()
    own = [Probe("203.0.1.5", "tcp/3101"), Probe("203.0.1.6", "tcp/3101")]
    assert list(lab.probe(own, origin=lab.gateway).values()) != [REACHED, REACHED]
    assert lab.probe(own, origin=lab.gateway)[own[0]] is REACHED
    assert lab.try_one("203.0.1.5", "tcp/3101") is RESET


def test_vrfs_and_wildcards_load_and_list_again(namespace: Namespace) -> None:
    """This kernel may have no VRF devices; that the rules for them load, list and load again is seen all the same."""
    text = script(vrf_ruleset())
    assert "meta sdifname vmap" in text
    namespace.run(enforce, vrf_ruleset())
    listed = namespace.check(["nft", "list", "ruleset"])
    namespace.nft(text)
    assert namespace.check(["nft", "list", "ruleset"]) == listed
    assert '"gi*"' in listed


def vrf_ruleset() -> Ruleset:
    made = simple("a", ["203.0.1.5"], [Transport(None)], direction=Direction.BOTH)
    scoped = replace(made, scope=Scope(None, ("gi*", "vrf-red", "ppp0"), None))
    around = Surroundings(masters={"vrf-red": ("gi0", "ppp1")})
    return compile_policies([scoped], 2000, ("forward", "input"), -10, around).ruleset
