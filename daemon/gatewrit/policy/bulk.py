"""List files in bulk: a million lines to arrays in a breath, with nothing done line by line in Python.

**How.** A file is cut into chunks of whole lines, small enough that everything made of one stays in the processor's
cache. Within a chunk, `_tidy` first takes comments and the blanks around entries out, so that what is left of each line
is its entry or nothing. Then every byte that can't be part of a number is a *separator*, and what lies between two of
them is a *token*; the value of the token that ends at a byte is worked out for all bytes at once from the few bytes
before it. A line's form is told by its separators alone: `. . . / newline` is an IPv4 prefix, and so on. So a chunk is
read in some dozen passes of NumPy, whatever it holds.

**Certain or odd.** Only what is beyond doubt is taken: the forms below, written exactly as `parse_span` wants them,
with nothing wrong. Every other line is handed back as *odd*, whether it is faulty or just unusual, and `parse_span`
judges it word by word. So this module knows no fault and can't word one differently; all it must never do is take a
line that `parse_span` wouldn't take, or take it for something else.

    a.b.c.d   a.b.c.d/n   a.b.c.d-a.b.c.d   IPv4, decimal, no leading zeros
    h:h::h    h:h::h/n    h:h::h-h:h::h     IPv6, hexadecimal, no dotted quad at its end

In the arrays, line `i` of a tidied chunk lies between the newlines `i` and `i + 1`: a newline is put before the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from gatewrit.policy.model import IPV6_DTYPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Octets: TypeAlias = NDArray[np.uint8]
    Flags: TypeAlias = NDArray[np.bool_]
    Numbers: TypeAlias = NDArray[np.intp]
    Words: TypeAlias = NDArray[np.uint64]

#: Bytes of a chunk. A longer line is a chunk of its own, and odd.
CHUNK = 1 << 18

_NEWLINE, _DOT, _SLASH, _DASH, _COLON, _SPACE = b"\n./-: "
_FIRST_MARK, _OTHER_MARK = b"#;"
_HOSTS4 = np.array([(1 << (32 - length)) - 1 for length in range(33)], np.uint32)
_HOSTS6 = np.array([divmod((1 << (128 - length)) - 1, 1 << 64) for length in range(129)], np.uint64)
_NIBBLES = np.full(256, 0xFF, np.uint8)
_NIBBLES[list(b"0123456789abcdef")] = range(16)
_NIBBLES[list(b"ABCDEF")] = range(10, 16)
#: A prefix length by its digits read as hexadecimal; those that aren't decimal, or over 128, have none.
_LENGTHS = np.full(0x12A, 0xFF, np.uint8)
_LENGTHS[[int(str(length), 16) for length in range(129)]] = range(129)
#: From link-local addresses on (and below ::1:0:0:0:0), `parse_span` looks more closely.
_CLOSER = np.uint64(0xFE80 << 48)


class Entries(NamedTuple):
    """Certain entries of one family in the order of their lines: `line` counts from 0, ends are as in `Ranges`."""

    line: Numbers
    first: NDArray[np.generic]
    last: NDArray[np.generic]


class Chunk(NamedTuple):
    """Some whole lines: how many, the certain entries, and the odd lines (from 0) with where each begins and ends.

    Odd is also a line of comment that says `entries`, which may be a count.
    """

    lines: int
    four: Entries
    six: Entries
    odd: Iterator[tuple[int, int, int]]


def read(data: bytes, size: int = CHUNK) -> Iterator[Chunk]:
    """Read a list chunk by chunk; together they have every line of it."""
    at = 0
    while at < len(data):
        end = data.rfind(b"\n", at, at + size) + 1 or data.find(b"\n", at) + 1 or len(data)
        yield _read_chunk(data, at, end) if end - at <= size else Chunk(1, _NONE4, _NONE6, iter([(0, at, end)]))
        at = end


def _read_chunk(data: bytes, at: int, end: int) -> Chunk:
    raw = np.frombuffer(data, np.uint8, end - at, at)
    closed = [] if raw[-1] == _NEWLINE else [_NEWLINE]
    raw = np.concatenate([np.array([_NEWLINE], np.uint8), raw, np.array(closed, np.uint8)])
    ends = np.flatnonzero(raw == _NEWLINE)
    text, fit = _tidy(raw, ends)
    odd = np.diff(ends if text is raw else np.flatnonzero(text == _NEWLINE)) > 1
    four = _four(text, fit) if (text == _DOT).any() else _NONE4
    odd[four.line] = False
    six = _six(text, fit) if (text == _COLON).any() else _NONE6
    odd[six.line] = False
    if text is not raw:
        odd |= _counting(data, at, end, ends)
    lines = np.flatnonzero(odd)
    # `raw` has one newline more in front, so that its offsets are behind by one.
    places = zip(lines.tolist(), (at + ends[lines]).tolist(), (at + ends[lines + 1]).tolist(), strict=True)
    return Chunk(len(ends) - 1, four, six, places)


def _counting(data: bytes, at: int, end: int, ends: Numbers) -> Flags:
    """Tell the lines of comment that say `entries`."""
    found = np.zeros(len(ends) - 1, np.bool_)
    text, where = data[at:end].lower(), -1
    while (where := text.find(b"entries", where + 1)) >= 0:
        line = int(np.searchsorted(ends, where + 1)) - 1
        found[line] = text[int(ends[line]) : where].lstrip()[:1] in (b"#", b";")
        where = int(ends[line + 1]) - 1
    return found


def _tidy(raw: Octets, ends: Numbers) -> tuple[Octets, Flags]:
    """Take out comments, blanks around entries and blanks around the dash of a range.

    Gives the same number of lines, and which of them hold no other blanks. These are whole; the others are to be odd.
    """
    fit = np.ones(len(ends) - 1, np.bool_)
    marks = (raw == _FIRST_MARK) | (raw == _OTHER_MARK)
    # bytes.strip() takes off the same six.
    blank = (raw == _SPACE) | ((raw - np.uint8(9)) <= 4)
    if not marks.any() and np.count_nonzero(blank) == len(ends):
        return raw, fit
    content = ~blank
    if len(at := np.flatnonzero(marks)):
        line = np.searchsorted(ends, at)
        begins = np.flatnonzero(np.diff(line, prepend=-1))
        step = np.zeros(len(raw), np.int8)
        step[at[begins]] = 1
        step[ends[line[begins]]] = -1
        content &= np.cumsum(step, dtype=np.int8) == 0
    # A run of content that neither begins a line nor stands at a dash has a blank before it that counts.
    starts = np.flatnonzero(content[1:] & ~content[:-1]) + 1
    line = np.searchsorted(ends, starts) - 1
    later = np.flatnonzero(line[1:] == line[:-1]) + 1
    if len(later):
        stops = np.flatnonzero(content[:-1] & ~content[1:])
        apart = (raw[starts[later]] != _DASH) & (raw[stops[later - 1]] != _DASH)
        fit[line[later[apart]]] = False
    content[ends] = True
    return raw[content], fit


def _four(text: Octets, fit: Flags) -> Entries:
    digit = text - np.uint8(48)
    at = np.flatnonzero(digit > 9)
    kind = text[at]
    value = _decimals(digit, at)
    ends = np.flatnonzero(kind == _NEWLINE)
    tokens = np.diff(ends)

    def address(begin: Numbers) -> tuple[NDArray[np.uint32], Flags]:
        """Give the addresses of which these are the first tokens, and whether they are sound."""
        parts = [value[begin + place] for place in range(4)]
        sound = (parts[0] | parts[1] | parts[2] | parts[3]) < 256
        for place in range(3):
            sound &= kind[begin + place] == _DOT
        number = parts[0].astype(np.uint32)
        for part in parts[1:]:
            number = (number << np.uint32(8)) | part
        return number, sound

    found = []
    for count, closing in ((4, _NEWLINE), (5, _SLASH), (8, _DASH)):
        lines = np.flatnonzero((tokens == count) & fit)
        begin = ends[lines] + 1
        first, sound = address(begin)
        sound &= kind[begin + 3] == closing
        last = first
        if closing == _SLASH:
            length = value[begin + 4]
            hosts = _HOSTS4[np.minimum(length, 32)]
            sound &= (length <= 32) & (first & hosts == 0) & (length > 0)
            last = first | hosts
        elif closing == _DASH:
            last, other = address(begin + 4)
            sound &= other & (first <= last) & ((first > 0) | (last < 0xFFFFFFFF))
        found.append(Entries(lines[sound], first[sound], last[sound]))
    return _in_order(found)


def _decimals(digit: Octets, at: Numbers) -> NDArray[np.uint16]:
    """Give the number before each separator: one to three digits without a leading zero, else 0xFFFF."""
    # As octets, for they are gone through five times; whatever is longer than three is as good as four.
    length = np.zeros(len(at), np.uint8)
    np.minimum(at[1:] - at[:-1], 5, out=length[1:], casting="unsafe")
    length[1:] -= 1
    two, three = length > 1, length > 2
    # Where a token is shorter something else stands there, which is then nothing; the first may reach round to the end.
    value = digit[at - 1].astype(np.uint16)
    value += digit[at - 2] * np.uint16(10) * two
    value += digit[at - 3] * np.uint16(100) * three
    wrong = (length < 1) | (length > 3) | (two & (value < 10)) | (three & (value < 100))
    # No value is all ones; masked assignment would take several times as long.
    return value | -wrong.astype(np.uint16)


class _Tokens(NamedTuple):
    """The separators of a chunk by kind, and of the token before each its length and its value in hexadecimal.

    `pairs` counts the `::` up to each separator, that included, `bad` the tokens up to there that are no group.
    `double` are the separators that complete a `::`.
    """

    kind: Octets
    length: Numbers
    value: NDArray[np.uint16]
    pairs: Numbers
    bad: Numbers
    double: Numbers


def _six(text: Octets, fit: Flags) -> Entries:
    tokens = _tokens(text)
    outer = np.flatnonzero(tokens.kind != _COLON)
    ends = np.flatnonzero(tokens.kind[outer] == _NEWLINE)
    outers = np.diff(ends)
    found = []
    for closing in (_NEWLINE, _SLASH, _DASH):
        lines = np.flatnonzero((outers == (1 if closing == _NEWLINE else 2)) & fit)
        begin, close, end = outer[ends[lines]] + 1, outer[ends[lines] + 1], outer[ends[lines + 1]]
        (high, low), sound = _addresses(tokens, begin, close)
        sound &= tokens.kind[close] == closing
        last_high, last_low = high, low
        if closing == _SLASH:
            digits = tokens.value[end]
            length = _LENGTHS[np.minimum(digits, len(_LENGTHS) - 1)]
            sound &= (length <= 128) & (end == close + 1)
            sound &= tokens.length[end] == 1 + (digits > 0xF) + (digits > 0xFF)
            hosts = _HOSTS6[np.minimum(length, 128)]
            sound &= (high & hosts[:, 0] == 0) & (low & hosts[:, 1] == 0)
            last_high, last_low = high | hosts[:, 0], low | hosts[:, 1]
        elif closing == _DASH:
            (last_high, last_low), other = _addresses(tokens, close + 1, end)
            sound &= other & ((high < last_high) | ((high == last_high) & (low <= last_low)))
        sound &= (high > 0) & (last_high < _CLOSER)
        first, last = (_joined(*halves) for halves in ((high, low), (last_high, last_low)))
        found.append(Entries(lines[sound], first[sound], last[sound]))
    return _in_order(found)


def _tokens(text: Octets) -> _Tokens:
    nibble = _NIBBLES[text]
    is_hex = nibble < 16
    at = np.flatnonzero(~is_hex)
    value = np.where(is_hex, nibble, 0).astype(np.uint16)
    part = value.copy()
    for _ in range(3):
        # Each digit further off counts as long as all up to it are digits.
        part[1:] = part[:-1] << np.uint16(4)
        part *= is_hex
        value |= part
    kind, length = text[at], np.diff(at, prepend=-1) - 1
    double = (kind == _COLON) & (length == 0)
    double[0] = False
    double[1:] &= kind[:-1] == _COLON
    bad = (length < 1) | (length > 4)
    return _Tokens(kind, length, value[at - 1], np.cumsum(double), np.cumsum(bad), np.flatnonzero(double))


def _addresses(tokens: _Tokens, begin: Numbers, close: Numbers) -> tuple[tuple[Words, Words], Flags]:
    """Give both halves of the addresses of tokens `begin` to `close`, all separated by colons, and which are sound."""
    before = tokens.pairs[begin - 1]
    pairs = tokens.pairs[close] - before
    shortened = pairs == 1
    if len(tokens.double):
        double = np.where(shortened, tokens.double[np.minimum(before, len(tokens.double) - 1)], close + 1)
    else:
        double = close + 1
    # Before the first and behind the last token nothing stands where `::` begins or ends the address.
    leading = shortened & (double == begin + 1) & (tokens.length[begin] == 0)
    trailing = shortened & (double == close - 1) & (tokens.length[close] == 0)
    head = np.where(leading, 0, double - begin)
    tail = np.where(shortened & ~trailing, close - double, 0)
    empty = shortened.astype(np.intp) + leading + trailing
    # Two `::` have more without a group than that.
    sound = (tokens.bad[close] - tokens.bad[begin - 1]) == empty
    sound &= np.where(shortened, head + tail <= 7, head == 8)
    halves = np.zeros(len(begin), np.uint64), np.zeros(len(begin), np.uint64)
    for count, edge, towards in ((head, begin, 1), (tail, close, -1)):
        for place in range(int(count[sound].max(initial=0))):
            # Beyond the end of the chunk is only what doesn't count.
            group = tokens.value.take(edge + towards * place, mode="clip") * (count > place)
            half, shift = divmod(place if towards == 1 else 7 - place, 4)
            halves[half][:] |= group.astype(np.uint64) << np.uint64(48 - 16 * shift)
    return halves, sound


def _joined(high: Words, low: Words) -> NDArray[Any]:
    both = np.empty(len(high), IPV6_DTYPE)
    both["hi"], both["lo"] = high, low
    return both


def _in_order(found: list[Entries]) -> Entries:
    some = [each for each in found if len(each.line)] or found[:1]
    if len(some) == 1:
        return some[0]
    joined = [np.concatenate(columns) for columns in zip(*some, strict=True)]
    order = np.argsort(joined[0], kind="stable")
    return Entries(*(column[order] for column in joined))


_NONE4 = Entries(np.empty(0, np.intp), np.empty(0, np.uint32), np.empty(0, np.uint32))
_NONE6 = Entries(np.empty(0, np.intp), np.empty(0, IPV6_DTYPE), np.empty(0, IPV6_DTYPE))
