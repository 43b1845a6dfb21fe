"""Nothing that others do is missed, whether we listen, ask for the generation, or change from one to the other."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING

import pytest

from gatewrit.engine.beside import READ_EVERY, SETTLED
from gatewrit.engine.config import Config
from gatewrit.engine.daemon import Daemon
from gatewrit.engine.drift import ASK_EVERY, Drift
from gatewrit.engine.enforcer import LOOK_EVERY
from gatewrit.engine.notify import Notifier
from gatewrit.engine.timing import Agenda
from gatewrit.kernel.beside import Beside
from gatewrit.kernel.socket import KernelError
from gatewrit.kernel.transaction import AddTable, DeleteTable, Transaction
from support.clock import FakeClock
from support.fake import FakeKernel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from gatewrit.kernel.notices import Notice


class Ears:
    """Behaves like `Notices` to which nothing is ever told."""

    def __init__(self) -> None:
        self._socket, self._other = socket.socketpair()
        self.listening = True

    def fileno(self) -> int:
        return self._socket.fileno()

    def join(self) -> None:
        self.listening = True

    def leave(self) -> None:
        self.listening = False

    def take(self) -> Notice | None:
        raise AssertionError

    def close(self) -> None:
        self._socket.close()
        self._other.close()


class Asked(FakeKernel):
    """Counts how often it is asked for the generation, and can be made to give no answer."""

    def __init__(self) -> None:
        super().__init__()
        self.silent, self.asked = False, 0

    async def generation(self) -> int:
        self.asked += 1
        if self.silent:
            raise KernelError(4, "ask for the generation")
        return await super().generation()


class Watch:
    """A drift's watch over a kernel; `stirred` counts how often what is beside was to be looked at."""

    def __init__(self) -> None:
        self.kernel, self.clock, self.ears = Asked(), FakeClock(1_700_000_000), Ears()
        self.agenda = Agenda(self.clock)
        self.drift = Drift(self.kernel, self.clock, self.agenda, lambda: self.ears)  # type: ignore[arg-type, return-value]
        self.owned = True
        self.stirred = 0

    def stir(self) -> None:
        self.stirred += 1

    async def change(self) -> None:
        """Commit something of ours."""
        await self.kernel.commit(Transaction((AddTable() if self.kernel.table is None else DeleteTable(),)))

    async def changed(self, *, theirs: int = 0) -> None:
        """Change the table, and others theirs meanwhile."""
        async with self.drift.mute():
            assert not self.ears.listening
            await self.change()
            self.kernel.now += theirs
            await self.change()

    @property
    def asks(self) -> bool:
        """Whether the generation will be asked for."""
        return self.agenda.left(2 * ASK_EVERY) == ASK_EVERY


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    watch = Watch()
    with watch.drift.watch(lambda _: None, lambda: None, watch.stir, lambda: watch.owned):
        yield watch


@pytest.mark.parametrize("owned", [True, False])
async def test_we_listen_only_where_others_can_change_the_table(watch: Watch, *, owned: bool) -> None:
    watch.owned = owned
    for _ in range(2):
        await watch.changed()
        assert (watch.ears.listening, watch.asks) == (not owned, owned)


async def test_what_we_do_is_nobody_elses(watch: Watch) -> None:
    await watch.changed()
    assert not await watch.drift.ask()
    await watch.change()
    assert not await watch.drift.ask()
    assert not watch.stirred


async def test_what_others_do_while_the_table_is_ours_is_found_once(watch: Watch) -> None:
    await watch.changed()
    watch.kernel.now += 1
    assert await watch.drift.ask()
    assert not await watch.drift.ask()
    assert watch.stirred == 1


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("before", [True, False])
async def test_what_others_do_while_we_change_it_is_found(watch: Watch, *, before: bool, after: bool) -> None:
    watch.owned = before
    await watch.changed()
    watch.owned = after
    await watch.changed(theirs=1)
    assert watch.stirred == 1
    await watch.changed()
    assert watch.stirred == 1


async def test_what_was_told_is_not_told_again(watch: Watch) -> None:
    watch.owned = False
    await watch.changed()
    watch.kernel.now += 1
    await watch.changed()
    assert not watch.stirred


async def test_what_others_did_is_still_found_where_the_kernel_did_not_say(watch: Watch) -> None:
    await watch.changed()
    watch.kernel.now += 1
    watch.kernel.silent = True
    assert not await watch.drift.ask()
    assert watch.asks
    watch.kernel.silent = False
    assert await watch.drift.ask()


async def test_we_listen_again_after_a_change_that_failed(watch: Watch) -> None:
    await watch.changed()
    watch.owned = False
    with pytest.raises(ZeroDivisionError):
        async with watch.drift.mute():
            raise ZeroDivisionError
    assert watch.ears.listening


async def test_the_daemon_asks_between_its_looks(tmp_path: Path) -> None:
    """And has what is beside the table read again as soon as others have changed anything."""
    kernel, clock, ears = Asked(), FakeClock(1_700_000_000), Ears()
    kernel.owning = True
    read = list[float]()

    def beside() -> Beside:
        read.append(clock.elapsed)
        return Beside()

    async def until(what: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not what():
            assert time.monotonic() < deadline, "the daemon didn't come to it"
            await asyncio.sleep(0.001)

    (tmp_path / "policies").mkdir()
    config = Config("g", tmp_path / "policies", tmp_path / "state")
    daemon = Daemon(config, kernel, clock, Notifier(None), notices=lambda: ears, beside=beside)  # type: ignore[arg-type, return-value]
    task = asyncio.create_task(daemon.run())
    try:
        await asyncio.wait_for(daemon.reload(), 10)
        await until(lambda: read and clock.waiting)
        assert not ears.listening
        kernel.now += 1
        asked = kernel.asked
        await clock.pass_(ASK_EVERY)
        await until(lambda: kernel.asked > asked and clock.waiting)
        await clock.pass_(SETTLED)
        await until(lambda: read[1:])
        assert clock.elapsed - read[0] < min(LOOK_EVERY, READ_EVERY)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
