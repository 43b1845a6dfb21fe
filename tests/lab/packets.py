"""Packets of any shape, sent as they are: sources that nobody has, protocols without ports, fragments.

Both ends are hushed meanwhile: what arrives is seen and then dropped, unanswered, so that a packet counter at the
gateway counts exactly what was sent.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from lab import wire
from lab.probe import Verdict, refusal
from lab.process import LabError
from lab.wire import Address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lab.wire import Fence, Seen, Tap

_BATCH = 64
_PROTOCOLS = {"tcp": wire.TCP, "udp": wire.UDP, "sctp": wire.SCTP}


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet: a TCP SYN, a UDP datagram, an SCTP INIT, an echo request for icmp, or a bare protocol number.

    `offset` and `more` make it a fragment; one with an offset (in octets, a multiple of 8) has no ports.
    """

    source: str
    destination: str
    protocol: str | int = "tcp"
    source_port: int = 40000
    destination_port: int = 0
    offset: int = 0
    more: bool = False

    @property
    def version(self) -> int:
        """4 or 6."""
        return ip_address(self.destination).version

    @property
    def number(self) -> int:
        """The protocol's number in the IP header."""
        if self.protocol == "icmp":
            return wire.ICMP if self.version == 4 else wire.ICMP6
        return self.protocol if isinstance(self.protocol, int) else _PROTOCOLS[self.protocol]


def exchange(packets: Sequence[Packet], near: Tap, far: Tap, fence: Fence) -> list[Verdict]:
    """Send all of them, in order; REACHED is what arrived at the far end."""
    with contextlib.ExitStack() as stack:
        raw = {
            version: stack.enter_context(socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW))
            for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6))
        }
        verdicts = list[Verdict]()
        for start in range(0, len(packets), _BATCH):
            batch = packets[start : start + _BATCH]
            for ident, packet in enumerate(batch, start=1):
                raw[packet.version].sendto(encode(packet, ident), (packet.destination, 0))
            fence.wait()
            verdicts += _judge(batch, near.drain(), far.drain())
        return verdicts


def _judge(batch: Sequence[Packet], came_back: Iterable[Seen], arrived: Iterable[Seen]) -> list[Verdict]:
    there = Counter[tuple[int, int, int, Address]](
        (seen.source.version, seen.ident, seen.offset, seen.destination) for seen in arrived
    )
    refused = dict(_refusals(came_back))
    verdicts = []
    for ident, packet in enumerate(batch, start=1):
        times = there[packet.version, ident, packet.offset, ip_address(packet.destination)]
        answer = refused.get((packet.version, ident))
        if times > 1 or (times and answer):
            raise LabError(f"{packet} arrived {times} times and was answered with {answer}")
        verdicts.append(answer or (Verdict.REACHED if times else Verdict.SILENT))
    return verdicts


def _refusals(came_back: Iterable[Seen]) -> Iterator[tuple[tuple[int, int], Verdict]]:
    for seen in came_back:
        if seen.about is not None:
            yield (seen.about.source.version, seen.about.ident), refusal(seen)
        elif seen.protocol == wire.TCP and seen.flags & wire.RST:
            yield (seen.source.version, seen.acknowledges - 1), Verdict.RESET  # a SYN counts as one octet


def encode(packet: Packet, ident: int) -> bytes:
    """The packet's octets; `ident` is in the IPv4 identification or the IPv6 flow label, and is TCP's sequence."""
    source, destination = ip_address(packet.source), ip_address(packet.destination)
    body = b"gatewrit" if packet.offset else _upper(packet, source, destination, ident)
    if packet.version == 4:
        fragment = packet.offset // 8 | (0x2000 if packet.more else 0)
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), ident, fragment, 64, packet.number, 0)
        return header + source.packed + destination.packed + body
    following = packet.number
    if packet.offset or packet.more:
        body = struct.pack("!BBHI", following, 0, packet.offset | packet.more, ident) + body
        following = wire.FRAGMENT
    header = struct.pack("!IHBB", 0x60000000 | ident, len(body), following, 64)
    return header + source.packed + destination.packed + body


def _upper(packet: Packet, source: Address, destination: Address, ident: int) -> bytes:
    ports = struct.pack("!HH", packet.source_port, packet.destination_port)
    match packet.number:
        case wire.TCP:
            body, at = ports + struct.pack("!IIBBHHH", ident, 0, 0x50, wire.SYN, 65535, 0, 0), 16
        case wire.UDP:
            body, at = ports + struct.pack("!HH", 16, 0) + b"gatewrit", 6
        case wire.ICMP | wire.ICMP6:
            kind = 8 if packet.version == 4 else 128
            body, at = struct.pack("!BBHHH", kind, 0, 0, ident, 1) + b"gatewrit", 2
        case wire.SCTP:
            return ports + struct.pack("!II", 0, 0) + struct.pack("!BBHIIHHI", 1, 0, 20, ident, 65535, 1, 1, ident)
        case _:
            return b"gatewrit"
    pseudo = source.packed + destination.packed + struct.pack("!II", len(body), packet.number)
    total = wire.checksum(body if packet.number == wire.ICMP else pseudo + body)
    return body[:at] + struct.pack("!H", total) + body[at + 2 :]
