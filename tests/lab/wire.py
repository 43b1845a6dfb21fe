"""Packets as bytes: what goes on a link and what is seen there, reduced to what a verdict needs."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import time
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, TypeAlias

from lab.process import PATIENCE, LabError

Address: TypeAlias = IPv4Address | IPv6Address

ICMP, TCP, UDP, FRAGMENT, ICMP6, SCTP = 1, 6, 17, 44, 58, 132

_ETH_P_ALL = 0x0003
_PACKET_OUTGOING = 4
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_EXTENSIONS = {0, 43, 60}  # hop-by-hop, routing, destination options: all say their length alike
_RECEIVE_BUFFER = 8 << 20

SYN, RST, ACK = 0x02, 0x04, 0x10


class Flow(NamedTuple):
    """Which exchange a packet belongs to. An ICMP echo has its identifier for both ports."""

    protocol: int
    source: Address
    source_port: int
    destination: Address
    destination_port: int

    def reversed(self) -> Flow:
        """The same, seen from the other end."""
        return Flow(self.protocol, self.destination, self.destination_port, self.source, self.source_port)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one packet said of itself."""

    source: Address
    destination: Address
    protocol: int
    ident: int
    offset: int
    flow: Flow | None = None
    """None where there are no ports: later fragments, ICMP errors, other protocols."""
    flags: int = 0
    acknowledges: int = 0
    icmp: tuple[int, int] | None = None
    about: Seen | None = None
    """The packet that an ICMP error quotes."""


def parse(data: bytes) -> Seen | None:
    """Read one packet, from its IP header on; None if it isn't one."""
    if len(data) >= 20 and data[0] >> 4 == 4:
        ident, fragment, protocol = struct.unpack_from("!HHxB", data, 4)
        addresses = IPv4Address(data[12:16]), IPv4Address(data[16:20])
        return _upper(Seen(*addresses, protocol, ident, (fragment & 0x1FFF) * 8), data[(data[0] & 15) * 4 :])
    if len(data) >= 40 and data[0] >> 4 == 6:
        return _parse6(data)
    return None


def _parse6(data: bytes) -> Seen:
    ident = int.from_bytes(data[0:4], "big") & 0xFFFFF
    addresses = IPv6Address(data[8:24]), IPv6Address(data[24:40])
    protocol, rest, offset = data[6], data[40:], 0
    while len(rest) >= 8 and (protocol in _EXTENSIONS or protocol == FRAGMENT):
        if protocol == FRAGMENT:
            offset = int.from_bytes(rest[2:4], "big") & 0xFFF8
            protocol, rest = rest[0], rest[8:]
            break
        protocol, rest = rest[0], rest[8 + rest[1] * 8 :]
    return _upper(Seen(*addresses, protocol, ident, offset), rest)


def _upper(plain: Seen, data: bytes) -> Seen:
    protocol, source, destination = plain.protocol, plain.source, plain.destination
    if plain.offset or len(data) < 4:
        return plain
    data = data.ljust(20, b"\0")  # an ICMP error may quote no more than 8 octets
    if protocol in (ICMP, ICMP6):
        quotes = data[0] in ((3, 11, 12) if protocol == ICMP else (1, 2, 3, 4))
        echo = int.from_bytes(data[4:6], "big")
        return replace(
            plain,
            flow=None if quotes else Flow(protocol, source, echo, destination, echo),
            icmp=(data[0], data[1]),
            about=parse(data[8:]) if quotes else None,
        )
    if protocol in (TCP, UDP, SCTP):
        from_port, to_port = struct.unpack_from("!HH", data)
        plain = replace(plain, flow=Flow(protocol, source, from_port, destination, to_port))
    if protocol == TCP:
        plain = replace(plain, acknowledges=int.from_bytes(data[8:12], "big"), flags=data[13])
    return plain


def stay_on_one_processor() -> None:
    """Keep the calling process's packets in order: each processor has a queue of its own."""
    os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})  # noqa: S311 any will do


def checksum(data: bytes) -> int:
    """The internet checksum."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


class Tap:
    """Sees every packet that comes into the namespace in which it was opened."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        # Plain SO_RCVBUF is capped by the machine's settings, and forcing it needs root: batches are small anyway.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._socket.setblocking(False)

    def forget(self) -> None:
        """Discard what has come in so far, seen or lost."""
        with contextlib.suppress(LabError):
            self.drain()

    def drain(self) -> list[Seen]:
        """Everything that has come in since the last time, in its order."""
        seen = list[Seen]()
        while True:
            try:
                data, address = self._socket.recvfrom(65536)
            except BlockingIOError:
                break
            if address[2] != _PACKET_OUTGOING and (packet := parse(data)) is not None:
                seen.append(packet)
        _, lost = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        if lost:
            raise LabError(f"the tap lost {lost} packets: use smaller batches")
        return seen

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


class Fence:
    """Settles what silence means, without waiting for it.

    All links of the lab are queues in the kernel, and a process that stays on one processor has its packets handled in
    order. So once an echo sent after them has come back from the far end, all answers to earlier packets have come too.
    """

    def __init__(self, destination: IPv4Address) -> None:
        self._destination = str(destination)
        self._count = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, ICMP)

    def wait(self) -> None:
        """Return once everything sent before has been delivered, answered by the kernel, or dropped."""
        self._count += 1
        body = struct.pack("!HHQ", 0xFE7C, self._count & 0xFFFF, self._count)
        total = checksum(struct.pack("!BBH", 8, 0, 0) + body)
        self._socket.sendto(struct.pack("!BBH", 8, 0, total) + body, (self._destination, 0))
        deadline = time.monotonic() + PATIENCE / 6
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                answer = self._socket.recv(256)
            except TimeoutError:
                break
            if answer[20:22] == b"\0\0" and answer[24:] == body:
                return
        raise LabError(
            f"the fence to {self._destination} did not come back: is something blocking the lab's own links?"
        )

    def close(self) -> None:
        """Give up the socket."""
        self._socket.close()
