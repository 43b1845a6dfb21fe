"""A feed for `import`: every fault in its line, or a list of just its addresses, which reads as a list.

The first octet says which format it is.
"""

from __future__ import annotations

from fuzz.holding import faults_stand_inside
from gatewrit.compile.imported import line, prefixes
from gatewrit.compile.spans import merge
from gatewrit.policy.feeds import Columns, Reader, lines_of
from gatewrit.policy.ranges import parse_list, to_ranges

LARGEST = 1024
_ASNS = frozenset({18705})
_WIDEST = {4: 16, 6: 32}
_BY_NAME = Columns(prefix="ip", note="why", where={"up": "1"})
_BY_NUMBER = Columns(first="1", last="2", note="3")


def one_input(data: bytes) -> None:
    form, feed = data[:1], data[1:]
    try:
        text = feed.decode()
    except UnicodeDecodeError:
        return
    reader = Reader("feed.txt", _WIDEST)
    match form:
        case b"t":
            entries = list(reader.table(lines_of(text), _ASNS))
        case b"j":
            entries = list(reader.spamhaus(text))
        case b"n":
            entries = list(reader.csv(text, _BY_NAME))
        case b"c":
            entries = list(reader.csv(text, _BY_NUMBER))
        case _:
            entries = list(reader.cidr(text))
    faults_stand_inside(reader.faults, {"feed.txt": feed})
    blocks = list(prefixes(entries, _WIDEST))
    inside = reader.inside(lines_of(text), _ASNS, [block for block, _ in blocks])
    assert all(each.span.first <= each.span.last for each in inside)
    if not entries:
        return
    read = parse_list("\n".join(line(block, sources) for block, sources in blocks).encode(), "list.txt")
    assert not read.faults
    for family in (4, 6):
        made = merge(family, read.ranges)
        meant = merge(family, to_ranges(((each.span, each.line) for each in entries), "feed"))
        assert (made.first == meant.first).all()
        assert (made.last == meant.last).all()
