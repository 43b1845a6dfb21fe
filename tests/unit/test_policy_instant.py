from __future__ import annotations

import zoneinfo
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.policy.instant import FIRST, LAST, parse_date, parse_instant, start_of_day
from gatewrit.policy.terms import Instant

# Among them: half hours, quarter hours, a midnight that is skipped and one that is repeated.
ZONES = (
    "Asia/Karachi",
    "Europe/Berlin",
    "America/Sao_Paulo",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Havana",
    "UTC",
)
EPOCHS = st.integers(FIRST, LAST)


@given(EPOCHS, st.integers(-23 * 60 - 59, 23 * 60 + 59))
def test_an_offset_reads_back_to_its_instant(epoch: int, minutes: int) -> None:
    local = datetime.fromtimestamp(epoch, UTC).astimezone(timezone(timedelta(minutes=minutes)))
    instant = parse_instant(local.isoformat())
    assert (instant.epoch, instant.zone, instant.offset) == (epoch, None, minutes * 60)
    assert instant.text == local.isoformat()


@given(EPOCHS, st.sampled_from(ZONES))
def test_a_zone_reads_back_to_its_instant_or_says_why_not(epoch: int, zone: str) -> None:
    local = datetime.fromtimestamp(epoch, zoneinfo.ZoneInfo(zone))
    exact = parse_instant(f"{local.isoformat()}[{zone}]")
    assert (exact.epoch, exact.zone) == (epoch, zone)
    bare = f"{local.replace(tzinfo=None).isoformat()}[{zone}]"
    if local.replace(fold=0).utcoffset() == local.replace(fold=1).utcoffset():
        assert parse_instant(bare) == exact
    else:
        with pytest.raises(ValueError, match="exists twice"):
            parse_instant(bare)


def test_the_order_as_it_first_stood() -> None:
    by_zone = parse_instant("2015-12-01T00:00:00[Asia/Karachi]")
    by_offset = parse_instant("2015-12-01T00:00:00+05:00")
    assert by_zone == by_offset == Instant(1448910000, "")
    assert by_zone.zone == "Asia/Karachi"
    assert by_zone.offset == by_offset.offset == 5 * 3600


def test_z_with_a_zone_says_utc_and_shows_the_zone() -> None:
    instant = parse_instant("2015-11-30T19:00:00Z[Asia/Karachi]")
    assert (instant.epoch, instant.offset) == (1448910000, 5 * 3600)


@pytest.mark.parametrize("text", ["1970-01-01T00:00:00Z", "2261-12-31T23:59:59Z", "1969-12-31T19:00:00-05:00"])
def test_the_ends_of_time_are_in(text: str) -> None:
    assert FIRST <= parse_instant(text).epoch <= LAST


@pytest.mark.parametrize(
    "text",
    [
        "1969-12-31T23:59:59Z",
        "2262-01-01T00:00:00Z",
        "1970-01-01T00:00:00+00:01",
        "2261-12-31T23:59:59-00:01",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "9999-12-31T23:59:59Z[Asia/Karachi]",
    ],
)
def test_what_the_kernel_would_wrap_is_out(text: str) -> None:
    with pytest.raises(ValueError, match="1970 to 2261"):
        parse_instant(text)


def test_an_offset_that_lost_its_sign_and_no_instant_at_all_say_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"write 2015-12-31T00:00:00\+05:00, and the \+ in a web address as %2B"):
        parse_instant("2015-12-31T00:00:00 05:00")
    with pytest.raises(ValueError, match="nothing stands here; write an instant as"):
        parse_instant("")


def test_a_skipped_hour_names_the_time_that_exists() -> None:
    with pytest.raises(ValueError, match=r"doesn't exist.*2015-03-29T03:30:00\[Europe/Berlin\]"):
        parse_instant("2015-03-29T02:30:00[Europe/Berlin]")
    parse_instant("2015-03-29T03:00:00[Europe/Berlin]")
    parse_instant("2015-03-29T01:59:59[Europe/Berlin]")


