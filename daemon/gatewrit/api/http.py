"""The read-only HTTP face: routes, what each answers, and the sockets it is served on."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from bisect import bisect_left
from contextlib import asynccontextmanager
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from aiohttp import web

from gatewrit.api import documents, listen, metrics, pages, wire
from gatewrit.api.access import Access, Keys, connection_of, veiled
from gatewrit.api.answer import answer_document
from gatewrit.api.bucket import Bucket
from gatewrit.api.door import Door, entrance, url
from gatewrit.api.question import PARAMETERS, QuestionError, read_question
from gatewrit.api.tokens import Role
from gatewrit.engine.answer import NotKeptError
from gatewrit.engine.snapshot import Enforcement, PolicyState

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Hashable, Sequence

    from gatewrit.engine.answer import Answer, Question
    from gatewrit.engine.snapshot import Snapshot

T = TypeVar("T")

PAGE_SIZE = 100
LARGEST_PAGE = 1000
#: Above this many policies an answer is rendered in a thread, so that the loop that enforces keeps turning.
_LARGE = 200
#: Renderings kept of one snapshot.
_KEPT = 32


class SnapshotSource(Protocol):
    """What the daemon hands over: its present snapshot, and whether its loops turn."""

    def snapshot(self) -> Snapshot:
        """Return the present snapshot."""

    def alive(self) -> bool:
        """Return whether the engine's loops turn."""

    async def explain(self, question: Question) -> Answer:
        """Return whether an address is blocked, and why; raises NotKeptError for what the journal lacks."""


class Face:
    """The answers of one application, each rendered once for each snapshot however many ask at once."""

    def __init__(self, source: SnapshotSource, now: Callable[[], int]) -> None:
        self.source = source
        self.now = now
        self.explanations = Bucket()
        self._snapshot: Snapshot | None = None
        self._rendered: dict[Hashable, asyncio.Task[Any]] = {}

    async def render(self, key: Hashable, snapshot: Snapshot, function: Callable[[], T]) -> T:
        """Return what `function` makes of `snapshot`, which `key` names."""
        if snapshot is not self._snapshot or len(self._rendered) >= _KEPT:
            self._snapshot = snapshot
            self._rendered = {}
        task: asyncio.Task[T] | None = self._rendered.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = asyncio.create_task(_work(function, large=len(snapshot.policies) > _LARGE))
            self._rendered[key] = task
        # One client that hangs up doesn't take the answer from the others.
        return await asyncio.shield(task)


async def _work(function: Callable[[], T], *, large: bool) -> T:
    return await asyncio.to_thread(function) if large else function()


def make_app(source: SnapshotSource, now: Callable[[], int], access: Access) -> web.Application:
    """Return the application; `now` gives the instant that is shown, in epoch seconds."""
    app = web.Application(middlewares=[wire.answer_errors, wire.check_request, access.check])
    app.on_response_prepare.append(wire.add_headers)
    face = Face(source, now)
    for path, handler in {
        **pages.ROUTES,
        "/livez": livez,
        "/readyz": readyz,
        "/metrics": show_metrics,
        "/v1/status": show_status,
        "/v1/policies": list_policies,
        "/v1/policies/{id}": show_policy,
        "/v1/explain": explain,
    }.items():
        app.router.add_get(path, partial(handler, face))
    return app


async def livez(face: Face, request: web.Request) -> web.Response:
    """Say whether the loops turn."""
    _parameters(request)
    if not face.source.alive():
        detail = "The enforcement loop doesn't turn, or its process is gone; what is in the kernel stays in force."
        raise wire.RequestError(503, "not_alive", detail)
    return _json(documents.encode({"alive": True}))


async def readyz(face: Face, request: web.Request) -> web.Response:
    """Say whether the first complete programming of the kernel is done and holds."""
    _parameters(request)
    enforcement = face.source.snapshot().enforcement
    if enforcement in (Enforcement.STARTING, Enforcement.FAILED):
        detail = f"Enforcement is {enforcement}; see /v1/status."
        raise wire.RequestError(503, "not_ready", detail, enforcement=enforcement)
    if not face.source.alive():
        detail = "The enforcing process isn't heard from; /v1/status has what it said last."
        raise wire.RequestError(503, "not_ready", detail, enforcement=enforcement)
    return _json(documents.encode({"ready": True, "enforcement": enforcement}))


async def show_metrics(face: Face, request: web.Request) -> web.Response:
    """Answer Prometheus, which may add parameters of its own to its scrapes: they are let be."""
    snapshot = face.source.snapshot()
    accept = ",".join(request.headers.getall("Accept", []))
    work = partial(metrics.exposition, snapshot, accept)
    body, media_type = await face.render(("metrics", accept), snapshot, work)
    return web.Response(body=body, headers={"Content-Type": media_type})


async def show_status(face: Face, request: web.Request) -> web.Response:
    """Answer with the verdict; only `now` is new for each request."""
    _parameters(request)
    snapshot = face.source.snapshot()
    role = connection_of(request).role
    head, tail = await face.render(("status", role), snapshot, partial(_status_parts, snapshot, role))
    now = f', "now": "{documents.instant(face.now())}", '.encode()
    return _json(head + now + tail)


def _status_parts(snapshot: Snapshot, role: Role | None) -> tuple[bytes, bytes]:
    if role is not Role.DETAIL:
        snapshot = veiled(snapshot)
    head = documents.encode(documents.gateway_document(snapshot)).removesuffix(b"}")
    return head, documents.encode(documents.standing_document(snapshot)).removeprefix(b"{")


