"""Set elements in bulk do just what one by one does, whatever the kernel dumps, and in whichever order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.kernel import keys, wire
from gatewrit.kernel.codec import ELEM_DATA, ELEM_FLAGS, ELEM_KEY, ELEM_KEY_END, SUM_FACTOR, decode, encode
from gatewrit.kernel.elements import Elements, Verdict, encode_verdict
from support import singly

VERDICTS = [Verdict("drop"), Verdict("return")] + [Verdict("goto", "x" * n + "y") for n in range(9)]
WIDTHS = [1, 2, 4, 8, 12, 16]


def record(
    key: bytes, verdict: Verdict | None, *, last: bytes | None = None, end: bool = False, more: bytes = b""
) -> bytes:
    """Give one element as the kernel dumps it."""
    parts = [wire.nest(ELEM_KEY, wire.attr(1, key))]
    parts += [] if last is None else [wire.nest(ELEM_KEY_END, wire.attr(1, last))]
    parts += [] if verdict is None else [wire.attr(ELEM_DATA | wire.NESTED, encode_verdict(verdict))]
    parts += [wire.be32(ELEM_FLAGS, 1)] if end else []
    return wire.nest(1, *parts, more)


def marks(rows: list[tuple[int, int]], width: int, verdicts: list[Verdict | None]) -> list[bytes]:
    """Give start and end marks, descending, as the kernel walks its tree."""
    found = []
    for (low, high), verdict in zip(rows, verdicts, strict=True):
        found.append((low, 1, record(low.to_bytes(width, "big"), verdict)))
        if high + 1 < 256**width:
            found.append((high + 1, 0, record((high + 1).to_bytes(width, "big"), None, end=True)))
    return [each for _, _, each in sorted(found, reverse=True)]


@st.composite
def dumps(draw: st.DrawFn, *, width: int, kind: str) -> list[bytes]:
    """Give lists of elements: in order or not, with lone starts, other attributes, cut anywhere between elements."""
    top = 256**width - 1
    near = st.one_of(st.integers(0, 40), st.integers(top - 40, top), st.integers(0, top))
    cuts = sorted(draw(st.sets(near, max_size=60)))
    cuts = cuts[: len(cuts) // 2 * 2]
    pool = draw(st.sampled_from([[None], VERDICTS[:1], VERDICTS[2:4], VERDICTS]))
    one_each = draw(st.booleans())
    rows = list(zip(cuts[::2], cuts[1::2], strict=True)) if kind != "hash" else [(cut, cut) for cut in cuts]
    if draw(st.booleans()) and kind == "marks":
        # Ranges that touch: the end of one and the start of the next are at one key.
        rows = [(low, (rows[at + 1][0] - 1 if at + 1 < len(rows) else high)) for at, (low, high) in enumerate(rows)]
    verdicts = [pool[at % len(pool)] if one_each else draw(st.sampled_from(pool)) for at in range(len(rows))]
    if kind == "marks":
        records = marks(rows, width, verdicts)
    else:
        packed = [(low.to_bytes(width, "big"), high.to_bytes(width, "big")) for low, high in rows]
        records = [
            record(low, verdict, last=high if kind == "pairs" else None)
            for (low, high), verdict in zip(packed, verdicts, strict=True)
        ]
    if draw(st.booleans()) and kind == "marks":
        keep = draw(st.sets(st.integers(0, len(records)), max_size=3))
        records = [each for at, each in enumerate(records) if at not in keep or each.find(wire.be32(ELEM_FLAGS, 1)) < 0]
    records = draw(st.sampled_from([records, records[::-1], draw(st.permutations(records))]))
    if draw(st.booleans()):
        odd = draw(st.sets(st.integers(0, 60), max_size=20))
        more = [wire.attr(6, b"abc"), wire.be64(8, 7), wire.be64(8, 8)]
        records = [wire.nest(1, each[4:], more[at % 3]) if at in odd else each for at, each in enumerate(records)]
    at = sorted(draw(st.sets(st.integers(0, len(records)), max_size=3)))
    return [b"".join(records[low:high]) for low, high in zip([0, *at], [*at, len(records)], strict=True)]


KINDS = {"hash": (False, False), "marks": (True, False), "pairs": (True, True)}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_bulk_is_one_by_one(kind: str, width: int, data: st.DataObject) -> None:
    interval, concatenated = KINDS[kind]
    lists = data.draw(dumps(width=width, kind=kind))
    expected = singly.decode(lists, width, interval=interval, concatenated=concatenated)
    found = decode(lists, width, interval=interval, concatenated=concatenated)
    assert list(found.rows()) == list(expected.rows())
    assert found.verdicts == expected.verdicts
    assert found.digest() == expected.digest()


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_damaged_bytes_are_an_error_or_read_as_one_by_one(kind: str, data: st.DataObject) -> None:
    """Bulk is stricter: keys of another length, marks twice at one key, a map's element without a verdict."""
    interval, concatenated = KINDS[kind]
    lists = [bytearray(payload) for payload in data.draw(dumps(width=4, kind=kind))]
    for _ in range(data.draw(st.integers(1, 3))):
        payload = data.draw(st.sampled_from(lists))
        if payload:
            payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
        del payload[data.draw(st.sampled_from([len(payload)] * 5 + [*range(len(payload))])) :]
    damaged = [bytes(payload) for payload in lists]
    try:
        found = decode(damaged, 4, interval=interval, concatenated=concatenated)
    except ValueError:
        return
    expected = singly.decode(damaged, 4, interval=interval, concatenated=concatenated)
    assert list(found.rows()) == list(expected.rows())


