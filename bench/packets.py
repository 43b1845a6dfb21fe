"""What a forwarded packet costs: one sender, many gateways, one sink, all in namespaces made for it.

    sender ── s0 ═ gn0 ─ gateway 0 ─ gi0 ═ k0 ── sink       a link each way for every gateway; each gateway holds one
           ── s1 ═ gn0 ─ gateway 1 ─ gi0 ═ k1 ──            configuration, all loaded at once and never changed

The sender writes ready-made frames to a packet socket (`sendmmsg`, a thousand at a time) and stays on one processor. A
veth hands a packet on at once, so that the same processor, in the time of the same thread, takes it through the
gateway's forward hook to the sink, where an ingress chain drops it. So the thread's own processor time, over the number
of packets, is the cost of sending + forwarding + dropping, whatever else the machine does. A gateway that drops at
its ingress gives the cost of sending alone. Hence

    bare forwarding = (gateway without a table) - (gateway that drops at its ingress)
    extra cost      = (gateway with the configuration) - (gateway without a table),   in per cent of bare forwarding

Slices of some 30 ms go round all gateways, each time in a new order, so that a drift of the machine hits all alike; the
first part of each slice only warms the caches. Three turns are a round, and the middle one of the three is its figure;
ratios are taken within a round, and their median and spread over the rounds are shown. Destinations are
random, from a pool of many thousands that no configuration has in its lists, so that look-ups aren't answered by the
caches; frames are small (60 and 80 octets). That packets really arrive is counted at the sink: a round in which any
was lost is refused. Number and time are bounded, and the sender proves that it is in the lab before it sends.
"""

from __future__ import annotations

import ctypes
import os
import random
import resource
import socket
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from pyroute2 import IPRoute

from bench.measure import Failed, find
from bench.misses import packed
from lab import require_lab
from lab.namespace import make, sysctl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab import Namespace

#: The configurations that aren't any: drop at ingress, and nothing loaded.
FLOOR, BARE = "floor", "bare"
_BATCH = 1024
_SLICE, _WARM = 24 * _BATCH, 8 * _BATCH
_TURNS = 3
_TRAFGEN = 1_000_000
_LONGEST = 180.0
_ETH_P = {4: 0x0800, 6: 0x86DD}
_IN, _FAR = "02:67:77:01:00:01", "02:67:77:01:00:02"
_SOL_PACKET, _QDISC_BYPASS = 263, 20
_SOURCES = {4: socket.inet_pton(socket.AF_INET, "100.64.0.1"), 6: socket.inet_pton(socket.AF_INET6, "2001:db8:64::1")}
_MESSAGE = np.dtype(
    {
        "names": ["iov", "iovlen"],
        "formats": [np.uint64, np.uint64],
        "offsets": [16, 24],
        "itemsize": 64,
    }
)
_VECTOR = np.dtype([("base", np.uint64), ("length", np.uint64)])


class Street:
    """The namespaces, laid out; `with Street(names) as street:` and then `street[name]` to load a configuration."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = [FLOOR, BARE, *names]
        self.sender, self.sink, *gateways = make(["sender", "sink", *self.names])
        self.gateways = dict(zip(self.names, gateways, strict=True))
        try:
            for number, gateway in enumerate(gateways):
                gateway.run(_lay, number, self.sender, self.sink)
            for space in (self.sender, self.sink):
                space.run(_raise_all)
            _drop(self.gateways[FLOOR], ["gn0"])
            _drop(self.sink, [f"k{number}" for number in range(len(self.names))])
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> Namespace:
        return self.gateways[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all of it."""
        for space in (self.sender, self.sink, *self.gateways.values()):
            space.close()

    def measure(
        self, family: int, numbers: Sequence[int], rounds: int, only: Sequence[str] | None = None
    ) -> dict[str, list[float]]:
        """Send to these addresses through each gateway; gives nanoseconds a packet, a list of rounds for each."""
        names = [name for name in self.names if only is None or name in only or name in {FLOOR, BARE}]
        order = [self.names.index(name) for name in names]
        before = self.sink.run(_arrived)
        task = self.sender.start(_send, self.sender.token, order, frames(family, numbers), rounds)
        took: list[list[float]] = task.result(_LONGEST + 60)
        after = self.sink.run(_arrived)
        for number in order:
            sent = 0 if self.names[number] == FLOOR else rounds * _TURNS * (_SLICE + _WARM)
            seen = after[f"k{number}"] - before[f"k{number}"]
            if not sent <= seen <= sent + 64:
                raise Failed(f"{self.names[number]}: {sent:,} packets were sent, {seen:,} arrived")
        return dict(zip(names, took, strict=True))

    def trafgen(self, family: int, numbers: Sequence[int]) -> float:
        """Send through the bare gateway with Debian's trafgen: nanoseconds of its processor time a packet."""
        number = self.names.index(BARE)
        before = self.sink.run(_arrived)[f"k{number}"]
        nanoseconds = self.sender.run(_trafgen, self.sender.token, f"s{number}", frames(family, numbers))
        seen = self.sink.run(_arrived)[f"k{number}"] - before
        if not _TRAFGEN <= seen <= _TRAFGEN + 64:
            raise Failed(f"trafgen sent {_TRAFGEN:,} packets, {seen:,} arrived")
        return nanoseconds


