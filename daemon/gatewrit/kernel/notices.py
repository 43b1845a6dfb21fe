"""What others change in our table, as nftables itself tells (NFNLGRP_NFTABLES): one datagram or more per transaction.

Who listens makes every transaction of anybody dearer, in all network namespaces (`netlink_has_listeners()` knows one
list for all of them): the kernel then words each element, a million prefixes by `nft -f` take 57 s instead of 12. So
nobody listens while we fill sets ourselves, nor while the table is ours alone. What was missed shows in the ruleset's
generation, see `gatewrit.engine.drift`.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from gatewrit.kernel import messages, wire
from gatewrit.kernel.ruleset import TABLE

#: NFNLGRP_NFTABLES (include/uapi/linux/netfilter/nfnetlink.h).
_GROUP = 7
_ADD_MEMBERSHIP, _DROP_MEMBERSHIP = 1, 2
_HEADERS = wire.NLMSGHDR.size + wire.NFGENMSG.size
#: The table's name as a datagram has it, whatever else is in there.
_NAME = TABLE.encode() + b"\0"
_AT_ONCE, _MOST = 1 << 16, 256


@dataclass(frozen=True, slots=True)
class Notice:
    """What was told: whether our table was touched, which sets' elements came or went, and who did it (`nft (1234)`).

    `lost`: there was no room for all that was told, or it can't be read: anything may be other than it was.
    """

    touched: bool
    sets: frozenset[str] = frozenset()
    by: str | None = None
    lost: bool = False


class Notices:
    """A socket that is readable when anybody changed anything; `take` says whether that was ours. Raises `OSError`.

    `listening`: as from the start, until it is left.
    """

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, wire.NETLINK_NETFILTER)
        try:
            self._socket.bind((0, 0))
            self.join()
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Give the descriptor, to wait for."""
        return self._socket.fileno()

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def join(self) -> None:
        """Listen from now on; fine if it does."""
        self._socket.setsockopt(wire.SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP)
        self.listening = True

    def leave(self) -> None:
        """Listen to nothing from now on; what was told already is still to be taken. Fine if it doesn't listen."""
        self._socket.setsockopt(wire.SOL_NETLINK, _DROP_MEMBERSHIP, _GROUP)
        self.listening = False

    def take(self) -> Notice | None:
        """Take what was told so far; None if nothing of it was about our table."""
        found = Notice(touched=False)
        for _ in range(_MOST):
            try:
                data = self._socket.recv(_AT_ONCE)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found = _joined(found, Notice(touched=True, lost=True))
                continue
            # Who it was comes last, be it in a datagram of its own.
            if _NAME in data or (found.touched and found.by is None):
                found = _joined(found, read(data))
        return found if found.touched else None


def _joined(one: Notice, other: Notice) -> Notice:
    return Notice(one.touched or other.touched, one.sets | other.sets, other.by or one.by, one.lost or other.lost)


def read(data: bytes) -> Notice:
    """Read one datagram."""
    touched, sets, by, at = False, set[str](), None, 0
    try:
        while at + wire.NLMSGHDR.size <= len(data):
            length, kind, _, _, _ = wire.NLMSGHDR.unpack_from(data, at)
            if length < _HEADERS or kind >> 8 != messages.SUBSYSTEM:
                break
            parts = wire.attributes(data[at + _HEADERS : at + length])
            at += -(-length // 4) * 4
            if kind & 0xFF == messages.NEWGEN:
                by = f"{wire.text(parts[3])} ({wire.number(parts[2])})" if {2, 3} <= parts.keys() else None
            elif wire.text(parts.get(1, b"")) == TABLE:
                touched = True
                if kind & 0xFF in {messages.NEWSETELEM, messages.DELSETELEM}:
                    sets.add(wire.text(parts.get(2, b"")))
    except wire.WireError:
        return Notice(touched=True, lost=True)
    return Notice(touched, frozenset(sets), by)
