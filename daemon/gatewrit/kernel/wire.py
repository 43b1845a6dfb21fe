"""Netlink's headers and attributes: type, length, value, padded to four bytes (include/uapi/linux/netlink.h).

Decoding trusts nothing: a length that leaves its parent is `WireError`, never a read past the end.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

NESTED = 0x8000
TYPE_MASK = 0x3FFF
_HEADER = struct.Struct("=HH")
#: struct nlmsghdr: length, type, flags, sequence number, port.
NLMSGHDR = struct.Struct("=IHHII")
#: struct nfgenmsg: family, version, resource id in network order (include/uapi/linux/netfilter/nfnetlink.h).
NFGENMSG = struct.Struct("!BBH")
#: The level of netlink's own socket options.
SOL_NETLINK = 270
#: The protocol of nfnetlink's sockets (include/uapi/linux/netlink.h).
NETLINK_NETFILTER = 12


class WireError(ValueError):
    """Bytes that are not what they claim to be."""


def frame(kind: int, flags: int, sequence: int, port: int, body: bytes) -> bytes:
    """Put struct nlmsghdr in front of a message's body, and pad it."""
    return NLMSGHDR.pack(NLMSGHDR.size + len(body), kind, flags, sequence, port) + body + bytes(-len(body) % 4)


def attr(kind: int, payload: bytes) -> bytes:
    """Encode one attribute."""
    length = 4 + len(payload)
    return _HEADER.pack(length, kind) + payload + bytes(-length % 4)


def nest(kind: int, *attributes: bytes) -> bytes:
    """Encode an attribute that holds attributes."""
    return attr(kind | NESTED, b"".join(attributes))


def string(kind: int, text: str) -> bytes:
    """Encode a NUL-terminated string."""
    return attr(kind, text.encode() + b"\0")


def be32(kind: int, value: int) -> bytes:
    """Encode a 32-bit number in network order; negative ones as two's complement."""
    return attr(kind, (value & 0xFFFFFFFF).to_bytes(4, "big"))


def be64(kind: int, value: int) -> bytes:
    """Encode a 64-bit number in network order."""
    return attr(kind, value.to_bytes(8, "big"))


def walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, payload) of each attribute in `data`, flags stripped from the type."""
    for kind, start, end in spans(data, 0, len(data)):
        yield kind, data[start:end]


def spans(data: bytes, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (type, start, end) of each attribute's payload from `offset` to `end`, without copying it."""
    while offset < end:
        if end - offset < 4:
            raise WireError(f"{end - offset} stray bytes after the last attribute")
        length, kind = _HEADER.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            raise WireError(f"attribute {kind & TYPE_MASK} claims {length} bytes, {end - offset} are left")
        yield kind & TYPE_MASK, offset + 4, offset + length
        offset += (length + 3) & ~3


class Attributes(dict[int, bytes]):
    """Payloads by type; to ask for one that isn't there is `WireError`."""

    def __missing__(self, kind: int) -> NoReturn:
        raise WireError(f"attribute {kind} is missing")


def attributes(data: bytes) -> Attributes:
    """Give the attributes in `data` by type; of a repeated one the last, as the kernel does."""
    return Attributes(walk(data))


def text(payload: bytes) -> str:
    """Decode a NUL-terminated string; bytes that aren't UTF-8 stay visible as escapes."""
    return payload.rstrip(b"\0").decode(errors="backslashreplace")


def number(payload: bytes) -> int:
    """Decode an unsigned number in network order, whatever its width."""
    return int.from_bytes(payload, "big")
