"""Who waits beside the daemon to take a change back: from before it begins, until it is confirmed or time is over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from gatewrit.cli import takeback
from gatewrit.engine import undo
from gatewrit.engine.undo import Undo
from gatewrit.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("begins", "taken"), [(0, True), (20, True), (None, False)])
async def test_a_busy_daemon_may_begin_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, begins: int | None, taken: bool
) -> None:
    settings = Settings(state=tmp_path)
    waited, done = [0], []

    def begin() -> None:
        if waited[0] == begins:
            # Its time has been over for long.
            undo.save(tmp_path, Undo().expecting(1, 3, int(time.time()) - 100, ("tester", 0)))

    async def sleep(_seconds: float) -> None:
        waited[0] += 1
        begin()

    async def take_back(_settings: Settings, token: str) -> int:
        done.append(token)
        return 0

    monkeypatch.setattr(takeback.asyncio, "sleep", sleep)
    monkeypatch.setattr(takeback, "_take_back", take_back)
    begin()
    assert await takeback._unless_confirmed(settings, 3) == 0
    assert bool(done) is taken
    # And it doesn't wait for ever for what never begins.
    assert waited[0] == (begins if begins is not None else 3 + takeback._LATE)
