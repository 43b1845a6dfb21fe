"""The pages for people: `/`, one order, a look-up. The verdict in words stands first on each.

Rendered here, whole: they need no script and ask nobody else. Everything from a policy file is escaped by the template
engine and set with `dir="auto"`. Scripts only ask for the same pages again and put what is new into place, so that
there is one place where things are worded and escaped. Without scripts the browser itself asks again, and one whose
daemon is gone turns into the browser's own error; either way a page can't go on looking healthy.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from gatewrit.api import listing as listings
from gatewrit.api import shown, timeline, words
from gatewrit.api.answer import sentence, subject_of
from gatewrit.api.documents import status_document
from gatewrit.api.listing import Listing
from gatewrit.api.shown import moment, moment_of, template
from gatewrit.engine.answer import Standing
from gatewrit.engine.snapshot import PolicyState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gatewrit.api.timeline import Axis
    from gatewrit.engine.answer import Answer
    from gatewrit.engine.events import Event
    from gatewrit.engine.particulars import Particulars
    from gatewrit.engine.snapshot import PolicyView, Snapshot

#: Problems shown; the rest is in the JSON.
PROBLEMS = 20
#: Where the orders begin in the template. What is put in is escaped, so no policy can say it.
_ORDERS = '<section id="orders"'
_REFRESH = 10
_REFRESH_BUSY = 2
_EVERYTHING = Listing()
_ANSWER_TONES = {"reject": "bad", "drop": "bad", "observe": "busy", "pass": "good"}


def render(snapshot: Snapshot, now: int, listing: Listing = _EVERYTHING, events: Iterable[Event] = ()) -> bytes:
    """Return the page at `/` as of `now`, with the orders that are asked for, and `events` newest first."""
    return b"".join(pieces(snapshot, now, listing, events))


def pieces(
    snapshot: Snapshot, now: int, listing: Listing = _EVERYTHING, events: Iterable[Event] = ()
) -> Iterator[bytes]:
    """Give that page in two pieces, each rendered when it is asked for: what stands above the orders, and the rest.

    Nine tenths of the work are in the orders. Meanwhile a browser that has the first piece fetches the style and shows
    the verdict.
    """
    chosen = listings.choose(snapshot.policies, listing, now)
    axis = timeline.axis(chosen.views, now, 5)
    problems = sorted(snapshot.problems, key=lambda problem: (problem.severity, problem.since))[:PROBLEMS]
    text = _text(
        "overview.html",
        snapshot,
        now,
        listing=listing,
        chosen=chosen,
        first=(chosen.number - 1) * listings.ROWS,
        states=[(state, words.STATES[state.value], chosen.counts[state]) for state in map(PolicyState, words.STATES)],
        sorts=listings.SORTS,
        total=len(snapshot.policies),
        axis=axis,
        row_of=partial(_row, axis=axis, now=now),
        following=min(listings.ROWS, chosen.found - (chosen.number - 1) * listings.ROWS - len(chosen.views)),
        problems=[{"problem": problem, "since": moment(problem.since)} for problem in problems],
        problem_count=len(snapshot.problems),
        next_change=_moment(snapshot.next_change),
        events=[(event, moment(event.at)) for event in events],
    )
    opening = []
    for each in text:
        opening.append(each)
        if _ORDERS in each:
            break
    yield _encoded(opening)
    yield _encoded(text)


def render_order(
    snapshot: Snapshot,
    now: int,
    view: PolicyView,
    particulars: Particulars | None = None,
    history: Iterable[Event] | None = None,
) -> bytes:
    """Return the page of one order; `particulars` and `history` (newest first) are None where nobody can tell them."""
    amended, lifted = _amendments(particulars, view)
    axis = timeline.axis([view], now, 7, also=amended, far=timeline.FAR_ALONE)
    return _page(
        "order.html",
        snapshot,
        now,
        row=_row(view, axis, now, amended, lifted),
        view=view,
        particulars=particulars,
        revisions=[(each, moment(each.at)) for each in particulars.revisions] if particulars else [],
        history=None if history is None else [(event, moment(event.at)) for event in history],
        axis=axis,
        issued=view.order.issued if view.order else None,
        received=moment_of(view.order.received) if view.order and view.order.received else None,
    )


def _amendments(particulars: Particulars | None, view: PolicyView) -> tuple[list[int], int | None]:
    """Return when an order was amended, and when it was lifted by a revision, in epoch seconds."""
    accepted = [] if particulars is None else list(particulars.revisions)
    lifted = accepted[0].at if accepted and view.state is PolicyState.RESCINDED else None
    return [each.at for each in accepted[:-1] if each.at != lifted], lifted


def render_absent(snapshot: Snapshot, now: int, name: str) -> bytes:
    """Return the page in place of an order that there isn't."""
    return _page("absent.html", snapshot, now, name=name[:64])


