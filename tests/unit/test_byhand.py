"""The book of what stands by hand: entries, their limits, and its file."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.engine import byhand
from gatewrit.engine.byhand import (
    Book,
    RefusedError,
    Release,
    Request,
    Suspension,
    load,
    save,
    settle,
    sweep,
    write_down,
)
from gatewrit.policy.document import PolicyDocument
from gatewrit.policy.load import parse_policy
from support.gateway import policy

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_700_000_000
DAY = 86400


def known(**fields: object) -> dict[str, PolicyDocument]:
    document = parse_policy(policy("a", "s", **fields).encode(), "policies/a.yaml")  # type: ignore[arg-type]
    assert isinstance(document, PolicyDocument)
    return {"a": document}


def suspend(until: int, reason: str = "why", name: str | None = "a") -> Request:
    return Request("suspend", name, "anna", 1000, reason, until)


@given(st.integers(NOW - 30 * DAY, NOW + 30 * DAY))
def test_a_suspension_ends_within_seven_days(until: int) -> None:
    if not NOW < until <= NOW + 7 * DAY:
        with pytest.raises(RefusedError) as refusal:
            write_down(Book(), suspend(until), known(), NOW)
        assert refusal.value.code == "bad_until"
        return
    book, acts = write_down(Book(), suspend(until), known(), NOW)
    assert book.suspensions == {"a": Suspension(until, NOW, "anna", 1000, "why")}
    assert [(act.kind, act.policy, act.until, act.by) for act in acts] == [("suspended", "a", until, "anna")]
    assert sweep(book, until - 1) == (book, ())
    swept, ended = sweep(book, until)
    assert swept.suspensions == {}
    assert [(act.kind, act.at) for act in ended] == [("suspension_ended", until)]
    assert byhand.troubles(book, until - 1)
    assert not byhand.troubles(book, until)


@given(st.text(max_size=400))
def test_a_reason_is_one_printable_line(reason: str) -> None:
    if reason.strip() and len(reason) <= 300 and reason.isprintable():
        book, _ = write_down(Book(), suspend(NOW + 1, reason), known(), NOW)
        assert book.suspensions["a"].reason == reason
        return
    with pytest.raises(RefusedError) as refusal:
        write_down(Book(), suspend(NOW + 1, reason), known(), NOW)
    assert refusal.value.code == "bad_reason"


def test_all_means_those_that_can_still_act() -> None:
    documents = {
        "active": known()["a"],
        "halted": known(state="suspended")["a"],
        "lifted": known(state="rescinded")["a"],
        "lapsed": known(until=NOW)["a"],
        "later": known(start=NOW + DAY)["a"],
    }
    book, _ = write_down(Book(), suspend(NOW + 1, name=None), documents, NOW)
    assert sorted(book.suspensions) == ["active", "halted", "later"]
    for name in ("lifted", "lapsed"):
        with pytest.raises(RefusedError, match="nothing to suspend"):
            write_down(Book(), suspend(NOW + 1, name=name), documents, NOW)
    book, acts = write_down(book, Request("resume", None, "anna", 1000), documents, NOW)
    assert book == Book()
    assert [act.policy for act in acts] == ["active", "halted", "later"]


def test_a_later_suspension_replaces_the_earlier() -> None:
    book, _ = write_down(Book(), suspend(NOW + DAY, "first"), known(), NOW)
    book, _ = write_down(book, suspend(NOW + 60, "second"), known(), NOW + 5)
    assert book.suspensions == {"a": Suspension(NOW + 60, NOW + 5, "anna", 1000, "second")}


def test_a_release_is_of_what_is_held_and_is_used_up() -> None:
    release = Request("release", "a", "anna", 1000, "why")
    with pytest.raises(RefusedError) as refusal:
        write_down(Book(), release, known(), NOW)
    assert refusal.value.code == "nothing_held"
    book, acts = settle(Book(), {"a": "sha256:1"}, NOW)
    assert [(act.kind, act.content) for act in acts] == [("held", "sha256:1")]
    assert settle(book, {"a": "sha256:1"}, NOW + 1) == (book, ())
    book, _ = write_down(book, release, known(), NOW)
    assert book.released == {"a": "sha256:1"}
    book, acts = settle(book, {"a": "sha256:2"}, NOW)
    assert (book.released, book.held) == ({}, {"a": "sha256:2"})
    assert [act.content for act in acts] == ["sha256:2"]
    assert settle(book, {}, NOW) == (Book(), ())


def test_what_is_forgotten_leaves_nothing() -> None:
    suspension, release = Suspension(NOW + 9, NOW, "anna", 1000, "why"), Release("d", NOW, "anna", 1000, "why")
    both = Book(dict.fromkeys("ab", suspension), dict.fromkeys("ab", release), dict.fromkeys("ab", "d"))
    book, acts = write_down(both, Request("forget", "a", "anna", 1000, "gone"), {}, NOW)
    assert book == Book({"b": suspension}, {"b": release}, {"b": "d"})
    assert [(act.kind, act.policy, act.reason) for act in acts] == [("forgotten", "a", "gone")]


def test_the_book_outlives_a_restart(tmp_path: Path) -> None:
    assert load(tmp_path) == Book()
    suspension, release = Suspension(NOW + 9, NOW, "anna", 1000, "why"), Release("d", NOW, "anna", 1000, "why")
    book = Book({"a": suspension}, {"b": release}, {"b": "d"})
    save(tmp_path, book)
    assert load(tmp_path) == book


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version": 2}',
        b"\x00\xff",
        *(
            json.dumps({"version": 1, "suspensions": {}, "releases": {}, "held": {}, **part}).encode()
            for part in (
                {"suspensions": {"a": {}}},
                {"suspensions": {"a": {"until": "soon", "since": 1, "by": "x", "uid": 1, "reason": "y"}}},
                {"suspensions": {"a": {"until": 10**18, "since": 1, "by": "x", "uid": 1, "reason": "y"}}},
                {"suspensions": {"a": {"until": math.inf, "since": 1, "by": "x", "uid": 1, "reason": "y"}}},
                {"suspensions": []},
                {"releases": None},
                {"held": 3},
            )
        ),
    ],
)
def test_a_damaged_book_is_told_and_not_guessed_at(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "byhand.json").write_bytes(damage)
    with pytest.raises(ValueError, match=r"."):
        load(tmp_path)


def test_odd_names_in_a_damaged_book_are_kept_as_they_are(tmp_path: Path) -> None:
    book = Book({"\ud800": Suspension(NOW + 9, NOW, "\ud800", 1000, "why")})
    save(tmp_path, book)
    assert load(tmp_path) == book
