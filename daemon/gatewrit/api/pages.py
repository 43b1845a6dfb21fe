"""Requests for pages, and for what pages bring along: routes, and what each answers."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from aiohttp import web

from gatewrit.api import listing, lookup, page, shown, wire
from gatewrit.engine.answer import NotKeptError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from gatewrit.api.http import Face

    Answering = Callable[[Face, web.Request], Awaitable[web.StreamResponse]]


async def show_overview(face: Face, request: web.Request) -> web.Response:
    """Answer with the verdict, what needs attention, and the orders that are asked for."""
    try:
        wanted = listing.read(_parameters(request, *listing.PARAMETERS))
    except listing.ListingError as error:
        raise _bad(error.parameter, str(error)) from None
    snapshot, now = face.source.snapshot(), face.now()
    work = partial(page.render, snapshot, now, wanted)
    return _html(await face.render(("page", now, wanted), snapshot, work))


async def show_order(face: Face, request: web.Request) -> web.Response:
    """Answer with one order, whole."""
    _parameters(request)
    name = request.match_info["id"]
    snapshot, now = face.source.snapshot(), face.now()
    index = bisect_left(snapshot.policies, name, key=attrgetter("id"))
    if index == len(snapshot.policies) or snapshot.policies[index].id != name:
        return _html(page.render_absent(snapshot, now, name), 404)
    work = partial(page.render_order, snapshot, now, snapshot.policies[index])
    return _html(await face.render(("order", now, name), snapshot, work))


async def show_lookup(face: Face, request: web.Request) -> web.Response:
    """Answer what was typed into the look-up box. Neither that nor who asks is written down anywhere."""
    typed = _parameters(request, "q").get("q", "")
    snapshot, now = face.source.snapshot(), face.now()
    try:
        asked = lookup.read(typed)
    except lookup.UnreadableError as error:
        return _html(page.render_lookup(snapshot, now, typed, wrong=str(error)), 400)
    answers = []
    for question in asked.questions:
        wait = face.explanations.take(asyncio.get_running_loop().time())
        if wait:
            told = f"Too many look-ups at once; ask again in {wait} s."
            return _html(page.render_lookup(snapshot, now, typed, wrong=told), 429)
        try:
            answers.append(await face.source.explain(question))
        except wire.RequestError as error:
            return _html(page.render_lookup(snapshot, now, typed, wrong=error.detail), error.status)
        except NotKeptError as error:  # pragma: no cover - only of questions about the past
            return _html(page.render_lookup(snapshot, now, typed, wrong=f"Not kept: {error}."), 404)
    work = partial(page.render_lookup, snapshot, now, typed, answers, remark=asked.remark)
    return _html(await asyncio.to_thread(work))


async def show_static(face: Face, request: web.Request) -> web.Response:
    """Answer with style or script; a browser keeps it, and asks whether it has changed."""
    del face
    _parameters(request)
    name = request.path.rpartition("/")[2]
    body, version = shown.static(name)
    response = web.Response(body=body, content_type=shown.STATIC[name], charset="utf-8")
    if any(tag.value in (version, "*") for tag in request.if_none_match or ()):
        response = web.Response(status=304)
    response.etag = version
    response.headers["Cache-Control"] = "no-cache"
    return response


async def show_icon(face: Face, request: web.Request) -> web.Response:
    """Answer with the icon for a verdict."""
    del face
    _parameters(request)
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


def _html(body: bytes, status: int = 200) -> web.Response:
    return web.Response(status=status, body=body, content_type="text/html", charset="utf-8")


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
