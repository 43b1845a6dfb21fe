"""Points in time as an order writes them: RFC 3339 with an offset, or RFC 9557 with a zone.

A block that starts an hour early is a wrong block, so nothing is guessed: a local time that doesn't exist or exists
twice, an offset that contradicts its zone, a fraction of a second are all refused, each with what would be right.
"""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from gatewrit.policy.faults import suggest
from gatewrit.policy.terms import Instant

if TYPE_CHECKING:
    from datetime import tzinfo

#: The kernel's clock counts nanoseconds in 63 bits and wraps in 2262; whole years are easier to explain.
FIRST, LAST = 0, int(datetime(2261, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())

_EXAMPLE = "2015-12-31T00:00:00+05:00 or 2015-12-31T00:00:00[Asia/Karachi]"
_OUTSIDE = " is outside of what the kernel's clock can hold, which is the years 1970 to 2261"
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_INSTANT = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[Tt](?P<time>\d\d:\d\d:\d\d)(?P<fraction>[.,]\d+)?"
    r"(?P<offset>[Zz]|[+-]\d\d:\d\d)?(?:\[!?(?P<zone>[^\]]*)\])?(?P<rest>.*)",
    re.ASCII | re.DOTALL,
)
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")
# These depend on the host, count leap seconds, or aren't zones at all.
_NO_ZONES = re.compile(r"(?:posix|right)/.*|localtime|posixrules|Factory")


def parse_date(text: str) -> date:
    """Read a calendar date; raises ValueError with a sentence that says what would be right."""
    if _DATE.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text} isn't in the calendar") from None
    if _INSTANT.fullmatch(text):
        raise ValueError(f"{text} has a time of day; a date is meant here: {text[:10]}")
    if loose := re.fullmatch(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})", text, re.ASCII):
        raise ValueError(f"{text} isn't written as a date; write {loose[1]}-{loose[2]:0>2}-{loose[3]:0>2}")
    raise ValueError(f"{text} isn't a date; write it as 2015-07-24")


def parse_instant(text: str) -> Instant:
    """Read an instant; raises ValueError with a sentence that says what would be right."""
    if len(text) > 100:
        raise ValueError(f"this is too long for an instant; write it as {_EXAMPLE}")
    match = _INSTANT.fullmatch(text)
    if match is None or match["rest"]:
        raise ValueError(_what_is_missing(text, match))
    if match["fraction"]:
        right = text.replace(match["fraction"], "", 1)
        raise ValueError(f"{text} has a fraction of a second; instants are whole seconds: {right}")
    naive = _local(text, match["date"], match["time"])
    zone = _zone(match["zone"]) if match["zone"] is not None else None
    offset = match["offset"]
    if zone is None:
        if offset is None:
            raise ValueError(f"{text} doesn't say in which zone; write {text}+05:00 or {text}[Asia/Karachi]")
        moment = naive.replace(tzinfo=_fixed(text, offset))
    elif offset is None:
        moment = _only(text, naive, zone)
    elif offset in "Zz":
        # In RFC 9557 Z says that the offset isn't known: the instant is UTC's, the zone is for showing it.
        moment = naive.replace(tzinfo=UTC).astimezone(zone)
    else:
        moment = naive.replace(tzinfo=_fixed(text, offset)).astimezone(zone)
        if moment.replace(tzinfo=None) != naive:
            raise ValueError(f"{text}: {zone.key} wasn't at {offset} then, but at {_offset_text(moment)}")
    epoch = _epoch(moment)
    if not FIRST <= epoch <= LAST:
        raise ValueError(f"{text}{_OUTSIDE}")
    return Instant(epoch, text, zone.key if zone else None, _offset_seconds(moment))


def start_of_day(day: date, like: Instant) -> Instant:
    """Give the first instant of a date where `like` is: in its zone, or at its offset if it names none."""
    zone: tzinfo = ZoneInfo(like.zone) if like.zone else timezone(timedelta(seconds=like.offset))
    # A midnight that exists twice is the first of the two. One that is skipped is read with the offset before, and so
    # is the instant of the skip: no zone since 1970 has skipped across midnight without beginning there.
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    epoch = _epoch(midnight)
    if not FIRST <= epoch <= LAST:
        raise ValueError(f"{day}{_OUTSIDE}")
    return Instant(epoch, day.isoformat(), like.zone, _offset_seconds(datetime.fromtimestamp(epoch, zone)))


