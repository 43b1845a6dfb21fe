"""A list file: read in bulk as line by line, whatever the chunk, and every fault in its line."""

from __future__ import annotations

from gatewrit.policy import bulk
from gatewrit.policy.ranges import parse_list
from support.linewise import check

#: Reading line by line takes its time.
LARGEST = 1024


def one_input(data: bytes) -> None:
    if b"\0" in data:
        read = parse_list(data, "list")
        assert [found.code for found in read.faults] == ["not_text"]
        assert not read.ranges
        return
    check(data, bulk.CHUNK, *([7] if len(data) < 200 else [64] if len(data) < 2000 else []))
