"""The JSON of `gatewrit report`; `docs/schema/report.schema.json` and `report-public.schema.json` are made from it.

Instants are RFC 3339 in UTC, those of the journal with milliseconds; absent is null; counters are integers, address
counts decimal strings; lengths of time are seconds with milliseconds.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import TypeAdapter

# Below Python 3.12 pydantic can't read the standard library's own.
from typing_extensions import TypedDict

Effective = TypedDict("Effective", {"from": str, "until": str | None, "review_by": str | None})
Period = TypedDict("Period", {"from": str | None, "to": str})


class Flaw(TypedDict):
    """A row that isn't as it was written; 0 where it is no row's."""

    seq: int
    message: str


class JournalPart(TypedDict):
    """What the account rests on. `begins` is the first instant that the journal still tells of."""

    whole: bool
    rows: int
    first: int
    head_seq: int
    head: str
    begins: str | None
    head_checked: str | None
    flaws: list[Flaw]


class RulesetPart(TypedDict):
    """The ruleset that the kernel last confirmed within the period; `digest` is null after `gatewrit remove`."""

    generation: int | None
    digest: str | None
    confirmed_at: str | None


class StretchPart(TypedDict):
    """A stretch of time in which an order didn't hold though it was to, held unwatched, or held beyond what it said."""

    kind: Literal["suspended", "not_in_kernel", "put_in_anew", "unattended", "silent_end", "beyond"]
    since: str
    until: str
    seconds: float
    reason: str | None
    by: str | None


class Coverage(TypedDict):
    """How long it was to hold here within the period, and did; `share` is null where it was never to hold.

    `unattended_seconds` are those of `enforced_seconds` in which no daemon ran, or may not have.
    """

    ordered_seconds: float
    enforced_seconds: float
    unattended_seconds: float
    share: float | None


class Counters(TypedDict):
    """What was counted over the policy's whole life, up to `counted_at`."""

    packets: int
    bytes: int
    counted_at: str


class Addresses(TypedDict):
    """Distinct addresses by family, as decimal numbers."""

    ipv4: str
    ipv6: str


class RevisionPart(TypedDict):
    """A revision as it was taken in here. `taken_in` is null where that was before the journal begins."""

    seq: int
    revision: int
    taken_in: str | None
    says: str
    text_sha256: str
    title: str | None
    effective: Effective | None
    action: str | None
    direction: str | None
    services: list[str]


class EventPart(TypedDict):
    """Something that happened, by the journal's row; `sentence` says it in words."""

    seq: int
    at: str
    kind: str
    sentence: str


class OrderPart(TypedDict):
    """Who ordered it, as the last revision says; what the file leaves out is null."""

    authority: str
    reference: str
    issued: str
    received: str | None
    ticket: str | None
    contact: str | None
    url: str | None
    basis: str | None
    text: str | None
    document_sha256: str | None
    supersedes: str | None


class Dates(TypedDict):
    """The dates that an authority asks for; `amended` is each later revision's, `lifted` null while it is enforced."""

    issued: str | None
    received: str | None
    taken_in: str | None
    effective_from: str | None
    effective_until: str | None
    enforced: str | None
    amended: list[str]
    lifted: str | None


class PolicyPart(TypedDict):
    """The account of one order. `order` is null where the journal no longer has its text."""

    id: str
    title: str | None
    revision: int | None
    order: OrderPart | None
    dates: Dates
    state: str
    coverage: Coverage
    interruptions: list[StretchPart]
    counters: Counters | None
    addresses: Addresses | None
    labels: dict[str, str]
    revisions: list[RevisionPart]
    events: list[EventPart]


class TroublePart(TypedDict):
    """A problem while it was open; `until` is null if it still was at the end of the period."""

    code: str
    policy: str | None
    severity: str
    message: str
    since: str
    until: str | None


class Report(TypedDict):
    """`gatewrit report --json`."""

    kind: Literal["gatewrit report"]
    version: Literal[1]
    gateway: str
    made_at: str
    made_by: str
    period: Period
    journal: JournalPart
    ruleset: RulesetPart
    policies: list[PolicyPart]
    events: list[EventPart]
    problems: list[TroublePart]


class PublicStretch(TypedDict):
    """A stretch of time in which an order didn't hold though it was to, without who and why."""

    kind: str
    since: str
    until: str
    seconds: float


class PublicOrder(TypedDict):
    """One order as anybody may see it."""

    number: int
    authority: str | None
    action: str | None
    state: str
    dates: Dates
    addresses: Addresses | None
    packets: int | None
    coverage: Coverage
    interruptions: list[PublicStretch]


class PublicJournal(TypedDict):
    """What the account rests on, without what is in it."""

    whole: bool
    rows: int
    head: str
    begins: str | None


class PublicCounts(TypedDict):
    """How many orders there were in the period, how many of them held at its end, by state and by authority."""

    orders: int
    held_at_end: int
    by_state: dict[str, int]
    by_authority: dict[str, int]


class PublicReport(TypedDict):
    """`gatewrit report --public --json`: counts, authorities and dates, and no address, name, contact or free text."""

    kind: Literal["gatewrit public report"]
    version: Literal[1]
    made_at: str
    period: Period
    journal: PublicJournal
    ruleset_digest: str | None
    counts: PublicCounts
    orders: list[PublicOrder]


def schemas() -> dict[str, str]:
    """Give what belongs into `docs/schema/`: file names and their text."""
    made = {"report": (Report, "gatewrit report"), "report-public": (PublicReport, "gatewrit public report")}
    return {
        f"{name}.schema.json": json.dumps(_schema(shape, title), indent=2, ensure_ascii=False) + "\n"
        for name, (shape, title) in made.items()
    }


def _schema(shape: Any, title: str) -> dict[str, Any]:
    made = TypeAdapter(shape).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": title}
