"""`/v1/policies` and what lies below it, and `/v1/history`."""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING

from gatewrit.api import closely, documents, query, wire
from gatewrit.api.face import json_answer
from gatewrit.engine.answer import NotKeptError
from gatewrit.engine.events import Topic, Turn
from gatewrit.engine.particulars import UnknownPolicyError
from gatewrit.engine.snapshot import PolicyState

if TYPE_CHECKING:
    from aiohttp import web

    from gatewrit.api.face import Face
    from gatewrit.engine.particulars import Particulars
    from gatewrit.engine.snapshot import PolicyView, Snapshot


async def list_policies(face: Face, request: web.Request) -> web.Response:
    """Answer with one page of the policies."""
    given = query.parameters(request, "cursor", "limit", "state")
    after, limit = query.read_cursor(given), query.read_limit(given)
    named = query.read_one_of(given, "state", list(PolicyState))
    state = None if named is None else PolicyState(named)
    snapshot = face.source.snapshot()

    def work() -> bytes:
        document = documents.policies_document(snapshot, after, limit, state)
        following = document["next"]
        return documents.encode({**document, "next": None if following is None else query.cursor(following)})

    return json_answer(await face.render(("policies", after, limit, state), snapshot, work))


async def show_policy(face: Face, request: web.Request) -> web.Response:
    """Answer with one policy."""
    query.parameters(request)
    snapshot = face.source.snapshot()
    view = _view(snapshot, request.match_info["id"])
    if view is None:
        raise _unknown()
    shown = await face.once(("policy", view.id), snapshot, lambda: _particulars(face, view.id))
    return json_answer(documents.encode(closely.policy_document(view, shown)))


async def list_addresses(face: Face, request: web.Request) -> web.Response:
    """Answer with a part of the entries that a policy names."""
    given = query.parameters(request, "cursor", "limit")
    after, limit = query.read_cursor(given), query.read_limit(given)
    start, _, digest = (after or "0").partition(".")
    name = request.match_info["id"]
    if _view(face.source.snapshot(), name) is None:
        raise _unknown()
    try:
        listing = await face.source.archive.listing(name, query.whole_cursor(start), limit)
    except UnknownPolicyError:
        raise _unknown() from None
    if digest not in {"", listing.digest[: len(digest)]} or (after is not None and not digest):
        raise query.bad("cursor", "the list has changed since the page that gave this cursor; leave it out")
    end = int(start) + len(listing.entries)
    following = query.cursor(f"{end}.{listing.digest[:16]}") if end < listing.total else None
    return json_answer(documents.encode(closely.listing_document(listing, following)))


async def show_history(face: Face, request: web.Request) -> web.Response:
    """Answer with what happened, to one policy where the address names one, newest first."""
    given = query.parameters(request, "cursor", "limit", "event")
    after, limit = query.read_cursor(given), query.read_limit(given)
    named = query.read_one_of(given, "event", list(Topic))
    name = request.match_info.get("id")
    before = None if after is None else query.whole_cursor(after)
    turn = Turn(name, None if named is None else Topic(named), before=before, limit=limit)
    try:
        page = await face.source.archive.events(turn)
    except NotKeptError as error:
        raise wire.RequestError(503, "not_kept", f"{str(error).capitalize()}.") from None
    if name is not None and not page.events and _view(face.source.snapshot(), name) is None:
        raise _unknown()
    following = query.cursor(str(page.events[-1].id)) if page.more and page.events else None
    return json_answer(documents.encode(closely.history_document(page, following)))


async def _particulars(face: Face, name: str) -> Particulars | None:
    """Ask for what only the enforcer knows; None for what it can't say, or if it is gone."""
    try:
        return await face.source.archive.particulars(name)
    except UnknownPolicyError:
        return None
    except wire.RequestError as error:
        if error.code != "enforcer_silent":
            raise
        return None


def _view(snapshot: Snapshot, name: str) -> PolicyView | None:
    index = bisect_left(snapshot.policies, name, key=attrgetter("id"))
    views = snapshot.policies[index : index + 1]
    return views[0] if views and views[0].id == name else None


def _unknown() -> wire.RequestError:
    return wire.RequestError(404, "no_such_policy", "No policy has this id here; /v1/policies lists them.")
