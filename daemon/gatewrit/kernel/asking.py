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
    from collections.abc import Iterator, Sequence

    from gatewrit.kernel.messages import Message

_REQUEST, _ACK, _DUMP, _DUMP_INTERRUPTED = 0x1, 0x4, 0x300, 0x10
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
        for kind, flags, sequence, body in _messages(data):
            if sequence != self._sequence:
                raise _error(errno.EBADMSG)
            if flags & _DUMP_INTERRUPTED:
                raise _error(errno.EINTR)
            if kind in {_ERROR, _DONE}:
                # An answer's end may be an error as well.
                if code := _code(body):
                    raise _error(code)
                return True
            found.append(body[wire.NFGENMSG.size :])
        return False

    def each(self, questions: Sequence[Message]) -> list[tuple[int, list[bytes]]]:
        """Ask several things at once, none of them by a dump; blocks.

        Gives for each the number of the error that its answer ended with, or 0, and the messages before that, from
        behind struct nfgenmsg. All of them have to fit the socket's buffer together: ENOBUFS.
        """
        with self._one_at_a_time:
            try:
                return self._each(questions)
            except OSError:
                self._close()
                raise

    def _each(self, questions: Sequence[Message]) -> list[tuple[int, list[bytes]]]:
        if self._socket is None:
            raise _error(errno.ENOTCONN)
        head = wire.NFGENMSG.pack(messages.NFPROTO_INET, 0, 0)
        frames, first = [], self._sequence + 1
        for question in questions:
            self._sequence += 1
            kind = messages.SUBSYSTEM << 8 | question.kind
            frames.append(wire.frame(kind, _REQUEST | _ACK, self._sequence, 0, head + question.payload))
        self._socket.send(b"".join(frames))
        ended, answers = list[tuple[int, list[bytes]]](), list[bytes]()
        while len(ended) < len(questions):
            for kind, _, sequence, body in _messages(self._receive(self._socket)):
                if sequence != first + len(ended):
                    raise _error(errno.EBADMSG)
                if kind == _ERROR:
                    ended.append((_code(body), answers))
                    answers = []
                else:
                    answers.append(body[wire.NFGENMSG.size :])
        return ended


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield the messages of a datagram: kind, flags, sequence number, body; raises EBADMSG for what is none."""
    at = 0
    while at < len(data):
        length, kind, flags, sequence, _ = (
            wire.NLMSGHDR.unpack_from(data, at) if len(data) - at >= wire.NLMSGHDR.size else (0, 0, 0, 0, 0)
        )
        if length < wire.NLMSGHDR.size or at + length > len(data):
            raise _error(errno.EBADMSG)
        yield kind, flags, sequence, data[at + wire.NLMSGHDR.size : at + length]
        at += length + 3 & ~3


def _code(body: bytes) -> int:
    """Give the number of the error that a message tells of; 0 for none."""
    code = -int.from_bytes(body[:4], sys.byteorder, signed=True)
    return code if code in errno.errorcode or not code else errno.EBADMSG


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
