"""The control socket: raw bytes on a connection, with the daemon's own verbs behind it."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any, cast

from fuzz.loop import Loop, rest
from gatewrit.api import control
from gatewrit.cli import service
from gatewrit.engine import byhand
from gatewrit.engine.byhand import Book, Done, Request
from gatewrit.engine.snapshot import Outcome
from gatewrit.engine.takeback import Expecting, Taking
from gatewrit.engine.undo import Undo
from gatewrit.policy.load import PolicyDocument, parse_policy
from support.gateway import policy
from unit.api_samples import DEGRADED, NOW, Source

if TYPE_CHECKING:
    from gatewrit.cli.web import Web
    from gatewrit.engine.daemon import Daemon

_LOOP = Loop()
_READ = parse_policy(policy("bes-shutdown", "blackberry-enterprise").encode(), "policies/bes-shutdown.yaml")
assert isinstance(_READ, PolicyDocument)
_KNOWN = {_READ.id: _READ}
_BOOK = Book(held={_READ.id: "sha256:0"})
_OUTCOME = Outcome(ok=True, generation=7, changed=0, faults=(), sentence="in sync")


class _Chronicle:
    def asked(self, uid: int, name: str) -> None:
        assert name
        assert uid >= 0


class _Daemon(Source):
    """As much of a daemon as its verbs ask of it."""

    chronicle = _Chronicle()

    async def reload(self, expecting: Expecting | None = None) -> Outcome:
        if expecting is not None:
            Undo().expecting(1, expecting.within, NOW, (expecting.by, expecting.uid))
        return _OUTCOME

    async def by_hand(self, request: Request | Taking) -> Done:
        if isinstance(request, Taking):
            return Done((), _OUTCOME, request.verb, held=False)
        book, acts = byhand.write_down(_BOOK, request, _KNOWN, NOW)
        assert all(str(trouble) for trouble in byhand.troubles(book, NOW))
        return Done(acts, _OUTCOME, byhand.told(acts, _OUTCOME), held=False)


class _Web:
    def reload(self) -> None:
        """There is no certificate to read again."""


_VERBS = service._verbs(cast("Daemon", _Daemon(DEGRADED)), cast("Web", _Web()))


def one_input(data: bytes) -> None:
    for line in _LOOP.run(_exchange(data)).splitlines():
        said: dict[str, Any] = json.loads(line)
        assert said["ok"] is True or (said["code"] != "internal" and said["message"].isprintable()), said


async def _exchange(data: bytes) -> bytes:
    """Send bytes on a connection, end it, and give what came back until the other side ended it too."""
    ours, theirs = socket.socketpair()
    desk = control._Desk(_VERBS, None, patience=30.0)
    loop = asyncio.get_running_loop()

    def served() -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(limit=control.LARGEST_REQUEST, loop=loop)
        return asyncio.StreamReaderProtocol(reader, desk.accept, loop=loop)

    answer = bytearray()

    def take() -> bool:
        try:
            part = ours.recv(1 << 16)
        except BlockingIOError:
            return False
        answer.extend(part)
        return not part

    with ours:
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        assert ours.send(data) == len(data) if data else True
        ours.shutdown(socket.SHUT_WR)
        await loop.connect_accepted_socket(served, theirs)
        await rest(take)
        await desk.close(0)
    return bytes(answer)
