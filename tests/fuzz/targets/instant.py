"""An instant or a date: what is read is what datetime says it is, what isn't is told in a sentence."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from gatewrit.policy.instant import FIRST, LAST, parse_date, parse_instant, start_of_day

_KARACHI = parse_instant("2015-12-31T00:00:00[Asia/Karachi]")


def one_input(data: bytes) -> None:
    text, _, below = data.decode("utf-8", "surrogateescape").partition("\n")
    like = _KARACHI
    try:
        like = parse_instant(text)
    except ValueError as error:
        assert str(error)
    else:
        assert FIRST <= like.epoch <= LAST
        zone = ZoneInfo(like.zone) if like.zone else timezone(timedelta(seconds=like.offset))
        local = datetime.fromtimestamp(like.epoch, zone)
        shown = text.partition("[")[0].upper()
        assert local.utcoffset() == timedelta(seconds=like.offset)
        assert like.zone or datetime.fromisoformat(shown).timestamp() == like.epoch
        # Behind `Z` the zone is only for showing it (RFC 9557): the local time is another one then.
        assert shown.endswith("Z") or local.isoformat().startswith(shown[:19])
    for written in (text, below):
        try:
            day = parse_date(written)
            begins = start_of_day(day, like)
        except ValueError as error:
            assert str(error)
            continue
        zone = ZoneInfo(begins.zone) if begins.zone else timezone(timedelta(seconds=like.offset))
        # Some days were left out altogether (Apia, 2011-12-30): the next one begins where they would have.
        assert datetime.fromtimestamp(begins.epoch, zone).date() >= day
        assert begins.epoch == FIRST or datetime.fromtimestamp(begins.epoch - 1, zone).date() < day
