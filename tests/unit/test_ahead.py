"""Sets that are read back while others are being filled: only what surely is still so counts as read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from gatewrit.engine.reconcile import Around, prepare, reconcile
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.ruleset import IP_DADDR, IPV4, Chain, Hook, InSet, Rule, Ruleset, Set, SetSpec
from support.fake import FakeKernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatewrit.kernel.transaction import Actual

NAMES = [f"s{at}" for at in range(6)]
_MANY = 3000


def several(names: Sequence[str], count: int = _MANY) -> Ruleset:
    """Give a ruleset that drops what goes to the addresses of so many sets."""
    sets = {}
    for place, name in enumerate(names):
        keys = [(place << 24 | each * 2).to_bytes(4, "big") for each in range(count)]
        spec = SetSpec(name, (IPV4,), interval=False, verdicts=False)
        sets[name] = Set(spec, Elements.of(4, [(key, key, None) for key in keys]))
    rules = tuple(Rule((InSet((IP_DADDR,), name), Verdict("drop"))) for name in names)
    return Ruleset({"forward": Chain("forward", rules, Hook("forward", -10))}, sets)


class Watched(FakeKernel):
    """Notes what is read ahead, `most` at a time; with `strange` others change something at each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead: list[str] = []
        self.most = len(NAMES)
        self.strange = 0

    async def read_sets(self, names: Sequence[str]) -> dict[str, tuple[Set, int]]:
        found = await super().read_sets(names[: self.most])
        self.ahead += found
        return found

    async def commit(self, transaction: Any, generation: int | None = None) -> None:
        await super().commit(transaction, generation)
        self.now += self.strange
        # The real one takes its time.
        await asyncio.sleep(0)


async def begun() -> tuple[Watched, Actual]:
    kernel = Watched()
    return kernel, (await reconcile(kernel, several([]))).actual


async def test_what_was_read_ahead_is_known() -> None:
    kernel, known = await begun()
    wanted = several(NAMES)
    known, finished = await prepare(kernel, wanted, Around(known))
    assert finished
    assert kernel.ahead == list(known.sets)
    assert len(kernel.ahead) > 3
    assert known.generation == kernel.now
    assert all(
        list(each.elements.rows()) == list(wanted.sets[name].elements.rows()) for name, each in known.sets.items()
    )
    assert (await reconcile(kernel, wanted, Around(known))).changed


async def test_after_somebody_elses_change_nothing_of_it_is() -> None:
    kernel, known = await begun()
    kernel.strange = 1
    known, _ = await prepare(kernel, several(NAMES), Around(known))
    assert kernel.ahead
    assert not known.sets
    assert known.generation < kernel.now


async def test_what_is_overtaken_is_left_to_the_whole_reading() -> None:
    kernel, known = await begun()
    kernel.most = 0
    known, finished = await prepare(kernel, several(NAMES), Around(known))
    assert finished
    assert not known.sets
    assert known.generation == kernel.now


@pytest.mark.parametrize("batches", [1, 3, 8])
async def test_only_what_is_all_there_is_read(batches: int) -> None:
    kernel, known = await begun()
    wanted, left = several(NAMES), [batches]

    def go_on(_done: int, _size: int) -> bool:
        left[0] -= 1
        return left[0] >= 0

    known, finished = await prepare(kernel, wanted, Around(known, go_on=go_on))
    assert not finished
    assert kernel.table is not None
    for name, each in known.sets.items():
        assert list(each.elements.rows()) == list(wanted.sets[name].elements.rows())
    whole = [name for name, each in kernel.table.sets.items() if len(each.elements) == _MANY]
    assert set(known.sets) <= set(whole)
