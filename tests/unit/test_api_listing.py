"""Which orders the page lists, and where they stand on its line of time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gatewrit.api import listing, timeline
from gatewrit.api.listing import ROWS, Listing, ListingError
from gatewrit.engine.snapshot import PolicyState
from gatewrit.policy.terms import Effective, Instant, Order
from unit.api_samples import NOW, SCHEDULED, SHUTDOWN, UNREAD

VIEWS = (SHUTDOWN, SCHEDULED, UNREAD)


def ids(wanted: Listing, now: int = NOW) -> list[str]:
    return [view.id for view in listing.choose(VIEWS, wanted, now).views]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["bes-shutdown", "court-118", "unread"]),
        ("BLACKBERRY pta", ["bes-shutdown"]),
        ("لاہور", ["court-118"]),
        ("casino-b", ["court-118"]),
        ("regulatory", ["bes-shutdown"]),
        ("reg-7", ["bes-shutdown"]),
        ("policy_rejected", ["unread"]),
        ("blackberry casino", []),
    ],
)
def test_all_words_must_occur_somewhere(text: str, found: list[str]) -> None:
    assert ids(Listing(text)) == found


@pytest.mark.parametrize(
    ("sort", "found"),
    [
        ("state", ["bes-shutdown", "court-118", "unread"]),
        ("change", ["court-118", "bes-shutdown", "unread"]),
        ("start", ["court-118", "bes-shutdown", "unread"]),
        ("packets", ["bes-shutdown", "court-118", "unread"]),
        ("title", ["bes-shutdown", "unread", "court-118"]),
    ],
)
def test_orders_are_sorted(sort: str, found: list[str]) -> None:
    assert ids(Listing(sort=sort)) == found


def test_states_are_counted_whatever_the_filter() -> None:
    page = listing.choose(VIEWS, Listing(state=PolicyState.SCHEDULED), NOW)
    assert [view.id for view in page.views] == ["court-118"]
    assert (page.counts[PolicyState.IN_FORCE], page.counts[PolicyState.LAPSED]) == (1, 0)


def test_pages_have_every_order_once() -> None:
    views = [replace(SHUTDOWN, id=f"p{at:03}") for at in range(2 * ROWS + 1)]
    pages = [listing.choose(views, Listing(page=number), NOW) for number in (1, 2, 3)]
    assert [view.id for page in pages for view in page.views] == [view.id for view in views]
    assert {page.pages for page in pages} == {3}
    assert listing.choose(views, Listing(page=99), NOW).number == 3
    assert listing.choose([], Listing(), NOW).pages == 1


@pytest.mark.parametrize(
    "given",
    [
        {"q": "x" * 201},
        {"state": "on"},
        {"sort": "size"},
        *({"page": page} for page in ("0", "-1", "1.5", "\u0661", "x", "9999999")),
    ],
)
def test_what_cannot_be_listed_is_named(given: dict[str, str]) -> None:
    with pytest.raises(ListingError) as refused:
        listing.read(given)
    assert refused.value.parameter in given


def test_a_listing_is_its_address() -> None:
    given = {"q": "a b", "state": "in_force", "sort": "packets", "page": "2"}
    wanted = listing.read(given)
    assert wanted.query(page=2) == "?q=a+b&state=in_force&sort=packets&page=2"
    assert wanted.query(state=None) == "?q=a+b&sort=packets"
    assert listing.read({"q": "", "state": "", "sort": "", "page": ""}) == Listing()
    assert Listing().query() == ""


# -- the line of time -------------------------------------------------------------------------------------------------

DAY = 86400


def drawn(
    start: int, until: int | None, state: PolicyState = PolicyState.IN_FORCE, **more: int
) -> list[tuple[str, ...]]:
    end = None if until is None else Instant(until, "")
    view = replace(SHUTDOWN, state=state, effective=Effective(Instant(start, ""), end), order=Order("a", "b", "never"))
    axis = timeline.Axis(NOW - 100, NOW + 100, "", ())
    line = timeline.line(view, axis, NOW, **more)
    assert line is not None
    return [(each.kind, each.at, each.width) for each in line.stretches]


def test_what_was_and_what_will_be_are_told_apart() -> None:
    assert drawn(NOW - 50, NOW + 50) == [("past", "25.00%", "25.00%"), ("future", "50.00%", "25.00%")]
    assert drawn(NOW + 50, None) == [("open", "75.00%", "25.00%")]
    assert drawn(NOW - 10 * DAY, NOW - 50) == [("past", "0.00%", "25.00%")]
    assert drawn(NOW + DAY, None) == []


def test_an_order_that_was_lifted_ends_there() -> None:
    assert drawn(NOW - 50, NOW + 50, PolicyState.RESCINDED) == []
    assert drawn(NOW - 50, NOW + 50, PolicyState.RESCINDED, lifted=NOW - 30) == [("past", "25.00%", "10.00%")]


def test_one_that_could_not_be_read_has_no_line() -> None:
    assert timeline.line(UNREAD, timeline.axis(VIEWS, NOW, 5), NOW) is None


@pytest.mark.parametrize("length", [1, 3600, DAY, 5 * DAY, 40 * DAY, 390 * DAY, 19 * 365 * DAY])
def test_ticks_are_few_and_in_order(length: int) -> None:
    view = replace(
        SHUTDOWN, order=None, effective=Effective(Instant(NOW - length // 2, ""), Instant(NOW + length // 2, ""))
    )
    axis = timeline.axis([view], NOW, 5, far=timeline.FAR_ALONE)
    assert axis.first < NOW - length // 2
    assert axis.last > NOW + length // 2
    places = [float(tick.at.rstrip("%")) for tick in axis.ticks]
    assert places == sorted(places)
    assert len(set(places)) == len(places) <= 25
    assert all(4 < place < 96 for place in places)


def test_what_is_far_off_does_not_squeeze_the_rest() -> None:
    far = replace(SHUTDOWN, effective=Effective(Instant(NOW - 9000 * DAY, ""), Instant(NOW + 60000 * DAY, "")))
    axis = timeline.axis([far, SCHEDULED], NOW, 5)
    assert axis.last - axis.first < 500 * DAY
