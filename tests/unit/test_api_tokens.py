"""Tokens are made once, kept as hashes, read strictly, and never told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.api import tokens
from gatewrit.api.tokens import Role, TokensError

if TYPE_CHECKING:
    from pathlib import Path

HASH = "sha256:" + "0" * 64


def places(text: str) -> list[str]:
    with pytest.raises(TokensError) as raised:
        tokens.parse(text.encode(), "tokens")
    assert str(raised.value) == "\n".join(map(str, raised.value.faults))
    return [f"{each.place}: {each.code}" for each in raised.value.faults]


def test_a_token_is_256_random_bits_and_its_line_lets_it_in() -> None:
    made = [tokens.make(f"noc-{number}", Role.STATUS) for number in range(20)]
    assert len({secret for secret, _ in made}) == 20
    assert all(re.fullmatch(r"gwt_[A-Za-z0-9_-]{43}", secret) for secret, _ in made)
    known = tokens.parse("\n".join(line for _, line in made).encode(), "tokens")
    for number, (secret, line) in enumerate(made):
        assert secret not in line
        found = tokens.find(known, secret)
        assert found is not None
        assert (found.name, found.role) == (f"noc-{number}", Role.STATUS)
    assert tokens.find(known, made[0][0][:-1]) is None
    assert tokens.find(known, "") is None
    assert tokens.find((), made[0][0]) is None


def test_every_token_is_compared_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    secret, line = tokens.make("a", Role.DETAIL)
    known = tokens.parse(f"{line}\nb status {HASH}\nc status {HASH}\n".encode(), "tokens")
    compared: list[bytes] = []
    truly = tokens.hmac.compare_digest
    monkeypatch.setattr(tokens.hmac, "compare_digest", lambda a, b: compared.append(a) or truly(a, b))
    assert tokens.find(known, secret) is known[0]
    assert compared == [each.digest for each in known]


def test_comments_and_blank_lines() -> None:
    text = f"# whose\r\n\n  noc   detail\t{HASH}  # the wall\r\n"
    assert [(each.name, each.role) for each in tokens.parse(text.encode(), "t")] == [("noc", Role.DETAIL)]
    assert tokens.parse(b"", "t") == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("noc status", ["tokens:1:1: bad_value"]),
        (f"noc status {HASH} x", ["tokens:1:1: bad_value"]),
        (f"\nNoc status {HASH}", ["tokens:2:1: bad_value"]),
        (f"noc  admin {HASH}", ["tokens:1:6: bad_value"]),
        (f"noc status {HASH[:-1]}", ["tokens:1:12: bad_value"]),
        (f"noc status {HASH.upper()}", ["tokens:1:12: bad_value"]),
        (f"noc status {'0' * 64}", ["tokens:1:12: bad_value"]),
        (f"a status {HASH}\na detail {HASH}", ["tokens:2:1: duplicate_key"]),
        (f"\ufeffnoc status {HASH}", ["tokens:1:1: bad_value"]),
        ("\0", ["tokens:1:1: bad_value"]),
        (f"é status {HASH}\nx\n", ["tokens:1:1: bad_value", "tokens:2:1: bad_value"]),
        ("\n".join(f"n{number} status {HASH}" for number in range(1001)), ["tokens:1:1: too_large"]),
    ],
)
def test_faults_name_their_place(text: str, expected: list[str]) -> None:
    assert places(text) == expected


def test_a_secret_in_the_file_is_told_of_but_not_repeated() -> None:
    secret, _ = tokens.make("noc", Role.STATUS)
    with pytest.raises(TokensError, match="make another") as raised:
        tokens.parse(f"noc status {secret}".encode(), "tokens")
    assert secret not in str(raised.value)


@given(st.binary(max_size=200))
def test_whatever_is_in_the_file(data: bytes) -> None:
    try:
        tokens.parse(data, "tokens")
    except TokensError as error:
        assert error.faults  # noqa: PT017


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o644, 0o666, 0o601])
def test_a_file_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"noc status {HASH}\n")
    path.chmod(mode)
    with pytest.raises(TokensError, match="chmod 600"):
        tokens.read(path)
    path.chmod(0o640)
    assert tokens.read(path) == path.read_bytes()


def test_what_is_no_file(tmp_path: Path) -> None:
    assert tokens.read(tmp_path / "none") is None
    with pytest.raises(TokensError, match="not_regular"):
        tokens.read(tmp_path)
    large = tmp_path / "large"
    large.write_bytes(b"#" * (2**18 + 1))
    large.chmod(0o600)
    with pytest.raises(TokensError, match="too_large"):
        tokens.read(large)


@pytest.mark.parametrize("name", ["", "NOC", "a b", "-a", "a" * 49, "ä", "a\n"])
def test_names_that_cant_be(name: str) -> None:
    with pytest.raises(ValueError, match="isn't a name"):
        tokens.make(name, Role.STATUS)
