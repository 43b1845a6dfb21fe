"""Lists read line by line, as the definition has it: what reading in bulk is held to."""

from __future__ import annotations

import re
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.policy import bulk
from gatewrit.policy.faults import CAP, fault
from gatewrit.policy.ranges import _bad_line, _miscounted, parse_list, parse_span, to_ranges
from gatewrit.policy.terms import Place

if TYPE_CHECKING:
    from gatewrit.policy.model import Ranges
    from gatewrit.policy.terms import Fault


def plainly(data: bytes) -> tuple[tuple[Ranges, ...], tuple[Fault, ...]]:
    """Read a list as the definition has it: line by line."""
    faults, counts, entries, bad = [], [], [], 0
    for number, raw in enumerate(BytesIO(data), 1):
        line = raw.strip()
        place = Place("list", number, len(raw) - len(raw.lstrip()) + 1)
        if match := re.fullmatch(rb"[#;]+\s*entries\s*:\s*(.*?)\s*", line, re.IGNORECASE):
            counts.append((place, match[1].decode("ascii", "replace")))
        line = re.split(rb"[#;]", line, maxsplit=1)[0].rstrip()
        if not line:
            continue
        try:
            entries.append((parse_span(line.decode("ascii")), number))
        except ValueError as error:
            bad += 1
            if bad <= CAP:
                faults.append(_bad_line(error, line, place))
    if bad > CAP:
        faults.append(fault(faults[-1].place, "many_faults", f"and {bad - CAP:,} more bad lines below this one"))
    faults += _miscounted("list", len(entries) + bad, counts)
    return to_ranges(entries, "list"), tuple(sorted(faults))


def check(data: bytes, *sizes: int) -> None:
    expected, faults = plainly(data)
    for size in sizes or (bulk.CHUNK, 64, 7):
        read = parse_list(data, "list", size)
        assert read.faults == faults
        assert (read.data, read.sha256) == (data, sha256(data).hexdigest())
        assert [part.family for part in read.ranges] == [part.family for part in expected]
        for one, other in zip(read.ranges, expected, strict=True):
            assert one.file == other.file
            for name in ("first", "last", "line"):
                mine, theirs = getattr(one, name), getattr(other, name)
                assert mine.dtype == theirs.dtype
                assert np.array_equal(mine, theirs)
                assert not mine.flags.writeable
