"""Where on a line of time an order's dates stand, in percent of its width, so that a style sheet can draw it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from gatewrit.engine.snapshot import PolicyState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gatewrit.engine.snapshot import PolicyView

_DAY = 86400
#: Dates further off than this are beyond the line's ends: an order until 2199 doesn't squeeze all others into a dot.
_FAR = 400 * _DAY
FAR_ALONE = 20 * 365 * _DAY
#: Seconds on each side of now that are shown at least.
_NEAR = _DAY // 2
#: Distances between ticks in seconds; from a month on they fall on the first of a month.
_STEPS = (900, 3600, 3 * 3600, 6 * 3600, _DAY, 2 * _DAY, 7 * _DAY, 14 * _DAY)
_MONTHS = (1, 2, 3, 6, 12)
#: Labels nearer to an end than this many percent would be cut off.
_EDGE = 4.0


@dataclass(frozen=True, slots=True)
class Mark:
    """A point on the line: `at` in percent, `kind` for the style sheet, `label` in words."""

    at: str
    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the line in percent; `kind` is past, future or open (no end is set)."""

    at: str
    width: str
    kind: str


@dataclass(frozen=True, slots=True)
class Line:
    """One order on the line; `label` has all its dates in words, those beyond the line's ends too."""

    stretches: Sequence[Stretch]
    marks: Sequence[Mark]
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """What the line spans, in epoch seconds, and what is written along it."""

    first: int
    last: int
    now: str
    ticks: Sequence[Mark]

    def at(self, epoch: int) -> float:
        """Return where an instant is, in percent; one beyond an end is at that end."""
        return min(100.0, max(0.0, 100 * (epoch - self.first) / (self.last - self.first)))


def axis(views: Iterable[PolicyView], now: int, most: int, also: Iterable[int] = (), far: int = _FAR) -> Axis:
    """Return a line on which the orders' dates, and those in `also`, have room, with at most about `most` ticks."""
    dates = [epoch for view in views for epoch in _dates(view)] + list(also)
    near = [epoch for epoch in dates if abs(epoch - now) <= far]
    first, last = min([now - _NEAR, *near]), max([now + _NEAR, *near])
    margin = (last - first) // 20
    first, last = first - margin, last + margin
    bare = Axis(first, last, "", ())
    ticks = [
        Mark(_percent(bare.at(epoch)), "tick", label)
        for epoch, label in _ticks(first, last, most)
        if _EDGE < bare.at(epoch) < 100 - _EDGE
    ]
    return Axis(first, last, _percent(bare.at(now)), ticks)


def line(view: PolicyView, axis: Axis, now: int, amended: Iterable[int] = (), lifted: int | None = None) -> Line | None:
    """Return where an order stands on the line; None for one of which nothing could be read."""
    effective = view.effective
    if effective is None:
        return None
    start, until = effective.start.epoch, effective.until.epoch if effective.until else None
    issued = _midnight(view.order.issued) if view.order else None
    review = effective.review_by.epoch if effective.review_by else None
    named = [("issued", issued), ("start", start), ("end", until), ("review", review), ("lifted", lifted)]
    named += [("amended", each) for each in amended]
    dated = [(kind, epoch, f"{kind} {_date(epoch)}") for kind, epoch in named if epoch is not None]
    marks = [
        Mark(_percent(axis.at(epoch)), kind, label) for kind, epoch, label in dated if axis.first <= epoch <= axis.last
    ]
    return Line(_stretches(view, axis, now, lifted), marks, ", ".join(label for _, _, label in dated))


def _stretches(view: PolicyView, axis: Axis, now: int, lifted: int | None) -> list[Stretch]:
    """Return the times for which an order was, is or will be in force."""
    if view.effective is None or (view.state is PolicyState.RESCINDED and lifted is None):
        return []  # when it was lifted isn't known, and a bar up to now would say that it is in force
    start, until = view.effective.start.epoch, view.effective.until
    ends = [each for each in (lifted, None if until is None else until.epoch) if each is not None]
    end = min(ends, default=axis.last)
    pieces = [("past", start, min(end, now)), ("future" if ends else "open", max(start, now), end)]
    return [
        Stretch(_percent(axis.at(low)), _percent(axis.at(high) - axis.at(low)), kind)
        for kind, low, high in pieces
        if low < high and axis.at(low) < axis.at(high)
    ]


def _dates(view: PolicyView) -> list[int]:
    effective = view.effective
    if effective is None:
        return []
    issued = _midnight(view.order.issued) if view.order else None
    given = [each.epoch for each in (effective.start, effective.until, effective.review_by) if each is not None]
    return given if issued is None else [*given, issued]


def _midnight(date: str) -> int | None:
    """Return the beginning of a date in UTC, as near as a date without a zone can be placed."""
    try:
        return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _ticks(first: int, last: int, most: int) -> list[tuple[int, str]]:
    for step in _STEPS:
        if (last - first) / step <= most:
            form = "%H:%M" if step < _DAY else "%-d %b"
            begin = -(-first // step) * step
            return [(epoch, _told(epoch, form)) for epoch in range(begin, last, step)]
    months = max(1.0, (last - first) / (30.4 * _DAY))
    step = next((each for each in _MONTHS if months / each <= most), _MONTHS[-1])
    return [(epoch, _told(epoch, "%b")) for epoch in _firsts(first, last, step) if epoch < last]


def _firsts(first: int, last: int, step: int) -> list[int]:
    """Return the first days of each `step`th month in between."""
    when = datetime.fromtimestamp(first, UTC).replace(day=1, hour=0, minute=0, second=0)
    found = []
    while when.timestamp() < last:
        if when.timestamp() >= first and (when.month - 1) % step == 0:
            found.append(int(when.timestamp()))
        when = (when + timedelta(days=32)).replace(day=1)
    return found


def _told(epoch: int, form: str) -> str:
    when = datetime.fromtimestamp(epoch, UTC)
    if form == "%H:%M" and when.hour == 0 and when.minute == 0:
        form = "%-d %b"
    if form == "%b" and when.month == 1:
        form = "%Y"
    return when.strftime(form)


def _date(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d")


def _percent(value: float) -> str:
    return f"{value:.2f}%"
