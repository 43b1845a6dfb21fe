"""How often the whole table is looked at: a large one rarely, and at once where anybody has changed the ruleset."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from gatewrit.compile.render import compile_policies
from gatewrit.engine.enforcer import LOOK_EVERY, LOOK_SOON, Enforcer
from gatewrit.engine.scribe import Scribe
from gatewrit.engine.timing import Agenda
from gatewrit.kernel.socket import TableHeldError
from gatewrit.kernel.transaction import DeleteTable, Tenure, Transaction
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


async def test_what_others_change_is_looked_into_soon_but_not_all_the_time(bench: Bench) -> None:
    for took, left in ((0.0, LOOK_SOON), (0.01, 2.0), (0.2, LOOK_EVERY)):
        await bench.looked(took)
        bench.enforcer.look_soon()
        assert bench.agenda.left(LOOK_EVERY) == pytest.approx(left)
    bench.clock.elapsed += 40.0
    bench.agenda.plan("look", LOOK_EVERY)
    bench.enforcer.look_soon()
    assert bench.agenda.left(LOOK_EVERY) == pytest.approx(LOOK_SOON)


async def test_it_is_known_whether_the_table_is_ours_alone(bench: Bench) -> None:
    def owned() -> bool:
        return bench.enforcer.owned

    await bench.looked(0.0)
    assert not owned()
    bench.kernel.table, bench.kernel.owning = None, True
    await bench.looked(0.0)
    assert owned()
    # A refusal is about what is to be in it.
    bench.kernel.table = None
    bench.kernel.refusals = [errno.ENOMEM]
    assert await bench.enforcer.enforce("look") is None
    assert owned()
    await bench.looked(0.0)
    assert bench.kernel.table is not None
    bench.kernel.table.tenure = Tenure.PLAIN
    await bench.enforcer.enforce("look")
    assert not owned()
    bench.kernel.table.tenure = Tenure.ORPHANED
    await bench.looked(0.0)
    assert owned()


async def test_a_table_that_somebody_else_holds_is_not_ours(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def held(*_: object) -> None:
        raise TableHeldError(7)

    bench.kernel.owning = True
    await bench.looked(0.0)
    assert bench.enforcer.owned
    bench.kernel.table = None
    monkeypatch.setattr(bench.kernel, "commit", held)
    assert await bench.enforcer.enforce("look") is None
    assert not bench.enforcer.owned
