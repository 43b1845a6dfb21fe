"""Addresses as people write them, in files and in bulk: prefixes, addresses and first-last ranges to arrays.

An entry that is almost right is wrong: host bits behind a prefix length, an octet with a leading zero or a range that
runs backwards are told apart and refused with what would be right, because a guess here blocks somebody else.
"""

from __future__ import annotations

import ipaddress
import re
from array import array
from dataclasses import dataclass, replace
from hashlib import sha256
from socket import AF_INET, AF_INET6, inet_pton
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gatewrit.policy import bulk
from gatewrit.policy.again import difference, spliced
from gatewrit.policy.canonical import canonical, entries_digest
from gatewrit.policy.faults import CAP, fault
from gatewrit.policy.model import IPV4_DTYPE, IPV6_DTYPE, Ranges
from gatewrit.policy.terms import Family, Fault, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from gatewrit.policy.again import Difference, Run
    from gatewrit.policy.faults import Code

#: A list of eight million prefixes; beyond that something else than a service is meant.
MAX_LIST_BYTES = 128 << 20

FAMILIES: tuple[Family, ...] = (4, 6)
_LOW = (1 << 64) - 1
_EVERYTHING = {4: (1 << 32) - 1, 6: (1 << 128) - 1}
#: What no IPv6 entry may take in: these never leave a link, or name a group, or are IPv4 in disguise.
_UNFIT = (
    (0xFFFF << 32, (0xFFFF << 32) | 0xFFFFFFFF, "the v4-mapped ::ffff:0:0/96; write IPv4 addresses as IPv4"),
    (0xFE80 << 112, (0xFEC0 << 112) - 1, "the link-local fe80::/10, which no gateway forwards"),
    (0xFF00 << 112, (1 << 128) - 1, "the multicast ff00::/8, on which neighbour discovery rests"),
)


class Span(NamedTuple):
    """One entry: all addresses of a family from `first` to `last`, both included."""

    family: Family
    first: int
    last: int


