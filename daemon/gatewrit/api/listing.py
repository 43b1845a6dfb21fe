"""Which orders the page lists, in which order: search, filter, sort, one page of them at a time. Pure.

All of it is in the address of the page, so that it works without scripts and can be sent to a colleague.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from gatewrit.api import words
from gatewrit.engine.snapshot import PolicyState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gatewrit.engine.snapshot import PolicyView

#: Orders on one page: with style and scripts it stays below 150 KB, and a browser lays it out at once.
ROWS = 50
PARAMETERS = ("q", "state", "sort", "page")
#: How orders can be sorted, and how that reads.
SORTS: Mapping[str, str] = {
    "state": "state, in force first",
    "change": "next change",
    "start": "newest start",
    "packets": "most packets",
    "title": "title",
}
_LONGEST = 200
_RANK = {state: rank for rank, state in enumerate(words.STATES)}
_NEVER = 2**63


class ListingError(ValueError):
    """A listing that can't be asked for like this; names the parameter."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class Listing:
    """What is asked for. `text` is words that all have to occur, `page` counts from 1."""

    text: str = ""
    state: PolicyState | None = None
    sort: str = "state"
    page: int = 1

    def query(self, **changes: object) -> str:
        """Return the query of the address that asks for this with changes, "" for what is asked for by default."""
        wanted = replace(self, **{"page": 1, **changes})  # type: ignore[arg-type]
        pairs = [
            ("q", wanted.text),
            ("state", "" if wanted.state is None else wanted.state.value),
            ("sort", "" if wanted.sort == "state" else wanted.sort),
            ("page", "" if wanted.page == 1 else str(wanted.page)),
        ]
        query = urlencode([pair for pair in pairs if pair[1]], errors="replace")
        return f"?{query}" if query else ""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the orders that fit; `counts` says of how many in each state the text fits, whatever the filter."""

    views: Sequence[PolicyView]
    found: int
    pages: int
    number: int
    counts: Mapping[PolicyState, int]


def read(given: Mapping[str, str]) -> Listing:
    """Read a listing from a query; raises ListingError. What a form leaves empty counts as left out."""
    text = " ".join(given.get("q", "").split())
    if len(text) > _LONGEST:
        raise ListingError("q", f"q is at most {_LONGEST} characters of what to search for")
    state, sort, page = given.get("state", ""), given.get("sort", "") or "state", given.get("page", "") or "1"
    if state and state not in words.STATES:
        raise ListingError("state", f"state is one of {', '.join(words.STATES)}")
    if sort not in SORTS:
        raise ListingError("sort", f"sort is one of {', '.join(SORTS)}")
    if not re.fullmatch(r"[1-9][0-9]{0,5}", page):
        raise ListingError("page", "page is a whole number from 1")
    return Listing(text, PolicyState(state) if state else None, sort, int(page))


def choose(views: Iterable[PolicyView], listing: Listing, now: int) -> Page:
    """Return the page that is asked for; one beyond the last is the last."""
    wanted = listing.text.casefold().split()
    matching = [view for view in views if _fits(view, wanted)] if wanted else list(views)
    counts = dict.fromkeys(PolicyState, 0)
    for view in matching:
        counts[view.state] += 1
    if listing.state is not None:
        matching = [view for view in matching if view.state is listing.state]
    matching.sort(key=_KEYS[listing.sort](now))
    pages = max(1, -(-len(matching) // ROWS))
    number = min(listing.page, pages)
    return Page(matching[(number - 1) * ROWS : number * ROWS], len(matching), pages, number, counts)


def _fits(view: PolicyView, wanted: Iterable[str]) -> bool:
    """Whether each word occurs somewhere in what an order says of itself."""
    order = view.order
    said = [view.id, view.title or "", view.action or "", *view.services, *view.labels, *view.labels.values()]
    if order is not None:
        said += [order.authority, order.reference, order.issued, order.ticket or ""]
    if view.problem is not None:
        said.append(view.problem.code)
    text = "\n".join(said).casefold()
    return all(word in text for word in wanted)


def next_change(view: PolicyView, now: int) -> int | None:
    """Return when an order next starts, ends or is to be looked at again, None if nothing is set."""
    effective = view.effective
    if effective is None or view.state not in {PolicyState.IN_FORCE, PolicyState.SCHEDULED, PolicyState.SUSPENDED}:
        return None
    instants = [each.epoch for each in (effective.start, effective.until, effective.review_by) if each is not None]
    return min((each for each in instants if each > now), default=None)


def _start(view: PolicyView) -> int:
    return view.effective.start.epoch if view.effective else -_NEVER


_KEYS: Mapping[str, Callable[[int], Callable[[PolicyView], tuple[object, ...]]]] = {
    "state": lambda _: lambda view: (_RANK[view.state], view.id),
    "change": lambda now: lambda view: (next_change(view, now) or _NEVER, _RANK[view.state], view.id),
    "start": lambda _: lambda view: (-_start(view), view.id),
    "packets": lambda _: lambda view: (-view.packets, _RANK[view.state], view.id),
    "title": lambda _: lambda view: ((view.title or view.id).casefold(), view.id),
}
