"""Certificate and tokens as they lie in files: what is good is passed on, what isn't is told."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gatewrit.api import certificate, codec, tokens
from gatewrit.api.tokens import Role
from gatewrit.cli import credentials
from gatewrit.cli.credentials import LackingError
from gatewrit.cli.examine import files
from gatewrit.settings import Settings, Tls

TLS = Path(__file__).parent.parent / "support" / "tls"
DAY = 86400


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Listen beyond loopback, with all that takes."""
    for name in ("cert", "key"):
        shutil.copy(TLS / f"{name}.pem", tmp_path / name)
    file = tmp_path / "tokens"
    file.write_text(tokens.make("noc", Role.STATUS)[1])
    file.chmod(0o600)
    return Settings(
        listen=("192.0.2.1:9451",), tls=Tls(cert=tmp_path / "cert", key=tmp_path / "key"), tokens=tmp_path / "tokens"
    )


def test_what_is_good_is_passed_on_and_the_end_is_told_a_month_before(settings: Settings, tmp_path: Path) -> None:
    credentials.refuse_open(settings)
    found = credentials.read(settings)
    assert codec.unpack(found.material.cert) == (TLS / "cert.pem").read_bytes()
    assert codec.unpack(found.material.tokens) == (tmp_path / "tokens").read_bytes()
    end = certificate.load((TLS / "cert.pem").read_bytes(), (TLS / "key.pem").read_bytes()).not_after
    assert found.troubles(end - 30 * DAY - 1) == ()
    for now, word in ((end - 30 * DAY, "expires at"), (end - 1, "expires at"), (end, "expired at")):
        (only,) = found.troubles(now)
        assert (only.code, only.severity, only.place) == ("certificate_expires", "warning", str(tmp_path / "cert"))
        assert word in only.message
        assert "orders are enforced all the same" in only.message


def test_one_for_a_short_time_is_complained_about_in_its_last_third(settings: Settings) -> None:
    end = 1_800_000_000
    found = replace(credentials.read(settings), not_before=end - 45 * DAY, not_after=end)
    assert found.troubles(end - 15 * DAY - 1) == ()
    assert [each.code for each in found.troubles(end - 15 * DAY)] == ["certificate_expires"]


def test_the_doctor_says_of_a_good_one_how_long_it_is(settings: Settings) -> None:
    assert [(each.severity, each.code) for each in files.examine_credentials(settings)] == [("ok", "certificate")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("expired", "has expired, it is from 2020-01-01 00:00 to 2021-01-01 00:00 UTC"),
        ("early", "isn't valid yet, it is from 2090-01-01 00:00 to 2100-01-01 00:00 UTC; is the clock right"),
    ],
)
def test_one_that_isnt_valid_now_is_told_with_its_dates(
    settings: Settings, tmp_path: Path, name: str, message: str
) -> None:
    shutil.copy(TLS / f"{name}.pem", tmp_path / "cert")
    (only,) = credentials.read(settings).troubles(1_800_000_000)
    assert only.code == "certificate_unusable"
    assert message in only.message
    assert "nothing is answered beyond loopback, and orders are enforced all the same" in only.message


def test_without_a_file_of_tokens_there_is_none_and_a_faulty_one_lets_nobody_in(
    settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    good = credentials.read(settings)
    file.chmod(0o644)
    first, later = credentials.read(settings), credentials.read(settings, good)
    assert codec.unpack(first.material.tokens) == b""
    assert later.material.tokens == good.material.tokens
    assert [each.code for each in (*first.wrong, *later.wrong)] == ["tokens_unusable"] * 2
    file.unlink()
    assert credentials.read(settings, good).material.tokens is None
    with pytest.raises(LackingError, match="gatewrit new token"):
        credentials.refuse_open(settings)


@pytest.mark.parametrize("what", ["cert", "key"])
def test_what_lacks_is_named(settings: Settings, tmp_path: Path, what: str) -> None:
    good = credentials.read(settings)
    (tmp_path / what).unlink()
    with pytest.raises(LackingError, match=f"there is no .*{what}$"):
        credentials.refuse_open(settings)
    after = credentials.read(settings, good)
    assert after.material == good.material
    assert after.not_after == good.not_after
    assert credentials.read(settings).material.cert is None
    credentials.refuse_open(settings.model_copy(update={"listen": ("127.0.0.1:9451",)}))


def test_a_pipe_in_the_place_of_the_certificate_holds_nobody_up(settings: Settings, tmp_path: Path) -> None:
    """Whoever opens it for reading, and waits, never enforces anything any more."""
    (tmp_path / "cert").unlink()
    os.mkfifo(tmp_path / "cert")
    (only,) = credentials.read(settings).wrong
    assert (only.code, only.place) == ("certificate_unusable", str(tmp_path / "cert"))


@pytest.mark.parametrize("what", ["cert", "key"])
def test_what_every_user_can_write_isnt_used(settings: Settings, tmp_path: Path, what: str) -> None:
    good = credentials.read(settings)
    (tmp_path / what).chmod(0o646)
    (only,) = credentials.read(settings, good).wrong
    assert (only.code, "every user of this host can write it" in only.message) == ("certificate_unusable", True)
    assert credentials.read(settings, good).material == good.material
