"""What all pages share: the templates, how instants and numbers are shown, and the files that a page brings along."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, FunctionLoader, StrictUndefined

from gatewrit.api import words
from gatewrit.api.documents import instant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.policy.terms import Instant

#: What a page brings along, and of which type each is. Nothing else of the package can be asked for.
STATIC: Mapping[str, str] = {
    "live.js": "text/javascript",
    "morph.js": "text/javascript",
    "times.js": "text/javascript",
    "chart.js": "text/javascript",
}
_COLOURS = {"good": "#1a7f4b", "busy": "#2f6fb3", "warn": "#b06a00", "bad": "#c62f3a", "unknown": "#6b7680"}
_MARKS = {
    "good": "M9 16.5l4.5 4.5L23 11.5",
    "busy": "M16 9v7l5 3",
    "warn": "M16 9v9M16 22.5v.5",
    "bad": "M11 11l10 10M21 11L11 21",
    "unknown": "M12 12.5a4 4 0 1 1 6 3.5c-1.4.8-2 1.5-2 3M16 23v.5",
}
#: Instants kept as they are shown: those of the orders on a page are asked for again with each look at it.
_MOMENTS = 4096
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant as it is shown: for machines, in UTC, and as the order's own clock has it if that differs."""

    epoch: int
    machine: str
    utc: str
    own: str | None


@lru_cache(_MOMENTS)
def moment(epoch: int) -> Moment:
    """Return an instant in UTC."""
    when = datetime.fromtimestamp(epoch, UTC)
    utc = when.strftime("%Y-%m-%d %H:%M:%S UTC" if when.second else "%Y-%m-%d %H:%M UTC")
    return Moment(epoch, instant(epoch) or "", utc, None)


@lru_cache(_MOMENTS)
def moment_of(given: Instant) -> Moment:
    """Return an order's instant; its own clock is shown where that isn't UTC."""
    plain = moment(given.epoch)
    return Moment(plain.epoch, plain.machine, plain.utc, words.own_clock(given))


@cache
def template(name: str) -> Any:
    """Return a template of the package; what it puts in is escaped."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"grouped": grouped, "segment": segment, "ago": words.ago, "span": words.span}
    return environment


def _source(name: str) -> str:
    """Return a template without its indentation, which would be a tenth of what is sent."""
    text = resources.files("gatewrit.api").joinpath("templates", name).read_text("utf-8")
    return "\n".join(line.strip() for line in text.splitlines())


def warm() -> None:
    """Read everything that is needed of our own files."""
    for name in STATIC:
        static(name)
    for item in resources.files("gatewrit.api").joinpath("templates").iterdir():
        template(item.name)


@cache
def style() -> str:
    """Return the style sheet. It stands in each page: the first view waits for no second answer."""
    return _static("page.css").decode()


def style_source() -> str:
    """Return what allows that style and no other in a Content-Security-Policy (CSP Level 3, hash-source)."""
    return f"'sha256-{b64encode(hashlib.sha256(style().encode()).digest()).decode()}'"


@cache
def static(name: str) -> tuple[bytes, str]:
    """Return a file that pages bring along, and what identifies this version of it."""
    body = _static(name)
    return body, hashlib.sha256(body).hexdigest()[:16]


def _static(name: str) -> bytes:
    return resources.files("gatewrit.api").joinpath("static", name).read_bytes()


def icon(tone: str) -> bytes | None:
    """Return the browser tab's icon, which carries the verdict, as SVG; None for a tone that there isn't."""
    if tone not in _COLOURS:
        return None
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        f'<circle cx="16" cy="16" r="15" fill="{_COLOURS[tone]}"/>'
        f'<path d="{_MARKS[tone]}" fill="none" stroke="#fff" stroke-width="3.5" stroke-linecap="round"'
        ' stroke-linejoin="round"/></svg>'
    ).encode()


def segment(text: str) -> str:
    """Return text as one segment of a URL's path."""
    return quote(text, safe="", errors="replace")


def grouped(number: int) -> str:
    """Return a number that people can read; an IPv6 /32 alone has 29 digits, of which the power of ten tells enough."""
    if number >= 10**15:
        digits, _, power = f"{number:.2e}".partition("e+")
        return f"{digits}\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}10{power.translate(_RAISED)}"
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
