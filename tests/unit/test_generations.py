"""The generations on disk: which are kept, what they are made of, and which texts they spare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatewrit.engine.generations import MOST, Generations, UnknownGenerationError
from gatewrit.engine.store import Store
from gatewrit.policy.load import read_directory
from support.gateway import policy, service

if TYPE_CHECKING:
    from pathlib import Path

    from gatewrit.engine.store import Kept

from gatewrit.compile.rails import Rails
from gatewrit.engine.intake import take_in

NOW = 1_700_000_000


class Bench:
    """A state directory, and policies that a test changes."""

    def __init__(self, root: Path) -> None:
        self.policies, self.state = root / "policies", root / "state"
        (self.policies / "services").mkdir(parents=True)
        self.store = Store(self.state)
        self.generations = Generations(self.state)
        self.store.spared = lambda: self.generations.texts
        self.kept: dict[str, Kept] = {}

    def order(self, name: str, prefix: str, revision: int = 1) -> None:
        (self.policies / "services" / f"{name}.yaml").write_text(service(name, (prefix, "tcp/3101")))
        (self.policies / f"{name}.yaml").write_text(policy(name, name, revision=revision))

    def settle(self, number: int, restores: int | None = None) -> None:
        """Have what the files say count from a generation on, as the daemon does."""
        before = self.kept
        self.kept = dict(take_in(read_directory(self.policies), before, NOW, Rails()).kept)
        self.store.save(self.kept, before)
        self.store.drop(self.generations.add(number, NOW + number, self.kept, restores), self.kept)

    def texts(self) -> set[str]:
        return {path.name for path in (self.state / "texts").iterdir()}

    def restarted(self) -> Generations:
        found = Generations(self.state)
        assert found.load() == ()
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_generation_is_what_counted_from_its_number_on(bench: Bench) -> None:
    bench.order("alpha", "203.0.113.0/25")
    bench.settle(1)
    bench.order("alpha", "203.0.113.128/25", 2)
    bench.settle(5)
    bench.settle(7)
    found = bench.restarted()
    assert [*found.known] == [1, 5], "the third one has no other policies"
    assert found.known == bench.generations.known
    for number, revision in ((1, 1), (4, 1), (5, 2), (9, 2)):
        assert found.read(number, bench.store, {})["alpha"].document.revision == revision
    assert found.read(5, bench.store, bench.kept)["alpha"] is bench.kept["alpha"]


def test_the_one_before_is_other_and_no_roll_back(bench: Bench) -> None:
    for number in (1, 2, 3):
        bench.order("alpha", f"203.0.{number}.0/24", number)
        bench.settle(number)
    bench.kept = bench.generations.read(2, bench.store, bench.kept)
    bench.generations.add(4, NOW, bench.kept, 2)
    before = bench.generations.before
    assert [found.number if (found := before(each)) else None for each in (1, 2, 3, 4)] == [None, 1, 2, 1]


def test_texts_stay_as_long_as_a_generation_needs_them(bench: Bench) -> None:
    for number in range(1, MOST + 4):
        bench.order("alpha", f"203.0.{number}.0/24", number)
        bench.settle(number)
        assert bench.texts() == bench.generations.texts
    assert [*bench.generations.known] == [*range(4, MOST + 4)]
    assert {path.stem for path in (bench.state / "generations").iterdir()} == {str(each) for each in range(4, MOST + 4)}
    assert len(bench.texts()) == 2 * MOST
    with pytest.raises(UnknownGenerationError, match="kept are those from 4"):
        bench.generations.read(3, bench.store, {})
    # A daemon that starts anew, and knows nothing of what it saved, takes none of them away.
    fresh = Store(bench.state)
    fresh.spared = lambda: bench.generations.texts
    kept, damaged = fresh.load()
    fresh.save(kept, {})
    assert (damaged, bench.texts()) == ((), bench.generations.texts)


def test_who_is_forgotten_is_in_none(bench: Bench) -> None:
    bench.order("alpha", "203.0.113.0/25")
    bench.order("bravo", "203.0.113.128/25")
    bench.settle(1)
    bench.order("alpha", "203.0.112.0/25", 2)
    bench.settle(2)
    gone = bench.generations.forget("alpha")
    assert len(gone) == 4
    assert {*bench.generations.read(1, bench.store, {})} == {"bravo"}
    assert bench.restarted().known == bench.generations.known


@pytest.mark.parametrize(
    "harm", ["{", "[]", '{"version": 2}', '{"version": 1, "at": 1, "restores": null, "policies": []}']
)
def test_one_that_is_damaged_is_told_and_the_others_serve(bench: Bench, harm: str) -> None:
    for number in (1, 2):
        bench.order("alpha", f"203.0.{number}.0/24", number)
        bench.settle(number)
    path = bench.state / "generations" / "1.json"
    path.write_text(harm)
    found = Generations(bench.state)
    (lost,) = found.load()
    assert str(path) in lost
    assert [*found.known] == [2]
    with pytest.raises(UnknownGenerationError, match=str(path)):
        bench.generations.read(1, bench.store, {})


def test_one_whose_text_has_changed_on_the_disk_is_not_put_back(bench: Bench) -> None:
    bench.order("alpha", "203.0.1.0/24")
    bench.settle(1)
    for path in (bench.state / "texts").iterdir():
        path.write_text(path.read_text().replace("203.0.1.0", "203.0.2.0"))
    with pytest.raises(UnknownGenerationError, match="changed on the disk"):
        bench.generations.read(1, bench.store, {})
