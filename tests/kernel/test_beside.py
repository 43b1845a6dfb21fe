"""What passes beside the table, as a real kernel tells of it."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyroute2 import IPRoute

from gatewrit.engine.beside import troubles
from gatewrit.kernel.beside import Doer, read
from lab.namespace import sysctl

if TYPE_CHECKING:
    from lab import Namespace

_BPF = 321
_PROG_LOAD, _TYPE_XDP = 5, 6


def codes() -> list[str]:
    return [each.code for each in troubles(read(), ("forward",), -10)]


def chain(table: str, hooked: str, *rules: str, beside: str = "") -> str:
    """Give a table with one base chain."""
    return f"table {table} {{ {beside} chain c {{ type {hooked}; {'; '.join(rules)}; }}\n}}\n"


AHEAD = "nat hook prerouting priority -100"
RAW = "filter hook prerouting priority -300"
_SERVICES = "chain d { dnat to 2001:db8::1; }\n"


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (chain("ip t", AHEAD, "ip daddr 203.0.113.9 dnat to 192.0.2.1"), 1),
        (chain("inet t", AHEAD, "tcp dport 80 redirect to :8080"), 1),
        (chain("ip6 t", AHEAD, "tcp dport 80 jump d", beside=_SERVICES), 1),
        (chain("ip t", "nat hook postrouting priority 100", "masquerade"), 0),
        (chain("ip t", "nat hook output priority -100", "dnat to 192.0.2.1"), 0),
        (chain("ip t", "filter hook prerouting priority -150", "ip daddr 203.0.113.9 drop"), 0),
        (chain("inet gatewrit", AHEAD, "tcp dport 80 redirect"), 0),
        # Without connection tracking, by writing into the packet.
        (chain("ip t", RAW, "ip daddr 203.0.113.9 ip daddr set 192.0.2.1"), 1),
        (chain("inet t", RAW, "tcp dport 3101 tcp dport set 3102"), 1),
        (chain("ip6 t", RAW, "meta mark 7 jump d", beside="chain d { ip6 daddr set 2001:db8::1; }\n"), 1),
        (chain("netdev t", 'filter hook ingress device "lo" priority 0', "ip daddr set 192.0.2.1"), 1),
        (chain("ip t", RAW, "ip saddr set 192.0.2.1", "ip ttl set 64", "ip dscp set cs1", "tcp sport set 7"), 0),
        (chain("ip t", "filter hook postrouting priority -300", "ip daddr set 192.0.2.1"), 0),
    ],
)
def test_destinations_rewritten_ahead(namespace: Namespace, script: str, found: int) -> None:
    namespace.nft(script)
    assert namespace.run(codes) == ["bypass_nat"] * found


def test_proxies_and_what_is_sent_on_at_ingress(namespace: Namespace) -> None:
    namespace.nft(chain("inet p", "filter hook prerouting priority -150", "tcp dport 80 tproxy to :3129"))
    namespace.nft(chain("netdev n", 'filter hook ingress device "lo" priority 0', 'ip daddr 203.0.113.9 fwd to "lo"'))
    assert namespace.run(read).doers == (Doer(1, "p", "c", "proxies"), Doer(5, "n", "c", "forwards"))
    assert namespace.run(codes) == ["bypass_tproxy", "bypass_ingress"]


def test_bridges_pass_unless_br_netfilter_shows_them(namespace: Namespace) -> None:
    shown = Path("/proc/sys/net/bridge").is_dir()

    def called(value: int) -> list[str]:
        if shown:
            for family in ("iptables", "ip6tables"):
                sysctl(f"bridge/bridge-nf-call-{family}", value)
        return codes()

    def bridge() -> list[list[str]]:
        with IPRoute() as netlink:
            netlink.link("add", ifname="br0", kind="bridge")
            netlink.link("add", ifname="p1", kind="veth", peer="p2")
            master = netlink.link_lookup(ifname="br0")[0]
            told = [called(0)]
            for port in ("p1", "p2"):
                netlink.link("set", index=netlink.link_lookup(ifname=port)[0], master=master)
        return [*told, called(0), called(1)]

    # Where it isn't loaded, nothing shows what is bridged.
    assert namespace.run(bridge) == [[], ["bypass_bridge"], [] if shown else ["bypass_bridge"]]


def test_programs(namespace: Namespace) -> None:
    def attach() -> list[list[str]]:
        program = _load()
        told = [codes()]
        with IPRoute() as netlink:
            netlink.link("set", index=1, xdp_fd=program)
            told.append(codes())
        os.close(program)
        return told

    assert namespace.run(attach) == [[], ["bypass_xdp"]]


def _load() -> int:
    """Load an XDP program that lets everything pass: `return XDP_PASS;`."""
    code = ctypes.create_string_buffer(struct.pack("=BBhi", 0xB7, 0, 0, 2) + struct.pack("=BBhi", 0x95, 0, 0, 0))
    licence = ctypes.create_string_buffer(b"GPL")
    fields = (_TYPE_XDP, 2, ctypes.addressof(code), ctypes.addressof(licence))
    asked = ctypes.create_string_buffer(struct.pack("=IIQQ", *fields) + bytes(96))
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(_BPF, _PROG_LOAD, asked, len(asked) - 1)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "load an XDP program")
    return int(descriptor)
