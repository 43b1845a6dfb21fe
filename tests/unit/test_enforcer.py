"""How often the whole table is looked at: a large one rarely, and at once where anybody has changed the ruleset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatewrit.compile.render import compile_policies
from gatewrit.engine.enforcer import LOOK_EVERY, Enforcer
from gatewrit.engine.scribe import Scribe
from gatewrit.engine.timing import Agenda
from gatewrit.kernel.transaction import DeleteTable, Transaction
from support.clock import FakeClock
from support.fake import FakeKernel

if TYPE_CHECKING:
    from pathlib import Path

    from gatewrit.kernel.transaction import Actual


class Slow(FakeKernel):
    """Takes a while for each reading."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.takes = 0.0
        self.reads = 0
        self._clock = clock

    async def read(self, known: Actual | None = None) -> Actual:
        self.reads += 1
        self._clock.elapsed += self.takes
        return await super().read(known)


class Bench:
    """An enforcer that has just made a look, which took a while."""

    def __init__(self, state: Path) -> None:
        self.clock = FakeClock(1_700_000_000)
        self.kernel = Slow(self.clock)
        self.agenda = Agenda(self.clock)
        self.enforcer = Enforcer(self.kernel, self.clock, self.agenda, Scribe(state))
        compiled = compile_policies([], 1_700_000_000, ("forward",), -10)
        self.enforcer.want(compiled, "digest", {})

    async def looked(self, took: float) -> None:
        await self.enforcer.enforce("reload")
        self.kernel.takes, self.kernel.reads = took, 0
        assert await self.enforcer.enforce("look")

    async def rests_for(self) -> float:
        """Give the seconds until it no longer rests, in steps of the looks that are due."""
        begun = self.clock.elapsed
        while await self.enforcer.at_rest():
            assert not self.agenda.is_due("look")
            self.clock.elapsed += LOOK_EVERY
            assert self.agenda.is_due("look")
        return self.clock.elapsed - begun


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(("took", "rests"), [(0.0, 0), (0.009, 10), (0.05, 50), (0.2, 200)])
async def test_a_look_that_takes_long_is_made_rarely(bench: Bench, took: float, rests: float) -> None:
    await bench.looked(took)
    assert await bench.rests_for() == pytest.approx(rests, abs=LOOK_EVERY)
    assert bench.kernel.reads == 1


async def test_whatever_anybody_changes_ends_the_rest(bench: Bench) -> None:
    await bench.looked(0.2)
    assert await bench.enforcer.at_rest()
    await bench.kernel.commit(Transaction((DeleteTable(),)))
    assert not await bench.enforcer.at_rest()


async def test_there_is_no_rest_after_a_failure(bench: Bench) -> None:
    await bench.looked(0.2)
    bench.kernel.table = None
    bench.kernel.refusals = [12]
    assert await bench.enforcer.enforce("look") is None
    assert not await bench.enforcer.at_rest()
