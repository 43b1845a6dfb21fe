"""Lists as CSV (RFC 4180), for who opens them with a spreadsheet.

A spreadsheet takes a cell that begins with one of `= + - @` for a formula, and texts of policies come from outside:
such cells begin with an apostrophe, which makes text of them.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gatewrit.api import shapes

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
POLICY_COLUMNS = (
    "id",
    "title",
    "revision",
    "state",
    "action",
    "direction",
    "services",
    "authority",
    "reference",
    "issued",
    "received",
    "ticket",
    "from",
    "until",
    "review_by",
    "in_force_since",
    "packets",
    "bytes",
    "ipv4",
    "ipv6",
    "problem",
    "labels",
)
EVENT_COLUMNS = ("id", "at", "event", "kind", "policy", "message")
ADDRESS_COLUMNS = ("service", "prefix", "ports", "place")


def table(columns: tuple[str, ...], rows: Iterable[Mapping[str, object]]) -> bytes:
    """Return rows as CSV with a header; lists are words with spaces between, what is absent is empty."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row[column]) for column in columns])
    return text.getvalue().encode("utf-8", "replace")


def policy_row(item: shapes.Item) -> Mapping[str, object]:
    """Return a policy as one flat row."""
    order, effective, problem = item["order"], item["effective"], item["problem"]
    nothing: Mapping[str, object] = dict.fromkeys(POLICY_COLUMNS)
    labels = [f"{name}={value}" for name, value in item["labels"].items()]
    return {
        **nothing,
        **item,
        **(order or {}),
        **(effective or {}),
        **(item["counters"] or {}),
        **(item["addresses"] or {}),
        "problem": problem and problem["code"],
        "labels": "; ".join(labels),
    }


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
