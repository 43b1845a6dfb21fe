"""A report as one HTML file that prints well: no script, no request to anywhere, everything escaped."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gatewrit.api import words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.cli.report_shapes import PublicReport, Report

_STATES = {
    "enforced": "enforced",
    "not_in_kernel": "NOT enforced, though ordered",
    "put_in_anew": "not known",
    "suspended": "suspended",
    "scheduled": "not yet effective",
    "lapsed": "past its end",
    "rescinded": "rescinded",
    "out_of_scope": "not for this gateway",
    "gone": "forgotten",
    "active": "not known any more",
}
_STRETCHES = {
    "suspended": "Suspended by hand.",
    "not_in_kernel": "Ordered, but the kernel had no rules for it.",
    "put_in_anew": "At most: a daemon that came back found the rules gone or changed, and put them right.",
    "unattended": "The rules stood in the kernel; no daemon ran.",
    "silent_end": "The rules stood in the kernel; some time in between a daemon ended without a word.",
    "beyond": "Enforced though no longer ordered like this.",
}
_ACTIONS = {"drop": "dropped", "reject": "rejected", "observe": "counted only, not blocked"}
_FIELDS = (
    ("basis", "Legal basis"),
    ("text", "Text"),
    ("url", "Published at"),
    ("document_sha256", "SHA-256 of the document"),
    ("supersedes", "Supersedes"),
    ("ticket", "Ticket"),
    ("contact", "Contact"),
)


def render(report: Report | PublicReport, clocks: Mapping[str, Mapping[str, str | None]]) -> str:
    """Give the page of a report, whole or public; `clocks` are the orders' own, by policy."""
    journal, period = report["journal"], report["period"]
    begins = journal["begins"]
    whole = report["kind"] == "gatewrit report"
    page: str = _template().render(
        report=report,
        public=not whole,
        clocks=clocks,
        css=Markup(_style()),  # noqa: S704 - our own file
        order_fields=_FIELDS,
        ruleset_digest=report["ruleset"]["digest"] if report["kind"] == "gatewrit report" else report["ruleset_digest"],
        late=begins is not None and (period["from"] is None or period["from"] < begins),
    )
    return page


@cache
def _style() -> str:
    return resources.files("gatewrit.cli").joinpath("templates", "report.css").read_text("utf-8")


@cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("gatewrit.cli", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # A text from outside turns nothing around that stands next to it, on paper neither.
        finalize=lambda value: words.plain(value) if type(value) is str else value,
    )
    environment.filters |= {
        "clock": lambda text: text.replace("T", " ").removesuffix("Z").removesuffix(".000"),
        "length_of": _length,
        "grouped": lambda number: f"{int(number):,}".replace(",", "\N{NARROW NO-BREAK SPACE}"),
        "percent": _percent,
        "state": lambda state: _STATES.get(state, state),
        "stretch": lambda kind: _STRETCHES.get(kind, kind),
        "action": lambda action: _ACTIONS.get(action, action),
        "direction": lambda direction: words.DIRECTIONS.get(direction, ""),
    }
    return environment.get_template("report.html")


def _length(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds < 10 else words.span(int(seconds))


def _percent(share: float) -> str:
    """Never rounded up to all of it, and never down to nothing."""
    if share in {0, 1}:
        return f"{share:.0%}"
    return f"{min(max(share, 0.00001), 0.99999):.3%}"
