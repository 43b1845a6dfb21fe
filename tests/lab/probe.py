"""Can a subscriber reach it? Real sockets ask, and the links' taps say what became of each packet.

A verdict takes milliseconds, also that of a packet that was dropped: see `Fence`.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from lab import wire

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from lab.wire import Fence, Seen, Tap

_BATCH = 64
"""Few enough that no queue and no buffer on the way overflows."""
_ANSWER = 10.0
"""Seconds for a listener that was reached to say its line."""


class Verdict(enum.StrEnum):
    """What became of an attempt, as the one who made it sees it."""

    REACHED = "reached"
    RESET = "reset"
    """Answered by a TCP RST on the way."""
    PROHIBITED = "prohibited"
    """Answered by ICMP 'administratively prohibited'."""
    SILENT = "silent"
    """Nothing came back: dropped."""
    CLOSED = "closed"
    """It got there, and nobody listens."""
    UNREACHABLE = "unreachable"
    """Any other ICMP error, or no route."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One attempt: `port` is written as in a policy, such as tcp/3101, udp/443, or icmp for an echo."""

    destination: str
    port: str
    source: str | None = None

    @property
    def protocol(self) -> int:
        """The number in the IP header."""
        name = self.port.partition("/")[0]
        if name == "icmp":
            return wire.ICMP if self.version == 4 else wire.ICMP6
        return {"tcp": wire.TCP, "udp": wire.UDP}[name]

    @property
    def number(self) -> int:
        """The port's number; 0 for ICMP."""
        return int(self.port.partition("/")[2] or 0)

    @property
    def version(self) -> int:
        """4 or 6."""
        return ip_address(self.destination).version


def probe(probes: Sequence[Probe], near: Tap, far: Tap, fence: Fence) -> list[Verdict]:
    """Try all of them from the namespace that the caller is in, with taps here and where they should arrive."""
    verdicts = list[Verdict]()
    for start in range(0, len(probes), _BATCH):
        verdicts += _batch(probes[start : start + _BATCH], near, far, fence)
    return verdicts


@dataclass(slots=True)
class _Attempt:
    """A probe under way: its socket, and how its packets are known on the wire."""

    probe: Probe
    socket: socket.socket
    key: wire.Flow | None = None
    refused: bool = False

    def begin(self, ident: int) -> None:
        """Send the first packet."""
        source, destination = self.probe.source, (self.probe.destination, self.probe.number)
        self.socket.setblocking(False)
        try:
            if source is not None:
                self.socket.bind((source, 0))
            with contextlib.suppress(BlockingIOError):  # it goes on by itself: this is how connecting begins
                self.socket.connect(destination)
            address, port, *_ = self.socket.getsockname()
            if self.probe.port == "icmp":
                port = ident
                self.socket.send(_echo_request(self.probe.version, ident))
            elif self.probe.protocol == wire.UDP:
                self.socket.send(b"gatewrit lab\n")
        except ConnectionRefusedError:  # the answer was quicker than connect(): the tap has it
            address, port, *_ = self.socket.getsockname()
        except OSError:  # no route
            self.refused = True
            return
        to_port = ident if self.probe.port == "icmp" else self.probe.number
        self.key = wire.Flow(
            self.probe.protocol, ip_address(address), port, ip_address(self.probe.destination), to_port
        )

    def converse(self) -> Verdict:
        """It got there: read what the listener says."""
        if self.probe.port == "icmp":
            return Verdict.REACHED
        try:
            self.socket.settimeout(_ANSWER)
            return Verdict.REACHED if self.socket.recv(512) else Verdict.SILENT
        except ConnectionRefusedError:
            return Verdict.CLOSED
        except ConnectionResetError:
            return Verdict.RESET
        except TimeoutError:
            return Verdict.SILENT


def _batch(probes: Sequence[Probe], near: Tap, far: Tap, fence: Fence) -> list[Verdict]:
    attempts = [_Attempt(probe, _socket_for(probe)) for probe in probes]
    try:
        for ident, attempt in enumerate(attempts, start=1):
            attempt.begin(ident)
        fence.wait()
        arrived = {seen.flow for seen in far.drain()}
        answers = dict(_answers(near.drain()))
        return [_judge(attempt, arrived, answers) for attempt in attempts]
    finally:
        for attempt in attempts:
            attempt.socket.close()


def _judge(
    attempt: _Attempt, arrived: Collection[wire.Flow | None], answers: Mapping[wire.Flow, Verdict | None]
) -> Verdict:
    if attempt.refused or attempt.key is None:
        return Verdict.UNREACHABLE
    there = attempt.key in arrived
    answer = answers.get(attempt.key)
    if answer is Verdict.RESET and there:
        return Verdict.CLOSED
    if answer is not None:
        return answer
    if not there or (attempt.key.protocol != wire.UDP and attempt.key not in answers):
        return Verdict.SILENT
    return attempt.converse()


def _answers(seen: Iterable[Seen]) -> Iterator[tuple[wire.Flow, Verdict | None]]:
    """What came back, by the flow that it answers; None for the answers of one who was reached."""
    for packet in seen:
        if packet.about is not None and packet.about.flow is not None:
            yield packet.about.flow, refusal(packet)
        elif packet.flow is not None:
            reset = packet.protocol == wire.TCP and packet.flags & wire.RST
            yield packet.flow.reversed(), Verdict.RESET if reset else None


def refusal(packet: Seen) -> Verdict:
    """What an ICMP error says."""
    match packet.protocol, packet.icmp:
        case (wire.ICMP, (3, 9 | 10 | 13)) | (wire.ICMP6, (1, 1)):
            return Verdict.PROHIBITED
        case (wire.ICMP, (3, 3)) | (wire.ICMP6, (1, 4)):
            return Verdict.CLOSED
        case _:
            return Verdict.UNREACHABLE


def _socket_for(probe: Probe) -> socket.socket:
    family = socket.AF_INET if probe.version == 4 else socket.AF_INET6
    if probe.port == "icmp":
        return socket.socket(family, socket.SOCK_RAW, probe.protocol)
    return socket.socket(family, socket.SOCK_STREAM if probe.protocol == wire.TCP else socket.SOCK_DGRAM)


def _echo_request(version: int, ident: int) -> bytes:
    if version == 6:
        return struct.pack("!BBHHH", 128, 0, 0, ident, 1)  # the kernel fills in the checksum
    total = wire.checksum(struct.pack("!BBHHH", 8, 0, 0, ident, 1))
    return struct.pack("!BBHHH", 8, 0, total, ident, 1)
