"""The page at `/`: the verdict in words first, then what needs attention, then every policy with its dates.

Rendered here, whole: it needs no script and asks nobody else. Everything from a policy file is escaped by the
template engine and set with `dir="auto"`. The page is asked for again by the browser itself, so that one whose daemon
is gone turns into the browser's own error and can't go on looking healthy.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from gatewrit.api import words
from gatewrit.api.documents import instant, status_document
from gatewrit.engine.snapshot import PolicyState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.engine.snapshot import PolicyView, Snapshot
    from gatewrit.policy.terms import Instant

#: Rows shown; the rest is in the JSON. A browser lays out a few hundred without lag on a wall screen's computer.
ROWS = 200
_REFRESH = 10
_REFRESH_BUSY = 2
_RANK = {state: rank for rank, state in enumerate(words.STATES)}
_COLOURS = {"good": "#1a7f4b", "busy": "#2f6fb3", "warn": "#b06a00", "bad": "#c62f3a"}
_MARKS = {
    "good": "M9 16.5l4.5 4.5L23 11.5",
    "busy": "M16 9v7l5 3",
    "warn": "M16 9v9M16 22.5v.5",
    "bad": "M11 11l10 10M21 11L11 21",
}
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant as it is shown: for machines, in UTC, and as the order's own clock has it if that differs."""

    machine: str
    utc: str
    own: str | None


def render(snapshot: Snapshot, now: int) -> bytes:
    """Return the page as of `now`."""
    status = status_document(snapshot, now)
    counts: Mapping[str, object] = status["policies"]
    views = sorted(snapshot.policies, key=lambda view: (_RANK[view.state], view.id))
    busy = snapshot.progress is not None or status["enforcement"] == "starting"
    page: str = _template().render(
        gateway=snapshot.gateway,
        version=snapshot.version,
        now=_moment(now),
        clock=datetime.fromtimestamp(now, UTC).strftime("%H:%M:%S"),
        refresh=_REFRESH_BUSY if busy else _REFRESH,
        verdict=words.verdict(status),
        counts=[(state, label, counts[state]) for state, label in words.STATES.items()],
        progress=_progress(snapshot, now),
        ruleset=snapshot.ruleset,
        applied=_aged(snapshot.ruleset.applied_at, now),
        verified=_aged(snapshot.ruleset.verified_at, now),
        next_change=_next_change(snapshot.next_change, now),
        problems=[
            {"problem": problem, "since": _moment(problem.since), "age": words.ago(now - problem.since)}
            for problem in sorted(snapshot.problems, key=lambda problem: (problem.severity, problem.since))[:ROWS]
        ],
        problem_count=len(snapshot.problems),
        rows=[_row(view, now) for view in views[:ROWS]],
        total=len(views),
    )
    return page.encode("utf-8", "replace")


def warm() -> None:
    """Read everything that is needed of our own files."""
    _template()
    stylesheet()


@cache
def stylesheet() -> tuple[bytes, str]:
    """Return the style sheet and what identifies this version of it."""
    body = resources.files("gatewrit.api").joinpath("templates", "page.css").read_bytes()
    return body, hashlib.sha256(body).hexdigest()[:16]


def icon(tone: str) -> bytes | None:
    """Return the browser tab's icon, which carries the verdict, as SVG; None for a tone that there isn't."""
    if tone not in _COLOURS:
        return None
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        f'<circle cx="16" cy="16" r="15" fill="{_COLOURS[tone]}"/>'
        f'<path d="{_MARKS[tone]}" fill="none" stroke="#fff" stroke-width="3.5" stroke-linecap="round"/></svg>'
    ).encode()


@cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("gatewrit.api", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["grouped"] = _grouped
    environment.filters["segment"] = _segment
    return environment.get_template("page.html")


def _row(view: PolicyView, now: int) -> dict[str, Any]:
    effective = view.effective
    until = effective.until if effective else None
    review_by = effective.review_by if effective else None
    return {
        "view": view,
        "label": words.STATES[view.state.value],
        "direction": words.DIRECTIONS.get(view.direction or ""),
        "remarks": _remarks(view, now),
        "start": _moment_of(effective.start) if effective else None,
        "until": _moment_of(until) if until else None,
        "review_by": _moment_of(review_by) if review_by else None,
        "overdue": review_by is not None and view.state is PolicyState.IN_FORCE and review_by.epoch <= now,
    }


def _remarks(view: PolicyView, now: int) -> list[str]:
    """Return what somebody wants to know next about a policy in this state."""
    start = view.effective.start.epoch if view.effective else None
    until = view.effective.until.epoch if view.effective and view.effective.until else None
    remarks: list[str] = []
    if view.state is PolicyState.SCHEDULED and start is not None and start > now:
        remarks.append(f"starts in {words.span(start - now)}")
    if view.state is PolicyState.IN_FORCE and view.in_force_since is not None:
        remarks.append(f"since {_moment(view.in_force_since).utc}")
        remarks.append(f"for {words.span(now - view.in_force_since)}")
    if view.state is PolicyState.IN_FORCE and until is not None and until > now:
        remarks.append(f"ends in {words.span(until - now)}")
    return remarks


def _progress(snapshot: Snapshot, now: int) -> str | None:
    progress = snapshot.progress
    if progress is None:
        return None
    steps = f", {progress.done} of {progress.total}" if progress.total else ""
    return f"{progress.activity}{steps}, for {words.span(now - progress.since)}"


def _next_change(epoch: int | None, now: int) -> tuple[Moment, str] | None:
    if epoch is None:
        return None
    return _moment(epoch), f"in {words.span(epoch - now)}" if epoch > now else "now"


def _aged(epoch: int | None, now: int) -> tuple[Moment, str] | None:
    return None if epoch is None else (_moment(epoch), words.ago(now - epoch))


def _moment(epoch: int) -> Moment:
    return Moment(instant(epoch) or "", _clock(datetime.fromtimestamp(epoch, UTC)) + " UTC", None)


def _moment_of(given: Instant) -> Moment:
    """Return an order's instant; its own clock is shown where that isn't UTC."""
    moment = _moment(given.epoch)
    return Moment(moment.machine, moment.utc, words.own_clock(given))


def _clock(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S" if when.second else "%Y-%m-%d %H:%M")


def _segment(text: str) -> str:
    """Return text as one segment of a URL's path."""
    return quote(text, safe="", errors="replace")


def _grouped(number: int) -> str:
    """Return a number that people can read; an IPv6 /32 alone has 29 digits, of which the power of ten tells enough."""
    if number >= 10**15:
        digits, _, power = f"{number:.2e}".partition("e+")
        return f"{digits}\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}10{power.translate(_RAISED)}"
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
