from __future__ import annotations

import ipaddress
import random
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.policy.canonical import canonical, entries_digest
from gatewrit.policy.model import IPV4_DTYPE, IPV6_DTYPE, Ranges
from gatewrit.policy.ranges import (
    EntryError,
    Span,
    covers_everything,
    parse_list,
    parse_span,
    span_text,
    to_ranges,
)

UNFIT = [ipaddress.ip_network(text) for text in ("::ffff:0:0/96", "fe80::/10", "ff00::/8")]


def fit(span: Span) -> bool:
    if span.first == 0 and span.last == 2 ** (32 if span.family == 4 else 128) - 1:
        return False
    return span.family == 4 or not any(
        span.first <= int(net.broadcast_address) and span.last >= int(net.network_address) for net in UNFIT
    )


@st.composite
def any_span(draw: st.DrawFn) -> Span:
    family = draw(st.sampled_from((4, 6)))
    bits = 32 if family == 4 else 128
    if draw(st.booleans()):
        length = draw(st.integers(1, bits))
        first = draw(st.integers(0, 2**length - 1)) << (bits - length)
        return Span(family, first, first + (1 << (bits - length)) - 1)
    one, other = (draw(st.integers(0, 2**bits - 1)) for _ in range(2))
    return Span(family, min(one, other), max(one, other))


spans = any_span().filter(fit)


@given(spans)
def test_an_entry_reads_back(span: Span) -> None:
    assert parse_span(span_text(span)) == span


@given(any_span())
def test_what_no_entry_may_take_in_is_refused_however_it_is_written(span: Span) -> None:
    if fit(span):
        parse_span(span_text(span))
    else:
        with pytest.raises(EntryError) as raised:
            parse_span(span_text(span))
        assert raised.value.code in ("too_wide", "address_family")


@given(st.ip_addresses(), st.integers(0, 128))
def test_prefixes_are_what_the_standard_library_takes_them_for(address: object, length: int) -> None:
    text = f"{address}/{length}"
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        with pytest.raises(EntryError):
            parse_span(text)
        return
    span = Span(network.version, int(network.network_address), int(network.broadcast_address))
    if fit(span):
        assert parse_span(text) == span


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        *[("::fffe:ffff:ffff", True), ("::ffff:0:0", False), ("::ffff:ffff:ffff", False), ("::1:0:0:0", True)],
        *[("fe7f:ffff::-fe80::", False), ("fe7f::/16", True), ("fe80::", False), ("febf:ffff::-fec0::", False)],
        *[("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff-fec0::", False), ("fec0::/10", True)],
        *[("feff::-ff00::", False), ("feff::/16", True), ("ff00::", False)],
        *[("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", False), ("255.255.255.255", True), ("0.0.0.0", True)],  # noqa: S104 - an address, not a socket
        *[("0.0.0.0-255.255.255.254", True), ("0.0.0.1-255.255.255.255", True), ("0.0.0.0/1", True)],
    ],
)
def test_the_edges_of_what_is_refused(text: str, taken: bool) -> None:  # noqa: FBT001 - a table of what is taken
    if taken:
        parse_span(text)
    else:
        with pytest.raises(EntryError):
            parse_span(text)


def test_host_bits_say_the_right_prefix() -> None:
    with pytest.raises(EntryError, match=r"206\.51\.26\.0/24") as raised:
        parse_span("206.51.26.1/24")
    assert raised.value.code == "host_bits"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "-",
        "1.1.1.1/",
        "1.1.1.1/08",
        "1.1.1.1/+8",
        "1.1.1.1/1_6",
        "1.1.1.1/٨",
        "1.1.1.1/8/8",
        "1.1.1.1/" + "9" * 5000,
        "1.2.3",
        "1",
        "0x7f.1",
        "010.0.0.0/8",
        "1.1.1.1-",
        "1.1.1.1-1.1.1.2-1.1.1.3",
        "::1%lo",
        "\x00",
        "1.1.1.1\x00",
        "é",
        "1.1.1.0/255.255.255.0",
        "1.1.1.1-5",
        "1.1.1.1-::1",
        "2.2.2.2-1.1.1.1",
        "[::1]",
        "1.1.1.1:80",
        "a" * 10000,
    ],
)
def test_what_is_no_entry(text: str) -> None:
    with pytest.raises(EntryError) as raised:
        parse_span(text)
    assert raised.value.code == "bad_entry"
    assert len(str(raised.value)) < 300


@given(st.lists(spans, max_size=30), st.randoms())
def test_a_list_becomes_arrays_in_its_own_order(entries: list[Span], chance: random.Random) -> None:
    lines, places = [f"# entries: {len(entries)}"], []
    for entry in entries:
        while chance.random() < 0.3:
            lines.append(chance.choice(["", "# comment", "; comment", "   ", "\t"]))
        lines.append(f"{chance.choice(['', ' '])}{span_text(entry)}{chance.choice(['', ' # c', ';c', ' ', chr(13)])}")
        places.append(len(lines))
    read = parse_list("\n".join(lines).encode(), "list")
    assert [fault.code for fault in read.faults] == ([] if entries else ["list_empty"])
    assert [(part.family, part.file) for part in read.ranges] == [
        (family, "list") for family in (4, 6) if any(entry.family == family for entry in entries)
    ]
    got = {part.family: list(zip(*decoded(part), part.line.tolist(), strict=True)) for part in read.ranges}
    for family in (4, 6):
        own = [(s.first, s.last, line) for s, line in zip(entries, places, strict=True) if s.family == family]
        assert got.get(family, []) == own


