"""Reading in bulk is reading line by line, only faster: tests/support/linewise.py is what it is held to."""

from __future__ import annotations

import random
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatewrit.policy import bulk
from gatewrit.policy.faults import CAP
from gatewrit.policy.model import IPV6_DTYPE
from gatewrit.policy.ranges import parse_list, span_text
from support.linewise import check
from unit.test_policy_ranges import any_span

# Pieces that are right or nearly so, so that most lines are in doubt about one thing only.
octets = st.sampled_from(
    ["0", "1", "9", "10", "99", "100", "255", "256", "999", "1000", "00", "01", "010", "", "a", "1a"]
)
quads = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.lists(octets, min_size=3, max_size=5).map(".".join),
    st.lists(st.integers(0, 255).map(str), min_size=4, max_size=4).map(".".join),
)
groups = st.sampled_from(
    ["0", "1", "ab", "ABC", "fFfF", "0000", "0db8", "12345", "g", "fe80", "ff02", "::", "", "1.2.3.4"]
)
hexes = st.one_of(
    st.ip_addresses(v=6).map(str),
    st.ip_addresses(v=6).map(lambda address: address.exploded),
    st.lists(groups, min_size=1, max_size=9).map(":".join),
    st.lists(st.sampled_from(["2001", "db8", "0", "1", "::", ":", "f"]), max_size=12).map("".join),
    st.tuples(st.integers(0, 8), st.integers(0, 8)).map(
        lambda sizes: "::".join(":".join(["2a"] * size) for size in sizes)
    ),
)
addresses = st.one_of(quads, hexes)
lengths = st.one_of(
    st.integers(0, 130).map(str), st.sampled_from(["", "08", "032", "1280", "999", "+8", "a", "1_6", "255.0.0.0", "3a"])
)
blanks = st.text(" \t\r\v\f", max_size=3)
entries = st.one_of(
    any_span().map(span_text),
    any_span().map(span_text),
    addresses,
    st.tuples(addresses, lengths).map("/".join),
    st.tuples(addresses, blanks, st.sampled_from("-/:. "), blanks, addresses).map("".join),
    st.text("0123456789abcfFg.:/-# ;,%é\x1c\x85\0", max_size=20),
    st.text(max_size=8),
)
comments = st.sampled_from(
    [
        "",
        "",
        "",
        "# said",
        ";",
        "# entries: 3",
        "#entries:1 ",
        ";; Entries : x",
        "# no entries: 2",
        "#\t ENTRIES:",
        "##",
    ]
)
lines = st.one_of(
    st.tuples(blanks, entries, blanks, comments).map("".join),
    entries,
    st.tuples(blanks, comments, blanks).map("".join),
    st.just(""),
)
whole = st.tuples(
    st.sampled_from(["", "", "", "\ufeff"]),
    st.lists(st.tuples(lines, st.sampled_from(["\n", "\n", "\r\n", "\n\n", "\r"])).map("".join), max_size=20).map(
        "".join
    ),
    lines,
).map("".join)


@settings(max_examples=1500)
@given(whole)
@example("1.1.1.1 2\n::1 # 1.1.1.1-2\n1.1.1.1 -1.1.1.3\n- 1.1.1.1\n1.1.1.0 -/24\n")
@example("1::\n::\n1:::\n2001:::1\n1:2:3:4:5:6:7::\n::2:3:4:5:6:7:8\n1:2:3:4:5:6:7::8\n1:2:3:4::5:6:7:8\n1::2::3\n")
@example("0.0.0.0/0\n0.0.0.0-255.255.255.255\n0.0.0.0/1\n0.0.0.0\n::/0\n::1\nfe80::\nfe7f::/16\n")
@example(
    "2001:db8::/32\n2001:db8::/032\n2001:db8::/20\n2001:db8::/0x20\n2001:db8::/129\n2001:db8::/00\n2001:db8::/12a\n"
)
def test_bulk_is_line_by_line(text: str) -> None:
    check(text.encode("utf-8", "surrogatepass").replace(b"\0", b"\1"))