class EntryError(ValueError):
    """An entry that can't be taken, with the code of its fault."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code


@dataclass(frozen=True, slots=True, eq=False)
class AddressList:
    """A list file as read: its bytes, their digest, its ranges (at most one per family), and what is wrong with it.

    `counts` are the lines that say how many entries there are, and what they say; None if that isn't known any more.
    """

    file: str
    data: bytes
    sha256: str
    ranges: tuple[Ranges, ...]
    faults: tuple[Fault, ...]
    counts: tuple[tuple[Place, str], ...] | None = None


# Not int() alone, which takes `08`, `+8`, `1_6` and other alphabets' digits.
_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")


def parse_span(text: str) -> Span:
    """Read one entry; raises EntryError with a sentence that says what would be right."""
    address, slash, length = text.partition("/")
    try:
        packed = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
        bits = 8 * len(packed)
        prefix = int(length) if _LENGTH.fullmatch(length) else -1 if slash else bits
    except (OSError, ValueError):
        return _span_of_range(text)
    host = bits - prefix
    first = int.from_bytes(packed, "big")
    if not 0 <= prefix <= bits:
        raise EntryError("bad_entry", _bad_length(_clip(text), address, length, bits))
    hosts = (1 << host) - 1
    if first & hosts:
        network = ipaddress.ip_network((packed, prefix), strict=False)
        message = f"{text} has bits set behind /{prefix}; write {network}, or {address} for the one address"
        raise EntryError("host_bits", message)
    return _fit(Span(4 if bits == 32 else 6, first, first + hosts), text)


def _span_of_range(text: str) -> Span:
    ends = [end.strip() for end in text.split("-")]
    if len(ends) != 2:
        raise EntryError("bad_entry", _hint(text))
    try:
        first, last = (ipaddress.ip_address(end) for end in ends)
    except ValueError:
        raise EntryError("bad_entry", _hint(text)) from None
    if first.version != last.version:
        raise EntryError("bad_entry", f"{text}: a range has both ends in one family")
    if "%" in text:
        raise EntryError("bad_entry", _hint(text))
    if int(first) > int(last):
        raise EntryError("bad_entry", f"{text}: the range runs backwards; write {last}-{first}")
    return _fit(Span(first.version, int(first), int(last)), text)


def _fit(span: Span, text: str) -> Span:
    if span.first == 0 and span.last == _EVERYTHING[span.family]:
        raise EntryError("too_wide", f"{text} matches every IPv{span.family} address; name what the service uses")
    if span.family == 6:
        for first, last, what in _UNFIT:
            if span.first <= last and span.last >= first:
                raise EntryError("address_family", f"{text} takes in {what}")
    return span


def _bad_length(text: str, address: str, length: str, bits: int) -> str:
    if bits == 32 and "." in length:
        try:
            return f"{text}: write {ipaddress.ip_network(text, strict=False)} instead of a netmask"
        except ValueError:
            pass
    if re.search(r"[,\s]", text):
        return f"{text}: one entry per line or list item"
    return f"{text}: the length behind {address}/ is a number from 1 to {bits}"


def _clip(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _hint(text: str) -> str:  # noqa: PLR0911 - one return for each slip
    shown = _clip(text)
    forms = "an entry is a prefix (206.51.26.0/24), an address, or a range (first-last)"
    if re.fullmatch(r"[0-9.]+(?:/\d+)?", text):
        octets = text.partition("/")[0].split(".")
        if any(octet.isdigit() and len(octet) > 1 and octet[0] == "0" for octet in octets):
            return f"{shown}: a leading zero makes an octet octal to some programs; write it without"
        if any(octet.isdigit() and int(octet[:9]) > 255 for octet in octets):
            return f"{shown}: an octet goes up to 255"
        if len(octets) != 4:
            return f"{shown}: an IPv4 address has four octets"
    if "%" in text:
        return f"{shown}: an address with a zone (%) has no meaning beyond one link"
    if re.search(r"[,\s]", text):
        return f"{shown}: one entry per line or list item; {forms}"
    if re.fullmatch(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+\.?", text) and re.search(r"[A-Za-z]", text):
        return f"{shown} looks like a name; names aren't looked up, write the addresses"
    return f"{shown} isn't an address; {forms}"


_ENTRIES = re.compile(rb"[#;]+\s*entries\s*:\s*(.*?)\s*", re.IGNORECASE)
_COMMENT = re.compile(rb"[#;]")


def parse_list(data: bytes, file: str, chunk: int = bulk.CHUNK, before: AddressList | None = None) -> AddressList:
    """Read a list file: one entry per line, `#` and `;` begin comments, `# entries: N` is held to.

    `chunk` is how many bytes are read at a time, `before` the list that was there before: no result depends on either,
    but that ranges know what they came from.
    """
    digest = sha256(data).hexdigest()
    if b"\0" in data:
        place = Place(file, data.count(b"\n", 0, data.index(b"\0")) + 1, 1)
        said = "a NUL byte: this is a binary file; one prefix, address or first-last range per line is read"
        return AddressList(file, data, digest, (), (fault(place, "not_text", said),))
    reader = _Reader(file)
    usable = before is not None and not before.faults and before.counts is not None and before.file == file
    found = difference(before.data, data) if before is not None and usable else None
    if before is None or found is None:
        ranges = _families(_entries(data, reader, file, chunk), file)
    else:
        fresh = _families(_entries(found.text, reader, file, chunk, found.numbers), file)
        reader.take_over(before.counts or (), found.runs)
        ranges = tuple(_frozen(each) for each in _all_spliced(before.ranges, fresh, found, file))
    faults = reader.judged(sum(map(len, ranges)))
    if not faults:
        # Whoever takes the list will ask for it, and again whenever something else of a service has changed.
        ranges = tuple(replace(part, digest=entries_digest([part], part.family)) for part in ranges)
    return AddressList(file, data, digest, ranges, faults, reader.counts)


def _entries(
    data: bytes, reader: _Reader, file: str, chunk: int, numbers: NDArray[np.int32] | None = None
) -> list[Ranges]:
    """Read the lines of a text, chunk by chunk; `numbers` are those of the lines, if they aren't all of a file."""
    found: list[Ranges] = []
    above = 0
    for part in bulk.read(data, chunk):
        lines = np.arange(1, part.lines + 1, dtype=np.int32) + np.int32(above)
        if numbers is not None:
            lines = numbers[above : above + part.lines]
        odd = ((int(lines[line]), data[start:stop]) for line, start, stop in part.odd)
        slow = to_ranges(reader.read(odd), file)
        found += _in_turn(_certain(part, lines, file), slow)
        above += part.lines
    return found


