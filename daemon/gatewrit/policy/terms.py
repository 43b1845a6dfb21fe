"""The words of an order that everybody shares: who ordered what, until when, and what is wrong where.

Nothing here needs NumPy, so that whoever only shows orders loads none of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

Family = Literal[4, 6]
Severity = Literal["error", "warning"]
#: What messages call the place of protected addresses that were carved out.
SETTINGS = "settings"


class Action(StrEnum):
    """What happens to a packet that a policy matches; ordered by strictness in `STRICTNESS`."""

    OBSERVE = "observe"
    REJECT = "reject"
    DROP = "drop"


#: The strictest of several actions acts (contract, section 2).
STRICTNESS = {Action.OBSERVE: 0, Action.REJECT: 1, Action.DROP: 2}


class Direction(StrEnum):
    """Which end of a packet a policy judges: `to` the service, `from` it, or both."""

    TO = "to"
    FROM = "from"
    BOTH = "both"


class State(StrEnum):
    """What the policy file says of itself; what it amounts to now is the engine's to say."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    RESCINDED = "rescinded"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in a file something stands; line and column count from 1. Prints as `file:line:column`."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong in an input file, with its place, a stable code, and what would be right."""

    place: Place
    code: str
    message: str
    severity: Severity = "error"

    def __str__(self) -> str:
        return f"{self.place}: {self.code}: {self.message}"


@dataclass(frozen=True, slots=True, order=True)
class Instant:
    """A point in time in whole seconds since 1970-01-01T00:00:00Z, with the order's own wording and zone.

    `zone` is an IANA name (RFC 9557) or None where the order gave an offset only; `offset` is how many seconds the
    order's clocks are ahead of UTC at that instant.
    """

    epoch: int
    text: str = field(compare=False)
    zone: str | None = field(default=None, compare=False)
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Order:
    """Who ordered it, and how to find the paper."""

    authority: str
    reference: str
    issued: str
    received: Instant | None = None
    ticket: str | None = None
    contact: str | None = None
    url: str | None = None
    basis: str | None = None
    text: str | None = None
    document_sha256: str | None = None
    supersedes: str | None = None


@dataclass(frozen=True, slots=True)
class Effective:
    """From when (inclusive) until when (exclusive), and from when on somebody must look at it again."""

    start: Instant
    until: Instant | None = None
    review_by: Instant | None = None