def decoded(part: Ranges) -> tuple[list[int], list[int]]:
    def numbers(values: np.ndarray) -> list[int]:
        if part.family == 4:
            return [int(value) for value in values]
        return [(int(value["hi"]) << 64) | int(value["lo"]) for value in values]

    return numbers(part.first), numbers(part.last)


def test_arrays_are_of_the_types_said_and_cant_be_changed() -> None:
    four, six = parse_list(b"192.0.2.0/24\n2001:db8::/32\n", "list").ranges
    assert (four.first.dtype, six.last.dtype, four.line.dtype) == (IPV4_DTYPE, IPV6_DTYPE, np.dtype(np.int32))
    assert len(four) == len(six) == 1
    for array in (four.first, four.last, four.line, six.first, six.last):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[0]


@given(st.lists(spans, max_size=12), st.randoms())
def test_lists_that_mean_the_same_are_canonically_equal(entries: list[Span], chance: random.Random) -> None:
    shuffled = entries + chance.choices(entries, k=3) if entries else []
    chance.shuffle(shuffled)
    one, other = (to_ranges(zip(some, range(len(some)), strict=True), "f") for some in (entries, shuffled))
    for family in (4, 6):
        rows = canonical(one, family)
        assert np.array_equal(rows, canonical(other, family))
        words = [
            (s.first, s.last) if family == 4 else (s.first >> 64, s.first % 2**64, s.last >> 64, s.last % 2**64)
            for s in sorted({s for s in entries if s.family == family})
        ]
        assert [tuple(map(int, row)) for row in rows] == words
        digest = entries_digest(one, family)
        assert digest == entries_digest(other, family) == entries_digest((*one, *other), family)
        fewer = to_ranges(((s, 1) for s in entries if s.family == family and s != shuffled[0]), "f")
        assert (entries_digest(fewer, family) == digest) is (not entries or shuffled[0].family != family)


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), max_size=40))
def test_entries_that_agree_in_part_are_ordered_by_the_rest(parts: list[tuple[int, int, int]]) -> None:
    entries = [Span(6, (high << 64) | low, (high << 64) + low + size) for high, low, size in parts]
    rows = canonical(to_ranges(((entry, 1) for entry in entries), "f"), 6)
    assert [((high << 64) | low, (top << 64) | rest) for high, low, top, rest in rows.tolist()] == sorted(
        {(entry.first, entry.last) for entry in entries}
    )


@given(st.lists(spans, min_size=1, max_size=12))
def test_a_good_list_has_the_digest_of_what_it_means(entries: list[Span]) -> None:
    read = parse_list("\n".join(map(span_text, entries)).encode(), "f")
    for part in read.ranges:
        assert part.digest == entries_digest(to_ranges(((entry, 1) for entry in entries), "f"), part.family)


@given(st.lists(st.integers(1, 2**32 - 1), max_size=6), st.sampled_from(["whole", "gap", "first", "last"]))
def test_everything_in_parts_is_everything(cuts: list[int], what: str) -> None:
    edges = sorted({0, *cuts, 2**32})
    parts = [Span(4, one, other - 1) for one, other in pairwise(edges)]
    chosen = {
        "whole": parts + parts[:1],
        "gap": parts[: len(parts) // 2] + parts[len(parts) // 2 + 1 :] + parts[:1] * (len(parts) > 1),
        "first": [*parts[1:], Span(4, 1, 2**32 - 1)],
        "last": [*parts[:-1], Span(4, 0, 2**32 - 2)],
    }[what]
    covered = set()
    for part in chosen:
        covered |= {(one, other) for one, other in pairwise(edges) if part.first <= one <= part.last}
    expected = what == "whole" or (what == "gap" and len(covered) == len(edges) - 1)
    assert covers_everything(to_ranges(zip(chosen, range(len(chosen)), strict=True), "f")) == expected


@pytest.mark.parametrize("hole", [1, 2**31 - 1, 2**31, 2**32 - 2])
def test_everything_but_one_address_isnt_everything(hole: int) -> None:
    parts = [Span(4, 0, hole - 1), Span(4, hole + 1, 2**32 - 1), Span(4, 0, hole - 1), Span(4, hole + 1, 2**32 - 1)]
    assert not covers_everything(to_ranges(zip(parts, range(4), strict=True), "f"))
    parts[2] = Span(4, hole, hole)
    assert covers_everything(to_ranges(zip(parts, range(4), strict=True), "f"))


def test_a_hundred_thousand_lines_take_about_a_second() -> None:
    chance = random.Random(18705)  # noqa: S311 - the same list each time
    lines = [f"{chance.randrange(1, 224)}.{chance.randrange(256)}.{chance.randrange(256)}.0/24" for _ in range(80_000)]
    lines += [f"2{chance.randrange(4096):03x}:{chance.randrange(65536):x}::/32" for _ in range(20_000)]
    data = "\n".join(lines).encode()
    start = time.process_time()
    read = parse_list(data, "list")
    assert time.process_time() - start < 3
    assert sum(len(part) for part in read.ranges) == 100_000


def test_bad_lines_are_capped_and_counted() -> None:
    read = parse_list(b"x\n" * 5000 + b"192.0.2.1\n", "list")
    assert len(read.faults) == 101
    assert "4,900 more" in read.faults[-1].message
    assert read.faults[-1].code == "many_faults"


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reader(junk: bytes) -> None:
    read = parse_list(junk, "list")
    assert read.faults or read.ranges
    assert all(str(fault).isprintable() for fault in read.faults)