def _families(parts: list[Ranges], file: str) -> tuple[Ranges, ...]:
    ranges = tuple(joined for family in FAMILIES if (joined := _joined(parts, family, file)))
    parts.clear()
    return ranges


def _all_spliced(before: Sequence[Ranges], fresh: Sequence[Ranges], found: Difference, file: str) -> Iterator[Ranges]:
    for family in FAMILIES:
        old, new = (next((part for part in parts if part.family == family), None) for parts in (before, fresh))
        if (made := spliced(old, new, found, file)) is not None:
            yield made


class _Reader:
    """Reads lines one by one, each as it stands in the file, and remembers what is wrong with them."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._faults: list[Fault] = []
        self._counts: list[tuple[Place, str]] = []
        self._bad = 0

    def read(self, lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[Span, int]]:
        """Give the entries of lines with their numbers."""
        for number, raw in lines:
            line = raw.strip()
            if b"#" in line or b";" in line:
                if match := _ENTRIES.fullmatch(line):
                    self._counts.append((_place(self._file, number, raw), match[1].decode("ascii", "replace")))
                line = _COMMENT.split(line, maxsplit=1)[0].rstrip()
            if not line:
                continue
            try:
                yield parse_span(line.decode("ascii")), number
            except ValueError as error:
                self._bad += 1
                if self._bad <= CAP:
                    self._faults.append(_bad_line(error, line, _place(self._file, number, raw)))

    def take_over(self, counts: Iterable[tuple[Place, str]], runs: Iterable[Run]) -> None:
        """Take over what lines that weren't read again say of how many entries there are."""
        for run in runs:
            lines = range(run.old, run.old + run.lines)
            self._counts += [
                (replace(place, line=place.line + run.new - run.old), said)
                for place, said in counts
                if place.line in lines
            ]

    @property
    def counts(self) -> tuple[tuple[Place, str], ...]:
        """The lines that say how many entries there are, in order."""
        return tuple(sorted(self._counts))

    def judged(self, good: int) -> tuple[Fault, ...]:
        """Give all that is wrong with a list that has so many good entries."""
        faults, bad = list(self._faults), self._bad
        if bad > CAP:
            faults.append(fault(faults[-1].place, "many_faults", f"and {bad - CAP:,} more bad lines below this one"))
        faults += _miscounted(self._file, good + bad, self._counts)
        return tuple(sorted(faults))


def _miscounted(file: str, found: int, counts: Iterable[tuple[Place, str]]) -> Iterator[Fault]:
    for place, count in counts:
        if count != str(found):
            message = f"this line says {count or 'nothing'}, but the list has {found} entries; is a part missing?"
            yield fault(place, "entries_mismatch", message)
    if not found:
        message = "there is no entry in this list, so it would block nothing; is a part missing?"
        yield fault(Place(file, 1, 1), "list_empty", message)


def _bad_line(error: ValueError, line: bytes, place: Place) -> Fault:
    if isinstance(error, EntryError):
        return fault(place, error.code, str(error))
    if place.line == 1 and line.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        message = "the file begins with a byte order mark; save it as plain text without one"
    else:
        message = "this isn't text: one prefix, address or first-last range per line is"
    return fault(place, "not_text", message)


def _place(file: str, number: int, raw: bytes) -> Place:
    return Place(file, number, len(raw) - len(raw.lstrip()) + 1)


