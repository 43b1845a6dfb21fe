"""`/v1/events`: what happens arrives once, in order, and nobody takes an enforcer that is gone for a healthy one."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from gatewrit.api import door, http, stream
from gatewrit.api.access import HIDDEN, Access, Keys
from gatewrit.api.wire import Limits
from gatewrit.engine.answer import NotKeptError
from gatewrit.engine.events import RECENT, Event, Recent, Topic
from unit.api_samples import ACCEPTED, DEGRADED, EVENTS, IN_SYNC, NOW, WRONG, Source
from unit.test_api_http import asking, refused, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


class Listener:
    """A browser's EventSource, but for its patience."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def block(self) -> dict[str, str]:
        """Give the fields of the next block, comments under the empty name; {} at the end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(60):
            while line := await self.response.content.readline():
                text = line.decode().removesuffix("\n")
                if not text:
                    return fields
                name, _, value = text.partition(": ")
                assert name not in fields
                fields[name] = value
        return {}

    async def event(self) -> tuple[str, dict[str, Any]] | None:
        """Give the next event's name and data, None at the end."""
        while fields := await self.block():
            if "event" in fields:
                data = json.loads(fields["data"])
                assert str(data["id"]) == fields["id"]
                return fields["event"], data
        return None


@asynccontextmanager
async def listening(
    session: aiohttp.ClientSession, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Listener]:
    async with session.get("/v1/events", headers=headers or {}) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        yield Listener(response)


async def kinds(listener: Listener, until: str) -> list[str]:
    """Give the kinds of all events up to one."""
    found: list[str] = []
    while not found or found[-1] != until:
        event = await listener.event()
        assert event is not None, f"the stream ended after {found}"
        found.append(event[1]["kind"])
    return found


def happen(source: Source, *events: Event) -> None:
    source.recent.add(events)
    source.told()


def numbered(number: int) -> Event:
    return Event(number, NOW, Topic.POLICY, "state", "bes-shutdown", f"number {number}")


async def test_it_begins_with_the_verdict_and_tells_what_happens() -> None:
    source = Source(IN_SYNC)
    async with asking(source) as session, listening(session) as listener:
        assert await listener.block() == {"retry": "3000"}
        assert await listener.event() == (
            "enforcement",
            {
                "id": 5,
                "at": "2016-01-05T12:00:00Z",
                "kind": "in_sync",
                "policy": None,
                "message": "enforcement is in_sync; 0 problems",
            },
        )
        happen(source, numbered(6), Event(8, NOW, Topic.DRIFT, "drift", None, "undone"))
        assert await listener.event() == (
            "policy",
            {"id": 6, "at": "2016-01-05T12:00:00Z", "kind": "state", "policy": "bes-shutdown", "message": "number 6"},
        )
        assert (await listener.event() or ("", {}))[0] == "drift"
        source.held = DEGRADED
        source.told()
        name, data = await listener.event() or ("", {})
        assert (name, data["id"], data["kind"]) == ("enforcement", 8, "degraded")
        assert data["message"] == "enforcement is degraded, it was in_sync; 1 problem"


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ("5", []),
        ("4", ["problem"]),
        ("1", ["started", "accepted", "problem"]),
        # Beyond the ring, the journal says it.
        ("0", ["started", "accepted", "problem"]),
        ("6", ["gap"]),
        ("9223372036854775807", ["gap"]),
        ("", []),
    ],
)
async def test_who_comes_back_is_told_what_it_missed(last: str, told: list[str]) -> None:
    source = Source(IN_SYNC)
    async with asking(source) as session, listening(session, {"Last-Event-ID": last}) as listener:
        assert await kinds(listener, "in_sync") == [*told, "in_sync"]
        happen(source, numbered(6))
        assert await kinds(listener, "state") == ["state"]
    assert source.archive.asked == (last == "0")


async def test_what_the_journal_cant_tell_is_said() -> None:
    source = Source(IN_SYNC, recent=Recent(4, EVENTS[2:]))
    source.archive.rows = tuple(numbered(number) for number in range(1, 1100))
    async with asking(source) as session:
        async with listening(session, {"Last-Event-ID": "3"}) as listener:
            assert await kinds(listener, "in_sync") == ["gap", "in_sync"]

        async def unreadable(turn: object) -> Any:
            raise NotKeptError("no")

        source.archive.events = unreadable  # type: ignore[method-assign]
        async with listening(session, {"Last-Event-ID": "3"}) as listener:
            assert await kinds(listener, "in_sync") == ["gap", "in_sync"]


@pytest.mark.parametrize("last", ["x", "-1", "1.0", "٣", "9223372036854775808", "1" * 100])
async def test_an_id_that_no_event_had(last: str) -> None:
    async with asking(Source(IN_SYNC)) as session, session.get("/v1/events", headers={"Last-Event-ID": last}) as given:
        await refused(given, 400, "bad_event_id")


