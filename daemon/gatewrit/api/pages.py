"""Requests for pages, and for what pages bring along: routes, and what each answers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from gatewrit.api import face as faces
from gatewrit.api import listing, lookup, page, query, shown, wire
from gatewrit.api.choose import find
from gatewrit.engine.answer import NotKeptError
from gatewrit.engine.events import Turn
from gatewrit.engine.particulars import UnknownPolicyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from gatewrit.api.face import Face
    from gatewrit.engine.events import Event
    from gatewrit.engine.particulars import Particulars

    Answering = Callable[[Face, web.Request], Awaitable[web.StreamResponse]]

#: Events shown: of everything, and of one order; the rest is in `/v1/history`.
EVENTS, HISTORY = 12, 50


async def show_overview(face: Face, request: web.Request) -> web.StreamResponse:
    """Answer with the verdict, what needs attention, and the orders that are asked for."""
    try:
        wanted = listing.read(query.parameters(request, *listing.PARAMETERS))
    except listing.ListingError as error:
        raise query.bad(error.parameter, str(error)) from None
    snapshot, now = face.source.snapshot(), face.now()
    recent = face.source.recent
    events = (recent.after(recent.floor) or ())[-EVENTS:][::-1]
    work = partial(page.pieces, snapshot, now, wanted, events)
    return await _html_in_two(request, *await face.begin(("page", now, wanted, recent.last), snapshot, work))


async def show_order(face: Face, request: web.Request) -> web.Response:
    """Answer with one order, whole."""
    query.parameters(request)
    name = request.match_info["id"]
    snapshot, now = face.source.snapshot(), face.now()
    view = find(snapshot.policies, name)
    if view is None:
        return _html(page.render_absent(snapshot, now, name), 404)
    last = face.source.recent.last
    shown, history = await face.once(("closely", name, last), snapshot, partial(_closely, face, name))
    work = partial(page.render_order, snapshot, now, view, shown, history)
    return _html(await face.render(("order", now, name, last), snapshot, work))


async def _closely(face: Face, name: str) -> tuple[Particulars | None, tuple[Event, ...] | None]:
    """Ask for what only the enforcer knows of an order; None for what it can't say, or if it is gone."""
    archive = face.source.archive
    try:
        shown = await archive.particulars(name)
    except (UnknownPolicyError, NotKeptError, wire.RequestError):
        shown = None
    try:
        return shown, (await archive.events(Turn(policy=name, limit=HISTORY))).events
    except (NotKeptError, wire.RequestError):
        return shown, None


async def show_lookup(face: Face, request: web.Request) -> web.Response:
    """Answer what was typed into the look-up box. Neither that nor who asks is written down anywhere."""
    typed = query.parameters(request, "q").get("q", "")
    snapshot, now = face.source.snapshot(), face.now()
    try:
        asked = lookup.read(typed)
    except lookup.UnreadableError as error:
        return _html(page.render_lookup(snapshot, now, typed, wrong=str(error)), 400)
    try:
        face.admit()
        answer = await face.source.explain(asked.question)
    except wire.TooOftenError as error:
        told = f"Too many look-ups at once; ask again in {error.wait} s."
        return _html(page.render_lookup(snapshot, now, typed, wrong=told), 429)
    except wire.RequestError as error:
        return _html(page.render_lookup(snapshot, now, typed, wrong=error.detail), error.status)
    except NotKeptError as error:
        told = f"Nobody can tell: {error}."
        return _html(page.render_lookup(snapshot, now, typed, wrong=told), 404)
    work = partial(page.render_lookup, snapshot, now, typed, answer, remark=asked.remark)
    return _html(await asyncio.to_thread(work))


async def show_static(face: Face, request: web.Request) -> web.Response:
    """Answer with a script; a browser keeps it, and asks whether it has changed."""
    del face
    query.parameters(request)
    name = request.path.rpartition("/")[2]
    body, version = shown.static(name)
    response = faces.answer(request, faces.Rendered(body, version), shown.STATIC[name])
    response.headers["Cache-Control"] = "no-cache"
    return response


async def show_icon(face: Face, request: web.Request) -> web.Response:
    """Answer with the icon for a verdict."""
    del face
    query.parameters(request)
    body = shown.icon(request.match_info["tone"])
    if body is None:
        raise web.HTTPNotFound
    return web.Response(body=body, content_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})


ROUTES: Mapping[str, Answering] = {
    "/": show_overview,
    "/orders/{id}": show_order,
    "/lookup": show_lookup,
    "/icon/{tone}.svg": show_icon,
    **{f"/{name}": show_static for name in shown.STATIC},
}


async def _html_in_two(request: web.Request, opening: bytes, rest: asyncio.Task[bytes]) -> web.StreamResponse:
    """Answer with a page whose opening is sent while the rest is made."""
    if request.method == hdrs.METH_HEAD:
        return _html(opening + await asyncio.shield(rest))
    response = web.StreamResponse()
    response.content_type = "text/html"
    response.charset = "utf-8"
    await response.prepare(request)
    with suppress(ConnectionError):  # who asked has gone
        await response.write(opening)
        await response.write_eof(await asyncio.shield(rest))
    return response


def _html(body: bytes, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body, content_type="text/html", charset="utf-8")
