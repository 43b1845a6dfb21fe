"""Questions to nftables, answered by a peer that says what a kernel would, or wouldn't."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING

import pytest

from gatewrit.kernel import messages, wire
from gatewrit.kernel.asking import Asking

if TYPE_CHECKING:
    from collections.abc import Iterable

DONE, ERROR, INTERRUPTED = 3, 2, 0x10


class Peer:
    """Stands in for the socket: takes each question, and gives what it was made with."""

    def __init__(self, answers: Iterable[tuple[bytes, int]]) -> None:
        self.answers = list(answers)
        self.closed = False

    def send(self, data: bytes) -> None:
        self.asked = data

    def recvfrom(self, size: int) -> tuple[bytes, tuple[int, int]]:
        assert size
        if not self.answers:
            raise BlockingIOError
        data, port = self.answers.pop(0)
        return data, (port, 0)

    def close(self) -> None:
        self.closed = True


def message(kind: int, body: bytes = b"", *, flags: int = 0, sequence: int = 1) -> bytes:
    return wire.NLMSGHDR.pack(16 + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


def code(number: int) -> bytes:
    return (-number).to_bytes(4, sys.byteorder, signed=True)


def asked(*answers: tuple[bytes, int], dump: bool = True) -> tuple[bytes, ...]:
    asking = Asking()
    asking._socket = peer = Peer(answers)
    try:
        return asking.ask(messages.request(messages.GETTABLE), dump=dump)
    except OSError:
        assert peer.closed, "whatever still comes of that answer must not be taken for the next one"
        raise


HEAD = bytes(4)


def test_an_answer_is_what_comes_before_its_end_in_however_many_datagrams() -> None:
    first = message(0xA00, HEAD + b"one") + message(0xA00, HEAD + b"two!")
    assert asked((first, 0), (message(0xA00, HEAD + b"3") + message(DONE, code(0)), 0)) == (b"one", b"two!", b"3")


def test_an_answer_to_one_question_has_no_end() -> None:
    assert asked((message(0xA10, HEAD + b"7"), 0), dump=False) == (b"7",)


def test_only_the_kernel_is_listened_to() -> None:
    assert asked((message(0xA00, HEAD + b"false"), 4711), (message(DONE, code(0)), 0)) == ()


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        (message(ERROR, code(errno.ENOENT)), errno.ENOENT),
        (message(DONE, code(errno.ENOBUFS)), errno.ENOBUFS),
        (message(ERROR, code(4000)), errno.EBADMSG),
        (message(0xA00, HEAD, flags=INTERRUPTED), errno.EINTR),
        (message(0xA00, HEAD, sequence=9), errno.EBADMSG),
        (message(0xA00, HEAD)[:10], errno.EBADMSG),
        (wire.NLMSGHDR.pack(400, 0xA00, 0, 1, 0) + HEAD, errno.EBADMSG),
        (wire.NLMSGHDR.pack(0, 0xA00, 0, 1, 0), errno.EBADMSG),
    ],
)
def test_what_is_no_answer_is_an_error_and_ends_the_socket(answer: bytes, number: int) -> None:
    with pytest.raises(OSError) as told:  # noqa: PT011 - its number is what counts
        asked((answer, 0))
    assert told.value.errno == number


def test_an_answer_that_never_comes_is_given_up() -> None:
    with pytest.raises(TimeoutError):
        asked()


def each(*answers: bytes, count: int = 2) -> list[tuple[int, list[bytes]]]:
    asking = Asking()
    asking._socket = peer = Peer([(answer, 0) for answer in answers])
    try:
        return asking.each([messages.request(messages.GETTABLE)] * count)
    except OSError:
        assert peer.closed
        raise


def test_several_questions_have_an_answer_each_and_one_may_be_refused() -> None:
    first = message(0xA00, HEAD + b"one") + message(0xA00, HEAD + b"two!") + message(ERROR, code(0))
    second = message(0xA00, HEAD + b"3", sequence=2), message(ERROR, code(errno.ENOENT), sequence=2)
    assert each(first, *second) == [(0, [b"one", b"two!"]), (errno.ENOENT, [b"3"])]


@pytest.mark.parametrize(
    "answers",
    [
        [message(ERROR, code(0)), message(ERROR, code(0), sequence=3)],
        [message(ERROR, code(0)), message(ERROR, code(0))],
        [message(ERROR, code(0))[:10]],
    ],
)
def test_an_answer_to_something_else_ends_the_socket(answers: list[bytes]) -> None:
    with pytest.raises(OSError, match="Bad message"):
        each(*answers)
