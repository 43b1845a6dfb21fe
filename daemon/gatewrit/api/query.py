"""What stands behind the question mark, read; each mistake is told with the parameter's name."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from gatewrit.api import wire

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp import web

PAGE_SIZE = 100
LARGEST_PAGE = 1000
_NO_CURSOR = "cursor isn't one that an answer's `next` gave; leave it out to start over"


def parameters(request: web.Request, *known: str) -> dict[str, str]:
    """Return the query's parameters; a misspelt one must not silently answer another question."""
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
