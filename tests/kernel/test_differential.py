"""Made-up policies, the real daemon, real packets: what passes, and every counter, is what a plain reading says.

`make soak` runs it for as long as it is given.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections import Counter
from ipaddress import IPv4Network, ip_address
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lab.topology import GI, GN
from support import madeup
from support.filler import filler
from support.gateway import NFT
from support.reading import Seen, judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab import Lab, Packet
    from support.filler import Filler
    from support.gateway import Gateway

NAMES = ("order-a", "order-b", "order-c", "order-d")
#: Policy sets for each hook in a normal run, alone and among thousands; and packets for each set.
SETS, PACKETS = 15, 160
SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))


class Arena:
    """A running gateway that gets one set of orders after the other; each is a revision of the same four."""

    def __init__(self, lab: Lab, gateway: Gateway, hook: str, filler: Filler | None) -> None:
        self.lab = lab
        self.gateway = gateway
        self.hook = hook
        self.filler = filler
        self.counted: Counter[str] = Counter()
        self.sets = self.packets = 0
        self.verdicts: Counter[str] = Counter()

    def fill(self) -> None:
        """Put the orders over thousands of prefixes into place, there to stay."""
        for said in self.filler.policies if self.filler else ():
            name = said["policy"]
            self.gateway.write(f"services/{name}.txt", "\n".join(self.filler.lists[name]) + "\n")
            self.gateway.write(f"services/{name}.yaml", json.dumps(self.filler.written(name)))
            self.gateway.write(f"{name}.yaml", json.dumps(said))

    def order(self, policies: Sequence[dict[str, Any]], services: dict[str, dict[str, Any]]) -> None:
        """Put all of them into place, and have them enforced."""
        lasting = self.filler.services.keys() if self.filler else set()
        stale = {path.stem for path in self.gateway.services.glob("*.yaml")} - services.keys() - lasting
        for name, said in services.items():
            self.gateway.write(f"services/{name}.yaml", json.dumps(said))
        for said in policies:
            self.gateway.write(f"{said['policy']}.yaml", json.dumps(said))
        outcome = self.gateway.reload()
        assert outcome["ok"], outcome
        assert [each for each in outcome["faults"] if each["severity"] == "error"] == []
        for name in stale:
            (self.gateway.services / f"{name}.yaml").unlink()

    def compare(
        self, policies: Sequence[dict[str, Any]], services: dict[str, dict[str, Any]], sent: Sequence[Packet]
    ) -> None:
        """Send packets both ways, and compare verdicts and counters with the reading."""
        if self.filler is not None:
            policies, services = [*policies, *self.filler.policies], {**services, **self.filler.services}
        expected: Counter[str] = Counter()
        wrong = []
        for way, back in (
            ((self.lab.subscriber, self.lab.internet), False),
            ((self.lab.internet, self.lab.subscriber), True),
        ):
            batch = [packet for packet in sent if madeup.goes_back(packet) is back]
            came = self.lab.exchange(batch, origin=way[0], target=way[1]) if batch else []
            for packet, verdict in zip(batch, came, strict=True):
                said = judge(policies, services, seen(packet, self.hook), [madeup.NAT64])
                expected.update(said.counts)
                self.verdicts[verdict.name] += 1
                if said.verdict != verdict.name:
                    wrong.append((packet, said.verdict, verdict.name))
        assert wrong == []
        counts = Counter(self.gateway.counts())
        assert counts - self.counted == expected
        self.counted = counts
        self.sets += 1
        self.packets += len(sent)

    def blocks(self) -> dict[str, list[IPv4Network]]:
        """Give the blocks of each look-up, those of IPv4 as networks; checks that each kind of set is there."""
        listing = self.lab.gateway.check([NFT, "-t", "list", "ruleset"])
        found: dict[str, list[IPv4Network]] = {}
        for look_up, block in _BLOCK.findall(listing):
            found.setdefault(look_up, []).extend([IPv4Network(block)] if "." in block else [])
        for kind in (r"\.guard", r"\.rest(\.[0-9a-f]{10})?", r"\.\d+", r"\.\d+\.[0-9a-f]{10}"):
            # By either of a set's two names.
            assert re.search(rf"(set|map) to[46](\.any-port)?\.\S+/\d+{kind}(\.b)? \{{", listing), kind
        return found


_BLOCK = re.compile(r"chain ((?:to|from)[46](?:\.any-port)?)\.(\S+/\d+) \{")


def seen(packet: Packet, hook: str) -> Seen:
    """Give a packet as the gateway sees it at a hook; before it is routed nothing goes out by an interface yet."""
    ported = packet.protocol in {"tcp", "udp", "sctp"}
    ports = (packet.source_port, packet.destination_port) if ported and not packet.offset else None
    # A packet without ports still isn't a later fragment: the reading tells them apart by the destination port.
    bare = None if packet.offset else -1
    inward, outward = (GI, GN) if madeup.goes_back(packet) else (GN, GI)
    return Seen(
        ip_address(packet.source),
        ip_address(packet.destination),
        packet.number,
        ports[0] if ports else bare,
        ports[1] if ports else bare,
        inward.interface,
        outward.interface if hook == "forward" else "",
    )


@pytest.fixture(params=itertools.product(["forward", "prerouting"], ["alone", "among thousands"]), ids="-".join)
def arena(lab: Lab, gateway: Gateway, request: pytest.FixtureRequest) -> Arena:
    hook, among = request.param
    gateway.set(nat64=[madeup.NAT64], hooks=[hook])
    arena = Arena(lab, gateway, hook, None if among == "alone" else filler())
    arena.fill()
    gateway.start()
    return arena


@st.composite
def orders(draw: st.DrawFn, revision: int) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Give four orders over three services; services are new with each revision, so that nothing changes silently."""
    names = [f"service-{letter}-{revision}" for letter in "xyz"]
    services = {name: draw(madeup.service(name)) for name in names}
    return [draw(madeup.policy(name, revision, names)) for name in NAMES], services


