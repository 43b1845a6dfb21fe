"""Questions about one address and their answers, as values: what `explain` is asked, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from gatewrit.policy.terms import SETTINGS

if TYPE_CHECKING:
    from gatewrit.engine.snapshot import Enforcement
    from gatewrit.policy.terms import Direction, Instant, Order

Address = IPv4Address | IPv6Address


class Verdict(StrEnum):
    """What becomes of packets, mildest first."""

    PASS = "pass"  # noqa: S105 - no password
    OBSERVE = "observe"
    REJECT = "reject"
    DROP = "drop"


#: The severest of several acts.
SEVERITY = {Verdict.PASS: 0, Verdict.OBSERVE: 1, Verdict.REJECT: 2, Verdict.DROP: 3}


class Standing(StrEnum):
    """Why a policy that covers the address is told of: it acts, or what keeps it from acting."""

    ACTS = "acts"
    EXCEPTED = "excepted"
    SCHEDULED = "scheduled"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about: everything that is None is meant in all its values.

    `address` and `port` are the service's, `source` is the subscriber's address, `interface` is on the service's side.
    `protocol` is tcp, udp, sctp or icmp; `at` is in epoch seconds. With a `length`, it is about the whole prefix of so
    many bits that begins at `address`.
    """

    address: Address
    protocol: str | None = None
    port: int | None = None
    source: Address | None = None
    interface: str | None = None
    at: Instant | None = None
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """One policy that covers the address, and what it does there.

    `reach` says which of the ports that were asked about it covers, `limits` to which subscribers or interfaces it is
    limited. `since` is when it began to act here (epoch seconds), None where it doesn't or that isn't known.
    `suspended_until` is the end of a suspension by hand. Counts are of the whole order, None if not kept.
    """

    id: str
    title: str
    revision: int
    order: Order
    standing: Standing
    verdict: Verdict
    direction: Direction
    start: Instant
    since: int | None
    until: Instant | None
    review_by: Instant | None
    place: str
    reach: tuple[str, ...]
    limits: tuple[str, ...]
    excepted_by: str | None = None
    excepted_at: str | None = None
    suspended_until: int | None = None
    packets: int | None = None
    bytes: int | None = None

    @property
    def protected(self) -> bool:
        """Whether it isn't the order itself that excepts the address, but the settings that protect it."""
        return self.excepted_at is not None and self.excepted_at.startswith(f"{SETTINGS}:")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is true of a question at `at`, as told at `now` (epoch seconds).

    `blocked`: everything that was asked about is, at one end of the exchange at least; `partly`: some of it. `reasons`
    are sorted by strictness and id. `enforcement` is None where no daemon was asked. `past`: told from the journal;
    `notes` are sentences on what that is worth.
    """

    question: Question
    gateway: str
    now: int
    at: int
    blocked: bool
    partly: bool
    verdict: Verdict
    reasons: tuple[Reason, ...]
    enforcement: Enforcement | None
    past: bool = False
    notes: tuple[str, ...] = ()


class NotKeptError(Exception):
    """The instant that was asked about is before what is kept; the message says how far back that goes."""
