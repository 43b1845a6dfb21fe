"""Snapshots that the tests of the API and of the terminal share, with every field set to something tellable apart."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gatewrit.engine.answer import Answer, NotKeptError, Question, Verdict
from gatewrit.engine.events import Event, Page, Recent, Topic, Turn
from gatewrit.engine.particulars import (
    EndpointView,
    Entries,
    Listed,
    Listing,
    Particulars,
    Revision,
    ServiceView,
    Sources,
    UnknownPolicyError,
)
from gatewrit.engine.snapshot import (
    Enforcement,
    Histogram,
    PastView,
    PolicyState,
    PolicyView,
    Problem,
    RulesetView,
    Snapshot,
    observed,
)
from gatewrit.policy.terms import Effective, Instant, Order

if TYPE_CHECKING:
    from collections.abc import Callable

#: 2016-01-05T12:00:00Z
NOW = 1451995200

SHUTDOWN = PolicyView(
    id="bes-shutdown",
    title="Shut down BlackBerry Enterprise Services",
    revision=2,
    order=Order(
        authority="Pakistan Telecommunication Authority",
        reference="PTA notification of 2015-07-24",
        issued="2015-07-24",
        received=Instant(1437742800, "2015-07-24T18:00:00+05:00", None, 18000),
        ticket="REG-7",
    ),
    effective=Effective(
        start=Instant(1451502000, "2015-12-31T00:00:00[Asia/Karachi]", "Asia/Karachi", 18000),
        until=Instant(1483124400, "2016-12-31T00:00:00+05:00", None, 18000),
        review_by=Instant(1456790400, "2016-03-01"),
    ),
    state=PolicyState.IN_FORCE,
    action="reject",
    direction="to",
    services=("blackberry-enterprise",),
    packets=120433,
    bytes=7226011,
    addresses_ipv4=93440,
    addresses_ipv6=3 * 2**96,
    in_force_since=1451502000,
    problem=None,
    labels={"ticket-queue": "regulatory"},
)

UNREAD_PROBLEM = Problem(
    code="policy_rejected",
    severity="error",
    message="'prot' isn't a key of an endpoint",
    action="Correct the file and run: gatewrit reload",
    since=1451995000,
    policy="unread",
    place="policies/unread.yaml:14:7",
)

UNREAD = PolicyView(
    id="unread",
    title=None,
    revision=None,
    order=None,
    effective=None,
    state=PolicyState.REJECTED,
    action=None,
    direction=None,
    services=(),
    packets=0,
    bytes=0,
    addresses_ipv4=0,
    addresses_ipv6=0,
    in_force_since=None,
    problem=UNREAD_PROBLEM,
    labels={},
)

SCHEDULED = PolicyView(
    id="court-118",
    title="عدالتی حکم",
    revision=1,
    order=Order("لاہور ہائی کورٹ", "W.P. 118/2016", "2016-01-02"),
    effective=Effective(
        Instant(NOW + 7200, "2016-01-05T14:00:00Z"), None, Instant(NOW + 86400, "2016-01-06T12:00:00Z")
    ),
    state=PolicyState.SCHEDULED,
    action="drop",
    direction="both",
    services=("casino-a", "casino-b"),
    packets=0,
    bytes=0,
    addresses_ipv4=512,
    addresses_ipv6=0,
    in_force_since=None,
    problem=None,
    labels={},
)

RULESET = RulesetView(
    generation=7,
    digest="sha256:9f86d081884c7d65",
    applied_at=1451991600,
    verified_at=NOW - 12,
    segments_ipv4=13,
    segments_ipv6=3,
)

DEGRADED = Snapshot(
    gateway="core-1",
    version="0.1.0",
    started_at=1451900000,
    enforcement=Enforcement.DEGRADED,
    ruleset=RULESET,
    policies=(SHUTDOWN, SCHEDULED, UNREAD),
    problems=(UNREAD_PROBLEM,),
    next_change=NOW + 7200,
    drift_total=2,
    apply_duration=observed(observed(Histogram(), 0.03), 7.0),
)

IN_SYNC = Snapshot("core-1", "0.1.0", 1451900000, Enforcement.IN_SYNC, RULESET, (SHUTDOWN,), ())

STARTING = Snapshot("core-1", "0.1.0", NOW, Enforcement.STARTING, RulesetView(0, None, None, None, 0, 0), (), ())


ACCEPTED = Event(3, NOW - 60, Topic.POLICY, "accepted", "bes-shutdown", "revision 2 of bes-shutdown counts (before: 1)")
WRONG = Event(5, NOW - 30, Topic.PROBLEM, "problem", "unread", "bad_port: 203.0.113.9 isn't a port")
EVENTS = (
    Event(2, NOW - 90, Topic.ENFORCEMENT, "started", None, "the daemon has started"),
    ACCEPTED,
    WRONG,
)

PARTICULARS = Particulars(
    id="bes-shutdown",
    revision=2,
    place="policies/bes-shutdown.yaml:1:1",
    sha256="ab" * 32,
    services=(
        ServiceView(
            "blackberry-enterprise",
            "BlackBerry Enterprise Service (SRP)",
            "cd" * 32,
            "policies/services/blackberry-enterprise.yaml",
            (EndpointView(Entries(("206.51.26.0/24", "2607:ffc0::/32"), 2, 256, 2**96), ("tcp/3101",)),),
        ),
    ),
    must_continue=(),
    except_prefixes=Entries(("206.51.26.33",), 1, 1, 0),
    except_sources=Sources(256, 0),
    scope_gateways=("core-*",),
    scope_interfaces=None,
    scope_sources=None,
    allow_wide=None,
    suspended_until=None,
    revisions=(Revision(3, 2, NOW - 60, "active"),),
)

LISTING = (
    Listed("blackberry-enterprise", "206.51.26.0/24", ("tcp/3101",), "policies/services/blackberry-enterprise.yaml:4"),
    Listed("blackberry-enterprise", "2607:ffc0::/32", ("tcp/3101",), "policies/services/blackberry-enterprise.yaml:4"),
)


class Archive:
    """A journal of a few rows, and one policy."""

    def __init__(self) -> None:
        self.rows = EVENTS
        self.asked = 0

    async def events(self, turn: Turn) -> Page:
        self.asked += 1
        found = [
            each
            for each in self.rows
            if turn.policy in {None, each.policy}
            and turn.topic in {None, each.topic}
            and (turn.before is None or each.id < turn.before)
            and (turn.after is None or each.id > turn.after)
        ]
        chosen = found if turn.after is not None else found[::-1]
        return Page(tuple(chosen[: turn.limit]), len(chosen) > turn.limit, 1, self.rows[-1].id)

    async def stood(self, at: int) -> PastView:
        if at < NOW - 100:
            raise NotKeptError("the journal begins at 2016-01-05T11:58:20Z")
        policies = (replace(SHUTDOWN, revision=1, packets=0, bytes=0),)
        problems = (("clock_unsynchronised", None, None), ("policy_rejected", "unread", UNREAD_PROBLEM.place))
        return PastView(at, "core-1", "0.1.0", True, 6, "sha256:5d41402abc4b2a76", NOW - 3600, policies, problems)

    async def particulars(self, name: str, at: int | None = None) -> Particulars:
        if name == PARTICULARS.id and at is not None:
            return replace(PARTICULARS, revision=1, sha256=None, revisions=())
        if name != PARTICULARS.id:
            raise UnknownPolicyError(name)
        return PARTICULARS

    async def listing(self, name: str, start: int, limit: int) -> Listing:
        if name != PARTICULARS.id:
            raise UnknownPolicyError(name)
        return Listing(LISTING[start : start + limit], len(LISTING), "ef" * 32)


def _nobody() -> None:
    pass


@dataclass
class Source:
    """A daemon that knows one snapshot."""

    held: Snapshot
    living: bool = True
    recent: Recent = field(default_factory=lambda: Recent(1, EVENTS))
    archive: Archive = field(default_factory=Archive)
    told: Callable[[], None] = _nobody

    def snapshot(self) -> Snapshot:
        return self.held

    def alive(self) -> bool:
        return self.living

    async def explain(self, question: Question) -> Answer:
        """Block TCP port 3101 everywhere but at 192.0.2.9, and keep nothing of the past."""
        if question.at is not None and question.at.epoch < NOW:
            raise NotKeptError("the journal begins at 2016-01-05T12:00:00Z")
        blocked = question.port == 3101 and str(question.address) != "192.0.2.9"
        verdict = Verdict.DROP if blocked else Verdict.PASS
        at = NOW if question.at is None else question.at.epoch
        return Answer(question, "core-1", NOW, at, blocked, False, verdict, (), None)
