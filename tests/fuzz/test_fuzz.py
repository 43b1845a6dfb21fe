"""The short form of fuzzing: the corpus, and as many changes of it as a few seconds allow, the same ones every time."""

from __future__ import annotations

import importlib
import random
from typing import TYPE_CHECKING

import pytest

from fuzz.mutate import mutated
from fuzz.run import HERE, LARGEST, TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Inputs that each target is given besides its corpus: about half a second's worth.
CHANGES = {
    "compiled": 3000,
    "connections": 500,
    "control": 300,
    "elements": 1000,
    "feeds": 800,
    "http": 250,
    "instant": 2000,
    "journal": 60,
    "lists": 200,
    "policy": 800,
    "question": 1500,
    "rule": 3000,
    "service": 800,
    "settings": 500,
    "state": 1500,
    "table": 2000,
}
SEED = 20150724


def corpus(target: str) -> list[Path]:
    return sorted((HERE / "corpus" / target).iterdir())


def tried(one_input: Callable[[bytes], None], data: bytes, path: Path) -> None:
    """Run one input; one that fails is kept where a person can take it up."""
    try:
        one_input(data)
    except BaseException:
        path.write_bytes(data)
        raise


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_in_the_corpus_or_near_it_breaks_a_target(target: str, tmp_path: Path) -> None:
    module = importlib.import_module(f"fuzz.targets.{target}")
    known = [path.read_bytes() for path in corpus(target)]
    largest = getattr(module, "LARGEST", LARGEST)
    randomly = random.Random(SEED)  # noqa: S311 - to be the same again, not to be secret
    for data in (*known, b"", *mutated(known, CHANGES[target], randomly, largest)):
        tried(module.one_input, data, tmp_path / "broken")


def test_the_corpus_is_small() -> None:
    sizes = {target: sum(path.stat().st_size for path in corpus(target)) for target in TARGETS}
    assert all(sizes.values()), sizes
    assert sum(sizes.values()) <= 150_000, sizes
