"""A flood that never stops, through updates, reloads, switches, a restart and a kill: none leaks, none is lost.

A list of thirty thousand entries blocks a few probed addresses all the while, whatever else of it comes and goes; right
beside each there is a neighbour that nothing ever blocks. The flood is as fast as the machine sends, and every packet
of it is accounted for: at the far end, and by the policies' own counters.

`make soak-updates` runs it with UPDATES=10000.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import signal
import time
from collections import Counter
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

import pytest

from gatewrit.compile.memo import Memo
from gatewrit.compile.render import compile_policies
from gatewrit.engine.reconcile import ALONE, Around, reconcile
from gatewrit.kernel.ruleset import Ruleset
from gatewrit.kernel.socket import NftSocket
from gatewrit.policy.load import read_directory, resolve
from gatewrit.policy.model import Policy
from lab.flood import Flood
from support.flows import PORT, flow
from support.flows import PROBES as PLAIN_PROBES
from support.gateway import NFT, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab import Lab
    from support.gateway import Gateway

UPDATES = int(os.environ.get("UPDATES", "120"))
#: Updates of one round: most of them straight by `reconcile`, in the place of the daemon, for that is faster.
ROUND = min(1000, UPDATES)
STRAIGHT = ROUND * 9 // 10 // 8 * 8
#: Seconds until the flood's time is up, on a busy machine.
LONGEST = 60 + UPDATES * 0.3
LIMITS = {"total_share": 1, "change_share": 1}

#: What the list always has, in each of the shapes that its look-up takes.
PROBES = {
    **PLAIN_PROBES,
    "213.5.6.7/32": ("213.5.6.7", "213.5.6.6"),
    "2a01:5a60:1::7/128": ("2a01:5a60:1::7", "2a01:5a60:1::8"),
    "2a01:5a60:2::/64": ("2a01:5a60:2::9", "2a01:5a60:3::9"),
}
#: Blocked behind all ports by a policy of its own.
ANY_PORT = {"81.2.72.0/28": ("81.2.72.5", "81.2.72.16")}


BLOCKED = {
    "the-list": [flow(blocked) for blocked, _ in PROBES.values()],
    "any-port": [flow(blocked) for blocked, _ in ANY_PORT.values()],
}
#: Beside them, and behind other ports of theirs: of which one comes and goes in the gate.
NEIGHBOURS = [
    *(flow(free) for _, free in (PROBES | ANY_PORT).values()),
    *(flow(blocked, 443) for blocked, _ in list(PROBES.values())[::2]),
]
#: Where the list's look-up has what the probes are about: family, and the name's part behind the block.
SHAPE = re.compile(r"to([46])\..*/\d+\.(guard|rest|\d+)")
SHAPES = {("4", "32"), ("4", "28"), ("4", "rest"), ("4", "guard"), ("6", "128"), ("6", "64")}
HOSTS = re.compile(r"/\d+\.(?:32|128)\.")


class Operator:
    """Whoever keeps changing what is ordered; each change is enforced, and read back, before the next."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.updates = self.switches = self.starts = 0
        #: Updates that left shortcuts out.
        self.cut = 0
        self._bulk = list[str]()
        littles = (
            self._one_more_in_the_list,
            self._right_beside,
            self._over_a_probe,
            self._amended,
            self._another_port,
        )
        #: How often each was changed; what is little is there whenever that is odd.
        self._state = dict.fromkeys(littles, 0)
        self._turns = itertools.cycle(littles)

    def begin(self) -> None:
        """Put everything into place: what stays, and what comes and goes."""
        self._bulk = list(entries(0))
        self.gateway.order("the-list", "list.txt", f"udp/{PORT}", action="drop")
        self.gateway.order("any-port", list(ANY_PORT), "any", action="drop")
        for little, state in self._state.items():
            little(state)

    def update(self) -> None:
        """Change something little, each time something else."""
        before = self._generation()
        little = next(self._turns)
        self._state[little] += 1
        little(self._state[little])
        self.reload()
        assert self._generation() > before, "nothing was changed, so that nothing was tried"
        self.updates += 1

    def settle(self) -> None:
        """Take away everything little that is there."""
        for little, state in self._state.items():
            if state % 2:
                self._state[little] += 1
                little(state + 1)
        self.reload()

    def switch(self) -> None:
        """Exchange all of the list but the probes: that goes by way of the sets' other names."""
        before = self._asked()
        self._another_list()
        self.reload()
        # The hashes of single addresses are surely among those that became very different.
        assert [name for name in before & self._asked() if HOSTS.search(name)] == []

    def killed_while_preparing(self) -> None:
        """Kill the daemon while the sets' other names are being filled, and have the next one see to the rest."""
        self.reload()
        before = self.sets()
        self._another_list()
        self.gateway.send(signal.SIGHUP)
        until(lambda: self.sets() - before)
        self.gateway.restart(signal.SIGKILL)
        self.starts += 1

    def straight(self, number: int) -> None:
        """End the daemon, make so many updates in its place, and start it where it was.

        One little thing changes each time (a Gray code), and after eight of them everything is as it was. Which
        policies share an address stays, and with it the counters, for nobody keeps the books meanwhile.
        """
        littles = self._one_more_in_the_list, self._right_beside, self._another_port
        self.gateway.end()
        memo, reading, rulesets = Memo(), read_directory(self.gateway.policies), list[Ruleset]()
        for code in (1, 3, 2, 6, 7, 5, 4, 0):
            for at, little in enumerate(littles):
                little(code >> at & 1)
            reading = read_directory(self.gateway.policies, reading)
            found = [resolve(each, reading.services) for each in reading.policies.values()]
            policies = [each for each in found if isinstance(each, Policy)]
            rulesets.append(compile_policies(policies, int(time.time()), ("forward",), -10, memo=memo).ruleset)

        async def enforce() -> int:
            around, cut = ALONE, 0
            async with NftSocket() as kernel:
                # Shortcuts that lack anything go in one update, and come back in the next.
                lates = itertools.cycle([None, 0])
                for ruleset in itertools.islice(itertools.cycle(rulesets), number):
                    done = await reconcile(kernel, ruleset, around)
                    assert done.changed
                    around = Around(done.actual, late=next(lates))
                    cut += not done.complete
            return cut

        self.cut += self.gateway.space.start(lambda: asyncio.run(enforce())).result(LONGEST)
        self.updates += number
        self.gateway.start()
        self.starts += 1

    def _another_list(self) -> None:
        self.switches += 1
        self._bulk = list(entries(self.switches))
        self._write_list()

    def sets(self) -> set[str]:
        """Give the names of the kernel's sets and maps."""
        return set(re.findall(r"^\t(?:set|map) (\S+) \{", self._listed(), re.MULTILINE))

    def _asked(self) -> set[str]:
        """Give the names of those that a rule asks."""
        return set(re.findall(r"@(\S+)", self._listed()))

    def _listed(self) -> str:
        return self.gateway.space.check([NFT, "-t", "list", "table", "inet", "gatewrit"])

    def _generation(self) -> int:
        return int(self.gateway.status()["ruleset"]["generation"])

    def reload(self) -> None:
        outcome = self.gateway.reload()
        assert outcome["ok"], outcome
        assert [each for each in outcome["faults"] if each["severity"] == "error"] == []

    def _write_list(self, *more: str) -> None:
        self.gateway.write("services/list.txt", "\n".join([*PROBES, *more, *self._bulk]) + "\n")

    # -- what is little --------------------------------------------------------------------------------------------

    def _one_more_in_the_list(self, turn: int) -> None:
        self._write_list(*(["81.2.69.144/32", "2a01:5a60:1::6/128"] if turn % 2 else []))

    def _right_beside(self, turn: int) -> None:
        more = ["81.2.70.15", "81.2.71.203/32"] if turn % 2 else []
        self.gateway.order("beside", ["81.2.73.1", *more], f"udp/{PORT}", action="drop")

    def _over_a_probe(self, turn: int) -> None:
        """Block what is blocked once more: its packets are counted for both, by another counter."""
        more = ["81.2.69.142", "81.2.71.192-81.2.71.201", "2a01:5a60:1::7"] if turn % 2 else []
        self.gateway.order("over", ["81.2.73.2", *more], f"udp/{PORT}", action="drop")

    def _amended(self, turn: int) -> None:
        self.gateway.order("amended", f"81.2.73.{3 + turn % 2}", f"udp/{PORT}", action="drop", revision=turn + 1)

    def _another_port(self, turn: int) -> None:
        """Change the gate, that is, how the other ports of blocked addresses go on their way."""
        self.gateway.order("gate", "81.2.73.5", "udp/443" if turn % 2 else "udp/444", action="drop")


