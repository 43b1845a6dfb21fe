"""Traffic as fast as the machine sends: ready-made frames of several flows in turn, each flow counted at both ends.

    with Flood(lab, flows) as flood:        # from subscribers to the internet, until the block ends
        ...
    flood.sent[flow], flood.arrived[flow]   # exact, for every packet is accounted for

A sender stays on one processor and writes to a packet socket, hundreds of frames with one system call; the same
processor takes each through the gateway to the far end, where it is counted on arrival and then dropped, so that
nothing there can overflow. Between two volleys the sender waits for a frame of its own to come out: no queue on the way
ever holds more than a volley, so that a packet that didn't arrive was dropped by what is under test and nobody else.
All processors but one flood; that one is left to whoever changes something meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import socket
import time
from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_address
from multiprocessing import Pipe
from typing import TYPE_CHECKING, NamedTuple, Self

from lab import wire
from lab.guard import require_lab
from lab.packets import Packet, encode
from lab.process import PATIENCE, LabError
from lab.topology import ACCESS, GN, UPSTREAM

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from types import TracebackType

    from lab.lab import Lab
    from lab.process import Task

#: Frames of one volley, at most: fewer than a processor's queue takes (net.core.netdev_max_backlog, 1000).
_VOLLEY = 512
#: So many processors flood at most, and each sender sends no more than so many packets.
_SENDERS, _MOST = 4, 2_000_000_000
_FENCE_PORT = 40100
_TABLE = "flood"
_COUNTED = re.compile(r"counter (\S+) \{\s+packets (\d+)")
_SOL_PACKET, _QDISC_BYPASS = 263, 20
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}


class Flood:
    """`with Flood(lab, flows) as flood: …`; `longest` seconds are its bound, and to pass it is a failure.

    `patience` is for a volley to come out: longer than whoever changes something holds a processor up.
    """

    def __init__(self, lab: Lab, flows: Sequence[Packet], longest: float = 60.0, patience: float = 10.0) -> None:
        self.sent: Counter[Packet] = Counter()
        self.arrived: Counter[Packet] = Counter()
        self.seconds = 0.0
        self._lab, self._flows = lab, list(flows)
        _count_at_the_far_end(lab, self._flows)
        self._began = time.monotonic()
        self._senders = [self._send_from(processor, _Bounds(longest, patience)) for processor in _processors()]

    def _send_from(self, processor: int, bounds: _Bounds) -> tuple[Connection, Task[int]]:
        ours, theirs = Pipe()
        task = self._lab.subscriber.start(_send, theirs, self._lab, self._flows, processor, bounds)
        theirs.close()
        return ours, task

    def __enter__(self) -> Self:
        for control, task in self._senders:
            if not control.poll(PATIENCE):
                raise LabError(f"{task.name}: the flood doesn't begin")
            try:
                control.recv()
            except EOFError:
                task.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for control, _ in self._senders:
            with contextlib.suppress(OSError):  # it may have ended by itself, and its result says why
                control.send("enough")
            control.close()
        rounds = [task.result() for _, task in self._senders]
        self.seconds = time.monotonic() - self._began
        self.sent = Counter(dict.fromkeys(self._flows, sum(rounds)))
        self.arrived = self.count()

    @property
    def rate(self) -> float:
        """Packets per second, of all flows together."""
        return self.sent.total() / self.seconds

    def count(self) -> Counter[Packet]:
        """Give how many have arrived so far."""
        listed = self._lab.internet.nft(f"list counters table netdev {_TABLE}")
        packets = {name: int(count) for name, count in _COUNTED.findall(listed)}
        return Counter({flow: packets[f"flow{number}"] for number, flow in enumerate(self._flows)})


def _processors() -> list[int]:
    usable = sorted(os.sched_getaffinity(0))
    return usable[1:][:_SENDERS] or usable


def _count_at_the_far_end(lab: Lab, flows: Sequence[Packet]) -> None:
    """Count each flow as it comes in, by destination and port, and drop what was counted."""
    counters, elements = "", {4: list[str](), 6: list[str]()}
    for number, flow in enumerate(flows):
        counters += f"counter flow{number} {{ }}\n"
        elements[flow.version].append(f"{flow.destination} . {flow.destination_port} : flow{number}")
    script, rules = counters, ""
    for version, word in ((4, "ip"), (6, "ip6")):
        if elements[version]:
            kind = f"type ipv{version}_addr . inet_service : counter"
            script += f"map flows{version} {{ {kind}; elements = {{ {', '.join(elements[version])} }}\n }}\n"
            rules += f"counter name {word} daddr . th dport map @flows{version} drop\n"
    hook = f"type filter hook ingress device {UPSTREAM.interface} priority 0; policy accept;"
    lab.internet.nft(
        f"table netdev {_TABLE}\ndelete table netdev {_TABLE}\n"
        f"table netdev {_TABLE} {{\n{script}chain arriving {{ {hook}\n{rules}}}\n}}\n"
    )


# -- a sender ---------------------------------------------------------------------------------------------------------


class _Bounds(NamedTuple):
    """Seconds: for all of it, and for a volley to come out."""

    longest: float
    patience: float


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("header", _Header), ("sent", ctypes.c_uint))


@dataclass(frozen=True, slots=True)
class _Fence:
    """The last frame of a volley, and where it comes out; each sender has a port of its own."""

    flow: Packet
    out: socket.socket

    def wait(self) -> None:
        try:
            self.out.recv(64)
        except TimeoutError:
            raise LabError("a volley's last frame did not come out: is the lab's own link blocked?") from None


def _send(control: Connection, lab: Lab, flows: Sequence[Packet], processor: int, bounds: _Bounds) -> int:
    """Send volleys until told that it is enough; gives how many packets of each flow were sent."""
    require_lab(lab.subscriber.token)
    os.sched_setaffinity(0, {processor})
    library = ctypes.CDLL(None, use_errno=True)
    with contextlib.ExitStack() as stack:
        with lab.internet.visit():
            out = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            out.bind((str(UPSTREAM.ipv4.ip), _FENCE_PORT + processor))
        out.settimeout(bounds.patience)
        fence = _Fence(Packet(str(ACCESS.ipv4.ip), str(UPSTREAM.ipv4.ip), "udp", 40000, _FENCE_PORT + processor), out)
        link = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        link.setsockopt(_SOL_PACKET, _QDISC_BYPASS, 1)
        link.bind((ACCESS.interface, 0))
        each = (_VOLLEY - 1) // len(flows)
        volley = _messages([*flows] * each + [fence.flow])
        began, rounds = time.monotonic(), 0
        while not control.poll(0):
            taken = library.sendmmsg(link.fileno(), volley, len(volley), 0)
            if taken != len(volley):
                raise LabError(f"of {len(volley)} frames {taken} were taken: {os.strerror(ctypes.get_errno())}")
            fence.wait()
            rounds += 1
            if time.monotonic() - began > bounds.longest or rounds * len(volley) > _MOST:
                raise LabError(f"the flood came to its bound after {rounds * len(volley):,} packets")
            if rounds == 1:
                control.send("begun")
    return rounds * each


def _messages(flows: Sequence[Packet]) -> ctypes.Array[_Message]:
    frames = {flow: _frame(flow) for flow in flows}
    vectors = {flow: _Vector(frame, len(frame)) for flow, frame in frames.items()}
    headers = [_Header(vectors=ctypes.pointer(vectors[flow]), vector_count=1) for flow in flows]
    return (_Message * len(headers))(*[_Message(header) for header in headers])


def _frame(flow: Packet) -> bytes:
    """Give what goes on the link: to the gateway, and with the checksum that no kernel adds on this way."""
    data = encode(flow, 1)
    if ip_address(flow.destination).version == 4:
        data = data[:10] + wire.checksum(data[:20]).to_bytes(2, "big") + data[12:]
    ends = bytes.fromhex((GN.hardware + ACCESS.hardware).replace(":", ""))
    return ends + _ETHERTYPES[flow.version].to_bytes(2, "big") + data
