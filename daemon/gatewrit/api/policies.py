"""`/v1/policies` and what lies below it, and `/v1/history`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from gatewrit.api import closely, documents, query, table, wire, words
from gatewrit.api.choose import choose, find, read_choice
from gatewrit.api.face import answer, rendered
from gatewrit.api.paths import CSV, JSON
from gatewrit.engine.answer import NotKeptError
from gatewrit.engine.events import Topic, Turn
from gatewrit.engine.particulars import UnknownPolicyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aiohttp import web

    from gatewrit.api.face import Face, Rendered
    from gatewrit.engine.particulars import Particulars


#: How much of a list's digest stands in a cursor.
_DIGEST = 16


async def list_policies(face: Face, request: web.Request) -> web.Response:
    """Answer with one page of the policies, as they are or as they stood."""
    given = query.parameters(request)
    choice, as_csv = read_choice(given), query.wants_csv(request, given)
    at = query.read_past(given, face.now())
    snapshot = face.source.snapshot()
    views, item = snapshot.policies, documents.policy_item
    if at is not None:
        views, item = (await face.stood(at)).policies, documents.past_item

    def work() -> Rendered:
        chosen, following = choose(views, choice)
        columns = table.POLICY_COLUMNS if as_csv else None
        return _list([item(view) for view in chosen], following, columns, table.policy_row)

    return _answer(request, await face.render(("policies", choice, as_csv, at), snapshot, work), as_csv=as_csv)


async def show_policy(face: Face, request: web.Request) -> web.Response:
    """Answer with one policy, as it is or as it stood."""
    at = query.read_past(query.parameters(request), face.now())
    snapshot, name = face.source.snapshot(), request.match_info["id"]
    view = find(snapshot.policies if at is None else (await face.stood(at)).policies, name)
    if view is None:
        raise _unknown()

    async def work() -> Rendered:
        item = documents.policy_item(view) if at is None else documents.past_item(view)
        shown = await _particulars(face, name, at)
        return rendered(documents.encode(closely.policy_document(item, shown)) + b"\n")

    return answer(request, await face.once(("policy", name, at), snapshot, work))


async def list_addresses(face: Face, request: web.Request) -> web.Response:
    """Answer with a part of the entries that a policy names."""
    given = query.parameters(request)
    after, limit, as_csv = query.read_cursor(given), query.read_limit(given), query.wants_csv(request, given)
    start, _, digest = (after or "0").partition(".")
    begin = query.whole_cursor(start)
    if after is not None and len(digest) != _DIGEST:
        raise query.no_cursor()
    name = request.match_info["id"]
    if find(face.source.snapshot().policies, name) is None:
        raise _unknown()
    try:
        listing = await face.source.archive.listing(name, begin, limit)
    except UnknownPolicyError:
        raise _unknown() from None
    if digest not in {"", listing.digest[:_DIGEST]}:
        raise query.bad("cursor", "the list has changed since the page that gave this cursor; leave it out")
    end = begin + len(listing.entries)
    following = f"{end}.{listing.digest[:_DIGEST]}" if end < listing.total else None
    items = [closely.listed(each) for each in listing.entries]
    columns = table.ADDRESS_COLUMNS if as_csv else None
    made = await asyncio.to_thread(_list, items, following, columns, total=listing.total)
    return _answer(request, made, as_csv=as_csv)


async def show_history(face: Face, request: web.Request) -> web.Response:
    """Answer with what happened, to one policy where the address names one, newest first."""
    given = query.parameters(request)
    after, limit, as_csv = query.read_cursor(given), query.read_limit(given), query.wants_csv(request, given)
    named = query.read_one_of(given, "event", list(Topic))
    name = request.match_info.get("id")
    before = None if after is None else query.whole_cursor(after)
    turn = Turn(name, None if named is None else Topic(named), before=before, limit=limit)
    try:
        page = await face.source.archive.events(turn)
    except NotKeptError as error:
        raise wire.RequestError(503, "not_kept", f"Nobody can tell: {error}.") from None
    if name is not None and not page.events and find(face.source.snapshot().policies, name) is None:
        raise _unknown()
    following = str(page.events[-1].id) if page.more and page.events else None
    items = [closely.event_document(each) for each in page.events]
    made = await asyncio.to_thread(_list, items, following, table.EVENT_COLUMNS if as_csv else None)
    return _answer(request, made, as_csv=as_csv)


def _list(
    items: Sequence[Any],
    following: str | None,
    columns: tuple[str, ...] | None,
    row: Callable[[Any], Mapping[str, object]] = dict,
    **more: object,
) -> Rendered:
    """Render a page of a list: as CSV with these columns, else as JSON."""
    encoded = None if following is None else query.cursor(following)
    if columns is not None:
        return rendered(table.table(columns, map(row, items)), encoded)
    return rendered(documents.encode({"items": items, **more, "next": encoded}) + b"\n", encoded)


def _answer(request: web.Request, made: Rendered, *, as_csv: bool) -> web.Response:
    response = answer(request, made, CSV if as_csv else JSON)
    response.headers["Vary"] = "Accept"
    return response


async def _particulars(face: Face, name: str, at: int | None) -> Particulars | None:
    """Ask for what only the enforcer knows; None for what it can't say, or if it is gone."""
    try:
        return await face.source.archive.particulars(name, at)
    except UnknownPolicyError:
        return None
    except wire.RequestError as error:
        if error.code != words.SILENT:
            raise
        return None


def _unknown() -> wire.RequestError:
    return wire.RequestError(404, "no_such_policy", "No policy has this id here; /v1/policies lists them.")
