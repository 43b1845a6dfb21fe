"""What a person sees while a reload takes its time, and what a program doesn't."""

from __future__ import annotations

import asyncio
import io
import sys
from threading import Event, active_count
from typing import TYPE_CHECKING, Any

import pytest

from gatewrit.api.client import LostError
from gatewrit.cli import service, waiting
from gatewrit.engine.byhand import Request
from gatewrit.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Terminal(io.StringIO):
    """Standard error as a person has it, or as a pipe."""

    def __init__(self, *, person: bool) -> None:
        super().__init__()
        self.person = person

    def isatty(self) -> bool:
        return self.person


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_SILENT", 0.01)
    monkeypatch.setattr(waiting, "_BETWEEN", 0.001)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)


class Reload:
    """Work that ends once it was asked often enough how far it is."""

    def __init__(self, answers: list[Mapping[str, Any] | Exception | None]) -> None:
        self.answers = answers
        self.asked = 0
        self.ready = asyncio.Event()

    async def work(self) -> str:
        await self.ready.wait()
        return "done"

    async def progress(self) -> Mapping[str, Any] | None:
        answer = self.answers[self.asked]
        self.asked += 1
        if self.asked == len(self.answers):
            self.ready.set()
        if isinstance(answer, Exception):
            raise answer
        return answer


def far(done: int, total: int) -> Mapping[str, Any]:
    return {"activity": "preparing \x1b[31mset elements", "done": done, "total": total, "since": "2016-01-05T12:00:00Z"}


@pytest.mark.usefixtures("quick")
async def test_a_person_sees_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(person=True)
    monkeypatch.setattr(sys, "stderr", terminal)
    reload = Reload([None, far(0, 0), LostError("it may hang"), far(120_000, 300_000), None])
    assert await waiting.shown(reload.work(), reload.progress) == "done"
    seen = terminal.getvalue()
    assert "waiting for the daemon" in seen
    assert "120,000 of 300,000" in seen
    # What comes over the socket doesn't steer the terminal.
    assert "preparing \N{REPLACEMENT CHARACTER}[31mset elements" in seen


@pytest.mark.usefixtures("quick")
async def test_a_pipe_gets_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(person=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    reload = Reload([far(1, 2)])
    asyncio.get_running_loop().call_later(0.05, reload.ready.set)
    assert await waiting.shown(reload.work(), reload.progress) == "done"
    assert (reload.asked, terminal.getvalue()) == (0, "")


@pytest.mark.usefixtures("quick")
async def test_what_is_quick_or_fails_is_told_without_a_word_before(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails() -> None:
        raise LostError("nobody there")

    terminal = Terminal(person=True)
    monkeypatch.setattr(sys, "stderr", terminal)
    reload = Reload([])
    with pytest.raises(LostError, match="nobody there"):
        await waiting.shown(fails(), reload.progress)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("person", [True, False])
@pytest.mark.usefixtures("quick")
def test_what_is_worked_on_here_is_told_to_people_only(monkeypatch: pytest.MonkeyPatch, *, person: bool) -> None:
    told = Event()

    class Watched(Terminal):
        def write(self, text: str) -> int:
            if "proving" in text:
                told.set()
            return super().write(text)

    terminal = Watched(person=person)
    monkeypatch.setattr(sys, "stderr", terminal)
    with waiting.working("proving"):
        assert not person or told.wait(30)
    assert ("proving" in terminal.getvalue()) is person


@pytest.mark.usefixtures("quick")
def test_an_error_inside_ends_the_line_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal(person=True))
    before = active_count()
    with pytest.raises(LostError), waiting.working("proving"):
        raise LostError("nobody there")
    assert active_count() == before


@pytest.mark.parametrize("slow", [True, False])
def test_who_orders_by_hand_is_told_what_to_do_where_the_daemon_hangs(
    monkeypatch: pytest.MonkeyPatch, *, slow: bool
) -> None:
    async def call(_runtime: Path, _verb: str, **_given: object) -> dict[str, Any]:
        # It answers at last, once that has been said; or at once.
        while slow and "KILL" not in said.getvalue():  # noqa: ASYNC110 - what is written has no event
            await asyncio.sleep(0)
        return {"ok": True}

    said = Terminal(person=False)
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(service.client, "call", call)
    monkeypatch.setattr(service, "_LONG", 0.01 if slow else 30.0)
    assert asyncio.run(service.have_done(Settings(), Request("suspend", "alpha"))) == {"ok": True}
    assert ("systemctl kill -s KILL gatewrit" in said.getvalue()) is slow
