"""Policy files and packets made up for the lab's addresses, as close to each other's edges as possible."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from lab import Packet

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

NAT64 = "2001:db8:46::/96"
#: Where services live: the middle, and both ends of what can be routed. Sixteen addresses from each on.
SERVICES = {
    4: [IPv4Address("203.0.113.0"), IPv4Address("1.0.0.0"), IPv4Address("223.255.255.240")],
    6: [
        IPv6Address("2001:db8:1::"),
        IPv6Address("2000::"),
        IPv6Address("2001:db8:1:0:ffff:ffff:ffff:fff0"),
        IPv6Address("3fff:ffff:ffff:ffff:ffff:ffff:ffff:fff0"),
        IPv6Address("2001:db8:46::203.0.113.0"),
    ],
}
SUBSCRIBERS = {4: [IPv4Address("100.64.0.0")], 6: [IPv6Address("2001:db8:64::")]}
PORTS = ["tcp/3101", "tcp/3000-3200", "tcp/3150-65535", "tcp/any", "udp/1-2", "udp/any", "sctp/9", "icmp", "any"]
INTERFACES = ["gi0", "gi*", "gn0", "g*", "gi00", "nobody*"]
#: In one scope or exception an interface pattern or an address more than these tells nothing new.
_FEW = 3


def addresses(bases: list[Any]) -> st.SearchStrategy[Any]:
    return st.builds(lambda base, step: base + step, st.sampled_from(bases), st.integers(0, 15))


@st.composite
def entries(draw: st.DrawFn, where: dict[int, list[Any]]) -> list[str]:
    """Ranges within one neighbourhood: written as a range, which takes in single addresses and unaligned ends."""
    made = []
    for _ in range(draw(st.integers(1, _FEW))):
        base = draw(st.sampled_from(where[draw(st.sampled_from([4, 6]))]))
        first, last = sorted(draw(st.tuples(st.integers(0, 15), st.integers(0, 15))))
        made.append(f"{base + first}-{base + last}" if first < last else f"{base + first}")
    return made


@st.composite
def service(draw: st.DrawFn, name: str) -> dict[str, Any]:
    ports = st.lists(st.sampled_from(PORTS), min_size=1, max_size=_FEW, unique=True)
    endpoint = st.fixed_dictionaries({"prefixes": entries(SERVICES), "ports": ports})
    return {"service": name, "title": name, "endpoints": draw(st.lists(endpoint, min_size=1, max_size=2))}


@st.composite
def policy(draw: st.DrawFn, name: str, revision: int, services: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "policy": name,
        "title": name,
        "revision": revision,
        "order": {"authority": "An authority", "reference": "No. 1", "issued": "2015-07-24"},
        "effective": {"from": "2015-12-01T00:00:00Z", "until": "2199-01-01T00:00:00Z"},
        "state": draw(st.sampled_from([*["active"] * 8, "suspended", "rescinded"])),
        "block": {
            "services": draw(st.lists(st.sampled_from(services), min_size=1, max_size=2, unique=True)),
            "action": draw(st.sampled_from(["reject", "reject", "drop", "observe"])),
            "direction": draw(st.sampled_from(["to", "from", "both"])),
        },
    }
    exceptions = {"prefixes": entries(SERVICES), "sources": entries(SUBSCRIBERS)}
    scopes = {
        "interfaces": st.lists(st.sampled_from(INTERFACES), min_size=1, max_size=_FEW, unique=True),
        "sources": entries(SUBSCRIBERS),
    }
    for key, choices in (("except", exceptions), ("scope", scopes)):
        wanted = [each for each in choices if draw(st.sampled_from([False, False, True]))]
        if wanted:
            made[key] = {each: draw(choices[each]) for each in wanted}
    return made


def goes_back(packet: Packet) -> bool:
    """Whether it comes from a service and goes to a subscriber."""
    return _near(ip_address(packet.destination), SUBSCRIBERS)


def packets(dice: Random, services: Iterable[dict[str, Any]], number: int) -> list[Packet]:
    """Packets between subscribers and services, both ways; most of them at the edges of what the services name."""
    endpoints = [endpoint for each in services for endpoint in each["endpoints"]]
    return [_packet(dice, dice.choice(endpoints)) for _ in range(number)]


def _packet(dice: Random, endpoint: dict[str, Any]) -> Packet:
    far = _far(dice, dice.choice(endpoint["prefixes"]))
    near = dice.choice(SUBSCRIBERS[far.version]) + dice.randrange(16)
    protocol, port = _transport(dice, dice.choice(endpoint["ports"]))
    other = dice.choice([1, 3101, 40000])
    offset = dice.choice([0, 0, 0, 0, 0, 8])
    if dice.random() < 0.5:
        return Packet(str(near), str(far), protocol, other, port, offset)
    return Packet(str(far), str(near), protocol, port, other, offset)


def _far(dice: Random, entry: str) -> Any:
    first, _, last = entry.partition("-")
    address = ip_address(dice.choice([first, last or first])) + dice.choice([-1, 0, 0, 0, 1])
    # Beyond the outermost neighbourhoods there are addresses that no kernel routes.
    return address if routed(address) else ip_address(first)


def routed(address: Any) -> bool:
    """Whether a kernel routes it: unicast, and global where it is IPv6."""
    number = int(address)
    return 1 << 24 <= number < 224 << 24 if address.version == 4 else number >> 125 == 1


def _transport(dice: Random, said: str) -> tuple[str | int, int]:
    protocol, _, ports = said.partition("/")
    if protocol not in {"tcp", "udp", "sctp"} or dice.random() < 0.15:
        protocol = "icmp" if protocol == "icmp" else dice.choice(["tcp", "udp", "sctp", "icmp", "47"])
    edges = [int(each) for each in ports.split("-")] if ports[:1].isdigit() else [1, 3101, 65535]
    port = dice.choice(edges) + dice.choice([-1, 0, 0, 0, 1])
    return (int(protocol) if protocol.isdigit() else protocol), min(max(port, 1), 65535)


def _near(address: Any, where: dict[int, list[Any]]) -> bool:
    return any(int(address) - int(base) in range(16) for base in where[address.version])