# -- links ------------------------------------------------------------------------------------------------------------


def _lay(number: int, sender: Namespace, sink: Namespace) -> None:
    """Make a gateway of the namespace that we are in: no addresses, a default route, permanent neighbours."""
    for scope in ("all", "default"):
        sysctl(f"ipv4/conf/{scope}/forwarding", 1)
        sysctl(f"ipv6/conf/{scope}/forwarding", 1)
        sysctl(f"ipv4/conf/{scope}/rp_filter", 0)
        sysctl(f"ipv6/conf/{scope}/accept_dad", 0)
        sysctl(f"ipv6/conf/{scope}/router_solicitations", 0)
    with IPRoute() as netlink:
        for near, hardware, far, space in (("gn0", _IN, f"s{number}", sender), ("gi0", _IN, f"k{number}", sink)):
            netlink.link(
                "add",
                kind="veth",
                ifname=near,
                address=hardware,
                peer={"ifname": far, "address": _FAR, "net_ns_fd": space.fileno()},
            )
            index = netlink.link_lookup(ifname=near)[0]
            netlink.link("set", index=index, ifalias=sender.mark, state="up")
        index = netlink.link_lookup(ifname="gi0")[0]
        netlink.addr("add", index=index, address="198.18.0.1", prefixlen=24)
        for family, hop in ((socket.AF_INET, "198.18.0.2"), (socket.AF_INET6, "fe80::2")):
            netlink.neigh("add", dst=hop, lladdr=_FAR, ifindex=index, state="permanent")
            everywhere = "0.0.0.0/0" if family == socket.AF_INET else "::/0"
            netlink.route("add", dst=everywhere, family=family, gateway=hop, oif=index)


def _raise_all() -> None:
    """Raise the far ends; they have no addresses and say nothing."""
    for scope in ("all", "default"):
        sysctl(f"ipv6/conf/{scope}/disable_ipv6", 1)
    with IPRoute() as netlink:
        mark = next(link.get("IFLA_IFALIAS") for link in netlink.get_links() if link["index"] == 1)
        for link in netlink.get_links():
            if link["index"] != 1:
                netlink.link("set", index=link["index"], ifalias=mark, state="up")


def _drop(space: Namespace, devices: list[str]) -> None:
    """Drop everything as it comes in."""
    names = ", ".join(devices)
    space.check(
        [find("nft"), "-f", "-"],
        stdin=f"table netdev dropped {{ chain arriving {{ type filter hook ingress devices = {{ {names} }} priority 0; "
        "policy drop; }\n}\n",
    )


def _arrived() -> dict[str, int]:
    with IPRoute() as netlink:
        return {link.get("IFLA_IFNAME"): link.get("IFLA_STATS64")["rx_packets"] for link in netlink.get_links()}


# -- frames -----------------------------------------------------------------------------------------------------------


