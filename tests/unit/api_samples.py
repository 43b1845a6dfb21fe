"""Snapshots that the tests of the API and of the terminal share, with every field set to something tellable apart."""

from __future__ import annotations

from dataclasses import dataclass

from gatewrit.engine.answer import Answer, NotKeptError, Question, Verdict
from gatewrit.engine.snapshot import (
    Enforcement,
    Histogram,
    PolicyState,
    PolicyView,
    Problem,
    RulesetView,
    Snapshot,
    observed,
)
from gatewrit.policy.terms import Effective, Instant, Order

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


@dataclass
class Source:
    """A daemon that knows one snapshot."""

    held: Snapshot
    living: bool = True

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