def to_ranges(entries: Iterable[tuple[Span, int]], file: str) -> tuple[Ranges, ...]:
    """Put entries and their lines into arrays, one Ranges per family that occurs, in the order of the source.

    No object is kept per entry: a million of them would cost more than everything else of the daemon.
    """
    four, six = array("I"), array("Q")
    four_lines, six_lines = array("i"), array("i")
    for (family, first, last), line in entries:
        if family == 4:
            four.extend((first, last))
            four_lines.append(line)
        else:
            six.extend((first >> 64, first & _LOW, last >> 64, last & _LOW))
            six_lines.append(line)
    result = []
    if four:
        pairs = np.frombuffer(four, IPV4_DTYPE).reshape(-1, 2)
        result.append(_ranges(4, pairs[:, 0].copy(), pairs[:, 1].copy(), four_lines, file))
    if six:
        halves = np.frombuffer(six, np.uint64).reshape(-1, 4)
        first_, last_ = (halves[:, at : at + 2].copy().view(IPV6_DTYPE).reshape(-1) for at in (0, 2))
        result.append(_ranges(6, first_, last_, six_lines, file))
    return tuple(result)


def _ranges(
    family: Family, first: NDArray[np.generic], last: NDArray[np.generic], lines: array[int], file: str
) -> Ranges:
    return _frozen(Ranges(family, first, last, np.array(lines, np.int32), file))


def _frozen(ranges: Ranges) -> Ranges:
    for column in (ranges.first, ranges.last, ranges.line):
        column.setflags(write=False)
    return ranges


def _certain(part: bulk.Chunk, lines: NDArray[np.int32], file: str) -> list[Ranges]:
    found: tuple[tuple[Family, bulk.Entries], ...] = ((4, part.four), (6, part.six))
    return [Ranges(family, each.first, each.last, lines[each.line], file) for family, each in found if len(each.line)]


def _in_turn(certain: Sequence[Ranges], slow: Sequence[Ranges]) -> Iterator[Ranges]:
    """Put the entries of a chunk that were read in two ways into the order of their lines."""
    for family in FAMILIES:
        parts = [part for part in (*certain, *slow) if part.family == family]
        if len(parts) == 2:
            one, other = parts
            order = np.argsort(np.concatenate([one.line, other.line]), kind="stable")
            columns = ((one.first, other.first), (one.last, other.last), (one.line, other.line))
            first, last, line = (np.concatenate(pair)[order] for pair in columns)
            yield Ranges(family, first, last, line, one.file)
        else:
            yield from parts


def _joined(parts: Iterable[Ranges], family: Family, file: str) -> Ranges | None:
    own = [part for part in parts if part.family == family]
    if not own:
        return None
    first, last, line = (np.concatenate([getattr(part, name) for part in own]) for name in ("first", "last", "line"))
    return _frozen(Ranges(family, first, last, line, file))


def covers_everything(ranges: Iterable[Ranges]) -> bool:
    """Whether the IPv4 entries together leave nothing out. IPv6's can't: see `parse_span`."""
    own = [part for part in ranges if part.family == 4]
    ends = ((int(part.first.sum(dtype=np.uint64)), int(part.last.sum(dtype=np.uint64))) for part in own)
    if sum(last - first for first, last in ends) + sum(map(len, own)) <= _EVERYTHING[4]:
        return False
    rows = canonical(own, 4)
    reach = np.maximum.accumulate(rows[:, 1])
    return bool(rows[0, 0] == 0 and reach[-1] == _EVERYTHING[4] and (rows[1:, 0] <= reach[:-1] + 1).all())


def span_text(span: Span) -> str:
    """Write an entry the shortest way that reads back the same: an address, a prefix, or first-last."""
    address = ipaddress.IPv4Address if span.family == 4 else ipaddress.IPv6Address
    size = span.last - span.first + 1
    if size == 1:
        return str(address(span.first))
    if size & (size - 1) == 0 and span.first % size == 0:
        return f"{address(span.first)}/{(32 if span.family == 4 else 128) - size.bit_length() + 1}"
    return f"{address(span.first)}-{address(span.last)}"