def frames(family: int, numbers: Sequence[int]) -> np.ndarray:
    """Give one UDP frame for each destination, as rows of octets."""
    to = packed(family, numbers)
    header = bytes.fromhex(_IN.replace(":", "") + _FAR.replace(":", "")) + _ETH_P[family].to_bytes(2, "big")
    payload = bytes(18)
    udp = (40000).to_bytes(2, "big") + (9).to_bytes(2, "big") + (8 + len(payload)).to_bytes(2, "big") + bytes(2)
    if family == 4:
        ip = bytes.fromhex("4500") + (28 + len(payload)).to_bytes(2, "big") + bytes.fromhex("0001400040110000")
        start = header + ip + _SOURCES[4] + bytes(4)
    else:
        ip = bytes.fromhex("60000000") + (8 + len(payload)).to_bytes(2, "big") + bytes([17, 64])
        start = header + ip + _SOURCES[6] + bytes(16)
    rows = np.tile(np.frombuffer(start + udp + payload, np.uint8), (len(to), 1))
    rows[:, len(start) - to.shape[1] : len(start)] = to
    if family == 4:
        words = rows[:, 14:34].reshape(-1, 10, 2).astype(np.uint32)
        total = (words[:, :, 0] * 256 + words[:, :, 1]).sum(axis=1)
        total = (total & 0xFFFF) + (total >> 16)
        check = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        rows[:, 24], rows[:, 25] = check >> 8, check & 255
    return np.ascontiguousarray(rows)


# -- sending ----------------------------------------------------------------------------------------------------------


@dataclass
class _Sender:
    """A packet socket on one link, and the messages that all links send."""

    socket: socket.socket
    messages: np.ndarray
    at: int = 0

    def send(self, count: int) -> None:
        """Send so many packets, going round."""
        for _ in range(count // _BATCH):
            start = self.messages.ctypes.data + self.at * self.messages.itemsize
            sent = _LIBC.sendmmsg(self.socket.fileno(), ctypes.c_void_p(start), _BATCH, 0)
            if sent != _BATCH:
                raise OSError(ctypes.get_errno(), f"sendmmsg sent {sent} of {_BATCH}")
            self.at = (self.at + _BATCH) % len(self.messages)


_LIBC = ctypes.CDLL(None, use_errno=True)


def _send(token: str, order: list[int], rows: np.ndarray, rounds: int) -> list[list[float]]:
    require_lab(token)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = rows[: len(rows) // _BATCH * _BATCH]
    vectors = np.zeros(len(rows), _VECTOR)
    vectors["base"] = rows.ctypes.data + np.arange(len(rows), dtype=np.uint64) * np.uint64(rows.shape[1])
    vectors["length"] = rows.shape[1]
    messages = np.zeros(len(rows), _MESSAGE)
    messages["iov"] = vectors.ctypes.data + np.arange(len(rows), dtype=np.uint64) * np.uint64(16)
    messages["iovlen"] = 1
    senders = []
    for number in order:
        one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        one.setsockopt(_SOL_PACKET, _QDISC_BYPASS, 1)
        one.bind((f"s{number}", 0))
        senders.append(_Sender(one, messages))
    took: list[list[float]] = [[] for _ in order]
    began = time.monotonic()
    for _ in range(rounds):
        turns: list[list[float]] = [[] for _ in order]
        for at in [at for _ in range(_TURNS) for at in random.sample(range(len(order)), len(order))]:
            senders[at].send(_WARM)
            before = time.thread_time_ns()
            senders[at].send(_SLICE)
            turns[at].append((time.thread_time_ns() - before) / _SLICE)
            if time.monotonic() - began > _LONGEST:
                raise Failed(f"sending took longer than {_LONGEST:g} s")
        for at, three in enumerate(turns):
            took[at].append(statistics.median(three))
    return took


def _trafgen(token: str, device: str, rows: np.ndarray) -> float:
    require_lab(token)
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as file:
        file.writelines("{ " + ", ".join(map(str, row)) + " }\n" for row in rows.tolist())
        file.flush()
        # It is to leave this machine's socket memory and interrupts alone, and takes one processor.
        options = ["--no-sock-mem", "--notouch-irq", "--no-cpu-stats", "--cpus", "1", "--num", str(_TRAFGEN)]
        command = [find("trafgen"), "--dev", device, "--conf", file.name, *options]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if ran.returncode:
        raise Failed(f"trafgen: {ran.stderr[-200:]}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) / _TRAFGEN * 1e9
