"""Set elements as the kernel dumps them: in bulk as one by one, or refused; what was read writes and reads back alike.

The first octet says what kind of set it is, each list of elements stands behind its length (two octets).
"""

from __future__ import annotations

from gatewrit.kernel import codec
from support import singly

_WIDTHS = (4, 16, 2, 1, 8, 12)


def one_input(data: bytes) -> None:
    kind, lists = (data or b"\0")[0], pieces(data[1:])
    width = _WIDTHS[kind % len(_WIDTHS)]
    interval, concatenated = bool(kind & 0x40), bool(kind & 0x80)
    try:
        read = codec.decode(lists, width, interval=interval, concatenated=concatenated)
    except ValueError as error:
        assert str(error)
        return
    plain = singly.decode(lists, width, interval=interval, concatenated=concatenated)
    assert list(read.rows()) == list(plain.rows())
    assert read.digest() == plain.digest()
    if interval or read.first is read.last or (read.first == read.last).all():
        again = codec.encode(read, interval=interval, concatenated=concatenated)
        back = codec.decode(list(again), width, interval=interval, concatenated=concatenated)
        assert back.digest() == read.digest()


def pieces(data: bytes) -> list[bytes]:
    """Cut bytes up: two octets of length, big-endian, before each piece; what isn't there is left out."""
    found = []
    while len(data) > 2:
        end = 2 + int.from_bytes(data[:2], "big")
        found.append(data[2:end])
        data = data[end:]
    return found
