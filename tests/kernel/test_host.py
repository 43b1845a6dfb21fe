"""The gateway's own addresses and next hops, in a real namespace: read, followed, and carved out of the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pyroute2 import IPRoute

from gatewrit.kernel.host import Rtnetlink
from support.gateway import Gateway, gateway_in, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab import Namespace


def wire() -> None:
    """Give the namespace a link with an address of each family."""
    with IPRoute() as netlink:
        netlink.link("add", ifname="near", kind="veth", peer="far")
        for name in ("near", "far"):
            netlink.link("set", index=netlink.link_lookup(ifname=name)[0], state="up")
        address("192.0.2.1", 24)
        address("2001:db8::1", 64)


def address(text: str, length: int, command: str = "add") -> None:
    with IPRoute() as netlink:
        near = netlink.link_lookup(ifname="near")[0]
        netlink.addr(command, index=near, address=text, prefixlen=length)


def route(destination: str, *hops: str, protocol: int = 4) -> None:
    with IPRoute() as netlink:
        if len(hops) == 1:
            netlink.route("add", dst=destination, gateway=hops[0], proto=protocol)
        else:
            each = [{"gateway": hop, "hops": 0} for hop in hops]
            netlink.route("add", dst=destination, multipath=each, proto=protocol)


@pytest.fixture
def gateway(namespace: Namespace, tmp_path: Path) -> Iterator[Gateway]:
    namespace.run(wire)
    with gateway_in(namespace, tmp_path, hooks=["forward", "output"]) as gateway:
        yield gateway


def test_next_hops_are_read_but_for_those_of_bgp(namespace: Namespace) -> None:
    namespace.run(wire)
    namespace.run(route, "default", "192.0.2.254")
    namespace.run(route, "10.0.0.0/8", "192.0.2.2", "192.0.2.3", protocol=188)
    namespace.run(route, "2001:db8:9::/48", "2001:db8::fe")
    namespace.run(route, "10.1.0.0/16", "192.0.2.99", protocol=186)
    host = namespace.run(Rtnetlink().read)
    assert host.next_hops == {"192.0.2.254", "192.0.2.2", "192.0.2.3", "2001:db8::fe"}
    assert host.addresses >= {"192.0.2.1", "2001:db8::1"}
    assert not any(each.startswith("fe80") for each in host.addresses)


def spared(gateway: Gateway) -> set[str]:
    """Give what the kernel's spared sets hold, as nft writes it."""
    text = gateway.listing()
    return {
        word.strip(" ,{}\t")
        for block in text.split("set spared")[1:]
        for word in block.split("}")[0].replace("=", " ").split()
        if "." in word or ":" in word
    }


def test_the_daemon_carves_its_own_out_and_follows_them(gateway: Gateway) -> None:
    gateway.order("order", ["192.0.2.0/24", "2001:db8::/64"], "tcp/3101")
    gateway.space.run(route, "default", "192.0.2.254")
    gateway.start()
    assert spared(gateway) >= {"192.0.2.1", "192.0.2.254", "2001:db8::1"}
    assert ("protected_overlap", "order") in gateway.problems()
    assert gateway.status()["enforcement"] == "in_sync"
    assert gateway.cli("plan").returncode == 0
    proof = gateway.cli("verify")
    assert proof.returncode == 0, proof.stdout

    # A new address is followed without being asked; nobody calls that drift.
    gateway.space.run(address, "192.0.2.77", 24)
    until(lambda: "192.0.2.77" in spared(gateway))
    gateway.space.run(address, "192.0.2.77", 24, "del")
    until(lambda: "192.0.2.77" not in spared(gateway))
    assert gateway.logged("drift.repaired") == []

    # Routes are read again at a reload, and twice a minute.
    gateway.space.run(route, "10.0.0.0/8", "192.0.2.88")
    gateway.reload()
    assert "192.0.2.88" in spared(gateway)