@pytest.mark.parametrize(
    ("records", "interval"),
    [
        ([record(bytes(4), None), record(bytes(5), None)], False),
        ([record(bytes(3), None)], True),
        ([record(bytes(4), None), record(bytes(4), None)], True),
        ([record(bytes(4), None), record(bytes(4), None, end=True), record(bytes(4), None)], True),
        ([record(bytes(4), None), record(b"\0\0\0\1", Verdict("drop"))], False),
        ([wire.nest(1, wire.be32(ELEM_FLAGS, 0))], False),
        ([wire.nest(1, wire.nest(ELEM_KEY, wire.attr(1, bytes(4))), wire.nest(ELEM_DATA))], False),
        ([record(bytes(4), None), record(b"\0\0\0\1", None), b"\7\0"], False),
        ([record(bytes(4), None), record(b"\0\0\0\1", None), b"\xff\xff\1\0" + bytes(12)], False),
        ([record(bytes(4), None), b"\0\0\1\0"], False),
        *(
            ([record(bytes(4), None), record(b"\0\0\0\1", None, more=wire.nest(does))], False)
            for does in (4, 5, 7, 9, 11)
        ),
    ],
)
def test_what_no_set_of_ours_holds_is_refused(records: list[bytes], *, interval: bool) -> None:
    with pytest.raises(wire.WireError):
        decode([b"".join(records)], 4, interval=interval, concatenated=False)


def test_a_last_element_out_of_step_is_seen() -> None:
    one, two, three = (record(bytes([0, 0, 0, at]), None, end=at == 1) for at in range(3))
    assert len(decode([one + two + three], 4, interval=True, concatenated=False)) == 2
    with pytest.raises(wire.WireError):
        decode([one + two + bytes([len(three) - 1]) + three[1:]], 4, interval=True, concatenated=False)


def test_verdicts_with_equal_sums_are_told_apart() -> None:
    words = np.array([0x7171717171717171, 0x7272727272727272], np.uint64)
    alike = words + np.array([SUM_FACTOR, 2**64 - 1], np.uint64)
    blobs = [
        wire.nest(2, wire.be32(1, -4), wire.attr(2, name.tobytes()))
        for name in (words, alike, words + np.uint64(1), words)
    ]
    keyed = [(wire.nest(ELEM_KEY, wire.attr(1, bytes([0, 0, 0, at]))), blob) for at, blob in enumerate(blobs)]
    lists = [b"".join(wire.nest(1, key, wire.attr(ELEM_DATA | wire.NESTED, blob)) for key, blob in keyed)]
    found = list(decode(lists, 4, interval=False, concatenated=False).rows())
    assert found == list(singly.decode(lists, 4, interval=False, concatenated=False).rows())
    assert len({verdict for _, _, verdict in found}) == 3


