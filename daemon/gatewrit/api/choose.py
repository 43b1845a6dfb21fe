"""Which policies of a snapshot a list shows, in which order, and where its next page begins. Pure.

A page begins behind a place in the order, not behind a number of items, so that none is left out or told twice when
policies come and go between pages.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from gatewrit.api import query
from gatewrit.api.paths import PAGE_SIZE, SORTS
from gatewrit.engine.snapshot import PolicyState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from gatewrit.engine.snapshot import PolicyView

    #: What a policy is put in order by: whether there is no such thing, the thing, and the id.
    Place = tuple[bool, int | str, str]

#: Everything but the id that the policies can be put in order by.
_VALUES: Mapping[str, Callable[[PolicyView], int | str | None]] = {
    "title": lambda view: view.title,
    "state": lambda view: view.state.value,
    "authority": lambda view: None if view.order is None else view.order.authority,
    "from": lambda view: None if view.effective is None else view.effective.start.epoch,
    "until": lambda view: None if (each := view.effective) is None or each.until is None else each.until.epoch,
    "in_force_since": lambda view: view.in_force_since,
    "packets": lambda view: view.packets,
    "bytes": lambda view: view.bytes,
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What a list is asked for; None is whatever there is. `words` are all to occur, in lower case."""

    state: PolicyState | None = None
    authority: str | None = None
    service: str | None = None
    label: tuple[str, str | None] | None = None
    problem: str | None = None
    words: tuple[str, ...] = ()
    sort: str = "id"
    down: bool = False
    after: str | None = None
    limit: int = PAGE_SIZE


def read_choice(given: dict[str, str]) -> Choice:
    """Read what a list is asked for from the query's parameters."""
    state = query.read_one_of(given, "state", list(PolicyState))
    sort = query.read_one_of(given, "sort", (*SORTS, *(f"-{name}" for name in SORTS))) or "id"
    for name in ("authority", "service", "label", "problem", "q"):
        if name in given and not given[name].strip():
            raise query.bad(name, f"{name} says nothing; leave it out")
    label, value = None, None
    if "label" in given:
        label, equals, said = given["label"].partition("=")
        value = said if equals else None
    choice = Choice(
        state=None if state is None else PolicyState(state),
        authority=given["authority"].casefold() if "authority" in given else None,
        service=given.get("service"),
        label=None if label is None else (label, value),
        problem=given.get("problem"),
        words=tuple(given.get("q", "").casefold().split()),
        sort=sort.removeprefix("-"),
        down=sort.startswith("-"),
        after=query.read_cursor(given),
        limit=query.read_limit(given),
    )
    _after(choice)
    return choice


def choose(views: Sequence[PolicyView], choice: Choice) -> tuple[Sequence[PolicyView], str | None]:
    """Give a page of the policies, which are sorted by id, and what the next one begins after, if there is one."""

    def key(view: PolicyView) -> Place:
        return _place(view, choice.sort)

    found = [view for view in views if _fits(view, choice)]
    if choice.sort != "id" or choice.down:
        found.sort(key=key, reverse=choice.down)
    after = _after(choice)
    start = 0
    if after is not None and choice.down:
        # bisect wants what ascends.
        start = len(found) - bisect_left(found[::-1], after, key=key)
    elif after is not None:
        start = bisect_right(found, after, key=key)
    page = found[start : start + choice.limit]
    return page, _cursor(page[-1], choice) if start + choice.limit < len(found) else None


def find(views: Sequence[PolicyView], name: str) -> PolicyView | None:
    """Give the policy of this id among those, which are sorted by it; None if there is none."""
    index = bisect_left(views, name, key=attrgetter("id"))
    return views[index] if index < len(views) and views[index].id == name else None


def _fits(view: PolicyView, choice: Choice) -> bool:
    authority = None if view.order is None else view.order.authority.casefold()
    return (
        (choice.state in {None, view.state})
        and (choice.authority in {None, authority})
        and (choice.service is None or choice.service in view.services)
        and (choice.label is None or _labelled(view, *choice.label))
        and (choice.problem is None or _troubled(view, choice.problem))
        and (not choice.words or _says(view, choice.words))
    )


def _labelled(view: PolicyView, name: str, value: str | None) -> bool:
    return name in view.labels and value in {None, view.labels[name]}


def _troubled(view: PolicyView, code: str) -> bool:
    if code == "none":
        return view.problem is None
    return view.problem is not None and code in {"any", view.problem.code}


def _says(view: PolicyView, wanted: tuple[str, ...]) -> bool:
    """Whether all of these occur in a policy's words."""
    order = view.order
    said = () if order is None else (order.authority, order.reference, order.ticket, order.basis, order.text)
    labels = (part for pair in view.labels.items() for part in pair)
    words = (view.id, view.title, *view.services, *labels, *said)
    text = "\n".join(word for word in words if word).casefold()
    return all(each in text for each in wanted)


def _place(view: PolicyView, sort: str) -> Place:
    if sort == "id":
        return False, "", view.id
    value = _VALUES[sort](view)
    return value is None, 0 if value is None else value, view.id


def _cursor(view: PolicyView, choice: Choice) -> str:
    """Give where a page ends: the id alone says it where that is the order."""
    if choice.sort == "id":
        return view.id
    return json.dumps([choice.sort, *_place(view, choice.sort)])


def _after(choice: Choice) -> Place | None:
    """Read a cursor back; raises RequestError for one of another order."""
    if choice.after is None:
        return None
    if choice.sort == "id":
        return False, "", choice.after
    try:
        said: Any = json.loads(choice.after)
    except (ValueError, RecursionError):
        raise query.no_cursor() from None
    match said:
        case [str(sort), bool(nothing), (int() | str()) as value, str(name)] if sort == choice.sort:
            kind = int if nothing or choice.sort in _NUMBERS else str
            if isinstance(value, kind) and not isinstance(value, bool) and (value == 0 or not nothing):
                return nothing, value, name
    raise query.no_cursor()


_NUMBERS = {"from", "until", "in_force_since", "packets", "bytes"}
