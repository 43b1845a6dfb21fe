"""Feeds of others as entries, each with the line that it came from: what `gatewrit import` reads. Pure.

What isn't as its format has it is a fault with its place, never passed over: a feed that is half understood blocks half
of what was meant, or somebody else.
"""

from __future__ import annotations

import csv
import io
import json
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from gatewrit.policy.faults import fault
from gatewrit.policy.ranges import EntryError, Span, parse_span, span_text
from gatewrit.policy.terms import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gatewrit.policy.faults import Code
    from gatewrit.policy.terms import Family, Fault

#: What no entry for a service on the Internet takes in: the IANA special-purpose registries (RFC 6890 and those that
#: updated them), as far as it isn't globally reachable, multicast, and class E.
BOGONS: tuple[tuple[Span, str], ...] = tuple(
    (parse_span(prefix), what)
    for prefix, what in (
        ("0.0.0.0/8", "this network, RFC 791"),
        ("10.0.0.0/8", "private, RFC 1918"),
        ("100.64.0.0/10", "shared by carriers' NAT, RFC 6598"),
        ("127.0.0.0/8", "loopback, RFC 1122"),
        ("169.254.0.0/16", "link-local, RFC 3927"),
        ("172.16.0.0/12", "private, RFC 1918"),
        ("192.0.0.0/24", "protocol assignments, RFC 6890"),
        ("192.0.2.0/24", "documentation, RFC 5737"),
        ("192.168.0.0/16", "private, RFC 1918"),
        ("198.18.0.0/15", "benchmarks, RFC 2544"),
        ("198.51.100.0/24", "documentation, RFC 5737"),
        ("203.0.113.0/24", "documentation, RFC 5737"),
        ("224.0.0.0/4", "multicast, RFC 5771"),
        ("240.0.0.0/4", "reserved, RFC 1112"),
        ("2001::/32", "Teredo, RFC 4380"),
        ("2001:2::/48", "benchmarks, RFC 5180"),
        ("2001:10::/28", "ORCHID, RFC 4843"),
        ("2001:db8::/32", "documentation, RFC 3849"),
        ("2002::/16", "6to4, RFC 3056"),
        ("3fff::/20", "documentation, RFC 9637"),
    )
)
_HIGHEST = (1 << 128) - 1
_HEAD = re.compile("[.:]")
#: An address as a number: IPv6 has at most 39 digits.
_NUMBER = re.compile("[0-9]{1,39}")
#: All of IPv6 that anybody was given (RFC 4291, IANA's registry of IPv6 global unicast addresses).
_GLOBAL = parse_span("2000::/3")


