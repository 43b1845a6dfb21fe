"""What somebody ordered stays, though nobody waits for the answer any more: only what changed by itself is on trial."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from gatewrit.engine import intake
from gatewrit.engine.byhand import Request
from gatewrit.engine.takeback import Expecting, Taking
from unit.test_out_of_memory import bulk, order
from unit.test_time import Bench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from gatewrit.engine.byhand import Done
    from gatewrit.engine.daemon import Daemon
    from gatewrit.kernel.transaction import Transaction


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    # Any list is bulk here.
    monkeypatch.setattr(intake, "BULK", 2)
    return Bench(tmp_path)


@asynccontextmanager
async def living(bench: Bench) -> AsyncIterator[Daemon]:
    """Have a daemon live with one order in force, `first`."""
    order(bench, 1, "first")
    async with bench.running():
        assert bench.daemon is not None
        yield bench.daemon


@asynccontextmanager
async def living_again(bench: Bench) -> AsyncIterator[Daemon]:
    """Have the next daemon live, over what the one before left."""
    async with bench.running(reload=False):
        assert bench.daemon is not None
        yield bench.daemon


def states(daemon: Daemon) -> dict[str, str]:
    return {each.id: each.state.value for each in daemon.snapshot().policies}


async def base(bench: Bench, daemon: Daemon) -> set[str]:
    """Have the next change wait to be confirmed, let the time pass, and give what counts then."""
    order(bench, 2, "tried")
    await asyncio.wait_for(daemon.reload(Expecting(5, "tester", 0)), 30)
    assert "tried" in states(daemon)
    await bench.pass_(10)
    await bench.until(lambda: "rolled_back" in bench.codes)
    return {*states(daemon)}


@pytest.mark.parametrize("ordered", [True, False], ids=["by a signal", "by itself"])
@pytest.mark.parametrize("overtaken", [False, True], ids=["", "overtaken by a change of the files"])
async def test_a_bulk_list_that_was_ordered_is_not_taken_back(bench: Bench, ordered: bool, overtaken: bool) -> None:  # noqa: FBT001 - by name
    async with living(bench) as daemon:
        bulk(bench, 6000)
        if overtaken:
            commit = bench.kernel.commit

            async def overtake(transaction: Transaction, generation: int | None = None) -> None:
                # The first thing that comes to the kernel is what is prepared.
                bench.kernel.commit = commit  # type: ignore[method-assign]
                daemon.want_reload()
                await commit(transaction, generation)

            bench.kernel.commit = overtake  # type: ignore[method-assign]
        daemon.want_reload(ordered=ordered)
        await bench.until(lambda: "bulk" in states(daemon))
        await bench.until(lambda: bench.clock.waiting)
        assert await base(bench, daemon) == ({"first", "bulk"} if ordered else {"first"})


async def test_reloads_that_change_nothing_put_a_trial_off_for_ever_no_more(bench: Bench) -> None:
    async with living(bench) as daemon:
        order(bench, 2, "tried")
        assert (await daemon.reload(Expecting(100, "tester", 0))).ok
        await bench.pass_(60)
        assert (await daemon.reload()).ok
        await bench.pass_(60)
        await bench.until(lambda: "rolled_back" in bench.codes)
        assert states(daemon) == {"first": "in_force"}


async def test_what_is_changed_on_trial_has_all_of_its_time(bench: Bench) -> None:
    async with living(bench) as daemon:
        assert (await daemon.reload(Expecting(100, "tester", 0))).ok
        await bench.pass_(60)
        order(bench, 2, "tried")
        assert (await daemon.reload()).ok
        await bench.pass_(60)
        await bench.until(lambda: bench.clock.waiting)
        assert states(daemon) == {"first": "in_force", "tried": "in_force"}
        await bench.pass_(50)
        await bench.until(lambda: "rolled_back" in bench.codes)


async def test_a_daemon_that_dies_while_it_takes_back_has_the_next_one_do_it(bench: Bench) -> None:
    async with living(bench) as daemon:
        order(bench, 2, "tried")
        assert (await daemon.reload(Expecting(5, "tester", 0))).ok
        commit, died = bench.kernel.commit, asyncio.Event()

        async def never(transaction: Transaction, generation: int | None = None) -> None:
            died.set()
            await asyncio.Event().wait()

        bench.kernel.commit = never  # type: ignore[method-assign]
        await bench.pass_(10)
        await asyncio.wait_for(died.wait(), 10)
        # It ends here, with the rules as they were.
    bench.kernel.commit = commit  # type: ignore[method-assign]
    async with living_again(bench) as daemon:
        await bench.until(lambda: states(daemon))
        assert states(daemon) == {"first": "in_force"}
        assert bench.codes == ["rolled_back"]
        assert "to.by.tried" not in ((bench.kernel.table and bench.kernel.table.chains) or ())


async def test_a_daemon_that_starts_amid_a_trial_takes_nothing_of_it_for_ordered(bench: Bench) -> None:
    async with living(bench) as daemon:
        order(bench, 2, "tried")
        assert (await daemon.reload(Expecting(5, "tester", 0))).ok
    async with living_again(bench) as daemon:
        await bench.until(lambda: "unconfirmed" in bench.codes)
        assert states(daemon) == {"first": "in_force", "tried": "in_force"}
        await bench.pass_(10)
        await bench.until(lambda: "rolled_back" in bench.codes)
        # And tried again at once, within the minute in which files that changed belong to a trial.
        assert await base(bench, daemon) == {"first"}


async def test_what_is_still_being_prepared_when_the_time_is_over_never_comes(bench: Bench) -> None:
    async with living(bench) as daemon:
        bulk(bench, 6000)
        commit = bench.kernel.commit

        async def slowly(transaction: Transaction, generation: int | None = None) -> None:
            bench.kernel.commit = commit  # type: ignore[method-assign]
            await bench.clock.pass_(10)
            await commit(transaction, generation)

        bench.kernel.commit = slowly  # type: ignore[method-assign]
        outcome = await asyncio.wait_for(daemon.reload(Expecting(5, "tester", 0)), 30)
        assert (outcome.ok, outcome.sentence.partition(":")[0]) == (False, "taken back")
        await bench.until(lambda: bench.clock.waiting)
        assert (states(daemon), bench.codes) == ({"first": "in_force"}, ["rolled_back"])
    async with living_again(bench) as daemon:
        await bench.until(lambda: states(daemon))
        assert (states(daemon), bench.codes) == ({"first": "in_force"}, ["rolled_back"])


async def test_a_trial_that_never_began_does_not_come_with_the_next_start(bench: Bench) -> None:
    async with living(bench) as daemon:
        bulk(bench, 6000)
        commit, died = bench.kernel.commit, asyncio.Event()

        async def never(transaction: Transaction, generation: int | None = None) -> None:
            died.set()
            await asyncio.Event().wait()

        bench.kernel.commit = never  # type: ignore[method-assign]
        trial = asyncio.create_task(daemon.reload(Expecting(5, "tester", 0)))
        await asyncio.wait_for(died.wait(), 10)
    trial.cancel()
    bench.kernel.commit = commit  # type: ignore[method-assign]
    await bench.clock.pass_(10)
    async with living_again(bench) as daemon:
        await bench.until(lambda: bench.clock.waiting)
        assert (states(daemon), bench.codes) == ({"first": "in_force"}, ["rolled_back"])


@pytest.mark.parametrize(
    ("request_", "ok"),
    [(Taking("rollback", "tester", generation=1), False), (Request("forget", "gone", "tester", 0, "withdrawn"), True)],
    ids=["rollback", "forget"],
)
async def test_nobody_waits_for_ever_for_what_somebody_overtook(
    bench: Bench,
    request_: Taking | Request,
    ok: bool,  # noqa: FBT001 - by name
) -> None:
    order(bench, 2, "gone")
    async with living(bench) as daemon:
        bulk(bench, 6000)
        (bench.policies / "gone.yaml").unlink()
        commit = bench.kernel.commit
        done: list[asyncio.Task[Done]] = []

        async def overtake(transaction: Transaction, generation: int | None = None) -> None:
            bench.kernel.commit = commit  # type: ignore[method-assign]
            done.append(asyncio.create_task(daemon.by_hand(request_)))
            await asyncio.sleep(0)
            await commit(transaction, generation)

        bench.kernel.commit = overtake  # type: ignore[method-assign]
        assert (await asyncio.wait_for(daemon.reload(), 20)).ok is ok
        assert (await asyncio.wait_for(done[0], 20)).outcome.ok
        assert ("bulk" in states(daemon)) is ok