async def list_policies(face: Face, request: web.Request) -> web.Response:
    """Answer with one page of the policies."""
    given = _parameters(request, "cursor", "limit", "state")
    after = _cursor(given["cursor"]) if "cursor" in given else None
    limit = _limit(given["limit"]) if "limit" in given else PAGE_SIZE
    state = _state(given["state"]) if "state" in given else None
    snapshot = face.source.snapshot()

    def work() -> bytes:
        document = documents.policies_document(snapshot, after, limit, state)
        following = document["next"]
        return documents.encode({**document, "next": None if following is None else cursor(following)})

    return _json(await face.render(("policies", after, limit, state), snapshot, work))


async def show_policy(face: Face, request: web.Request) -> web.Response:
    """Answer with one policy."""
    _parameters(request)
    name = request.match_info["id"]
    policies = face.source.snapshot().policies
    index = bisect_left(policies, name, key=attrgetter("id"))
    if index < len(policies) and policies[index].id == name:
        return _json(documents.encode(documents.policy_item(policies[index])))
    raise wire.RequestError(404, "no_such_policy", "This gateway knows no policy of that id; see /v1/policies.")


async def explain(face: Face, request: web.Request) -> web.Response:
    """Answer whether an address is blocked, and why. Neither the question nor who asks is written down anywhere."""
    try:
        question = read_question(_parameters(request, *PARAMETERS))
    except QuestionError as error:
        raise _bad(error.parameter, str(error)) from None
    wait = face.explanations.take(asyncio.get_running_loop().time())
    if wait:
        return wire.too_many(wait)
    try:
        answer = await face.source.explain(question)
    except NotKeptError as error:
        raise wire.RequestError(404, "not_kept", f"Not kept: {error}.") from None
    document = await asyncio.to_thread(lambda: documents.encode(answer_document(answer)))
    return _json(document)


def cursor(after: str) -> str:
    """Return the opaque form of the id after which the next page starts."""
    return base64.urlsafe_b64encode(after.encode("utf-8", "surrogateescape")).decode().rstrip("=")


def _cursor(text: str) -> str:
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        after = base64.b64decode(padded, altchars=b"-_", validate=True).decode("utf-8", "surrogateescape")
    except (UnicodeError, binascii.Error):
        after = ""
    if not after or cursor(after) != text:
        raise _bad("cursor", "cursor isn't one that an answer's `next` gave; leave it out to start over")
    return after


def _limit(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= LARGEST_PAGE:
        return int(text)
    raise _bad("limit", f"limit is a whole number from 1 to {LARGEST_PAGE}")


def _state(text: str) -> PolicyState:
    try:
        return PolicyState(text)
    except ValueError:
        raise _bad("state", f"state is one of {', '.join(PolicyState)}") from None


def _parameters(request: web.Request, *known: str) -> dict[str, str]:
    """Return the query's parameters; a misspelt one must not silently answer another question."""
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in known:
            takes = f"takes {', '.join(known)}" if known else "takes no parameters"
            raise _bad(name[:64], f"unknown query parameter; this address {takes}")
        if name in given:
            raise _bad(name, f"{name} is given more than once")
        given[name] = value
    return given


def _bad(parameter: str, detail: str) -> wire.RequestError:
    return wire.RequestError(400, "bad_parameter", f"{detail[0].upper()}{detail[1:]}.", parameter=parameter)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body + b"\n", content_type="application/json")


@asynccontextmanager
async def serve(
    source: SnapshotSource,
    addresses: Sequence[str],
    *,
    now: Callable[[], int] = lambda: int(time.time()),
    group: str | None = None,
    limits: wire.Limits = wire.Limits(),  # noqa: B008 (frozen)
) -> AsyncIterator[tuple[str, ...]]:
    """Serve on all of `addresses` or raise ListenError; yield what was bound, as `http://127.0.0.1:9451`.

    `group` may use Unix sockets that are listened on, besides the daemon's own user. There are no tokens, and
    is no TLS: whoever gets here may see everything.
    """
    with listen.bound(addresses, group) as bound:
        # Nobody is answered before all addresses are bound.
        async with serve_on(source, [sock for _, sock in bound], Access(Keys()), now=now, limits=limits):
            yield tuple(url(name, sock) for name, sock in bound)


@asynccontextmanager
async def serve_on(
    source: SnapshotSource,
    sockets: Sequence[socket.socket],
    access: Access,
    *,
    now: Callable[[], int] = lambda: int(time.time()),
    limits: wire.Limits = wire.Limits(),  # noqa: B008 (frozen)
) -> AsyncIterator[None]:
    """Answer on sockets that listen already; they stay their owner's to close."""
    runner = web.AppRunner(make_app(source, now, access), access_log=None, shutdown_timeout=limits.grace)
    await runner.setup()
    server = runner.server
    if server is None:  # pragma: no cover
        raise RuntimeError("aiohttp made no server")
    door = Door(limits)
    connect = partial(wire.Connection, server, door, limits)
    entrances = [entrance(sock) for sock in sockets]
    receiving = [asyncio.create_task(door.receive(each, access.context, connect, wire.CROWDED)) for each in entrances]
    try:
        yield
    finally:
        for task in receiving:
            task.cancel()
        await asyncio.gather(*receiving, return_exceptions=True)
        await door.close()
        await runner.cleanup()