def entries(seed: int) -> Iterator[str]:
    """Give the list's other entries: nowhere near the probes, but in the same blocks of addresses."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    octets = sorted({*range(1, 224)} - {10, 81, 100, 127, 169, 172, 192, 198, 213})

    def number(bits: int) -> int:
        return dice.choice(octets) << 24 | dice.getrandbits(24) >> 32 - bits << 32 - bits

    for length, count in ((32, 12000), (28, 8000), (26, 1000)):
        yield from (f"{IPv4Address(number(length))}/{length}" for _ in range(count))
    for first in (number(24) for _ in range(60)):
        yield f"{IPv4Address(first + 3)}-{IPv4Address(first + 201)}"
    for length, count in ((128, 4500), (64, 4500)):
        tops = (0x2A02 << 112 | dice.getrandbits(112) >> 128 - length << 128 - length for _ in range(count))
        yield from (f"{IPv6Address(top)}/{length}" for top in tops)


@pytest.mark.timeout(120 + LONGEST)
def test_no_packet_slips_through_and_none_is_lost(lab: Lab, gateway: Gateway) -> None:
    gateway.set(limits=LIMITS)
    operator = Operator(gateway)
    operator.begin()
    gateway.start()
    assert {found.groups() for name in operator.sets() if (found := SHAPE.search(name))} >= SHAPES

    with Flood(lab, [*itertools.chain(*BLOCKED.values()), *NEIGHBOURS], LONGEST) as flood:
        for _ in range(UPDATES // ROUND):
            for number in range(ROUND - STRAIGHT):
                if number % 50 == 0:
                    operator.switch()
                operator.update()
            operator.settle()
            operator.straight(STRAIGHT)
            operator.killed_while_preparing()
            operator.reload()
    counts = gateway.counts()

    blocked = [flow for flows in BLOCKED.values() for flow in flows]
    leaked = Counter({flow: flood.arrived[flow] for flow in blocked})
    lost = Counter({flow: flood.sent[flow] - flood.arrived[flow] for flow in NEIGHBOURS})
    print(  # noqa: T201
        f"\n{flood.rate:,.0f} packets/s; blocked: {sum(flood.sent[flow] for flow in blocked):,} sent, "
        f"{leaked.total()} leaked; neighbours: {sum(flood.sent[flow] for flow in NEIGHBOURS):,} sent, "
        f"{lost.total()} lost; {operator.updates:,} updates ({operator.cut:,} by way of fewer shortcuts), "
        f"{operator.switches} switches, {operator.starts} restarts, {flood.seconds:.1f} s"
    )
    assert min(flood.sent.values()) > UPDATES * 100, "too few packets to say anything"
    assert operator.cut > 0
    assert +leaked == Counter()
    # Not so by a surplus either.
    assert {flow: number for flow, number in lost.items() if number} == {}
    for name, flows in BLOCKED.items():
        assert counts[name] == sum(flood.sent[flow] for flow in flows)
