"""A list that was changed is read as if nothing had been there before, and knows what came and what went."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from bench import lists
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.compile.rows import apart
from gatewrit.policy import again
from gatewrit.policy.ranges import AddressList, parse_list, span_text
from unit.test_policy_bulk import lines
from unit.test_policy_lists import same
from unit.test_policy_ranges import spans

if TYPE_CHECKING:
    from gatewrit.policy.model import Ranges

texts = st.one_of(
    spans.map(span_text),
    spans.map(span_text),
    st.sampled_from(["", "# why", "# entries: 3", " ; Entries: 4", "10.0.0.1", "10.0.0.1 # twice", "::1-::9"]),
    lines.map(lambda text: text.replace("\0", "x")),
)
#: Where something goes, how many lines, and what comes there.
edits = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6), st.lists(texts, max_size=4)), max_size=4)
ends = st.sampled_from(["", "\n"])


def edited(old: list[str], changes: list[tuple[int, int, list[str]]]) -> list[str]:
    new = list(old)
    for at, gone, come in changes:
        new[at : at + gone] = come
    return new


def data(text: list[str], end: str) -> bytes:
    return ("\n".join(text) + end).encode("utf-8", "surrogatepass")


def rows(part: Ranges) -> Counter[tuple[object, ...]]:
    return Counter(zip(part.first.tolist(), part.last.tolist(), strict=True))


def check(before: AddressList, new: bytes) -> AddressList:
    made, plain = parse_list(new, "here", before=before), parse_list(new, "here")
    assert same(made, plain)
    assert made.counts == plain.counts
    old = {part.family: part for part in before.ranges}
    for part in made.ranges:
        if part.since is not None:
            assert part.since.old() is old[part.family]
            assert rows(part) == rows(old[part.family]) - rows(part.since.gone) + rows(part.since.fresh)
            assert {id(each) for each in apart([old[part.family]], [part])} <= {
                id(each) for each in (part.since.gone, part.since.fresh)
            } or part.digest == old[part.family].digest
    return made


@pytest.fixture(params=[None, 8, 64], ids=["as it is", "tiny windows", "small windows"])
def windows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param is not None:
        monkeypatch.setattr(again, "_WINDOWS", (request.param, 4 * request.param))
        monkeypatch.setattr(again, "_NEAR", request.param)
        monkeypatch.setattr(again, "_FAR", 2 * request.param)


@pytest.mark.usefixtures("windows")
@given(st.lists(texts, max_size=30), edits, ends, ends)
def test_no_change_makes_a_difference_to_what_is_read(
    old: list[str], changes: list[tuple[int, int, list[str]]], end: str, other: str
) -> None:
    before = parse_list(data(old, end), "here")
    check(check(before, data(edited(old, changes), other)), data(old, other))


@pytest.mark.parametrize("make", [lists.mixed, lists.mixed6])
def test_of_a_long_list_only_what_was_changed_is_read(make: type[object], monkeypatch: pytest.MonkeyPatch) -> None:
    old = list(make(4000).lines())  # type: ignore[call-arg,attr-defined]
    spare = list(make(4040).lines())[4000:]  # type: ignore[call-arg,attr-defined]
    new = [*old[20:1000], *spare[:5], *old[1000:2000], *old[2003:3000], spare[5], *old[3001:], *spare[6:]]
    before = parse_list(data(old, "\n"), "here")
    read = again.difference(before.data, data(new, "\n"))
    assert read is not None
    assert read.text.decode().split() == [*spare[:5], spare[5], *spare[6:]]
    made = check(before, data(new, "\n"))
    (part,) = made.ranges
    assert part.since is not None
    assert (len(part.since.gone), len(part.since.fresh)) == (24, 40)
    # Too little in common is no difference, but another text.
    monkeypatch.setattr(again, "_LITTLE", 0)
    assert again.difference(data(spare, "\n"), before.data) is None


def test_who_was_faulty_or_another_is_no_beginning() -> None:
    good, bad = b"10.0.0.1\n10.0.0.3\n", b"10.0.0.1\nnonsense\n"
    assert not check(parse_list(bad, "here"), good).faults
    assert [each.code for each in check(parse_list(good, "here"), bad).faults] == ["bad_entry"]
    other = parse_list(good + b"10.0.0.5\n", "here", before=parse_list(good, "there"))
    assert (other.ranges[0].file, other.ranges[0].since) == ("here", None)


def test_what_a_line_says_of_the_count_holds_though_it_was_not_read_again() -> None:
    old = "".join(f"10.0.{at}.1\n" for at in range(60))
    before = parse_list(("# first\n# entries: 60\n" + old).encode(), "here")
    assert not before.faults
    made = check(before, ("# entries: 60\n" + old[:-10]).encode())
    assert [(str(each.place), each.code) for each in made.faults] == [("here:1:1", "entries_mismatch")]