@given(st.lists(st.sampled_from([b"\n", b" ", b"#", b"entries", b":", b"1", b".", b"-", b"/", b"\r", b"\xff", b";"])))
def test_no_bytes_make_a_difference(pieces: list[bytes]) -> None:
    check(b"".join(pieces))
    check(b"2001:db8::1" + b"".join(pieces) + b"1.1.1.1")


def test_a_line_changed_at_one_place_is_read_as_before() -> None:
    good = ["206.51.26.0/24", "10.20.30.40", "1.2.3.4-1.2.3.9", "2607:ffc0::/32", "2001:db8:0:1::-2001:db8::1:ffff:2:1"]
    chance = random.Random(4)  # noqa: S311 - the same lines each time
    found = []
    for line in good:
        for at in range(len(line) + 1):
            for new in "0159a./:- \t#g":
                found += [line[:at] + new + line[at:], line[:at] + new + line[at + 1 :]]
            found.append(line[:at] + line[at + 1 :])
    chance.shuffle(found)
    for begin in range(0, len(found), CAP):
        # Few enough at a time that no fault is left out.
        check("\n".join(found[begin : begin + CAP]).encode(), bulk.CHUNK)


def test_the_plain_forms_are_none_of_them_odd() -> None:
    forms = [
        "192.0.2.0/24",
        "192.0.2.7",
        "192.0.2.1-192.0.2.9",
        "192.0.2.1 - 192.0.2.9",
        "2001:db8::/32",
        "2001:DB8::1",
    ]
    forms += ["2001:db8:1:2:3:4:5:6/128", "2001:db8::-2001:db8::9", "1::", "2001:db8::1:0:0:1"]
    dressed = [
        f"{before}{form}{after}" for form in forms for before in ("", " ") for after in ("", "\r", " # why", ";")
    ]
    found = list(bulk.read("\n".join([*dressed, "", "# nothing", " ", ""]).encode()))
    assert [list(chunk.odd) for chunk in found] == [[]]
    assert sum(len(chunk.four.line) + len(chunk.six.line) for chunk in found) == len(dressed)


def test_a_million_lines_are_read_in_a_breath_and_in_little_memory() -> None:
    at = np.arange(1 << 20)
    text = "".join(f"{(n >> 16) + 1}.{n >> 8 & 255}.{n & 255}.0/24\n" for n in at.tolist()).encode()
    start = time.process_time()
    (read,) = parse_list(text, "list").ranges
    # Ten times what it takes, for machines that are busy with other tests too.
    assert time.process_time() - start < 4
    assert np.array_equal(read.first, (at.astype(np.uint32) + (1 << 16)) << 8)
    assert np.array_equal(read.line, at + 1)
    del read
    tracemalloc.start()
    try:
        parse_list(text, "list")
        assert tracemalloc.get_traced_memory()[1] < 60 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "line", [b"1.1.1.1 2", b"::ffff:1.2.3.4", b"x", b"# entries: 1", b" ", b"2001:db8::1.2.3.4", b"#"]
)
def test_a_file_of_odd_lines_takes_its_time_and_no_more(line: bytes) -> None:
    start = time.process_time()
    parse_list((line + b"\n") * 20_000, "list")
    assert time.process_time() - start < 5


@pytest.mark.parametrize("line", [b"1" * (3 << 20), b" " * (3 << 20), b"#entries" * (1 << 18), b"1:" * (3 << 19)])
def test_a_line_of_any_length_is_read_once(line: bytes) -> None:
    start = time.process_time()
    check(b"192.0.2.1\n" + line + b"\n2001:db8::1", bulk.CHUNK)
    assert time.process_time() - start < 5


def test_ends_of_ipv6_entries_are_of_the_type_said() -> None:
    (chunk,) = bulk.read(b"2001:db8::/32\n")
    assert chunk.six.first.dtype == IPV6_DTYPE
    assert chunk.six.last.tolist() == [(0x20010DB8FFFFFFFF, 2**64 - 1)]
