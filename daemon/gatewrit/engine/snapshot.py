"""What the engine knows at one moment, as an immutable value: all that any face of the daemon is ever given.

The API, the control socket and the page see nothing else, so that they can never disagree with each other, never wait
for the kernel, and can move to a process of their own.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.policy.terms import Effective, Fault, Order, Severity


class Enforcement(StrEnum):
    """The verdict over the gateway, worst first: the first that holds is the one that is shown."""

    FAILED = "failed"
    DRIFTED = "drifted"
    DEGRADED = "degraded"
    STARTING = "starting"
    IN_SYNC = "in_sync"


class PolicyState(StrEnum):
    """What a policy amounts to now; the first that fits (contract, section 4)."""

    RESCINDED = "rescinded"
    LAPSED = "lapsed"
    OUT_OF_SCOPE = "out_of_scope"
    SUSPENDED = "suspended"
    SCHEDULED = "scheduled"
    IN_FORCE = "in_force"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something a person should know; `since` is in epoch seconds, `action` says what to do about it."""

    code: str
    severity: Severity
    message: str
    action: str
    since: int
    policy: str | None = None
    place: str | None = None


@dataclass(frozen=True, slots=True)
class PolicyView:
    """One policy as shown. What no revision could be read of is None. `addresses` counts distinct ones per family."""

    id: str
    title: str | None
    revision: int | None
    order: Order | None
    effective: Effective | None
    state: PolicyState
    action: str | None
    direction: str | None
    services: tuple[str, ...]
    packets: int
    bytes: int
    addresses_ipv4: int
    addresses_ipv6: int
    in_force_since: int | None
    problem: Problem | None
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RulesetView:
    """The ruleset that the kernel last confirmed. Instants in epoch seconds, None before the first."""

    generation: int
    digest: str | None
    applied_at: int | None
    verified_at: int | None
    segments_ipv4: int
    segments_ipv6: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A pass over the kernel that is under way: `done` of `total` steps of `activity`, begun at `since`."""

    activity: str
    done: int
    total: int
    since: int


#: Upper bounds in seconds: one changed element takes milliseconds, a first load of a million some seconds.
APPLY_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class Histogram:
    """How long something took, over all times it was done: Prometheus' cumulative buckets as a value.

    `counts` has one number for each of `bounds`, the observations not above it, and a last one for all of them.
    """

    bounds: tuple[float, ...] = APPLY_BOUNDS
    counts: tuple[int, ...] = (0,) * (len(APPLY_BOUNDS) + 1)
    total: float = 0.0


def observed(histogram: Histogram, seconds: float) -> Histogram:
    """Return `histogram` with one more observation."""
    first = bisect_left(histogram.bounds, seconds)
    counts = tuple(count + (index >= first) for index, count in enumerate(histogram.counts))
    return Histogram(histogram.bounds, counts, histogram.total + seconds)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The manifest of the policies that was accepted at `at`, in epoch seconds; `signers` as people read them."""

    serial: int
    digest: str
    made: int
    signers: tuple[str, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is shown. `policies` is sorted by id; `next_change` is when a policy next starts or ends.

    `drift_total` counts the repairs since the start, `apply_duration` the passes that changed something. `manifest` is
    None where no signatures are required. `desired` is how many segments of IPv4 and IPv6 the policies ask for, which
    `ruleset` has once the kernel confirmed them; None before the first were worked out.
    `enforcement_since` is when the verdict became what it is.
    """

    gateway: str
    version: str
    started_at: int
    enforcement: Enforcement
    ruleset: RulesetView
    policies: tuple[PolicyView, ...]
    problems: tuple[Problem, ...]
    next_change: int | None = None
    progress: Progress | None = None
    drift_total: int = 0
    apply_duration: Histogram = Histogram()
    manifest: Accepted | None = None
    desired: tuple[int, int] | None = None
    enforcement_since: int | None = None


@dataclass(frozen=True, slots=True)
class PastView:
    """How the gateway stood at the past instant `at`, as the journal has it; what it lacks is None.

    `gateway` and `version` are what the daemon said of itself. `running`: whether one was; None if that isn't known.
    Of `policies` nobody knows counters and addresses; files of which no revision was good aren't among them.
    `problems` are code, policy and place of those that were open.
    """

    at: int
    gateway: str | None
    version: str | None
    running: bool | None
    generation: int | None
    digest: str | None
    applied_at: int | None
    policies: tuple[PolicyView, ...]
    problems: tuple[tuple[str, str | None, str | None], ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reload or an apply came to. `ok` means: read, applied and read back; faults may still have been found.

    `changed` counts the objects and elements that were changed in the kernel; `sentence` tells a person.
    """

    ok: bool
    generation: int
    changed: int
    faults: tuple[Fault, ...]
    sentence: str