@pytest.mark.timeout(120 + SECONDS)
def test_real_packets_fare_as_the_yaml_says(arena: Arena) -> None:
    revisions = count(1)

    @settings(
        max_examples=SETS,
        deadline=None,
        database=None,
        # A smaller example would be a further revision: what was enforced can't be taken back to try it again.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def compare(data: st.DataObject) -> None:
        policies, services = data.draw(orders(next(revisions)))
        dice = Random(data.draw(st.integers(0, 2**32)))  # noqa: S311 - no secret
        near = [*services.values(), *([arena.filler.some(dice, 40)] if arena.filler else [])]
        sent = madeup.packets(dice, near, PACKETS)
        arena.order(policies, services)
        arena.compare(policies, services, sent)

    # The same time for each hook, alone and among thousands.
    deadline = time.monotonic() + SECONDS / 4
    compare()
    while time.monotonic() < deadline:
        compare()
    if arena.filler is not None:
        in_blocks(arena.blocks())
    met = dict(arena.verdicts)
    print(f"\n{arena.hook}: {arena.sets} sets of orders, {arena.packets} packets, none judged otherwise: {met}")  # noqa: T201
    assert arena.packets == arena.sets * PACKETS
    # Each fate was met often enough to mean something.
    assert all(arena.verdicts[fate] > arena.packets / 1000 for fate in ("REACHED", "RESET", "PROHIBITED", "SILENT"))


def in_blocks(found: dict[str, list[IPv4Network]]) -> None:
    """Check that whatever address was probed, at whichever end, was looked up in a block, or is one that is full."""
    assert found.keys() == {f"{end}{each}{kind}" for end in ("to", "from") for each in (4, 6) for kind in KINDS}
    for look_up, blocks in found.items():
        for base in madeup.SERVICES[4] if "4" in look_up else []:
            assert any(base in block for block in blocks), (look_up, base)


KINDS = ("", ".any-port")
