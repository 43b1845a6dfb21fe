"""`/v1/events`: what happens, as server-sent events (HTML Living Standard, section 9.2).

Everything that is to be sent is put into words once, into a ring that all streams share; a stream is a place in it. So
nothing is buffered for anybody: who is so slow that the ring has gone round is hung up on, and resumes by the journal.
An event's id is its row in the journal. A verdict and the enforcer's silence aren't rows: they have the id of the last.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from aiohttp import hdrs, web

from gatewrit.api import wire
from gatewrit.api.access import connection_of, veil
from gatewrit.api.documents import stated
from gatewrit.api.door import HERE
from gatewrit.api.tokens import Role
from gatewrit.api.words import SILENT
from gatewrit.engine.answer import NotKeptError
from gatewrit.engine.events import Event, Topic, Turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from gatewrit.api.access import Access, Keys
    from gatewrit.api.shapes import EventData
    from gatewrit.api.source import SnapshotSource

log = structlog.get_logger()

#: Messages that a stream may lag behind.
_RING = 512
#: Seconds between two comments, so that whoever is in between keeps the connection; and between two looks at whether
#: the enforcer is there, which nobody tells us where it only hangs.
_HEARTBEAT, _LOOK = 15, 1.0
#: Milliseconds after which a browser comes back.
_RETRY = 3000
#: Rows of the journal that somebody who comes back is told; whoever missed more fetches everything anew.
_CAUGHT_UP = 1000
GAP = "gap"
_GAP = "what happened since the event that was named isn't kept here; fetch everything anew"
_SILENT = "the enforcing process isn't heard from: nothing that is shown is sure to be so; what the kernel had stays"
_LARGEST_ID = (1 << 63) - 1


@dataclass(eq=False, slots=True)
class _Stream:
    """One client: how far it has been told, for whom it is, and whether it is to end."""

    role: Role | None
    keys: Keys | None
    client: str
    place: int = 0
    ends: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Streams:
    """All that are open. `run` is to go on as long as they are."""

    def __init__(self, source: SnapshotSource, now: Callable[[], int], access: Access) -> None:
        self._source = source
        self._now = now
        self._access = access
        self._open: set[_Stream] = set()
        self._clients: Counter[str] = Counter()
        self._ring: deque[tuple[bytes, bytes]] = deque(maxlen=_RING)
        self._place = 0
        self._seen = source.recent.last
        self._verdict = source.snapshot().enforcement
        self._silent = False

    async def run(self, app: web.Application) -> AsyncIterator[None]:
        """Look again and again, and let streams know that we are there; for an application's `cleanup_ctx`."""
        del app
        beating = asyncio.create_task(self._beat())
        yield
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating

    async def close(self, app: web.Application) -> None:
        """End all streams, for an application's `on_shutdown`."""
        del app
        for stream in self._open:
            stream.ends = True
            stream.wake.set()

    async def _beat(self) -> None:
        while True:
            for _ in range(int(_HEARTBEAT / _LOOK)):
                await asyncio.sleep(_LOOK)
                try:
                    self.look()
                except Exception:
                    # Who listens must hear of the next thing all the same.
                    log.exception("events.failed")
            self._put(b": still here\n\n", b": still here\n\n")
            self._wake()

    def look(self) -> None:
        """Tell all streams what is new; called whenever something may be."""
        recent, before = self._source.recent, self._place
        events = recent.after(self._seen)
        self._seen = recent.last
        for event in (self._general(GAP, _GAP),) if events is None else events:
            self._tell(event)
        self._look_at_verdict()
        for stream in self._open:
            # Whoever comes back is asked for its token again.
            stream.ends |= self._silent or stream.keys is not self._access.keys
            if stream.ends or self._place != before:
                stream.wake.set()

    def _look_at_verdict(self) -> None:
        silent = not self._source.alive()
        verdict = self._source.snapshot().enforcement
        if silent and not self._silent:
            self._tell(self._general(SILENT, _SILENT))
        elif verdict is not self._verdict and not silent:
            self._tell(self._standing(f", it was {self._verdict}"))
        self._silent, self._verdict = silent, verdict

    def _standing(self, before: str = "") -> Event:
        """Give the verdict as an event."""
        snapshot = self._source.snapshot()
        problems = len(snapshot.problems)
        said = f"enforcement is {snapshot.enforcement}{before}; {problems} problem{'' if problems == 1 else 's'}"
        return self._general(snapshot.enforcement.value, said)

    def _general(self, kind: str, message: str) -> Event:
        return Event(self._source.recent.last, self._now(), Topic.ENFORCEMENT, kind, None, message)

    def _tell(self, event: Event) -> None:
        self._put(encoded(event, Role.DETAIL), encoded(event, Role.STATUS))

    def _put(self, detail: bytes, status: bytes) -> None:
        self._ring.append((detail, status))
        self._place += 1

    def _wake(self) -> None:
        for stream in self._open:
            stream.wake.set()

    # -- one client ----------------------------------------------------------------------------------------------

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one client, until it goes, or there is nothing more to be told."""
        after = _last_seen(request)
        connection = connection_of(request)
        limits, client = connection.limits, connection.guest.client
        if len(self._open) >= limits.streams or (client != HERE and self._clients[client] >= limits.streams_per_client):
            raise wire.RequestError(503, "too_many_streams", "Too many streams of events are open; close some.")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        if request.method == hdrs.METH_HEAD:
            return response
        stream = _Stream(connection.role, self._access.keys, client)
        self._open.add(stream)
        self._clients[client] += 1
        connection.when_lost = stream.wake.set
        try:
            missed = await self._missed(after, stream)
            response.force_close()
            await response.prepare(request)
            with suppress(ConnectionError):
                await self._follow(stream, response, missed, connection)
        finally:
            self._open.discard(stream)
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
        return response

    async def _follow(
        self, stream: _Stream, response: web.StreamResponse, missed: bytes, connection: wire.Connection
    ) -> None:
        await response.write(missed)
        while connection.transport is not None:
            stream.wake.clear()
            news = self._news(stream)
            if news is None:
                return
            if news:
                # As any answer: it is taken in time, or we hang up.
                connection.patience(connection.limits.request)
                await response.write(news)
            elif stream.ends:
                return
            else:
                await stream.wake.wait()

    def _news(self, stream: _Stream) -> bytes | None:
        """Give what a stream hasn't been told; None if that isn't here any more."""
        new = self._place - stream.place
        if new > len(self._ring):
            return None
        stream.place = self._place
        column = 0 if stream.role is Role.DETAIL else 1
        return b"".join(self._ring[number][column] for number in range(len(self._ring) - new, len(self._ring)))

    async def _missed(self, after: int | None, stream: _Stream) -> bytes:
        """Give what a client begins with: what it missed, or that nobody can tell it, and the verdict."""
        events: list[Event] = []
        recent = self._source.recent
        if after is not None and after < recent.floor:
            found = await self._from_journal(after)
            known, last = found is not None, self._source.recent.last
            # What the journal has beyond that comes to all streams in a moment.
            events += [each for each in found or () if each.id <= last]
            after = max((each.id for each in events), default=recent.floor) if known else None
        else:
            known = True
        # From here on nothing waits, so that nothing falls between what was missed and what is new.
        self.look()
        stream.place = self._place
        stream.ends |= self._silent
        if after is not None:
            rest = self._source.recent.after(after)
            known, events = known and rest is not None, events + list(rest or ())
        if not known:
            events = [self._general(GAP, _GAP)]
        events.append(self._general(SILENT, _SILENT) if self._silent else self._standing())
        role = stream.role or Role.STATUS
        return f"retry: {_RETRY}\n\n".encode() + b"".join(encoded(event, role) for event in events)

    async def _from_journal(self, after: int) -> Iterable[Event] | None:
        """Give what the journal has after a row; None if it doesn't reach back that far, or it is too much."""
        try:
            page = await self._source.archive.events(Turn(after=after, limit=_CAUGHT_UP))
        except (NotKeptError, wire.RequestError):
            return None
        reaches = page.first is not None and page.first <= after + 1
        return page.events if reaches and not page.more else None


def _last_seen(request: web.Request) -> int | None:
    """Read which event a client had last, None if it is new."""
    given = request.headers.getall("Last-Event-ID", [])
    if not given or given == [""]:
        return None
    text = given[0]
    if len(given) > 1 or not (text.isascii() and text.isdecimal()) or len(text) > 19 or int(text) > _LARGEST_ID:
        raise wire.RequestError(400, "bad_event_id", "Last-Event-ID isn't an id that an event had; leave it out.")
    return int(text)


def event_data(event: Event, role: Role) -> EventData:
    """Return an event as its `data`."""
    return {
        "id": event.id,
        "at": stated(event.at),
        "kind": event.kind,
        "policy": event.policy,
        "message": event.message if role is Role.DETAIL else veil(event.message),
    }


def encoded(event: Event, role: Role) -> bytes:
    """Return an event as it goes over the wire. JSON has no line end in it, so that data is one line."""
    data = json.dumps(event_data(event, role), ensure_ascii=False)
    return f"id: {event.id}\nevent: {event.topic}\ndata: {data}\n\n".encode("utf-8", "replace")
