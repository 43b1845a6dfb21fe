"""A snapshot as the JSON documents that outside programs are written against (contract, section 4).

Pure: instants become RFC 3339 in UTC, absent is None, counters are integers, and address counts are decimal strings,
because IPv6 passes the 2^53 that JSON readers can count to.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from gatewrit.engine.snapshot import PolicyState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.engine.snapshot import Accepted, PolicyView, Problem, Progress, RulesetView, Snapshot
    from gatewrit.policy.terms import Effective, Instant, Order

#: A JSON object; its fields are pinned by tests written from the contract.
Document = dict[str, Any]


def instant(epoch: int | None) -> str | None:
    """Return an instant as RFC 3339 in UTC, None for one that hasn't come about."""
    if epoch is None:
        return None
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def encode(document: Mapping[str, Any]) -> bytes:
    """Return a document as UTF-8. A file name needn't be text: what UTF-8 can't say becomes a question mark."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def status_document(snapshot: Snapshot, now: int) -> Document:
    """Return `/v1/status`: the verdict, the ruleset, how many policies are in which state, every problem."""
    return {**gateway_document(snapshot), "now": instant(now), **standing_document(snapshot)}


def gateway_document(snapshot: Snapshot) -> Document:
    """Return the part of the status that stands before `now`: who speaks."""
    return {"gateway": snapshot.gateway, "version": snapshot.version}


def standing_document(snapshot: Snapshot) -> Document:
    """Return the part of the status that only a new snapshot can change."""
    counts = {state.value: 0 for state in _COUNTED}
    for view in snapshot.policies:
        counts[view.state.value] += 1
    return {
        "enforcement": snapshot.enforcement.value,
        "ruleset": _ruleset(snapshot.ruleset),
        "policies": counts,
        "problems": [problem_document(problem) for problem in snapshot.problems],
        "progress": None if snapshot.progress is None else progress_document(snapshot.progress),
        "manifest": None if snapshot.manifest is None else manifest_document(snapshot.manifest),
    }


def manifest_document(accepted: Accepted) -> Document:
    """Return what was signed, and by whom, of the policies that count."""
    return {
        "serial": accepted.serial,
        "digest": accepted.digest,
        "made": instant(accepted.made),
        "accepted_at": instant(accepted.at),
        "signers": list(accepted.signers),
    }


#: The states in the order in which the contract lists their counts.
_COUNTED = (
    PolicyState.IN_FORCE,
    PolicyState.SCHEDULED,
    PolicyState.SUSPENDED,
    PolicyState.LAPSED,
    PolicyState.RESCINDED,
    PolicyState.REJECTED,
    PolicyState.OUT_OF_SCOPE,
)


def policies_document(
    snapshot: Snapshot, after: str | None = None, limit: int | None = None, state: PolicyState | None = None
) -> Document:
    """Return `/v1/policies`: the items that follow the id `after`; `next` is the last one's id if more follow.

    An id as the cursor, unlike an offset, neither skips nor repeats an item when policies come and go between pages.
    """
    start = 0 if after is None else bisect_right(snapshot.policies, after, key=attrgetter("id"))
    views = [view for view in snapshot.policies[start:] if state is None or view.state is state]
    page = views if limit is None else views[:limit]
    more = len(page) < len(views)
    return {"items": [policy_item(view) for view in page], "next": page[-1].id if more else None}


def policy_item(view: PolicyView) -> Document:
    """Return `/v1/policies/{id}`, which is also one item of the list."""
    return {
        "id": view.id,
        "title": view.title,
        "revision": view.revision,
        "order": None if view.order is None else _order(view.order),
        "effective": None if view.effective is None else _effective(view.effective),
        "state": view.state.value,
        "action": view.action,
        "direction": view.direction,
        "services": list(view.services),
        "counters": {"packets": view.packets, "bytes": view.bytes},
        "addresses": {"ipv4": str(view.addresses_ipv4), "ipv6": str(view.addresses_ipv6)},
        "in_force_since": instant(view.in_force_since),
        "problem": None if view.problem is None else problem_document(view.problem),
        "labels": dict(view.labels),
    }


def problem_document(problem: Problem) -> Document:
    """Return one problem with what to do about it."""
    return {
        "code": problem.code,
        "severity": problem.severity,
        "policy": problem.policy,
        "message": problem.message,
        "action": problem.action,
        "since": instant(problem.since),
        "place": problem.place,
    }


def progress_document(progress: Progress) -> Document:
    """Return what is under way; a `total` of 0 means that nobody knows how much there is to do."""
    return {
        "activity": progress.activity,
        "done": progress.done,
        "total": progress.total,
        "since": instant(progress.since),
    }


def _ruleset(ruleset: RulesetView) -> Document:
    return {
        "generation": ruleset.generation,
        "digest": ruleset.digest,
        "applied_at": instant(ruleset.applied_at),
        "verified_at": instant(ruleset.verified_at),
        "segments": {"ipv4": ruleset.segments_ipv4, "ipv6": ruleset.segments_ipv6},
    }


def _order(order: Order) -> Document:
    return {
        "authority": order.authority,
        "reference": order.reference,
        "issued": order.issued,
        "received": _moment(order.received),
        "ticket": order.ticket,
        "contact": order.contact,
        "url": order.url,
        "basis": order.basis,
        "text": order.text,
        "document_sha256": order.document_sha256,
        "supersedes": order.supersedes,
    }


def _effective(effective: Effective) -> Document:
    return {
        "from": _moment(effective.start),
        "until": _moment(effective.until),
        "review_by": _moment(effective.review_by),
    }


def _moment(moment: Instant | None) -> str | None:
    return None if moment is None else instant(moment.epoch)
