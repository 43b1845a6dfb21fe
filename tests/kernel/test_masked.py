"""Hashes looked up by masked addresses, behind a guard and a port: packets meet the kernel's answer and paper's."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import product
from typing import TYPE_CHECKING

from gatewrit.engine.reconcile import reconcile
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.ruleset import (
    DPORT,
    IP6_DADDR,
    IP_DADDR,
    IPV4,
    IPV6,
    ByMap,
    Chain,
    Hook,
    InSet,
    Masked,
    PortIs,
    Rule,
    Ruleset,
    Set,
    SetSpec,
)
from gatewrit.kernel.socket import NftSocket
from lab import Packet
from support import paper

if TYPE_CHECKING:
    from gatewrit.kernel.transaction import Actual
    from lab import Lab

DROP, RETURN = Verdict("drop"), Verdict("return")
FAMILIES = {4: (IP_DADDR, IPV4), 6: (IP6_DADDR, IPV6)}
BLOCKED = {4: ["203.0.113.0/28", "203.0.113.64/31", "203.0.114.0/24"], 6: ["2001:db8:1::/64", "2001:db8:1:8000::/49"]}
GUARDS = {4: 24, 6: 48}
#: The first and last address of each block, those before and after, and some far away.
ASKED = {
    family: sorted(
        {
            str(ip_address(int(net[at]) + step))
            for net in map(ip_network, prefixes)
            for at, step in ((0, -1), (0, 0), (-1, 0), (-1, 1))
        }
        | ({"203.0.1.1"} if family == 4 else {"2001:db8:77::1"})
    )
    for family, prefixes in BLOCKED.items()
}
PORTS = [("tcp", 3100), ("tcp", 3101), ("tcp", 3102), ("udp", 3101), ("udp", 5060), ("udp", 5062), ("sctp", 3101)]


def keys(family: int, networks: list[str], length: int, verdict: Verdict | None) -> Elements:
    width = FAMILIES[family][1].length
    packed = {ip_network((net.split("/")[0], length), strict=False).network_address.packed for net in networks}
    return Elements.of(width, [(key, key, verdict) for key in packed])


def guarded() -> Ruleset:
    """Block by hashes: who isn't in an occupied block returns, then one look-up for each length."""
    sets, rules = [], []
    for family, (field, kind) in FAMILIES.items():
        guard, lengths = GUARDS[family], {int(net.split("/")[1]) for net in BLOCKED[family]}
        spec = SetSpec(f"guard{family}", (kind,), interval=False, verdicts=False, size=10)
        sets.append(Set(spec, keys(family, BLOCKED[family], guard, None)))
        rules.append(Rule((InSet((Masked(field, guard),), spec.name, inverted=True), Verdict("goto", f"not{family}"))))
        for length in sorted(lengths):
            spec = SetSpec(f"by{family}.{length}", (kind,), interval=False, verdicts=True, size=10)
            mine = [net for net in BLOCKED[family] if net.endswith(f"/{length}")]
            sets.append(Set(spec, keys(family, mine, length, Verdict("goto", "ports"))))
            rules.append(Rule((ByMap((Masked(field, length),), spec.name),)))
    ports = (Rule((PortIs(6, DPORT, 3101, 3101), DROP)), Rule((PortIs(17, DPORT, 5060, 5061), DROP)))
    chains = [Chain("forward", tuple(rules), Hook("forward", -10)), Chain("ports", ports)]
    chains += [Chain(f"not{family}", (Rule((RETURN,)),)) for family in FAMILIES]
    return Ruleset({each.name: each for each in chains}, {each.spec.name: each for each in sets})


def enforce(desired: Ruleset) -> Actual:
    async def work() -> Actual:
        async with NftSocket() as kernel:
            # What goes from process to process is pickled.
            return replace((await reconcile(kernel, desired)).actual, touched={})

    return asyncio.run(work())


def test_packets_end_as_they_do_on_paper(lab: Lab) -> None:
    actual = lab.gateway.run(enforce, guarded())
    packets = [
        Packet("100.64.9.9" if family == 4 else "2001:db8:64:9::9", address, protocol, destination_port=port)
        for family, addresses in ASKED.items()
        for address, (protocol, port) in product(addresses, PORTS)
    ]
    came = ["drop" if verdict.name == "SILENT" else "pass" for verdict in lab.exchange(packets)]
    said = []
    for packet in packets:
        source, destination = int(ip_address(packet.source)), int(ip_address(packet.destination))
        family = 4 if packet.version == 4 else 6
        as_sent = paper.Packet(family, source, destination, packet.number, packet.source_port, packet.destination_port)
        said.append(paper.by_rules(actual, {}, as_sent, "forward", 0).verdict)
    assert came == said
    inside = [any(ip_address(p.destination) in ip_network(n) for n in BLOCKED[p.version]) for p in packets]
    ports = [(p.number, p.destination_port) in {(6, 3101), (17, 5060)} for p in packets]
    assert came == ["drop" if there and asked else "pass" for there, asked in zip(inside, ports, strict=True)]