def render_lookup(  # noqa: PLR0913 - what was typed, and what came of it
    snapshot: Snapshot,
    now: int,
    typed: str,
    answer: Answer | None = None,
    *,
    remark: str | None = None,
    wrong: str = "",
) -> bytes:
    """Return the page of a look-up: its answer, or what is `wrong` with what was typed."""
    return _page(
        "lookup.html",
        snapshot,
        now,
        typed=typed[:200],
        answer=None if answer is None else _answer(answer),
        remark=remark,
        wrong=wrong,
    )


def _page(name: str, snapshot: Snapshot, now: int, /, **given: Any) -> bytes:
    """Render a template with what is given, and with what stands on every page."""
    return _encoded(_text(name, snapshot, now, **given))


def _text(name: str, snapshot: Snapshot, now: int, /, **given: Any) -> Iterator[str]:
    """Give a template's text bit by bit, rendered as it is asked for."""
    text: Iterator[str] = template(name).generate({**_frame(snapshot, now), **given})
    return text


def _encoded(text: Iterable[str]) -> bytes:
    return "".join(text).encode("utf-8", "replace")


def _frame(snapshot: Snapshot, now: int) -> dict[str, Any]:
    """Return what stands on every page."""
    status = status_document(snapshot, now)
    busy = snapshot.progress is not None or status["enforcement"] == "starting"
    return {
        "style": shown.style(),
        "gateway": snapshot.gateway,
        "version": snapshot.version,
        "now": moment(now),
        "refresh": _REFRESH_BUSY if busy else _REFRESH,
        "verdict": words.verdict(status),
        "standing": _moment(snapshot.enforcement_since),
        "progress": _progress(snapshot, now),
        "ruleset": snapshot.ruleset,
        "applied": _moment(snapshot.ruleset.applied_at),
        "verified": _moment(snapshot.ruleset.verified_at),
        "typed": "",
    }


def _answer(answer: Answer) -> dict[str, Any]:
    told = [each for each in answer.reasons if each.standing in {Standing.ACTS, Standing.EXCEPTED}]
    tone = "warn" if answer.partly else _ANSWER_TONES[answer.verdict.value]
    short = "Blocked in part" if answer.partly else "Blocked" if answer.blocked else "Not blocked here"
    return {
        "subject": subject_of(answer),
        "short": short,
        "tone": tone,
        "sentence": sentence(answer),
        "notes": answer.notes,
        "reasons": [
            {
                "reason": each,
                "since": _moment(each.since),
                "until": moment_of(each.until) if each.until else None,
                "review_by": moment_of(each.review_by) if each.review_by else None,
            }
            for each in told
        ],
    }


def _row(
    view: PolicyView, axis: Axis, now: int, amended: Sequence[int] = (), lifted: int | None = None
) -> dict[str, Any]:
    effective = view.effective
    until = effective.until if effective else None
    review_by = effective.review_by if effective else None
    return {
        "view": view,
        "label": words.STATES[view.state.value],
        "direction": words.DIRECTIONS.get(view.direction or ""),
        "since": _moment(view.in_force_since) if view.state is PolicyState.IN_FORCE else None,
        "countdown": _countdown(view, now),
        "start": moment_of(effective.start) if effective else None,
        "until": moment_of(until) if until else None,
        "review_by": moment_of(review_by) if review_by else None,
        "overdue": review_by is not None and view.state is PolicyState.IN_FORCE and review_by.epoch <= now,
        "line": timeline.line(view, axis, now, amended, lifted),
    }


def _countdown(view: PolicyView, now: int) -> tuple[str, Any] | None:
    """Return what an order next does, and when; None if it does nothing more by itself."""
    effective = view.effective
    if effective is None:
        return None
    if view.state is PolicyState.SCHEDULED and effective.start.epoch > now:
        return "starts", moment(effective.start.epoch)
    if view.state is PolicyState.IN_FORCE and effective.until is not None and effective.until.epoch > now:
        return "ends", moment(effective.until.epoch)
    return None


def _progress(snapshot: Snapshot, now: int) -> str | None:
    progress = snapshot.progress
    if progress is None:
        return None
    steps = f", {progress.done} of {progress.total}" if progress.total else ""
    return f"{progress.activity}{steps}, for {words.span(now - progress.since)}"


def _moment(epoch: int | None) -> Any:
    return None if epoch is None else moment(epoch)
