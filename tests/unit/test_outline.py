"""The settings' reference and the file that `init` writes say what the types say, all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewrit.cli.outline import outline, reference, settings_file
from gatewrit.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]


def test_the_published_reference_is_current() -> None:
    assert (ROOT / "docs/settings.md").read_text() == reference()


def test_a_file_of_defaults_sets_nothing(tmp_path: Path) -> None:
    path = tmp_path / "gatewrit.yaml"
    path.write_text(settings_file({}))
    assert load_settings(path, {}) == Settings()


def test_every_key_stands_in_the_file_with_what_it_is() -> None:
    lines = settings_file({}).splitlines()
    assert [each.path for each in outline() if len(each.path) == 1] == [(name,) for name in Settings.model_fields]
    for each in outline():
        indent = "  " * (len(each.path) - 1)
        at = [number for number, line in enumerate(lines) if line.startswith(f"{indent}# {each.what}")]
        keys = (f"{indent}{each.path[-1]}:", f"{indent}# {each.path[-1]}:")
        assert any(lines[number + 1].startswith(keys) for number in at), each


def test_every_variable_of_the_reference_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("gatewrit.settings.DEFAULT_FILE", tmp_path / "none.yaml")
    for each in outline():
        if isinstance(each.default, str):
            assert load_settings(None, {each.variable: each.default}) == Settings()


@pytest.mark.parametrize("why", ["#1: 'x', {y} \"z\" \\ é", "yes", "0x10", "- a", "null", "a: b"])
def test_what_is_given_comes_back(tmp_path: Path, why: str) -> None:
    path = tmp_path / "gatewrit.yaml"
    path.write_text(settings_file({("gateway", "name"): why, ("protected",): [{"prefix": "192.0.2.1", "why": why}]}))
    found = load_settings(path, {})
    assert (found.gateway.name, found.protected[0].why) == (why, why)
