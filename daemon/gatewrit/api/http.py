"""The read-only HTTP face: routes, what each answers, and the sockets it is served on."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import ETag, web

from gatewrit.api import documents, listen, metrics, openapi, pages, policies, query, wire
from gatewrit.api.access import Access, Keys, connection_of, veiled
from gatewrit.api.answer import answer_document
from gatewrit.api.door import Door, entrance, url
from gatewrit.api.face import Face, Rendered, answer, conditional, rendered
from gatewrit.api.paths import JSON, OPENMETRICS, TEXT
from gatewrit.api.question import QuestionError, read_question
from gatewrit.api.stream import Streams
from gatewrit.api.tokens import Role
from gatewrit.api.words import SEE_WHY
from gatewrit.engine.answer import NotKeptError
from gatewrit.engine.snapshot import Enforcement

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Sequence

    from gatewrit.api.source import SnapshotSource
    from gatewrit.engine.answer import Answer
    from gatewrit.engine.snapshot import Snapshot


_ALIVE = b'{"alive": true}\n'


def make_app(source: SnapshotSource, now: Callable[[], int], access: Access) -> web.Application:
    """Return the application; `now` gives the instant that is shown, in epoch seconds."""
    app = web.Application(middlewares=[wire.answer_errors, wire.check_request, access.check])
    app.on_response_prepare.append(wire.add_headers)
    streams = Streams(source, now, access)
    app.cleanup_ctx.append(streams.run)
    app.on_shutdown.append(streams.close)
    source.told = streams.look
    face = Face(source, now, streams)
    for path, handler in {
        **pages.ROUTES,
        "/openapi.json": describe,
        "/livez": livez,
        "/readyz": readyz,
        "/metrics": show_metrics,
        "/v1/status": show_status,
        "/v1/policies": policies.list_policies,
        "/v1/policies/{id}": policies.show_policy,
        "/v1/policies/{id}/addresses": policies.list_addresses,
        "/v1/policies/{id}/history": policies.show_history,
        "/v1/history": policies.show_history,
        "/v1/explain": explain,
        "/v1/events": follow,
    }.items():
        app.router.add_get(path, partial(handler, face))
    return app


async def livez(face: Face, request: web.Request) -> web.Response:
    """Say whether the loops turn."""
    query.parameters(request)
    if not face.source.alive():
        detail = "The enforcement loop doesn't turn, or its process is gone; what is in the kernel stays in force."
        raise wire.RequestError(503, "not_alive", f"{detail} {SEE_WHY}")
    return web.Response(body=_ALIVE, content_type=JSON)


async def readyz(face: Face, request: web.Request) -> web.Response:
    """Say whether the first complete programming of the kernel is done and holds."""
    query.parameters(request)
    enforcement = face.source.snapshot().enforcement
    if enforcement in (Enforcement.STARTING, Enforcement.FAILED):
        detail = f"Enforcement is {enforcement}; see /v1/status."
        raise wire.RequestError(503, "not_ready", detail, enforcement=enforcement)
    if not face.source.alive():
        detail = f"The enforcing process isn't heard from; /v1/status has what it said last. {SEE_WHY}"
        raise wire.RequestError(503, "not_ready", detail, enforcement=enforcement)
    return web.Response(body=documents.encode({"ready": True, "enforcement": enforcement}) + b"\n", content_type=JSON)


async def show_metrics(face: Face, request: web.Request) -> web.Response:
    """Answer Prometheus, which may add parameters of its own to its scrapes: they are let be."""
    snapshot = face.source.snapshot()
    liked = query.liked(request)
    openmetrics = liked.get(OPENMETRICS, 0.0) > liked.get(TEXT, 0.0)
    work = partial(metrics.exposition, snapshot, openmetrics=openmetrics)
    body = await face.render(("metrics", openmetrics), snapshot, work)
    media_type = metrics.OPENMETRICS if openmetrics else metrics.TEXT
    return web.Response(body=body, headers={"Content-Type": media_type, "Vary": "Accept"})


async def show_status(face: Face, request: web.Request) -> web.Response:
    """Answer with the verdict, of which only `now` is new for each request; or with how everything stood."""
    at = query.read_past(query.parameters(request), face.now())
    if at is not None:
        document = documents.past_document(await face.stood(at))
        return answer(request, rendered(documents.encode(document) + b"\n"))
    snapshot = face.source.snapshot()
    role = connection_of(request).role
    head, tail, tag = await face.render(("status", role), snapshot, partial(_status_parts, snapshot, role))
    now = f', "now": "{documents.instant(face.now())}", '.encode()
    # Weak, since `now` isn't part of it: who has the rest knows all but what time it is.
    etag = ETag(tag, is_weak=True)
    response = conditional(request, etag)
    if response is None:
        response = web.Response(body=head + now + tail, content_type=JSON)
        response.etag = etag
    return response


def _status_parts(snapshot: Snapshot, role: Role | None) -> tuple[bytes, bytes, str]:
    if role is not Role.DETAIL:
        snapshot = veiled(snapshot)
    head = documents.encode(documents.gateway_document(snapshot)).removesuffix(b"}")
    tail = documents.encode(documents.standing_document(snapshot)).removeprefix(b"{") + b"\n"
    return head, tail, rendered(head + tail).etag


async def explain(face: Face, request: web.Request) -> web.Response:
    """Answer whether an address is blocked, and why. Neither the question nor who asks is written down anywhere."""
    try:
        question = read_question(query.parameters(request))
    except QuestionError as error:
        raise query.bad(error.parameter, str(error)) from None
    face.admit()
    try:
        found = await face.source.explain(question)
    except NotKeptError as error:
        raise wire.RequestError(404, "not_kept", f"Not kept: {error}.") from None
    return answer(request, await asyncio.to_thread(_explained, found))


def _explained(found: Answer) -> Rendered:
    document = answer_document(found)
    made = rendered(documents.encode(document) + b"\n")
    if found.question.at is not None:
        return made
    timeless = rendered(documents.encode({**document, "at": None}))
    return replace(made, etag=timeless.etag, weak=True)


async def describe(face: Face, request: web.Request) -> web.Response:
    """Answer with what can be asked, and what is answered."""
    del face
    query.parameters(request)
    # Made at the first request, which takes longer than others should wait.
    return answer(request, rendered(await asyncio.to_thread(openapi.description) + b"\n"))


async def follow(face: Face, request: web.Request) -> web.StreamResponse:
    """Answer with what happens, as it happens."""
    query.parameters(request)
    return await face.streams.serve(request)


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
