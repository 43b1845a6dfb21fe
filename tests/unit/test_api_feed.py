"""The enforcing process tells the one that serves HTTP, and whatever that one does can't hold it up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gatewrit.api import codec, feed, remote
from gatewrit.api.access import Access, Keys
from gatewrit.api.codec import Material, MessageError, Splitter, pack
from gatewrit.api.feed import Feed
from gatewrit.api.question import parameters_of, read_question
from gatewrit.api.remote import Remote
from gatewrit.api.wire import RequestError
from gatewrit.api.words import SILENT
from gatewrit.engine.answer import NotKeptError
from gatewrit.engine.events import Recent, Topic, Turn
from gatewrit.engine.particulars import UnknownPolicyError
from gatewrit.engine.snapshot import Enforcement, Snapshot
from unit.api_samples import DEGRADED, EVENTS, IN_SYNC, NOW, PARTICULARS, SHUTDOWN, STARTING, Source
from unit.test_api_access import TOKENS, pem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

QUESTION = {"address": "203.0.113.9", "protocol": "tcp", "port": "3101"}


async def eventually(what: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not what():  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def fed(source: Source) -> AsyncIterator[tuple[Feed, Remote, Access]]:
    """Join both sides by a socket."""
    told, access = Feed(source), Access(None)
    told.rekey(Material())
    here = Remote("core-1", access)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    await told.attach(ours)
    await asyncio.get_running_loop().create_unix_connection(lambda: here, sock=theirs)
    await eventually(lambda: here.snapshot() == source.held)
    try:
        yield told, here, access
    finally:
        told.close()
        await here.lost.wait()


@pytest.mark.parametrize("snapshot", [DEGRADED, IN_SYNC, STARTING])
def test_a_snapshot_arrives_as_it_was(snapshot: Any) -> None:
    message = codec.encode(codec.SNAPSHOT, snapshot)
    found = codec.decode(codec.SNAPSHOT, message[5:])
    assert repr(found) == repr(snapshot)


def test_a_name_that_is_no_text_arrives_with_question_marks() -> None:
    named = replace(IN_SYNC, problems=(replace(DEGRADED.problems[0], place="a\udcff.yaml:1:1"),))
    found = codec.decode(codec.SNAPSHOT, codec.encode(codec.SNAPSHOT, named)[5:])
    assert found.problems[0].place == "a?.yaml:1:1"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "given",
    [
        {"address": "2001:db8::1"},
        QUESTION,
        {**QUESTION, "source": "192.0.2.1", "interface": "gi0", "at": "2030-01-01T00:00:00Z"},
        {"address": "192.0.2.1", "protocol": "icmp", "at": "2030-01-01T00:00:00[Asia/Karachi]"},
    ],
)
def test_a_question_is_asked_as_it_was(given: dict[str, str]) -> None:
    assert parameters_of(read_question(given)) == given


async def test_what_changes_is_seen_and_questions_are_answered() -> None:
    source = Source(STARTING)
    async with fed(source) as (told, here, access):
        assert access.keys == Keys()
        assert here.alive()
        for snapshot in (IN_SYNC, DEGRADED):
            source.held = snapshot
            told.changed()
            await eventually(lambda: here.snapshot() == source.held)
        answer = await here.explain(read_question(QUESTION))
        assert answer == await source.explain(read_question(QUESTION))
        with pytest.raises(NotKeptError, match="the journal begins at"):
            await here.explain(read_question({**QUESTION, "at": "2001-01-01T00:00:00Z"}))
        told.rekey(Material(pack(pem("cert")), pack(pem("key")), pack(b"# nobody")))
        await eventually(lambda: access.keys is not None and access.keys.context is not None)
        assert access.keys is not None
        assert access.keys.tokens == ()


async def test_what_happens_is_told_and_the_archive_is_asked() -> None:
    source = Source(IN_SYNC)
    async with fed(source) as (told, here, _):
        await eventually(lambda: here.recent.last == 5)
        assert (here.recent.floor, here.recent.after(1)) == (1, EVENTS)
        heard: list[int] = []
        here.told = lambda: heard.append(here.recent.last)
        more = replace(EVENTS[0], id=9)
        source.recent.add([more])
        told.changed()
        await eventually(lambda: heard == [9])
        assert here.recent.after(5) == (more,)
        archive = here.archive
        assert await archive.particulars("bes-shutdown") == PARTICULARS
        assert await archive.particulars("bes-shutdown", 7) == await source.archive.particulars("bes-shutdown", 7)
        assert repr(await archive.stood(NOW)) == repr(await source.archive.stood(NOW))
        with pytest.raises(NotKeptError):
            await archive.stood(7)
        assert await archive.listing("bes-shutdown", 1, 5) == await source.archive.listing("bes-shutdown", 1, 5)
        for turn in (Turn(), Turn("bes-shutdown"), Turn(after=2, limit=1), Turn(topic=Topic.PROBLEM, before=9)):
            assert await archive.events(turn) == await source.archive.events(turn)
        with pytest.raises(UnknownPolicyError):
            await archive.particulars("../etc")


@pytest.mark.parametrize("policies", [1, 300])
async def test_an_event_comes_after_the_snapshot_that_shows_it(policies: int) -> None:
    views = tuple(replace(SHUTDOWN, id=f"p{number:03}") for number in range(policies))
    source = Source(replace(IN_SYNC, policies=views))
    async with fed(source) as (told, here, _):
        await eventually(lambda: here.recent.last == 5)
        seen: list[tuple[int, int]] = []
        here.told = lambda: seen.append((here.recent.last, here.snapshot().drift_total))
        source.held = replace(source.held, drift_total=7)
        source.recent.add([replace(EVENTS[0], id=9)])
        told.changed()
        await eventually(lambda: seen and seen[-1][0] == 9)
        assert seen[-1] == (9, 7)
        assert (9, 0) not in seen


async def test_events_come_though_large_snapshots_never_rest() -> None:
    class Restless(Source):
        def snapshot(self) -> Snapshot:
            return replace(self.held)

    views = tuple(replace(SHUTDOWN, id=f"p{number:03}") for number in range(300))
    async with fed(Restless(replace(IN_SYNC, policies=views))) as (_, here, _):
        await eventually(lambda: here.recent.last == 5)


async def test_what_is_too_long_to_be_told_isnt_passed_off_as_known(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fed(Source(IN_SYNC)) as (told, here, _):
        (line,) = told._lines
        ticks: list[bytes] = []
        monkeypatch.setattr(line, "_write", lambda kind, _value: ticks.append(kind))
        line.tick()
        assert ticks == [codec.TICK]
        monkeypatch.setattr(codec, "LARGEST", 100)
        told.source.held = replace(IN_SYNC, drift_total=7)  # type: ignore[attr-defined]
        told.changed()
        line.tick()
        assert ticks == [codec.TICK]
        monkeypatch.undo()
        told.source.held = replace(IN_SYNC, drift_total=8)  # type: ignore[attr-defined]
        told.changed()
        await eventually(lambda: here.snapshot().drift_total == 8)
        assert not line._untold


async def test_a_large_snapshot_that_cant_be_put_into_words_isnt_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_kind: bytes, _value: object) -> bytes:
        raise MemoryError

    views = tuple(replace(SHUTDOWN, id=f"p{number:03}") for number in range(300))
    source = Source(replace(IN_SYNC, policies=views))
    async with fed(source) as (told, here, _):
        (line,) = told._lines
        await eventually(lambda: line._encoding is None)
        monkeypatch.setattr(feed, "_encoded", fail)
        source.held = replace(source.held, drift_total=7)
        told.changed()
        # The server asks for everything anew then.
        await eventually(here.lost.is_set)


def test_an_enforcer_that_was_started_anew_tells_some_of_it_again() -> None:
    def ids(recent: Recent) -> tuple[int, list[int]]:
        return recent.floor, [each.id for each in recent.after(recent.floor) or ()]

    def told(after: int, *numbers: int) -> codec.Happened:
        return codec.Happened(after, tuple(replace(EVENTS[0], id=number) for number in numbers))

    before = remote._followed(Recent(), told(3, 4, 6))
    assert ids(before) == (3, [4, 6])
    assert ids(remote._followed(before, told(2, 3, 4, 6, 7))) == (3, [4, 6, 7])
    assert ids(remote._followed(before, told(9, 10))) == (9, [10]), "something between wasn't told"
    assert ids(remote._followed(before, told(0, 1, 2))) == (0, [1, 2]), "another journal"


async def test_whoever_is_silent_is_said_to_be_and_what_it_said_last_is_marked() -> None:
    source = Source(IN_SYNC)
    async with fed(source) as (told, here, _):
        told.close()
        await here.lost.wait()
        assert not here.alive()
        shown = here.snapshot()
        assert shown.enforcement is Enforcement.DEGRADED
        assert (shown.problems[0].code, shown.problems[0].severity) == (SILENT, "error")
        assert "0 s old" in shown.problems[0].message
        assert shown.policies == IN_SYNC.policies
        with pytest.raises(RequestError) as refused:
            await here.explain(read_question(QUESTION))
        assert (refused.value.status, refused.value.code) == (503, "enforcer_silent")


async def test_a_loop_that_turns_no_more_and_one_that_says_nothing() -> None:
    now = 0.0
    source = Source(IN_SYNC)
    async with fed(source) as (_, here, _):
        here._clock = lambda: now
        here._heard = 0.0
        now = 9.9
        assert here.alive()
        now = 10.1
        assert not here.alive()
        here._take(codec.Tick(alive=False))
        assert here.connected()
        assert not here.alive()


async def test_a_question_in_the_air_ends_with_the_enforcer() -> None:
    asked = asyncio.Event()

    class Slow(Source):
        async def explain(self, question: Any) -> Any:  # noqa: ARG002
            asked.set()
            await asyncio.Event().wait()

    async with fed(Slow(IN_SYNC)) as (told, here, _):
        asking = asyncio.create_task(here.explain(read_question(QUESTION)))
        await asked.wait()
        told.close()
        with pytest.raises(RequestError, match="ended before it answered"):
            await asking


def test_messages_in_pieces() -> None:
    split = Splitter(b"Q", 100)
    message = struct.pack("!cI", b"Q", 3) + b"abc"
    found = []
    for octet in message * 3:
        split.feed(bytes([octet]))
        found += list(split.messages())
    assert found == [(b"Q", b"abc")] * 3


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", struct.pack("!cI", b"Q", 4097), b"S\0\0\0\0"])
def test_what_is_no_message(data: bytes) -> None:
    split = Splitter(codec.QUESTION, codec.LARGEST_QUESTION)
    split.feed(data)
    with pytest.raises(MessageError):
        list(split.messages())


def question(body: bytes) -> bytes:
    return struct.pack("!cI", b"Q", len(body)) + body


HOSTILE = [
    b"\0" * 100,
    b"Q\xff\xff\xff\xff",
    question(b""),
    question(b"[" * 4000),
    question(b'{"number": 1}'),
    question(b'{"number": 1, "parameters": {"address": 5}}'),
    question(b'{"number": 1, "at": -1}'),
    question(b'{"number": 1, "policy": "x", "at": 1e30}'),
    question(b'{"number": 1, "turn": {"limit": 1001}}'),
    question(b'{"number": 1, "turn": {"limit": 0}}'),
    question(b'{"number": 1, "turn": {"before": 9223372036854775808}}'),
    question(b'{"number": 1, "turn": {"after": -1}}'),
    question(b'{"number": 1, "stretch": {"policy": "x", "start": -1, "limit": 1}}'),
    question(b'{"number": 1, "stretch": {"policy": "x", "start": 0, "limit": 100000}}'),
    question(b'{"number": 1, "parameters": {}}'),
    question(b'{"number": 1, "parameters": {"address": "nonsense"}}'),
    question(b'{"number": 1, "parameters": {"address": "192.0.2.1", "port": "99999"}}'),
    struct.pack("!cI", b"K", 2) + b"{}",
]


@contextlib.asynccontextmanager
async def hostile(source: Source, patience: float = 30.0) -> AsyncIterator[tuple[Feed, socket.socket]]:
    told = Feed(source, patience)
    told.rekey(Material())
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    await told.attach(ours)
    try:
        with theirs:
            yield told, theirs
    finally:
        told.close()


@pytest.mark.parametrize("data", HOSTILE)
async def test_a_mad_server_is_hung_up_on(data: bytes) -> None:
    loop = asyncio.get_running_loop()
    async with hostile(Source(IN_SYNC)) as (told, sock):
        await loop.sock_sendall(sock, data)
        await eventually(lambda: not told._lines)
        told.changed()


async def test_a_server_that_takes_nothing_holds_nothing_up_and_is_hung_up_on() -> None:
    many = tuple(replace(SHUTDOWN, id=f"p{number:03}") for number in range(200))
    source = Source(replace(IN_SYNC, policies=many))
    async with hostile(source, patience=0.0) as (told, _sock):
        (line,) = told._lines
        transport = line._transport
        assert transport is not None
        for number in range(1000):
            source.held = replace(source.held, drift_total=number)
            told.changed()
        assert transport.get_write_buffer_size() < 1_000_000, "one snapshot waits at most, not a thousand"
        ticking = asyncio.create_task(told.tick())
        await eventually(lambda: not told._lines)
        ticking.cancel()


async def test_a_flood_of_questions_is_read_only_as_fast_as_they_may_be_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = at_once = most = 0

    class Counting(Source):
        async def explain(self, question: Any) -> Any:  # noqa: ARG002
            nonlocal asked, at_once, most
            asked += 1
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.005)
            at_once -= 1
            raise NotKeptError("no")

    monkeypatch.setattr(feed, "_RATE", 1.0)
    monkeypatch.setattr(feed, "_BURST", 5.0)
    one = question(json.dumps({"number": 1, "parameters": QUESTION}).encode())
    async with hostile(Counting(IN_SYNC)) as (told, sock):
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 100_000_000:
                sent += sock.send(one * 1000)
                await asyncio.sleep(0)
        assert sent < 100_000_000
        await asyncio.sleep(0.7)
        (line,) = told._lines
        assert len(line._split._held) < 1_000_000
        assert most <= feed._AT_ONCE
        assert 1 <= asked <= 8


async def test_who_may_connect_to_the_feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Feed(Source(IN_SYNC))
    loop = asyncio.get_running_loop()
    async with told.serve(tmp_path, 4711, None) as path:
        assert path.stat().st_mode & 0o777 == 0o600
        for uid, let_in in ((0, True), (os.geteuid(), True), (4711, True), (4712, False), (65534, False)):
            monkeypatch.setattr(feed, "peer", lambda _sock, uid=uid: (1, uid, 1))
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, str(path))
                async with asyncio.timeout(5):
                    assert bool(await loop.sock_recv(sock, 10)) is let_in
            told.close()
    assert not path.exists()


async def test_no_more_servers_than_a_restart_needs(tmp_path: Path) -> None:
    told = Feed(Source(IN_SYNC))
    loop = asyncio.get_running_loop()
    async with told.serve(tmp_path, None, None) as path:
        socks = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(6)]
        served = 0
        for sock in socks:
            sock.setblocking(False)
            await loop.sock_connect(sock, str(path))
            async with asyncio.timeout(5):
                served += bool(await loop.sock_recv(sock, 10))
        assert served == 4
        for sock in socks:
            sock.close()
        told.close()


def test_keys_come_from_the_files_contents() -> None:
    made = remote.keys(Material(pack(pem("expired")), pack(pem("key")), None))
    assert made.context is not None, "one that expires while it is in use stays: its clients are told by it"
    assert made.tokens is None
    assert TOKENS