def _what_is_missing(text: str, match: re.Match[str] | None) -> str:  # noqa: PLR0911 - one return for each slip
    if not text:
        return f"nothing stands here; write an instant as {_EXAMPLE}"
    if re.match(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d[+-]\d(?!\d:\d\d)", text):
        return f"{text}: an offset is written with hours and minutes, such as +05:00"
    if match is not None:
        if match["rest"].startswith("["):
            return f"{text}: only one zone in brackets is read; leave out {match['rest']}"
        if re.fullmatch(r" \d\d:\d\d", match["rest"]):
            right = text.replace(" ", "+")
            return f"{text}: the offset lacks its sign; write {right}, and the + in a web address as %2B"
        return f"{text}: nothing may follow the instant, but {match['rest']!r} does; write it as {_EXAMPLE}"
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return f"{text} is a date; an instant needs its time and zone: {text}T00:00:00+05:00"
    if re.match(r"\d{4}-\d\d-\d\d +\d", text):
        return f"{text}: a T stands between date and time: {'T'.join(text.split(None, 1))}"
    if re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?!:)", text):
        return f"{text} doesn't say the seconds; write {text[:16]}:00{text[16:]}"
    return f"{text} isn't an instant; write it as {_EXAMPLE}"


def _local(text: str, day: str, time: str) -> datetime:
    if time.startswith("24:"):
        raise ValueError(f"{text}: a day ends at 23:59:59; write 00:00:00 of the next day")
    if time.endswith(":60"):
        raise ValueError(f"{text}: leap seconds can't be told to the kernel; write second 59, or 00 of the next minute")
    try:
        naive = datetime.fromisoformat(f"{day}T{time}")
    except ValueError:
        raise ValueError(f"{text}: there is no such date or time of day") from None
    if not 1969 <= naive.year <= 2262:
        raise ValueError(f"{text}{_OUTSIDE}")
    return naive


def _fixed(text: str, offset: str) -> timezone:
    if offset in "Zz":
        return UTC
    hours, minutes = int(offset[1:3]), int(offset[4:6])
    if hours > 23 or minutes > 59:
        raise ValueError(f"{text}: {offset} isn't an offset; it goes up to 23:59")
    delta = timedelta(hours=hours, minutes=minutes)
    return timezone(-delta if offset[0] == "-" else delta)


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    if re.fullmatch(r"[+-]\d\d:?\d\d|Z", name):
        raise ValueError(f"[{name}]: an offset stands without brackets, right behind the seconds")
    if "=" in name:
        raise ValueError(f"[{name}]: only a zone's name is read in brackets, such as [Asia/Karachi]")
    if _ZONE.fullmatch(name) and not _NO_ZONES.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            pass
    known = _known_zones()
    right = next((zone for zone in known if zone.lower() == name.lower()), None)
    hint = f"; did you mean {right}?" if right else suggest(name, known) or "; names are like Asia/Karachi"
    raise ValueError(f"there is no time zone {name!r}{hint}")


@lru_cache(maxsize=1)
def _known_zones() -> frozenset[str]:
    return frozenset(zone for zone in zoneinfo.available_timezones() if not _NO_ZONES.fullmatch(zone))


def _only(text: str, naive: datetime, zone: ZoneInfo) -> datetime:
    """Give the one moment at which the clocks of a zone showed this, if there is exactly one."""
    first, second = naive.replace(tzinfo=zone), naive.replace(tzinfo=zone, fold=1)
    if first.utcoffset() == second.utcoffset():
        return first
    stem = text.split("[", 1)[0]
    one, other = (f"{stem}{_offset_text(moment)}[{zone.key}]" for moment in (first, second))
    if _epoch(first) < _epoch(second):
        raise ValueError(f"{text} exists twice, as clocks are set back; write {one} or {other}")
    after = datetime.fromtimestamp(_epoch(first), zone)
    right = f"{after.replace(tzinfo=None).isoformat()}[{zone.key}]"
    raise ValueError(f"{text} doesn't exist, as clocks are set forward; {right} is as long after midnight")


def utc_text(epoch: int) -> str:
    """Write an instant as programs and records have it: RFC 3339, UTC, whole seconds."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _epoch(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)


def _offset_seconds(moment: datetime) -> int:
    return (moment.utcoffset() or timedelta()) // timedelta(seconds=1)


def _offset_text(moment: datetime) -> str:
    minutes, seconds = divmod(abs(_offset_seconds(moment)), 60)
    sign = "-" if _offset_seconds(moment) < 0 else "+"
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}" + (f":{seconds:02}" if seconds else "")
