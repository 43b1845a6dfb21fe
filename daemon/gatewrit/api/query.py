"""What stands behind the question mark, read; each mistake is told with the parameter's name."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from gatewrit.api import wire
from gatewrit.api.paths import CSV, JSON, LARGEST_PAGE, PAGE_SIZE, PATHS
from gatewrit.policy.instant import parse_instant

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp import web

_NO_CURSOR = "cursor isn't one that an answer's `next` gave; leave it out to start over"


def parameters(request: web.Request, *pages: str) -> dict[str, str]:
    """Return the query's parameters; a misspelt one must not silently answer another question.

    A path for programs says itself which it takes; `pages` are those of one for people.
    """
    resource = request.match_info.route.resource
    path = PATHS.get(resource.canonical) if resource else None
    known = path.takes if path else pages
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in known:
            takes = f"takes {', '.join(known)}" if known else "takes no parameters"
            raise bad(name[:64], f"unknown query parameter; this address {takes}")
        if name in given:
            raise bad(name, f"{name} is given more than once")
        given[name] = value
    return given


def bad(parameter: str, detail: str) -> wire.RequestError:
    """Return what is raised for a parameter that can't be as it is."""
    return wire.RequestError(400, "bad_parameter", f"{detail[0].upper()}{detail[1:]}.", parameter=parameter)


def cursor(after: str) -> str:
    """Return the opaque form of what the next page starts after."""
    return base64.urlsafe_b64encode(after.encode("utf-8", "surrogateescape")).decode().rstrip("=")


def read_cursor(given: dict[str, str]) -> str | None:
    """Read `cursor`, None if there is none."""
    if "cursor" not in given:
        return None
    text = given["cursor"]
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        after = base64.b64decode(padded, altchars=b"-_", validate=True).decode("utf-8", "surrogateescape")
    except (UnicodeError, binascii.Error):
        after = ""
    if not after or cursor(after) != text:
        raise no_cursor()
    return after


def no_cursor() -> wire.RequestError:
    """Return what is raised for a cursor that nobody gave."""
    return bad("cursor", _NO_CURSOR)


def whole_cursor(text: str) -> int:
    """Read a number out of a cursor."""
    if text.isascii() and text.isdecimal() and len(text) < 19:
        return int(text)
    raise no_cursor()


def read_limit(given: dict[str, str]) -> int:
    """Read `limit`: how many items a page has."""
    if "limit" not in given:
        return PAGE_SIZE
    text = given["limit"]
    if text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= LARGEST_PAGE:
        return int(text)
    raise bad("limit", f"limit is a whole number from 1 to {LARGEST_PAGE}")


def read_one_of(given: dict[str, str], name: str, words: Collection[str]) -> str | None:
    """Read a parameter that is one of some words, None if it isn't there."""
    if name not in given or given[name] in words:
        return given.get(name)
    raise bad(name, f"{name} is one of {', '.join(words)}")


def wants_csv(request: web.Request, given: dict[str, str]) -> bool:
    """Read `format`, or else what `Accept` prefers; JSON where it doesn't say."""
    named = read_one_of(given, "format", ("json", "csv"))
    if named is not None:
        return named == "csv"
    weights = liked(request)
    return weights.get(CSV, 0.0) > weights.get(JSON, 0.0)


def liked(request: web.Request) -> dict[str, float]:
    """Read how much `Accept` likes each media type that it names (RFC 9110, section 12.5.1); parameters don't count."""
    found: dict[str, float] = {}
    for each in ",".join(request.headers.getall("Accept", [])).split(","):
        kind, *rest = (part.strip().lower() for part in each.split(";"))
        quality = next((part[2:] for part in rest if part.startswith("q=")), "1")
        weight = float(quality) if re.fullmatch(r"[01](\.[0-9]{0,3})?", quality, re.ASCII) else 0.0
        found[kind] = max(weight, found.get(kind, 0.0))
    return found


def read_past(given: dict[str, str], now: int) -> int | None:
    """Read `at`, an instant that has passed, in epoch seconds; None if it isn't there."""
    if "at" not in given:
        return None
    try:
        at = parse_instant(given["at"])
    except ValueError as error:
        raise bad("at", f"at: {error}") from None
    if at.epoch > now:
        raise bad("at", "at lies ahead, and only what has been is known here; /v1/explain tells of a time to come")
    return at.epoch
