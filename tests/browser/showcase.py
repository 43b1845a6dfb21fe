"""A gateway as it could be on some day at an operator's: what the README's pictures show."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from gatewrit.engine.events import Event, Recent, Topic
from gatewrit.engine.snapshot import Enforcement, PolicyState, PolicyView, Problem, Snapshot
from gatewrit.policy.terms import Effective, Instant, Order
from unit.api_samples import IN_SYNC, PARTICULARS, SHUTDOWN, Source

DAY = 86400
FORCE, AHEAD, HELD, PAST, LIFTED = (
    PolicyState.IN_FORCE,
    PolicyState.SCHEDULED,
    PolicyState.SUSPENDED,
    PolicyState.LAPSED,
    PolicyState.RESCINDED,
)
#: Id, title, authority, reference, state, action, services; issued, start and end in days from now; packets, addresses.
_ORDERS = (
    (
        "bes-shutdown", "Shut down BlackBerry Enterprise Services", "Pakistan Telecommunication Authority",
        "PTA notification of 2015-07-24", FORCE, "reject", "blackberry-enterprise",
        -128, -6, 360, 120_433, 93_440,
    ),
    (
        "betting-47", "Unlicensed betting, list 47", "Ministry of Interior",
        "MoI 2026/311", FORCE, "drop", "betting-list-47",
        -75, -60, 305, 9_318_022, 1_204,
    ),
    (
        "botnet-sinkhole", "Command and control of a botnet", "National CERT",
        "CERT-2026-0192", FORCE, "drop", "botnet-c2",
        -21, -20, 70, 48_200_771, 311,
    ),
    (
        "court-118", "عدالتی حکم ١١٨", "عدالت عاليه",
        "W.P. 118/2026", FORCE, "reject", "streaming-a",
        -40, -33, None, 77_120, 512,
    ),
    (
        "phish-bank", "Phishing of a bank's customers", "National CERT",
        "CERT-2026-0230", FORCE, "reject", "phishing-0230",
        -4, -3, 11, 3_204, 6,
    ),
    (
        "court-131", "Streaming without a licence", "High Court",
        "W.P. 131/2026", AHEAD, "reject", "streaming-b",
        -9, 2, 92, 0, 2_048,
    ),
    (
        "voip-trial", "Termination of grey voice traffic, trial", "Pakistan Telecommunication Authority",
        "PTA 2026/77", AHEAD, "observe", "grey-voice",
        -12, 15, 45, 0, 768,
    ),
    (
        "betting-46", "Unlicensed betting, list 46", "Ministry of Interior",
        "MoI 2026/290", HELD, "drop", "betting-list-46",
        -190, -180, 120, 2_811_400, 1_108,
    ),
    (
        "phish-post", "Phishing in the post's name", "National CERT",
        "CERT-2026-0107", PAST, "reject", "phishing-0107",
        -100, -99, -9, 61_077, 4,
    ),
    (
        "court-090", "Interim order on a video site", "High Court",
        "W.P. 90/2026", LIFTED, "reject", "video-site",
        -150, -148, 100, 5_120_334, 1_024,
    ),
)  # fmt: skip


def gateway(now: int, enforcement: Enforcement = Enforcement.IN_SYNC) -> Source:
    """Make a gateway with these orders at `now`."""
    views = tuple(sorted((_view(*each, now) for each in _ORDERS), key=lambda view: view.id))
    review = Problem(
        "review_overdue",
        "warning",
        "court-118 was to be reviewed three days ago; it stays in force until lifted",
        "Ask the authority whether the order stands; then amend it with a new `review_by`, or rescind it",
        now - 3 * DAY,
        "court-118",
    )
    ruleset = replace(
        IN_SYNC.ruleset, digest=f"sha256:{'3f9c' * 16}", verified_at=now - 4, applied_at=now - 5400, segments_ipv4=412
    )
    held = Snapshot(
        "core-1", "0.1.0", now - DAY, enforcement, ruleset, views, (review,), now + 2 * DAY, enforcement_since=now - DAY
    )
    told = (
        Event(
            41,
            now - 9000,
            Topic.POLICY,
            "accepted",
            "court-131",
            "revision 1 of court-131 counts, its file says active",
        ),
        Event(42, now - 5400, Topic.ENFORCEMENT, "applied", None, "generation 7 is enforced and read back"),
        Event(43, now - 700, Topic.DRIFT, "drift", None, "somebody else changed our table; that was undone"),
    )
    source = Source(held, recent=Recent(40, told))
    source.archive.rows = tuple(replace(each, at=now - 9000 + 60 * each.id) for each in source.archive.rows)
    return source


def _view(  # noqa: PLR0917
    name: str,
    title: str,
    authority: str,
    reference: str,
    state: PolicyState,
    action: str,
    service: str,
    issued: int,
    start: int,
    end: int | None,
    packets: int,
    addresses: int,
    now: int,
) -> PolicyView:
    midnight = now - now % DAY
    begins = Instant(midnight + start * DAY, "", "Asia/Karachi", 18000)
    until = None if end is None else Instant(midnight + end * DAY, "", "Asia/Karachi", 18000)
    review = Instant(midnight - 3 * DAY, "") if end is None else None
    date = datetime.fromtimestamp(midnight + issued * DAY, UTC).strftime("%Y-%m-%d")
    text = "From the date given above, no operator shall carry the services named in the schedule."
    return replace(
        SHUTDOWN,
        id=name,
        title=title,
        order=Order(authority, reference, date, ticket="REG-7", text=text if name == PARTICULARS.id else None),
        effective=Effective(begins, until, review),
        state=state,
        action=action,
        services=(service,),
        packets=packets,
        addresses_ipv4=addresses,
        addresses_ipv6=0 if name != PARTICULARS.id else 2**97,
        in_force_since=begins.epoch if state is FORCE else None,
    )