def test_a_repeated_hour_offers_both_and_takes_either() -> None:
    with pytest.raises(ValueError, match="exists twice") as raised:
        parse_instant("2015-10-25T02:30:00[Europe/Berlin]")
    offers = [word for word in str(raised.value).split() if word.startswith("2015-10-25T02:30:00+")]
    first, second = map(parse_instant, offers)
    assert second.epoch - first.epoch == 3600


def test_a_skipped_hour_with_an_offset_is_refused_too() -> None:
    with pytest.raises(ValueError, match="wasn't at"):
        parse_instant("2015-03-29T02:30:00+01:00[Europe/Berlin]")


@pytest.mark.parametrize(
    "zone",
    ["localtime", "posixrules", "right/UTC", "posix/UTC", "Factory", "../UTC", "/etc/localtime", "", "Asia", "a b"],
)
def test_zones_that_depend_on_the_host_or_are_none(zone: str) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        parse_instant(f"2015-12-31T00:00:00[{zone}]")


def test_a_day_begins_where_the_order_is() -> None:
    start = parse_instant("2015-12-01T00:00:00[Asia/Karachi]")
    review = start_of_day(date(2016, 1, 1), start)
    assert (review.epoch, review.text, review.zone) == (1451588400, "2016-01-01", "Asia/Karachi")
    assert start_of_day(date(2016, 1, 1), parse_instant("2015-12-01T00:00:00+05:00")) == review


@pytest.mark.parametrize(
    ("day", "zone", "first"),
    [
        (date(2018, 11, 4), "America/Sao_Paulo", "2018-11-04T01:00:00-02:00"),  # midnight is skipped
        (date(2018, 2, 18), "America/Sao_Paulo", "2018-02-18T00:00:00-03:00"),  # 23:00 of the day before is repeated
        (date(2015, 11, 1), "America/Havana", "2015-11-01T00:00:00-04:00"),  # midnight is repeated
        (date(2011, 12, 31), "Pacific/Apia", "2011-12-31T00:00:00+14:00"),  # the day before doesn't exist
        (date(2015, 3, 29), "Europe/Berlin", "2015-03-29T00:00:00+01:00"),
    ],
)
def test_a_day_begins_once_whatever_clocks_do_at_midnight(day: date, zone: str, first: str) -> None:
    like = Instant(0, "", zone, 0)
    begins = start_of_day(day, like)
    assert begins == parse_instant(first)
    before = datetime.fromtimestamp(begins.epoch - 1, zoneinfo.ZoneInfo(zone))
    assert before.date() < day <= datetime.fromtimestamp(begins.epoch, zoneinfo.ZoneInfo(zone)).date()


@given(st.dates(date(1970, 1, 2), date(2261, 12, 30)), st.sampled_from(ZONES))
def test_every_day_begins_with_its_first_second(day: date, zone: str) -> None:
    clock = zoneinfo.ZoneInfo(zone)
    begins = start_of_day(day, Instant(0, "", zone, 0)).epoch
    assert datetime.fromtimestamp(begins, clock).date() == day
    assert datetime.fromtimestamp(begins - 1, clock).date() < day


def test_days_outside_of_the_clock() -> None:
    for day in (date(1, 1, 1), date(1969, 12, 31), date(2262, 1, 1), date(9999, 12, 31)):
        with pytest.raises(ValueError, match="1970 to 2261"):
            start_of_day(day, Instant(0, "", None, 0))


@given(st.dates())
def test_a_date_reads_back(day: date) -> None:
    assert parse_date(day.isoformat()) == day


@given(st.one_of(st.text(max_size=40), st.from_regex(r"[0-9T:+\-Z\[\]A-Za-z/.]{10,40}", fullmatch=True)))
def test_no_text_crashes_the_reader(text: str) -> None:
    for read in (parse_instant, parse_date):
        try:
            read(text)
        except ValueError as error:
            assert str(error)  # noqa: PT017 - any text may also be right
