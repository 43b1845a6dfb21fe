"""What is typed into the look-up box becomes questions, or a sentence that says what to type instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.api import lookup
from gatewrit.api.question import parameters_of, read_question


def asked(text: str) -> dict[str, str]:
    return parameters_of(lookup.read(text).question)


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("206.51.26.1", {"address": "206.51.26.1"}),
        ("  206.51.26.1\n", {"address": "206.51.26.1"}),
        ("2607:FFC0::1", {"address": "2607:ffc0::1"}),
        ("206.51.26.1:3101", {"address": "206.51.26.1", "port": "3101"}),
        ("[2607:ffc0::1]:3101", {"address": "2607:ffc0::1", "port": "3101"}),
        ("206.51.26.1/32", {"address": "206.51.26.1"}),
        ("206.51.26.0/24", {"address": "206.51.26.0", "length": "24"}),
        ("2607:ffc0::/127", {"address": "2607:ffc0::", "length": "127"}),
        ("https://206.51.26.1/x?y#z", {"address": "206.51.26.1", "protocol": "tcp", "port": "443"}),
        ("HTTP://user:secret@206.51.26.1:8080", {"address": "206.51.26.1", "protocol": "tcp", "port": "8080"}),
        ("https://[2607:ffc0::1]", {"address": "2607:ffc0::1", "protocol": "tcp", "port": "443"}),
        ("sip://206.51.26.1", {"address": "206.51.26.1"}),
    ],
)
def test_what_can_be_looked_up(text: str, question: dict[str, str]) -> None:
    assert asked(text) == question


def test_what_an_answer_leaves_open_is_said() -> None:
    assert "Asked about TCP port 443" in (lookup.read("https://206.51.26.1").remark or "")
    assert lookup.read("206.51.26.1").remark is None
    assert lookup.read("https://206.51.26.1:444").remark is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "Nothing was typed"),
        (" \t", "Nothing was typed"),
        ("x" * 2001, "too long"),
        ("www.example.com", "is a name"),
        ("https://www.example.com/", "is a name"),
        ("سایٹ.example", "is a name"),
        ("206.51.26", "isn't an address"),
        ("206.51.26.256", "isn't an address"),
        ("206.51.26.1:http", "A port is a whole number"),
        ("206.51.26.1:", "A port is a whole number"),
        ("206.51.26.1:65536", "A port is a whole number"),
        ("https://206.51.26.1:99999", "isn't a URL that can be read"),
        ("https://[::1", "isn't a URL that can be read"),
        ("206.51.26.1/33", "a length from 0 to 32"),
        ("2607:ffc0::/x", "a length from 0 to 128"),
        ("206.51.26.1/24", "is 206.51.26.0/24 meant, or 206.51.26.1 alone?"),
        ("example/24", "is a name"),
        ("::ffff:206.51.26.1", "write 206.51.26.1"),
        ("fe80::1%eth0", "without a zone"),
        ("<b>", "“<b>” isn't an address"),
    ],
)
def test_what_cannot_be_looked_up_is_told_in_a_sentence(text: str, told: str) -> None:
    with pytest.raises(lookup.UnreadableError) as refused:
        lookup.read(text)
    assert told in str(refused.value)
    assert str(refused.value).endswith((".", "?"))


@given(st.text(st.characters(), max_size=60) | st.from_regex(r"[0-9a-f:./\[\]%@]{0,40}(://)?[0-9.:/]{0,20}"))
def test_whatever_is_typed_it_is_a_question_or_a_sentence(text: str) -> None:
    told = "?"
    try:
        question = lookup.read(text).question
    except lookup.UnreadableError as refused:
        told = str(refused)
    else:
        assert read_question(parameters_of(question)) == question
    assert told[-1] in ".?"
