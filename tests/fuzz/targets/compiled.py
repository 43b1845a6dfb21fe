"""Compiled lists on the shelf: what isn't just as it was written counts as not there, and nothing else happens.

The first octet `c` has the checksum made right, so that the header behind it is looked at too.
"""

from __future__ import annotations

from hashlib import sha256

from gatewrit.policy import compiled
from gatewrit.policy.ranges import parse_list

_LIST = b"192.0.2.0/24\n198.51.100.7\n2001:db8::/48\n"
_DIGEST = sha256(_LIST).hexdigest()
_WRITTEN = b"".join(bytes(part) for part in compiled.pack(parse_list(_LIST, "list")))
_HEAD = compiled.HEADER_BYTES - 32


def one_input(data: bytes) -> None:
    mended, content = data[:1] == b"c", data[1:]
    if mended:
        head, body = content[:_HEAD], content[compiled.HEADER_BYTES :]
        content = head + sha256(head + body).digest() + body
    read = compiled.unpack(content, _DIGEST, "list")
    if read is None:
        return
    assert mended or content == _WRITTEN
    kept = sum(part.first.nbytes + part.last.nbytes + part.line.nbytes for part in read)
    assert len(content) == compiled.HEADER_BYTES + kept
    assert all(len(part.first) == len(part.last) == len(part.line) > 0 for part in read)
