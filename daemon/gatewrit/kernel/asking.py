"""Asking nftables what it has: one question after the other on a socket of its own, to its last datagram.

An event loop's turn for each datagram would take longer than the kernel takes to fill it, and a million elements are
thousands of datagrams in a thousand dumps: so whoever asks waits, in a thread.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import threading
from typing import TYPE_CHECKING

from gatewrit.kernel import messages, wire

if TYPE_CHECKING:
    from gatewrit.kernel.messages import Message

_REQUEST, _DUMP, _DUMP_INTERRUPTED = 0x1, 0x300, 0x10
_ERROR, _DONE = 2, 3
#: The kernel fills 32 KB at once at most (netlink_dump()).
_AT_ONCE = 1 << 15
#: Seconds until a question counts as lost (struct timeval for SO_RCVTIMEO): the kernel answers before `send` returns.
_WITHIN = struct.pack("@ll", 5, 0)


class Asking:
    """A socket in the network namespace that it was opened in. Errors are `OSError`, with the kernel's number.

    After an error the socket isn't used again, for the rest of the answer may still come: `open` it anew.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._sequence = 0
        self._one_at_a_time = threading.Lock()

    def open(self) -> None:
        """Open the socket, unless there is one that can be used."""
        if self._socket is not None:
            return
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, wire.NETLINK_NETFILTER)
        try:
            opened.bind((0, 0))
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _WITHIN)
        except OSError:
            opened.close()
            raise
        self._socket = opened

    def close(self) -> None:
        """Close the socket once nobody is asking any more."""
        with self._one_at_a_time:
            self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ask(
        self,
        message: Message,
        *,
        dump: bool = True,
        subsystem: int = messages.SUBSYSTEM,
        family: int = messages.NFPROTO_INET,
    ) -> tuple[bytes, ...]:
        """Give the answer's messages from behind struct nfgenmsg; blocks.

        EINTR: the ruleset changed during the dump. `subsystem` is nfnetlink's, nftables if nothing else is said.
        """
        with self._one_at_a_time:
            try:
                return self._ask(message, dump, subsystem, family)
            except OSError:
                self._close()
                raise

    def _ask(self, message: Message, dump: bool, subsystem: int, family: int) -> tuple[bytes, ...]:  # noqa: FBT001
        if self._socket is None:
            raise _error(errno.ENOTCONN)
        self._sequence += 1
        body = wire.NFGENMSG.pack(family, 0, 0) + message.payload
        kind, flags = subsystem << 8 | message.kind, _REQUEST | (_DUMP if dump else 0)
        self._socket.send(wire.frame(kind, flags, self._sequence, 0, body))
        found: list[bytes] = []
        while not self._take(self._receive(self._socket), found) and dump:
            pass
        return tuple(found)

    @staticmethod
    def _receive(endpoint: socket.socket) -> bytes:
        while True:
            try:
                data, (port, _) = endpoint.recvfrom(_AT_ONCE)
            except BlockingIOError as error:
                raise _error(errno.ETIMEDOUT) from error
            if port == 0:
                # From the kernel.
                return data

    def _take(self, data: bytes, found: list[bytes]) -> bool:
        """Take the messages out of a datagram; True after the last one of an answer."""
        at = 0
        while at < len(data):
            length, kind, flags, sequence, _ = (
                wire.NLMSGHDR.unpack_from(data, at) if len(data) - at >= wire.NLMSGHDR.size else (0, 0, 0, 0, 0)
            )
            if length < wire.NLMSGHDR.size or at + length > len(data) or sequence != self._sequence:
                raise _error(errno.EBADMSG)
            body = data[at + wire.NLMSGHDR.size : at + length]
            if flags & _DUMP_INTERRUPTED:
                raise _error(errno.EINTR)
            if kind in {_ERROR, _DONE}:
                # An answer's end may be an error as well.
                if code := -int.from_bytes(body[:4], sys.byteorder, signed=True):
                    raise _error(code if code in errno.errorcode else errno.EBADMSG)
                return True
            found.append(body[wire.NFGENMSG.size :])
            at += length + 3 & ~3
        return False


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
