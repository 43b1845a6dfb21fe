"""Orders over thousands of prefixes, always the same ones, around the made-up addresses and everywhere else.

With them the addresses of made-up orders are looked up in blocks, hashes and guards, as a large list is, and no longer
in one interval map. They overlap each other and the neighbourhoods of `madeup`; `support.reading` knows them as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from random import Random
from typing import TYPE_CHECKING, Any

from support.madeup import SERVICES, routed
from support.reading import Listed

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class _Kind:
    """What one order does, in both directions, and how many prefixes of which lengths it has anywhere, by family."""

    action: str
    ports: str
    anywhere: dict[int, int]
    lengths: dict[int, tuple[int, int]]


_MIXED, _ALIKE = {4: (30, 32), 6: (62, 64)}, {4: (30, 30), 6: (64, 64)}
#: Some that stops, some that is silent, some that no port limits: enough for a hash of each length, and for sets of a
#: verdict's own; and a few that share a hash with others.
_KINDS = {
    "filler-a": _Kind("reject", "tcp/3000-3200", {4: 5000, 6: 2500}, _MIXED),
    "filler-b": _Kind("observe", "any", {4: 4000, 6: 2500}, _MIXED),
    "filler-c": _Kind("drop", "udp/any", {4: 4000, 6: 2500}, _MIXED),
    "filler-d": _Kind("reject", "any", {4: 800, 6: 800}, _ALIKE),
}
#: How many of the fours of addresses in a neighbourhood each has something of.
_PART = 0.2
#: Where nothing may be blocked, or the lab itself would be cut off, and what no kernel routes.
_SPARED = [
    ip_network(each)
    for each in ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16")
] + [ip_network(each) for each in ("172.16.0.0/12", "198.18.0.0/15", "224.0.0.0/3", "2001:db8::/32")]


@dataclass(frozen=True)
class Filler:
    """Policies and services as `judge` takes them, and the lists as files have them."""

    policies: list[dict[str, Any]]
    services: dict[str, dict[str, Any]]
    lists: dict[str, list[str]]

    def written(self, name: str) -> dict[str, Any]:
        """Give a service as its file says it: with its list beside it."""
        (endpoint,) = self.services[name]["endpoints"]
        return {**self.services[name], "endpoints": [{"prefixes_from": f"{name}.txt", "ports": endpoint["ports"]}]}

    def some(self, dice: Random, number: int) -> dict[str, Any]:
        """Give a service of a few of the entries, as ranges, for packets to be made up at their edges."""
        name = dice.choice(sorted(self.services))
        nets = [ip_network(each) for each in dice.sample(self.lists[name], number)]
        (endpoint,) = self.services[name]["endpoints"]
        return {"endpoints": [{**endpoint, "prefixes": [f"{each[0]}-{each[-1]}" for each in nets]}]}


def filler(seed: int = 1) -> Filler:
    """Make all of it."""
    dice = Random(seed)  # noqa: S311 - no secret
    lists = {name: [*_near(dice), *_anywhere(dice, kind)] for name, kind in _KINDS.items()}
    policies, services = [], {}
    for name, kind in _KINDS.items():
        policies.append(
            {
                "policy": name,
                "title": name,
                "revision": 1,
                "order": {"authority": "An authority", "reference": "No. 2", "issued": "2015-07-24"},
                "effective": {"from": "2015-12-01T00:00:00Z", "until": "2199-01-01T00:00:00Z"},
                "state": "active",
                "block": {"services": [name], "action": kind.action, "direction": "both"},
            }
        )
        endpoint = {"prefixes": Listed(lists[name]), "ports": [kind.ports]}
        services[name] = {"service": name, "title": name, "endpoints": [endpoint]}
    return Filler(policies, services, lists)


def _near(dice: Random) -> Iterator[str]:
    """Yield a few small prefixes in and around each neighbourhood: most of its addresses stay for others to decide."""
    for version, bases in SERVICES.items():
        width = 32 if version == 4 else 128
        for base in bases:
            for step in range(-64, 80, 4):
                host = dice.randrange(3)
                net = ip_network((int(base) + step, width - host), strict=False)
                if dice.random() < _PART and routed(net[0]) and routed(net[-1]):
                    yield str(net)


def _anywhere(dice: Random, kind: _Kind) -> Iterator[str]:
    for version, number in kind.anywhere.items():
        made = 0
        while made < number:
            length = dice.randint(*kind.lengths[version])
            at = dice.randrange(1 << 32) if version == 4 else (1 << 125) + dice.randrange(1 << 125)
            net = ip_network((at if version == 4 else at >> 64 << 64, length), strict=False)
            if not any(net.overlaps(each) for each in _SPARED if each.version == version):
                made += 1
                yield str(net)