class Entry(NamedTuple):
    """An entry, the line of the feed that it stands on, and what the feed says of it."""

    span: Span
    line: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a CSV file mean what, by name or, from 1, by number.

    Either `prefix` (any entry), or `first` and `last` (addresses, or the numbers that they are: IPv6 from 2**32 on).
    `note` is kept with the entry. Only rows that have in each column of `where` what it says are read.
    """

    prefix: str | None = None
    first: str | None = None
    last: str | None = None
    note: str | None = None
    where: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def named(self) -> tuple[str, ...]:
        """All columns that are named."""
        return tuple(each for each in (self.prefix, self.first, self.last, self.note, *self.where) if each is not None)


class Reader:
    """Reads a feed called `file`, and remembers what is wrong with it."""

    def __init__(self, file: str, widest: Mapping[int, int]) -> None:
        self.file = file
        self._widest = widest
        self.faults: list[Fault] = []

    def _wrong(self, line: int, code: Code, message: str, column: int = 1) -> None:
        self.faults.append(fault(Place(self.file, line, column), code, message))

    def _entry(self, text: str, line: int, note: str = "", column: int = 1) -> Iterator[Entry]:
        """Give an entry if nothing is wrong with it."""
        try:
            span = parse_span(text)
        except EntryError as error:
            self._wrong(line, error.code, str(error), column)
            return
        yield from self._fit(span, text, line, note, column)

    def _fit(self, span: Span, text: str, line: int, note: str, column: int) -> Iterator[Entry]:
        bits, widest = (32 if span.family == 4 else 128), self._widest[span.family]
        for bogon, what in BOGONS:
            if bogon.family == span.family and span.first <= bogon.last and bogon.first <= span.last:
                self._wrong(line, "bogon", f"{text} takes in {span_text(bogon)}: {what}", column)
                return
        if span.family == 6 and not _GLOBAL.first <= span.first <= span.last <= _GLOBAL.last:
            self._wrong(line, "bogon", f"{text} isn't within {span_text(_GLOBAL)}, global unicast, RFC 4291", column)
            return
        if span.last - span.first >= 1 << (bits - widest):
            message = f"{text} is wider than a /{widest}, which limits.widest_ipv{span.family} allows"
            self._wrong(line, "too_wide", message, column)
            return
        yield Entry(span, line, note)

    # -- the formats ---------------------------------------------------------------------------------------------

    def cidr(self, text: str) -> Iterator[Entry]:
        """Read one entry a line; what a comment behind it says is kept: FireHOL, Team Cymru, the old DROP."""
        for number, line in enumerate(lines_of(text), 1):
            cut = min((at for mark in "#;" if (at := line.find(mark)) >= 0), default=len(line))
            entry = line[:cut].strip()
            if entry:
                column = len(line) - len(line.lstrip()) + 1
                yield from self._entry(entry, number, line[cut:].strip("#; \t"), column)

    def spamhaus(self, text: str) -> Iterator[Entry]:
        """Read a JSON object a line, the last one saying how many there were: Spamhaus DROP and DROPv6."""
        said: int | None = None
        found = last = 0
        for number, line in enumerate(lines_of(text), 1):
            if not line.strip():
                continue
            last = number
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                self._wrong(number, "bad_record", "this line isn't a JSON object")
                continue
            match record:
                case {"cidr": str(cidr)}:
                    found += 1
                    yield from self._entry(cidr, number, str(record.get("sblid") or ""))
                case {"type": "metadata", "records": int(count)}:
                    said = count
                case _:
                    self._wrong(number, "bad_record", 'neither an entry ({"cidr": …}) nor {"type": "metadata", …}')
        if said is None:
            self._wrong(max(last, 1), "bad_record", "no metadata at the end: the feed is cut off; fetch it again")
        elif said != found:
            message = f"the metadata say {said} records, and {found} are here: the feed isn't whole; fetch it again"
            self._wrong(last, "bad_record", message)

    def table(self, lines: Sequence[str], asns: frozenset[int]) -> Iterator[Entry]:
        """Read what some autonomous systems announce in a BGP table: `prefix<TAB>asn` a line, `;` comments (pyasn)."""
        wanted = {str(asn) for asn in asns}
        for number, line in enumerate(lines, 1):
            prefix, tab, asn = line.partition("\t")
            if line[:1] == ";" or not line.strip():
                continue
            if not tab or not asn.isascii() or not asn.isdigit():
                self._wrong(number, "bad_record", "a line is prefix, tab, number of the autonomous system")
            elif asn in wanted:
                yield from self._entry(prefix, number, f"AS{asn}")

    def inside(self, lines: Sequence[str], asns: frozenset[int], blocks: Sequence[Span]) -> Iterator[Entry]:
        """Give what others announce in a BGP table inside of disjoint blocks: somebody else may well be there."""
        wanted = {str(asn) for asn in asns}
        ordered = sorted(blocks)
        heads = {head for block in ordered for head in _heads(block)}
        for number, line in enumerate(lines, 1):
            prefix, tab, asn = line.partition("\t")
            if not tab or asn in wanted or _HEAD.split(prefix, maxsplit=1)[0] not in heads:
                continue
            try:
                span = parse_span(prefix)
            except EntryError:
                # Nothing that could be inside of a block that was taken.
                continue
            block = ordered[max(bisect_right(ordered, span._replace(last=_HIGHEST)) - 1, 0)]
            if block.family == span.family and block.first <= span.first and span.last <= block.last:
                yield Entry(span, number, f"AS{asn}")

    def csv(self, text: str, columns: Columns) -> Iterator[Entry]:
        """Read comma-separated values; columns are named by the first line that is no comment, or numbered."""
        numbered = all(each.isdecimal() for each in columns.named)
        head: dict[str, int] | None = {each: int(each) - 1 for each in columns.named} if numbered else None
        for number, row in _rows(text):
            if head is None:
                head = self._head(number, row, columns.named)
                if head is None:
                    return
            elif max(head.values()) >= len(row):
                message = f"this line has {len(row)} columns, where {max(head.values()) + 1} are needed"
                self._wrong(number, "bad_record", message)
            elif all(row[head[name]].strip() == value for name, value in columns.where.items()):
                yield from self._of_row(number, row, head, columns)

    def _head(self, number: int, row: Sequence[str], wanted: Iterable[str]) -> dict[str, int] | None:
        names = [each.strip() for each in row]
        lacking = [each for each in wanted if names.count(each) != 1]
        if lacking:
            message = f"no column, or more than one, is called {', '.join(lacking)}; there are: {', '.join(names)}"
            self._wrong(number, "bad_record", message)
            return None
        return {each: names.index(each) for each in wanted}

    def _of_row(self, number: int, row: Sequence[str], head: Mapping[str, int], columns: Columns) -> Iterator[Entry]:
        note = row[head[columns.note]].strip() if columns.note else ""
        if columns.prefix is not None:
            yield from self._entry(row[head[columns.prefix]].strip(), number, note)
            return
        first, last = (row[head[each]].strip() for each in (columns.first, columns.last) if each is not None)
        if _NUMBER.fullmatch(first) and _NUMBER.fullmatch(last):
            family: Family = 4 if int(last) < 1 << 32 else 6
            first, last = (_address(family, int(each)) or each for each in (first, last))
        yield from self._entry(f"{first}-{last}", number, note)


def _address(family: Family, number: int) -> str | None:
    """Write the address that a number is; None if there is none."""
    return span_text(Span(family, number, number)) if number < 1 << (32 if family == 4 else 128) else None


def _heads(block: Span) -> Iterator[str]:
    """Give what the addresses of a block begin with, as text: the first octet, or the first group of IPv6."""
    shift, form = (24, "d") if block.family == 4 else (112, "x")
    return (format(head, form) for head in range(block.first >> shift, (block.last >> shift) + 1))


def lines_of(text: str) -> list[str]:
    """Give the lines as every editor counts them."""
    return [line.removesuffix("\r") for line in text.split("\n")]


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Give the rows of comma-separated values with their lines, comments (#) and empty lines left out."""
    lines = lines_of(text)
    kept = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    numbers = [number for number, _ in kept]
    reader = csv.reader(io.StringIO("\n".join(line for _, line in kept)), strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error:
            # An open quote: the columns that are lacking are told.
            row = []
        if row is None:
            return
        yield numbers[min(max(reader.line_num, 1), len(numbers)) - 1], row
