"""Good lists as they are kept once they are parsed: their arrays, word for word, behind a header that vouches for them.

A compiled list stands for the bytes of one list file, by their SHA-256, and saves parsing them again after a restart.
It is worth nothing but time: whatever isn't exactly as it was written counts as not there. What messages call the file
isn't in it, since one content may lie in several places.

    magic  version  order  count of IPv4  count of IPv6  digest of IPv4  of IPv6  SHA-256 of the list    128 bytes
    SHA-256 over all the rest of this file                                                               32 bytes
    first, last and line of IPv4, then of IPv6, as they lie in memory

Numbers are in the byte order of the machine that wrote them; another one doesn't recognise `order`.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.policy.model import IPV4_DTYPE, IPV6_DTYPE, Ranges
from gatewrit.policy.ranges import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatewrit.policy.ranges import AddressList

#: Raised with every change of what parsing a list gives, of digests of entries, and of the layout.
VERSION = 1
_MAGIC = b"gw-list\n"
_ORDER = 0x01020304
_HEAD = struct.Struct("=8sIIQQ32s32s32s")
#: A multiple of 16, so that the arrays behind it are aligned.
HEADER_BYTES = _HEAD.size + 32
#: The most that one byte of a list can become: `::` and a newline make two IPv6 addresses and a line number.
MOST_PER_BYTE = 12
_LINE = np.dtype(np.int32)
_ADDRESS = {4: IPV4_DTYPE, 6: IPV6_DTYPE}


def pack(compiled: AddressList) -> list[bytes | memoryview]:
    """Give the parts of the file that keeps a good list, without copying its arrays."""
    by_family = {part.family: part for part in compiled.ranges}
    counts = [len(by_family[family]) if family in by_family else 0 for family in FAMILIES]
    digests = [by_family[family].digest if family in by_family else b"" for family in FAMILIES]
    head = _HEAD.pack(_MAGIC, VERSION, _ORDER, *counts, *digests, bytes.fromhex(compiled.sha256))
    columns = [column for part in by_family.values() for column in (part.first, part.last, part.line)]
    body = [np.ascontiguousarray(column).view(np.uint8).data for column in columns]
    return [head, _checksum([head, *body]), *body]


def unpack(content: bytes, digest: str, file: str) -> tuple[Ranges, ...] | None:
    """Give the ranges of the list with this SHA-256 from what was kept of it; None if it isn't that, whole and ours."""
    if len(content) < HEADER_BYTES:
        return None
    magic, version, order, *counts, digest4, digest6, kept = _HEAD.unpack_from(content)
    if (magic, version, order, kept) != (_MAGIC, VERSION, _ORDER, bytes.fromhex(digest)):
        return None
    sizes = [
        count * (2 * _ADDRESS[family].itemsize + _LINE.itemsize) for family, count in zip(FAMILIES, counts, strict=True)
    ]
    if len(content) != HEADER_BYTES + sum(sizes):
        return None
    view = memoryview(content)
    if view[_HEAD.size : HEADER_BYTES] != _checksum([view[: _HEAD.size], view[HEADER_BYTES:]]):
        return None
    ranges = []
    at = HEADER_BYTES
    for family, count, of_family in zip(FAMILIES, counts, (digest4, digest6), strict=True):
        ends = np.frombuffer(content, _ADDRESS[family], 2 * count, at)
        at += ends.nbytes
        line = np.frombuffer(content, _LINE, count, at)
        at += line.nbytes
        if count:
            ranges.append(Ranges(family, ends[:count], ends[count:], line, file, of_family))
    return tuple(ranges)


def _checksum(parts: Sequence[bytes | memoryview]) -> bytes:
    digest = sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()