async def test_a_stream_says_that_the_enforcer_is_gone_and_ends() -> None:
    source = Source(IN_SYNC)
    async with asking(source) as session:
        async with listening(session) as listener:
            await kinds(listener, "in_sync")
            source.living = False
            source.told()
            assert await kinds(listener, "enforcer_silent") == ["enforcer_silent"]
            assert await listener.event() is None
        # Who comes back meanwhile isn't refused, which browsers take for good: it is told the same.
        async with listening(session) as listener:
            assert await kinds(listener, "enforcer_silent") == ["enforcer_silent"]
            assert await listener.event() is None
        source.living = True
        async with listening(session) as listener:
            assert await kinds(listener, "in_sync") == ["in_sync"]
            happen(source, numbered(6))
            assert await kinds(listener, "state") == ["state"]


async def test_an_enforcer_that_only_hangs_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_LOOK", 0.01)
    source = Source(IN_SYNC)
    async with asking(source) as session, listening(session) as listener:
        await kinds(listener, "in_sync")
        source.living = False
        assert await kinds(listener, "enforcer_silent") == ["enforcer_silent"]


async def test_comments_keep_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_LOOK", 0.01)
    monkeypatch.setattr(stream, "_HEARTBEAT", 0.02)
    async with asking(Source(IN_SYNC)) as session, listening(session) as listener:
        await kinds(listener, "in_sync")
        assert await listener.block() == {"": "still here"}


async def test_a_status_token_is_told_no_addresses() -> None:
    made = stream.encoded(WRONG, stream.Role.STATUS)
    assert HIDDEN in made.decode()
    assert "203.0.113.9" not in made.decode()
    assert "203.0.113.9" in stream.encoded(WRONG, stream.Role.DETAIL).decode()


async def test_a_message_cant_break_out_of_its_line() -> None:
    hostile = replace(ACCEPTED, message="a\n\nevent: enforcement\r\ndata: {}\u2028\udcff")
    fields = stream.encoded(hostile, stream.Role.DETAIL).decode().split("\n")
    assert [each.partition(":")[0] for each in fields] == ["id", "event", "data", "", ""]


async def test_new_keys_end_streams() -> None:
    source, access = Source(IN_SYNC), Access(Keys())
    with http.listen.bound(["127.0.0.1:0"], None) as bound:
        (sock,) = (each for _, each in bound)
        async with (
            http.serve_on(source, [sock], access, now=lambda: NOW),
            aiohttp.ClientSession(f"http://127.0.0.1:{sock.getsockname()[1]}") as session,
            listening(session) as listener,
        ):
            await kinds(listener, "in_sync")
            access.keys = Keys()
            happen(source, numbered(6))
            await kinds(listener, "state")
            assert await listener.event() is None


async def test_so_many_streams_and_no_more_and_the_next_when_one_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(IN_SYNC)
    async with serving(source, Limits(streams=2)) as base, aiohttp.ClientSession(base) as session:
        async with listening(session), listening(session):
            async with session.get("/v1/events") as response:
                await refused(response, 503, "too_many_streams")
            async with session.head("/v1/events") as response:
                assert response.status == 503
        async with asyncio.timeout(60):
            status = 0
            while status != 200:
                async with session.get("/v1/events") as response:
                    status = response.status
    monkeypatch.setattr(door, "client_of", lambda _conn: "192.0.2.1")
    async with (
        serving(source, Limits(streams_per_client=1)) as base,
        aiohttp.ClientSession(base) as session,
        listening(session),
        session.get("/v1/events") as response,
    ):
        await refused(response, 503, "too_many_streams")


async def test_head_ends_at_once() -> None:
    async with asking(Source(IN_SYNC)) as session, session.head("/v1/events") as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"


async def test_two_hundred_streams_hear_everything_in_order() -> None:
    source = Source(IN_SYNC)
    connector = aiohttp.TCPConnector(limit=0)
    async with serving(source) as base, aiohttp.ClientSession(base, connector=connector) as session:

        async def heard() -> list[int]:
            async with listening(session) as listener:
                await kinds(listener, "in_sync")
                ready.append(1)
                found: list[int] = []
                while not found or found[-1] < 55:
                    event = await listener.event()
                    assert event is not None
                    found.append(event[1]["id"])
                return found

        ready: list[int] = []
        listeners = [asyncio.create_task(heard()) for _ in range(200)]
        async with asyncio.timeout(100):
            while len(ready) < 200:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.005)
            for number in range(6, 56):
                happen(source, numbered(number))
                await asyncio.sleep(0)
            for each in listeners:
                assert await each == list(range(6, 56))


async def test_who_reads_nothing_is_dropped_and_nothing_is_kept_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[stream.Streams] = []

    class Noted(stream.Streams):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(http, "Streams", Noted)
    source = Source(IN_SYNC)
    async with serving(source, Limits(request=0.3)) as base:
        with socket.create_connection(("127.0.0.1", int(base.rpartition(":")[2]))) as sock:
            sock.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            (streams,) = made
            async with asyncio.timeout(100):
                while not streams._open:  # noqa: ASYNC110 - nobody tells us
                    await asyncio.sleep(0.005)
                number = 6
                while streams._open:
                    happen(
                        source, *(replace(numbered(each), message="x" * 1000) for each in range(number, number + 50))
                    )
                    number += 50
                    await asyncio.sleep(0.001)
    assert len(streams._ring) <= 512
    assert len(source.recent._events) <= RECENT
