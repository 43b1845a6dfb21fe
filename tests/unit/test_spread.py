"""A question about a prefix is answered as the questions about each of its addresses are."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from itertools import groupby
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.api.answer import sentence
from gatewrit.api.question import QuestionError, parameters_of, read_question
from gatewrit.compile.surroundings import Surroundings
from gatewrit.engine.answer import NotKeptError, Question
from gatewrit.engine.spread import MOST_PARTS
from gatewrit.policy.model import Exceptions, Transport
from support.strategies import ranges_of, simple
from unit.test_explain import NAT64, ask

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatewrit.engine.answer import Answer
    from gatewrit.policy.model import Policy
    from gatewrit.policy.terms import Family

BASE = {4: int(ip_address("203.0.113.0")), 6: int(ip_address("2607:ffc0::"))}
EVERYTHING, TCP = Transport(None), Transport(6, 3101, 3101)


def order(name: str, family: Family, pairs: Iterable[tuple[int, int]], transport: Transport) -> Policy:
    """Make a policy over ranges of numbers."""
    bits = 4 if family == 4 else 16
    entries = ["-".join(str(ip_address(end.to_bytes(bits, "big"))) for end in pair) for pair in pairs]
    return simple(name, entries, [transport])


def spans() -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(-4, 20), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(
    family=st.sampled_from([4, 6]),
    orders=st.lists(
        st.tuples(st.lists(spans(), min_size=1, max_size=3), st.booleans(), st.none() | spans()), max_size=3
    ),
)
def test_all_addresses_together(
    family: Family, orders: list[tuple[list[tuple[int, int]], bool, tuple[int, int] | None]]
) -> None:
    base = BASE[family]
    policies = []
    for at, (blocked, everything, spared) in enumerate(orders):
        policy = order(
            f"order-{at}",
            family,
            [(base + low, base + high) for low, high in blocked],
            EVERYTHING if everything else TCP,
        )
        if spared is not None:
            excepted = ranges_of(family, [(base + spared[0], base + spared[1])])
            policy = replace(policy, exceptions=Exceptions(prefixes=(excepted,)))
        policies.append(policy)
    bits = 32 if family == 4 else 128
    whole = Question(ip_address(base), length=bits - 4)
    answer = ask(policies, whole)
    singly = [ask(policies, Question(ip_address(base + at))) for at in range(16)]
    assert answer.blocked == all(each.blocked for each in singly)
    assert answer.partly == (not answer.blocked and any(each.blocked or each.partly for each in singly))
    assert {reason.id for reason in answer.reasons} == {reason.id for each in singly for reason in each.reasons}
    assert answer.notes == (told(base, singly) if answer.partly else ())
    if answer.partly:
        assert sentence(answer).startswith("Partly: ")
        assert f"{ip_address(base)}/{bits - 4}" in sentence(answer)


def told(base: int, singly: list[Answer]) -> tuple[str, ...]:
    """Say which of the addresses are blocked, from the answers about each of them."""
    kinds = ["Blocked" if each.blocked else "Blocked in part" if each.partly else "" for each in singly]
    notes = []
    for kind, group in groupby(range(len(kinds)), key=kinds.__getitem__):
        first, *rest = [str(ip_address(base + at)) for at in group]
        notes.append(f"{kind}: {first} to {rest[-1]}." if rest else f"{kind}: {first}.")
    notes = [note for note in notes if note.startswith("Blocked")]
    return (*notes[:4], *([f"And {len(notes) - 4} more such ranges."] if len(notes) > 4 else []))


def test_which_addresses_are_blocked_is_told() -> None:
    base = BASE[4]
    cut = order("order", 4, [(base - 9, base + 3), (base + 8, base + 8)], EVERYTHING)
    answer = ask([cut], Question(ip_address(base), length=28))
    assert answer.notes == ("Blocked: 203.0.113.0 to 203.0.113.3.", "Blocked: 203.0.113.8.")
    assert "for some of its addresses only" in sentence(answer)
    assert not ask([cut], Question(ip_address(base + 16), length=28)).reasons
    assert sentence(ask([cut], Question(ip_address(base), length=30))).startswith("Yes: 203.0.113.0/30 is blocked")


def test_one_that_is_cut_too_often_is_refused() -> None:
    base = BASE[4]
    cut = order("order", 4, [(base + 4 * at, base + 4 * at) for at in range(MOST_PARTS)], EVERYTHING)
    with pytest.raises(NotKeptError, match="more than 256 parts"):
        ask([cut], Question(ip_address("203.0.0.0"), length=16))
    # However many begin before it.
    wide = [(base - 2000 + at, base + 100) for at in range(600)]
    inner = order("inner", 4, [(base + 10, base + 11)], EVERYTHING)
    answer = ask([order("wide", 4, wide, TCP), inner], Question(ip_address(base), length=24))
    assert answer.notes[1] == "Blocked: 203.0.113.10 to 203.0.113.11."


def test_one_inside_a_nat64_is_refused() -> None:
    with pytest.raises(NotKeptError, match="NAT64"):
        ask([], Question(ip_address("64:ff9b::"), length=120), around=Surroundings(nat64=NAT64))


@pytest.mark.parametrize("length", ["33", "-1", "x", "", "8", "1000"])
def test_a_length_must_fit_its_address(length: str) -> None:
    with pytest.raises(QuestionError):
        read_question({"address": "203.0.113.0", "length": length})


def test_a_prefix_travels_between_the_processes() -> None:
    question = Question(ip_address("203.0.113.0"), length=24)
    assert read_question(parameters_of(question)) == question
