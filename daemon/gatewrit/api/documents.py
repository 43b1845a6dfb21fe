"""A snapshot as the JSON documents that outside programs are written against (contract, section 4).

Pure: instants become RFC 3339 in UTC, absent is None, counters are integers, and address counts are decimal strings,
because IPv6 passes the 2^53 that JSON readers can count to.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from gatewrit.engine.snapshot import PolicyState
from gatewrit.policy.instant import utc_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.api import shapes
    from gatewrit.engine.snapshot import Accepted, PastView, PolicyView, Problem, Progress, RulesetView, Snapshot
    from gatewrit.policy.terms import Effective, Instant, Order


def instant(epoch: int | None) -> str | None:
    """Return an instant as RFC 3339 in UTC, None for one that hasn't come about."""
    return None if epoch is None else stated(epoch)


def stated(epoch: int) -> str:
    """Return an instant as RFC 3339 in UTC."""
    return utc_text(epoch)


def encode(document: Mapping[str, Any]) -> bytes:
    """Return a document as UTF-8. A file name needn't be text: what UTF-8 can't say becomes a question mark."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def status_document(snapshot: Snapshot, now: int) -> shapes.Status:
    """Return `/v1/status`: the verdict, the ruleset, how many policies are in which state, every problem."""
    return {**gateway_document(snapshot), "now": stated(now), **standing_document(snapshot)}


def past_document(past: PastView) -> shapes.PastStatus:
    """Return `/v1/status` of a past instant: null is what the journal doesn't have."""
    counts = Counter(view.state for view in past.policies)
    return {
        "gateway": past.gateway,
        "version": past.version,
        "at": stated(past.at),
        "running": past.running,
        "enforcement": None,
        "ruleset": {
            "generation": past.generation,
            "digest": past.digest,
            "applied_at": instant(past.applied_at),
            "verified_at": None,
            "segments": None,
        },
        "policies": {**_states(counts), "rejected": None},
        "problems": [{"code": code, "policy": policy, "place": place} for code, policy, place in past.problems],
        "progress": None,
        "manifest": None,
    }


def gateway_document(snapshot: Snapshot) -> shapes.Gateway:
    """Return the part of the status that stands before `now`: who speaks."""
    return {"gateway": snapshot.gateway, "version": snapshot.version}


def standing_document(snapshot: Snapshot) -> shapes.Standings:
    """Return the part of the status that only a new snapshot can change."""
    counts = Counter(view.state for view in snapshot.policies)
    return {
        "enforcement": snapshot.enforcement.value,
        "ruleset": _ruleset(snapshot.ruleset),
        "policies": _states(counts),
        "problems": [problem_document(problem) for problem in snapshot.problems],
        "progress": None if snapshot.progress is None else progress_document(snapshot.progress),
        "manifest": None if snapshot.manifest is None else manifest_document(snapshot.manifest),
    }


def _states(counts: Counter[PolicyState]) -> shapes.States:
    return {
        "in_force": counts[PolicyState.IN_FORCE],
        "scheduled": counts[PolicyState.SCHEDULED],
        "suspended": counts[PolicyState.SUSPENDED],
        "lapsed": counts[PolicyState.LAPSED],
        "rescinded": counts[PolicyState.RESCINDED],
        "rejected": counts[PolicyState.REJECTED],
        "out_of_scope": counts[PolicyState.OUT_OF_SCOPE],
    }


def manifest_document(accepted: Accepted) -> shapes.Manifest:
    """Return what was signed, and by whom, of the policies that count."""
    return {
        "serial": accepted.serial,
        "digest": accepted.digest,
        "made": stated(accepted.made),
        "accepted_at": stated(accepted.at),
        "signers": list(accepted.signers),
    }


def past_item(view: PolicyView) -> shapes.Item:
    """Return a policy as it stood at a past instant, of which nobody knows counters and addresses."""
    return {**policy_item(view), "counters": None, "addresses": None}


def policy_item(view: PolicyView) -> shapes.Item:
    """Return `/v1/policies/{id}`, which is also one item of the list."""
    return {
        "id": view.id,
        "title": view.title,
        "revision": view.revision,
        "order": None if view.order is None else _order(view.order),
        "effective": None if view.effective is None else _effective(view.effective),
        "state": view.state.value,
        "action": cast("shapes.Action | None", view.action),
        "direction": cast("shapes.Direction | None", view.direction),
        "services": list(view.services),
        "counters": {"packets": view.packets, "bytes": view.bytes},
        "addresses": {"ipv4": str(view.addresses_ipv4), "ipv6": str(view.addresses_ipv6)},
        "in_force_since": instant(view.in_force_since),
        "problem": None if view.problem is None else problem_document(view.problem),
        "labels": dict(view.labels),
    }


def problem_document(problem: Problem) -> shapes.Problem:
    """Return one problem with what to do about it."""
    return {
        "code": problem.code,
        "severity": problem.severity,
        "policy": problem.policy,
        "message": problem.message,
        "action": problem.action,
        "since": stated(problem.since),
        "place": problem.place,
    }


def progress_document(progress: Progress) -> shapes.Progress:
    """Return what is under way; a `total` of 0 means that nobody knows how much there is to do."""
    return {
        "activity": progress.activity,
        "done": progress.done,
        "total": progress.total,
        "since": stated(progress.since),
    }


def _ruleset(ruleset: RulesetView) -> shapes.Ruleset:
    return {
        "generation": ruleset.generation,
        "digest": ruleset.digest,
        "applied_at": instant(ruleset.applied_at),
        "verified_at": instant(ruleset.verified_at),
        "segments": {"ipv4": ruleset.segments_ipv4, "ipv6": ruleset.segments_ipv6},
    }


def _order(order: Order) -> shapes.Order:
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


def _effective(effective: Effective) -> shapes.Effective:
    return {
        "from": stated(effective.start.epoch),
        "until": _moment(effective.until),
        "review_by": _moment(effective.review_by),
    }


def _moment(moment: Instant | None) -> str | None:
    return None if moment is None else instant(moment.epoch)
