"""What the kernel tracks of connections (conntrack), in bulk: read to be counted, and kept nowhere.

A dump of a busy gateway has a hundred thousand entries of some 200 bytes: all are decoded at once, attribute by
attribute (include/uapi/linux/netfilter/nfnetlink_conntrack.h). Nothing here is ever printed, logged or stored.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gatewrit.kernel import keys, wire
from gatewrit.kernel.asking import Asking
from gatewrit.kernel.messages import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gatewrit.kernel.keys import Keys

    Offsets = NDArray[np.int64]
    #: Where an attribute's payload begins and ends in each message; it begins at -1 where there is none.
    Found = tuple[Offsets, Offsets]

#: NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET.
_SUBSYSTEM, _GET = 1, 1
_ORIGINAL, _REPLY, _PROTOINFO = 1, 2, 4
_IP, _PROTOCOL = 1, 2
_WIDTHS = {4: 4, 6: 16}
_ADDRESSES = {4: (1, 2), 6: (3, 4)}
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
#: Type and code of ICMP and ICMPv6.
_TYPES, _CODES = (5, 8), (6, 9)
_TCP_INFO, _TCP_STATE = 1, 1
#: SYN_RECV to CLOSE_WAIT (nf_conntrack_tcp.h): a TCP connection that is still of use to somebody.
_OPEN = range(2, 6)
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """Packets of one direction, as they are when they come in; arrays of shape (n,).

    Addresses are big-endian bytes of dtype `S4` or `S16`. `first` and `second` are the first two words behind the
    network header: the ports, or type and code of ICMP and nothing.
    """

    source: Keys
    destination: Keys
    first: NDArray[np.uint16]
    second: NDArray[np.uint16]

    def take(self, chosen: NDArray[Any]) -> Way:
        """Give some of them, by a mask or by number."""
        return Way(self.source[chosen], self.destination[chosen], self.first[chosen], self.second[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class Connections:
    """What is open, of one family: protocol numbers, and either direction."""

    protocol: NDArray[np.uint8]
    original: Way
    reply: Way

    def __len__(self) -> int:
        return len(self.protocol)


def read(family: int) -> Connections:
    """Ask the kernel of the network namespace that the caller is in; blocks.

    Raises `OSError`: EPERM without CAP_NET_ADMIN, EINVAL where the kernel has no conntrack; `wire.WireError`.
    """
    asking = Asking()
    asking.open()
    try:
        found = asking.ask(Message(_GET, b""), subsystem=_SUBSYSTEM, family=_FAMILIES[family])
    finally:
        asking.close()
    return decode(found, family)


def decode(messages: Sequence[bytes], family: int) -> Connections:
    """Decode the answer: each message's attributes from behind struct nfgenmsg. Raises `wire.WireError`."""
    padded = [each + bytes(-len(each) % 4) for each in messages]
    data = b"".join(padded)
    octets = np.frombuffer(data, np.uint8)
    lengths = np.array([len(each) for each in padded], np.int64)
    ends = np.cumsum(lengths)
    reader = _Reader(octets)
    original, reply, info = reader.find((ends - lengths, ends), _ORIGINAL, _REPLY, _PROTOINFO)
    ways = [reader.way(each, family) for each in (original, reply)]
    protocol = reader.protocol(original)
    # For other protocols than TCP the kernel keeps no state there, and what it tracks is open.
    (tcp,) = reader.find(info, _TCP_INFO)
    (state,) = reader.find(tcp, _TCP_STATE)
    states = reader.number(state, 1)
    chosen = (protocol != socket.IPPROTO_TCP) | (state[0] < 0) | np.isin(states, list(_OPEN))
    return Connections(protocol[chosen], *(each.take(chosen) for each in ways))


class _Reader:
    """Reads the same thing out of all messages at once."""

    def __init__(self, octets: NDArray[np.uint8]) -> None:
        self._octets = octets
        self._words = octets.view(np.uint16)

    def find(self, inside: Found, *kinds: int) -> list[Found]:
        """Give where the attributes of these types are, of those that lie from `inside[0]` to `inside[1]`."""
        begin, end = inside
        found = [(np.full(len(begin), -1), np.full(len(begin), -1)) for _ in kinds]
        at = begin.copy()
        rows = np.flatnonzero(begin >= 0)
        while len(rows := rows[at[rows] < end[rows]]):
            place, limit = at[rows], end[rows]
            if bool((place + 4 > limit).any()):
                raise wire.WireError("stray bytes after the last attribute of a connection")
            length = self._words[place >> 1].astype(np.int64)
            kind = self._words[(place >> 1) + 1] & wire.TYPE_MASK
            if bool(((length < 4) | (place + length > limit)).any()):
                raise wire.WireError("an attribute of a connection is longer than what it is in")
            for wanted, (starts, ends) in zip(kinds, found, strict=True):
                hit = kind == wanted
                starts[rows[hit]], ends[rows[hit]] = place[hit] + 4, (place + length)[hit]
            at[rows] = place + (length + 3 & ~3)
        return found

    def way(self, tuples: Found, family: int) -> Way:
        """Read one direction."""
        addresses, transport = self.find(tuples, _IP, _PROTOCOL)
        ends = [self._bytes(each, _WIDTHS[family]) for each in self.find(addresses, *_ADDRESSES[family])]
        ports = self.find(transport, _SOURCE_PORT, _DESTINATION_PORT)
        first, second = (self.number(each, 2) for each in ports)
        for kind, code in zip(self.find(transport, *_TYPES), self.find(transport, *_CODES), strict=True):
            first = np.where(kind[0] >= 0, self.number(kind, 1) << 8 | self.number(code, 1), first)
        return Way(ends[0], ends[1], first.astype(np.uint16), second.astype(np.uint16))

    def protocol(self, tuples: Found) -> NDArray[np.uint8]:
        """Read the protocol's number."""
        (transport,) = self.find(tuples, _PROTOCOL)
        (number,) = self.find(transport, _NUMBER)
        return self.number(number, 1).astype(np.uint8)

    def number(self, at: Found, width: int) -> NDArray[np.int64]:
        """Read a number in network order; 0 where there is none."""
        there = np.flatnonzero(at[0] >= 0)
        result = np.zeros(len(at[0]), np.int64)
        octets = self._gathered(at, there, width)
        for column in range(width):
            result[there] = result[there] << 8 | octets[:, column]
        return result

    def _bytes(self, at: Found, width: int) -> Keys:
        """Read addresses; each message must have one."""
        if bool((at[0] < 0).any()):
            raise wire.WireError("a connection without an address of its family")
        return keys.of_matrix(self._gathered(at, np.arange(len(at[0])), width))

    def _gathered(self, at: Found, rows: NDArray[Any], width: int) -> NDArray[np.uint8]:
        begin, end = at[0][rows], at[1][rows]
        if bool((end - begin != width).any()):
            raise wire.WireError(f"a part of a connection isn't {width} bytes long")
        gathered: NDArray[np.uint8] = self._octets[begin[:, None] + np.arange(width)]
        return gathered