def test_a_list_ends_where_its_message_ends() -> None:
    """An element that claims to reach into the next list's bytes must not be put together from the two."""
    whole = record(bytes(4), None) + record(b"\0\0\0\1", None)
    with pytest.raises(wire.WireError):
        decode([whole[:20], whole[20:]], 4, interval=False, concatenated=False)


@given(
    st.sampled_from([(4, True, False), (16, True, False), (8, True, True), (4, False, False)]),
    st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=60),
)
def test_names_of_any_lengths_go_and_come(kind: tuple[int, bool, bool], verdicts: list[Verdict]) -> None:
    width, interval, concatenated = kind
    top = 256**width - 1
    numbers = [*range(0, 3 * len(verdicts) - 3, 3), top]
    rows = [
        (number.to_bytes(width, "big"), number.to_bytes(width, "big"), each)
        for number, each in zip(numbers, verdicts, strict=True)
    ]
    lists = list(encode(Elements.of(width, rows), interval=interval, concatenated=concatenated))
    assert list(decode(lists, width, interval=interval, concatenated=concatenated).rows()) == rows


@pytest.mark.parametrize("verdicts", [(), tuple(Verdict("goto", f"c{n:06}") for n in range(3000))])
def test_large_hashes_in_any_order(verdicts: tuple[Verdict, ...]) -> None:
    """Enough that the verdicts are told apart in several goes."""
    generator = np.random.default_rng(7)
    first = generator.permutation(250_000).astype(">u4").view("S4")
    chosen = generator.integers(0, max(1, len(verdicts)), len(first)).astype(np.int32)
    elements = Elements.of_arrays(first, None, chosen, verdicts)
    assert np.array_equal(elements.first.view(">u4"), np.arange(len(first)))
    lists = list(encode(elements, interval=False, concatenated=False))
    generator.shuffle(lists)
    found = decode(lists, 4, interval=False, concatenated=False)
    assert (len(found.minus(elements)), len(elements.minus(found)), found.digest()) == (0, 0, elements.digest())
    place = np.flatnonzero(keys.of_matrix(keys.matrix(first, 4)) == found.first[1234])[0]
    assert not verdicts or found.verdicts[found.verdict[1234]] == verdicts[chosen[place]]


@pytest.mark.parametrize("width", WIDTHS)
@given(data=st.data())
def test_keys_are_sorted_found_and_counted_as_numbers(width: int, data: st.DataObject) -> None:
    top = 256**width - 1
    near = st.one_of(st.integers(0, 3), st.integers(top - 3, top), st.integers(0, top))
    values = data.draw(st.lists(near, min_size=1, max_size=30))
    octets = np.frombuffer(b"".join(value.to_bytes(width, "big") for value in values), np.uint8).reshape(-1, width)

    def back(rows: keys.Octets) -> list[int]:
        return [int.from_bytes(row.tobytes(), "big") for row in rows]

    assert back(octets[keys.order(octets)]) == sorted(values)
    assert back(keys.increment(octets)) == [(value + 1) % (top + 1) for value in values]
    assert back(keys.decrement(octets)) == [(value - 1) % (top + 1) for value in values]
    among = sorted(set(data.draw(st.lists(near, min_size=1, max_size=30))))
    hay = keys.of_matrix(np.frombuffer(b"".join(v.to_bytes(width, "big") for v in among), np.uint8).reshape(-1, width))
    found = np.searchsorted(keys.comparable(hay, width), keys.comparable(keys.of_matrix(octets), width))
    assert found.tolist() == [sum(v < value for v in among) for value in values]
