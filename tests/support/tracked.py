"""Connections put into the kernel's conntrack table by hand (ctnetlink), as if their packets had passed."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from gatewrit.kernel import wire

if TYPE_CHECKING:
    from collections.abc import Iterable

#: IPCTNL_MSG_CT_NEW of NFNL_SUBSYS_CTNETLINK; NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE.
_KIND, _FLAGS = 1 << 8, 0x1 | 0x4 | 0x200 | 0x400
_ESTABLISHED = 3
#: So many are put in by one message to the kernel.
_AT_ONCE = 200


@dataclass(frozen=True)
class Tracked:
    """Who began it with whom; `answers` is whom the answers come from, where the destination is translated."""

    source: str
    destination: str
    protocol: int = 6
    sport: int = 40000
    dport: int = 3101
    answers: str | None = None
    state: int = _ESTABLISHED

    def attributes(self) -> bytes:
        """Encode it as the kernel takes it, and as it dumps it."""
        info = wire.nest(4, wire.nest(1, wire.attr(1, bytes([self.state])))) if self.protocol == 6 else b""
        answers = self.answers or self.destination
        return (
            wire.nest(1, *self._tuple(self.source, self.destination, (self.sport, self.dport)))
            + wire.nest(2, *self._tuple(answers, self.source, (self.dport, self.sport)))
            + wire.be32(7, 3600)
            + info
        )

    def _tuple(self, source: str, destination: str, ports: tuple[int, int]) -> tuple[bytes, bytes]:
        ends = [ip_address(each) for each in (source, destination)]
        kinds = (1, 2) if ends[0].version == 4 else (3, 4)
        address = wire.nest(1, *(wire.attr(kind, each.packed) for kind, each in zip(kinds, ends, strict=True)))
        number = wire.attr(1, bytes([self.protocol]))
        if self.protocol in {1, 58}:
            kinds, answer = ((5, 6, 4), {8: 0, 128: 129}) if self.protocol == 1 else ((8, 9, 7), {128: 129})
            kind = self.dport if (source, destination) == (self.source, self.destination) else answer[self.dport]
            values = (bytes([kind]), b"\0", self.sport.to_bytes(2, "big"))
            return address, wire.nest(2, number, *map(wire.attr, kinds, values))
        return address, wire.nest(
            2, number, *(wire.attr(2 + at, port.to_bytes(2, "big")) for at, port in enumerate(ports))
        )


def track(connections: Iterable[Tracked]) -> int:
    """Put connections into the table of the network namespace that the caller is in; gives how many."""
    waiting = list(connections)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netlink:
        netlink.bind((0, 0))
        for start in range(0, len(waiting), _AT_ONCE):
            some = waiting[start : start + _AT_ONCE]
            netlink.send(b"".join(_message(each) for each in some))
            for _ in some:
                answer = netlink.recv(1 << 16)
                code = int.from_bytes(answer[16:20], sys.byteorder, signed=True)
                if code:
                    raise OSError(-code, os.strerror(-code))
    return len(waiting)


def _message(each: Tracked) -> bytes:
    family = socket.AF_INET if ip_address(each.source).version == 4 else socket.AF_INET6
    body = wire.NFGENMSG.pack(family, 0, 0) + each.attributes()
    return wire.NLMSGHDR.pack(wire.NLMSGHDR.size + len(body), _KIND, _FLAGS, 1, 0) + body
