"""Requests for pages over real sockets: what is found, what isn't, and what is said where nobody can tell."""

from __future__ import annotations

import threading
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import aiohttp
import pytest
from structlog.testing import capture_logs

from gatewrit.api import page, shown, wire
from gatewrit.engine.answer import NotKeptError
from gatewrit.engine.events import Recent
from unit.api_samples import ACCEPTED, DEGRADED, Source
from unit.test_api_http import asking, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatewrit.engine.answer import Answer, Question
    from gatewrit.engine.events import Page, Turn
    from gatewrit.engine.particulars import Particulars


async def text_of(source: Source, path: str, status: int = 200) -> str:
    async with asking(source) as session, session.get(path) as response:
        assert response.status == status
        assert response.content_type == "text/html"
        return await response.text()


@pytest.mark.parametrize("path", ["/", "/orders/bes-shutdown", "/lookup?q=x"])
async def test_the_style_in_a_page_is_the_one_that_is_allowed(path: str) -> None:
    async with asking() as session, session.get(path) as response:
        style = (await response.text()).partition("<style>")[2].partition("</style>")[0]
        digest = b64encode(sha256(style.encode()).digest()).decode()
        assert f"; style-src 'sha256-{digest}'; " in response.headers["Content-Security-Policy"]


async def test_the_orders_that_are_asked_for() -> None:
    text = await text_of(Source(DEGRADED), "/?q=casino&state=scheduled&sort=title")
    assert "court-118" in text
    assert "policy-bes-shutdown" not in text


async def test_the_verdict_goes_out_while_the_orders_are_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = threading.Event()

    def pieces(*_: object) -> Iterator[bytes]:
        yield b"the verdict"
        assert arrived.wait(10), "what is rendered first was kept back"
        yield b", the orders"

    monkeypatch.setattr(page, "pieces", pieces)
    async with asking() as session, session.get("/") as response:
        assert response.content_type == "text/html"
        assert await response.content.readany() == b"the verdict"
        arrived.set()
        assert await response.read() == b", the orders"


async def test_half_a_page_doesnt_pass_for_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces(*_: object) -> Iterator[bytes]:
        yield b"the verdict"
        raise ZeroDivisionError

    monkeypatch.setattr(page, "pieces", pieces)
    with capture_logs() as logs:
        async with asking() as session, session.get("/") as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
    assert [each["event"] for each in logs] == ["http.failed"]


async def test_head_says_how_long_the_page_is() -> None:
    async with asking() as session:
        async with session.get("/") as response:
            body = await response.read()
        async with session.head("/") as response:
            assert response.status == 200
            assert int(response.headers["Content-Length"]) == len(body)


@pytest.mark.parametrize(
    ("path", "parameter"),
    [("/?state=on", "state"), ("/?page=0", "page"), ("/?sort=size", "sort"), ("/?Q=x", "Q"), ("/lookup?x=1", "x")],
)
async def test_a_bad_parameter_is_named(path: str, parameter: str) -> None:
    async with asking() as session, session.get(path) as response:
        assert (await refused(response, 400, "bad_parameter"))["parameter"] == parameter


async def test_an_order_with_all_that_the_enforcer_knows() -> None:
    text = await text_of(Source(DEGRADED), "/orders/bes-shutdown")
    assert "BlackBerry Enterprise Service (SRP)" in text
    assert "revision 2 of bes-shutdown counts (before: 1)" in text


@pytest.mark.parametrize("name", ["nothing", "%3Cscript%3E", "bes-shutdown%2F..", "%00"])
async def test_an_unknown_order(name: str) -> None:
    text = await text_of(Source(DEGRADED), f"/orders/{name}", 404)
    assert "This gateway knows no order of that name" in text
    assert "<script>" not in text


@pytest.mark.parametrize(
    "error", [wire.RequestError(503, "enforcer_silent", "Nobody can tell."), NotKeptError("the journal is damaged")]
)
async def test_an_order_of_which_nobody_can_tell_more(error: Exception) -> None:
    class Silent:
        async def particulars(self, name: str) -> Particulars:  # noqa: ARG002
            raise error

        async def events(self, turn: Turn) -> Page:  # noqa: ARG002
            raise error

    source = Source(DEGRADED)
    source.archive = Silent()  # type: ignore[assignment]
    text = await text_of(source, "/orders/bes-shutdown")
    assert "Shut down BlackBerry Enterprise Services" in text
    assert "can't be shown" in text
    assert "The journal can't be read now" in text


async def test_what_has_just_happened_is_shown_though_the_second_is_the_same() -> None:
    source = Source(DEGRADED)
    async with asking(source) as session:
        async with session.get("/") as response:
            assert "something new" not in await response.text()
        source.recent = Recent(8, [replace(ACCEPTED, id=9, message="something new")])
        async with session.get("/") as response:
            assert "something new" in await response.text()


@pytest.mark.parametrize(
    ("typed", "status", "said"),
    [
        ("203.0.113.9:3101", 200, "port 3101 of 203.0.113.9"),
        ("203.0.113.0%2F24", 200, "203.0.113.0/24"),
        ("www.example.com", 400, "is a name"),
        ("", 400, "Nothing was typed"),
    ],
)
async def test_a_look_up(typed: str, status: int, said: str) -> None:
    assert said in await text_of(Source(DEGRADED), f"/lookup?q={typed}", status)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (NotKeptError("it is cut into too many parts"), 404, "Nobody can tell: it is cut into too many parts."),
        (wire.RequestError(503, "busy", "Too many questions wait."), 503, "Too many questions wait."),
    ],
)
async def test_a_look_up_that_nobody_can_answer(error: Exception, status: int, said: str) -> None:
    class Mute(Source):
        async def explain(self, question: Question) -> Answer:  # noqa: ARG002
            raise error

    assert said in await text_of(Mute(DEGRADED), "/lookup?q=203.0.113.9", status)


async def test_look_ups_are_limited_in_rate() -> None:
    async with asking() as session:
        statuses = []
        while 429 not in statuses:
            async with session.get("/lookup?q=203.0.113.9") as response:
                statuses.append(response.status)
                text = await response.text()
            assert len(statuses) < 1000
    assert "Too many look-ups at once" in text


@pytest.mark.parametrize("name", sorted(shown.STATIC))
async def test_files_are_asked_for_again_and_not_sent_twice(name: str) -> None:
    async with asking() as session:
        async with session.get(f"/{name}") as response:
            assert response.content_type == shown.STATIC[name]
            assert response.headers["Cache-Control"] == "no-cache"
            assert "script-src 'self'" in response.headers["Content-Security-Policy"]
            assert "unsafe" not in response.headers["Content-Security-Policy"]
            tag = response.headers["ETag"]
        async with session.get(f"/{name}", headers={"If-None-Match": tag}) as response:
            assert response.status == 304
