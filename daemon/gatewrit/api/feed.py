"""The enforcing process's side of what the HTTP server is told: snapshots pushed on change, questions answered.

The server reads what strangers send, so it is taken for hostile. It can't hold enforcement up: nothing here waits for
it. One snapshot at a time is on its way to it, and when that has been taken the newest follows, whatever lay between;
questions are read only as fast as they may be answered; who sends anything else, or takes nothing for half a minute,
is hung up on.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import structlog

from gatewrit.api import codec, listen
from gatewrit.api.bucket import Bucket
from gatewrit.api.control import peer
from gatewrit.api.question import QuestionError, read_question
from gatewrit.engine.answer import NotKeptError
from gatewrit.engine.events import Turn
from gatewrit.engine.particulars import UnknownPolicyError

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator
    from pathlib import Path

    from gatewrit.api.codec import Ask, Material
    from gatewrit.api.source import SnapshotSource
    from gatewrit.engine.snapshot import Snapshot

log = structlog.get_logger()

#: A server that is started anew may come before the old one is gone.
_SERVERS = 4
#: Seconds for which a server may take nothing.
_PATIENCE = 30.0
#: Questions of one server that are worked on at once, each in a thread; a second and at once that are begun. The
#: server itself lets 20 a second through.
_AT_ONCE, _RATE, _BURST = 4, 40.0, 100.0
#: Items of a list that one answer may have.
MOST = 1000
#: Above so many policies a snapshot is put into words in a thread (5 µs each), and the next one follows only after ten
#: times as long.
_LARGE = 200
_REST = 10.0


def socket_path(runtime: Path) -> Path:
    """Return where the server finds the enforcer of a runtime directory.

    In a directory of its own, from which it gets the server's group (setgid, tmpfiles.d) where nobody may give it that.
    """
    return runtime / "http" / "feed.sock"


class Feed:
    """All servers that are told."""

    def __init__(self, source: SnapshotSource, patience: float = _PATIENCE) -> None:
        self.source = source
        self.patience = patience
        self.material: Material | None = None
        self._lines: set[_Line] = set()

    def changed(self) -> None:
        """Tell everybody that there is a new snapshot."""
        for line in tuple(self._lines):
            try:
                line.push()
            except Exception:
                # Who enforces tells us: no mistake in showing may reach it.
                log.exception("feed.failed")
                line.abort()

    def rekey(self, material: Material) -> None:
        """Tell everybody what lets clients in from now on."""
        self.material = material
        for line in tuple(self._lines):
            line.send_keys()

    async def attach(self, sock: socket.socket) -> None:
        """Tell the server at the other end of a connected socket."""
        await asyncio.get_running_loop().connect_accepted_socket(lambda: _Line(self, self._lines), sock)

    async def tick(self) -> None:
        """Say again and again that we are there, and hang up on who takes nothing; ends by being cancelled."""
        while True:
            for line in tuple(self._lines):
                line.tick()
            await asyncio.sleep(codec.TICK_EVERY)

    @asynccontextmanager
    async def serve(self, runtime: Path, user: int | None, group: int | None) -> AsyncIterator[Path]:
        """Let servers of root, our own user and `user` connect, as the kernel says; `group` may open the socket."""
        path = socket_path(runtime)
        sock = listen.listen_unix(path, 0o600 if group is None else 0o660, group)
        own = listen.identity(path)
        accepting = asyncio.create_task(self._accept(sock, user))
        try:
            yield path
        finally:
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
            listen.remove_own(path, own)
            sock.close()

    async def _accept(self, sock: socket.socket, user: int | None) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                conn, _ = await loop.sock_accept(sock)
            except OSError as error:
                log.warning("feed.not_accepted", reason=error.strerror)
                await asyncio.sleep(1.0)
                continue
            pid, uid, _ = peer(conn)
            if uid not in {0, os.geteuid(), user}:
                log.warning("feed.refused", uid=uid, pid=pid)
                conn.close()
            elif len(self._lines) >= _SERVERS:
                conn.close()
            else:
                with suppress(OSError):
                    await self.attach(conn)

    def close(self) -> None:
        """Hang up on all."""
        for line in tuple(self._lines):
            line.abort()


class _Line(asyncio.Protocol):
    """The connection to one server."""

    def __init__(self, feed: Feed, lines: set[_Line]) -> None:
        self._feed = feed
        self._lines = lines
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._split = codec.Splitter(codec.QUESTION, codec.LARGEST_QUESTION)
        self._bucket = Bucket(_RATE, _BURST)
        self._sent: Snapshot | None = None
        #: The present snapshot is too long to be sent: what the server shows isn't how things are.
        self._untold = False
        self._told = -1
        self._tasks: set[asyncio.Task[None]] = set()
        self._encoding: asyncio.Task[None] | None = None
        self._full_since: float | None = None
        self._resting: asyncio.TimerHandle | None = None

    # -- being told ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with who may ask and how things are."""
        if not isinstance(transport, asyncio.Transport):  # pragma: no cover
            raise TypeError("a stream is needed")
        self._transport = transport
        # Written is what the kernel takes; anything left makes `pause_writing`, and nothing more is begun then.
        transport.set_write_buffer_limits(high=0)
        self._lines.add(self)
        self.send_keys()
        self.tick()
        self.push()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything about it."""
        del exc
        self._lines.discard(self)
        self._transport = None
        if self._resting is not None:
            self._resting.cancel()
        for task in (*self._tasks, *filter(None, [self._encoding])):
            task.cancel()

    def pause_writing(self) -> None:
        """Note since when the server is behind."""
        self._full_since = self._loop.time()

    def resume_writing(self) -> None:
        """Tell the server what has changed meanwhile."""
        self._full_since = None
        self.push()

    def push(self) -> None:
        """Send the present snapshot, unless another is on its way: then it follows by itself."""
        snapshot = self._feed.source.snapshot()
        if self._full_since is not None or self._encoding is not None:
            return
        if snapshot is not self._sent:
            self._sent = snapshot
            if len(snapshot.policies) > _LARGE:
                self._encoding = asyncio.create_task(self._push_large(snapshot))
                return
            self._tell(_encoded(codec.SNAPSHOT, snapshot))
        self._push_events(self._happened())

    def _happened(self) -> codec.Happened | None:
        """Give what has happened since the server was told last; all that is recent if that was too long ago."""
        recent = self._feed.source.recent
        if self._told == recent.last:
            return None
        events = recent.after(self._told)
        if events is not None:
            return codec.Happened(self._told, events)
        return codec.Happened(recent.floor, recent.after(recent.floor) or ())

    def _push_events(self, happened: codec.Happened | None) -> None:
        """Tell what happened, after the snapshot that shows it: who is told of something may look at it at once."""
        if happened is not None:
            self._told = happened.events[-1].id if happened.events else happened.after
            self._write(codec.EVENTS, happened)

    def _tell(self, message: bytes) -> None:
        self._untold = not message
        if self._transport is not None:
            self._transport.write(message)

    async def _push_large(self, snapshot: Snapshot) -> None:
        began = self._loop.time()
        happened = self._happened()
        try:
            message = await asyncio.to_thread(_encoded, codec.SNAPSHOT, snapshot)
        except Exception:
            # Else the server would show for ever what it has, as if that were now; it comes again for the present one.
            log.exception("feed.failed")
            self.abort()
            return
        if self._transport is not None:
            self._tell(message)
            self._push_events(happened)
        await asyncio.sleep((self._loop.time() - began) * _REST)
        self._encoding = None
        self.push()

    def send_keys(self) -> None:
        """Send what lets clients in, once it is known. It isn't held back: it is small, and seldom."""
        if self._feed.material is not None:
            self._write(codec.KEYS, self._feed.material)

    def tick(self) -> None:
        """Say that we are there; give up on a server that takes nothing.

        Not while it can't be told how things are: it says then how old what it shows is.
        """
        if self._untold:
            return
        if self._full_since is None:
            self._write(codec.TICK, codec.Tick(self._feed.source.alive()))
        elif self._loop.time() - self._full_since > self._feed.patience:
            log.warning("feed.server_hangs", seconds=self._feed.patience)
            self.abort()

    def _write(self, kind: bytes, value: object) -> None:
        if self._transport is not None:
            self._transport.write(_encoded(kind, value))

    def abort(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    # -- being asked ---------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take in questions."""
        self._split.feed(data)
        self._serve()

    def _serve(self) -> None:
        """Begin to answer what may be answered now; until then nothing more is read."""
        self._resting = None
        if self._transport is None:
            return
        wait = 0.0
        try:
            messages = self._split.messages()
            while not wait:
                if len(self._tasks) >= _AT_ONCE or self._full_since is not None:
                    wait = 0.1
                elif (ask := next(messages, None)) is None:
                    break
                else:
                    question = codec.decode(*ask)
                    task = asyncio.create_task(self._answer(question))  # type: ignore[arg-type]
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                    wait = float(self._bucket.take(self._loop.time()))
        except codec.MessageError as error:
            log.warning("feed.nonsense", reason=str(error))
            self.abort()
            return
        if wait:
            self._transport.pause_reading()
            self._resting = self._loop.call_later(wait, self._serve)
        else:
            self._transport.resume_reading()

    async def _answer(self, ask: Ask) -> None:
        """Answer one question. Neither the question nor its answer is written down anywhere."""
        try:
            told = await self._look_up(ask)
        except NotKeptError as error:
            told = codec.Told(ask.number, not_kept=str(error))
        except UnknownPolicyError:
            told = codec.Told(ask.number, unknown=True)
        except QuestionError:
            log.warning("feed.nonsense", reason="a question that the server should have refused")
            self.abort()
            return
        except Exception:
            log.exception("feed.answer_failed")
            told = codec.Told(ask.number)
        message = await asyncio.to_thread(_encoded, codec.ANSWER, told)
        if self._transport is not None:
            self._transport.write(message)

    async def _look_up(self, ask: Ask) -> codec.Told:
        """Find what was asked for; raises QuestionError for what nobody who means well asks."""
        source = self._feed.source
        match ask:
            case codec.Ask(number, parameters=dict(parameters)):
                return codec.Told(number, await source.explain(read_question(parameters)))
            case codec.Ask(number, policy=str(policy), at=at) if _sane(1, at or 0):
                return codec.Told(number, particulars=await source.archive.particulars(policy, at))
            case codec.Ask(number, policy=None, at=int(at)) if _sane(1, at):
                return codec.Told(number, past=await source.archive.stood(at))
            case codec.Ask(number, stretch=codec.Stretch(policy, start, limit)) if _sane(limit, start):
                return codec.Told(number, listing=await source.archive.listing(policy, start, limit))
            case codec.Ask(number, turn=Turn(before=before, after=after, limit=limit) as turn) if _sane(
                limit, before or 0, after or 0
            ):
                return codec.Told(number, page=await source.archive.events(turn))
        raise QuestionError("", "this asks for nothing that there is")


def _sane(limit: int, *places: int) -> bool:
    """Whether so much may be asked for, at places that there can be."""
    return 1 <= limit <= MOST and all(0 <= place < 1 << 50 for place in places)


def _encoded(kind: bytes, value: object) -> bytes:
    """Return a message, nothing for one that is too long: enforcement goes on."""
    try:
        return codec.encode(kind, value)
    except codec.MessageError as error:
        log.error("feed.too_large", kind=kind.decode(), reason=str(error))  # noqa: TRY400 - no mistake
        return b""
