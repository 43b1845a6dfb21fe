"""The account of a journal as the documents of `report_shapes`, whole or as anybody may see it. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gatewrit.api import words
from gatewrit.cli.report_words import GENERAL, OF_A_POLICY, sentence
from gatewrit.engine.journal.coverage import HELD, LACKED, stretches
from gatewrit.policy.instant import utc_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatewrit.cli.report_shapes import (
        Addresses,
        Counters,
        Coverage,
        Dates,
        Effective,
        EventPart,
        JournalPart,
        PolicyPart,
        PublicReport,
        Report,
        RevisionPart,
        StretchPart,
    )
    from gatewrit.engine.journal.account import Account, Event, Life, Revision
    from gatewrit.engine.journal.coverage import Stretch
    from gatewrit.engine.ledger import Count
    from gatewrit.policy.document import PolicyDocument
    from gatewrit.policy.terms import Instant


@dataclass(frozen=True, slots=True)
class Frame:
    """What a report is about: a period (epoch milliseconds, [start, end)) and how it was asked for.

    `asked_from` is what `--from` said; `begins` the first instant that the journal tells of.
    """

    start: int
    end: int
    made_at: int
    made_by: str
    asked_from: int | None
    begins: int | None


def report(  # noqa: PLR0913, PLR0917 - the parts that it is put together from
    account: Account,
    frame: Frame,
    journal: JournalPart,
    addresses: Mapping[str, Addresses],
    counted: tuple[Mapping[str, Count], int] | None,
    only: str | None = None,
) -> Report:
    """Give the whole report; `addresses` by policy, `counted` what was counted and when (epoch seconds)."""
    lives = sorted(account.lives.values(), key=lambda life: life.name)
    chosen = [life for life in lives if only in {None, life.name} and _concerned(life, frame)]
    confirmed = account.confirmed_at
    return {
        "kind": "gatewrit report",
        "version": 1,
        "gateway": str(account.gateway.get("name", "")),
        "made_at": instant(frame.made_at),
        "made_by": frame.made_by,
        "period": {
            "from": None if frame.asked_from is None else instant(frame.asked_from),
            "to": instant(frame.end),
        },
        "journal": journal,
        "ruleset": {
            "generation": account.generation,
            "digest": account.digest,
            "confirmed_at": None if confirmed is None else instant(confirmed),
        },
        "policies": [_policy(life, frame, addresses.get(life.name), _counters(counted, life.name)) for life in chosen],
        "events": [_event(each) for each in account.events if each.kind in GENERAL and _within(each.at, frame)],
        "problems": [
            {
                "code": each.code,
                "policy": each.policy,
                "severity": each.severity,
                "message": each.message,
                "since": instant(each.since),
                "until": None if each.until is None or each.until >= frame.end else instant(each.until),
            }
            for each in account.troubles
            if each.since < frame.end
            and (each.until is None or each.until >= frame.start)
            and (only is None or each.policy in {None, only})
        ],
    }


def public(whole: Report) -> PublicReport:
    """Give what anybody may see of a report: what isn't named here isn't in it."""
    policies = whole["policies"]
    authorities = Counter(each["order"]["authority"] for each in policies if each["order"])
    return {
        "kind": "gatewrit public report",
        "version": 1,
        "made_at": whole["made_at"],
        "period": whole["period"],
        "journal": {
            "whole": whole["journal"]["whole"],
            "rows": whole["journal"]["rows"],
            "head": whole["journal"]["head"],
            "begins": whole["journal"]["begins"],
        },
        "ruleset_digest": whole["ruleset"]["digest"],
        "counts": {
            "orders": len(policies),
            "held_at_end": sum(each["state"] == "enforced" for each in policies),
            "by_state": dict(sorted(Counter(each["state"] for each in policies).items())),
            "by_authority": dict(sorted(authorities.items())),
        },
        "orders": [
            {
                "number": number,
                "authority": each["order"]["authority"] if each["order"] else None,
                "action": each["revisions"][-1]["action"] if each["revisions"] else None,
                "state": each["state"],
                "dates": each["dates"],
                "addresses": each["addresses"],
                "packets": each["counters"]["packets"] if each["counters"] else None,
                "coverage": each["coverage"],
                "interruptions": [
                    {name: stretch[name] for name in ("kind", "since", "until", "seconds")}  # type: ignore[misc]
                    for stretch in each["interruptions"]
                    if stretch["kind"] in LACKED
                ],
            }
            for number, each in enumerate(policies, 1)
        ],
    }


def _policy(life: Life, frame: Frame, addresses: Addresses | None, counters: Counters | None) -> PolicyPart:
    revisions = [each for each in life.revisions if each.at < frame.end]
    last = revisions[-1] if revisions else None
    document = last.document if last else None
    found = stretches(life.conditions, frame.start, frame.end)
    order = document.order if document else None
    return {
        "id": life.name,
        "title": document.title if document else None,
        "revision": last.number if last else None,
        "order": None if order is None else {**asdict(order), "received": _given(order.received)},  # type: ignore[typeddict-item]
        "dates": _dates(life, revisions, document, frame),
        "state": _state(life, frame, found),
        "coverage": _coverage(found),
        "interruptions": [_stretch(each) for each in found if each.kind != "enforced"],
        "counters": counters,
        "addresses": addresses,
        "labels": dict(document.labels) if document else {},
        "revisions": [_revision(each) for each in revisions],
        "events": [_event(each) for each in life.events if each.kind in OF_A_POLICY and _within(each.at, frame)],
    }


def _dates(life: Life, revisions: Sequence[Revision], document: PolicyDocument | None, frame: Frame) -> Dates:
    ever = [each for each in stretches(life.conditions, 0, frame.end) if each.kind in {*HELD, "beyond"}]
    ended = ever[-1].end if ever and ever[-1].end < frame.end else None
    effective = document.effective if document else None
    return {
        "issued": document.order.issued if document else None,
        "received": _given(document.order.received) if document else None,
        "taken_in": _taken_in(revisions[0]) if revisions else None,
        "effective_from": _given(effective.start) if effective else None,
        "effective_until": _given(effective.until) if effective else None,
        "enforced": instant(ever[0].start) if ever else None,
        "amended": [instant(each.at) for each in revisions[1:]],
        "lifted": None if ended is None else instant(ended),
    }


def _state(life: Life, frame: Frame, found: Sequence[Stretch]) -> str:
    """Say how it stood at the end of the period, in one word."""
    last = found[-1] if found and found[-1].end == frame.end else None
    if last is not None:
        return "enforced" if last.kind in {*HELD, "beyond"} else last.kind
    condition = next((each for each in reversed(life.conditions) if each.at < frame.end), None)
    ordered = condition.ordered if condition else None
    if ordered is None:
        return "gone"
    if condition is not None and not condition.here:
        return "out_of_scope"
    if ordered.says != "active" or ordered.document is None:
        return ordered.says
    return "scheduled" if ordered.document.effective.start.epoch * 1000 >= frame.end else "lapsed"


def _concerned(life: Life, frame: Frame) -> bool:
    """Whether a policy has to do with the period: something happened, it held, or it is still to come."""
    if any(_within(each.at, frame) for each in life.events):
        return True
    if stretches(life.conditions, frame.start, frame.end):
        return True
    return _state(life, frame, ()) in {"scheduled", "out_of_scope", "suspended"}


def _coverage(found: Sequence[Stretch]) -> Coverage:
    lengths: Counter[str] = Counter()
    for each in found:
        lengths[each.kind] += each.end - each.start
    held = sum(lengths[kind] for kind in HELD)
    ordered = held + sum(lengths[kind] for kind in LACKED)
    return {
        "ordered_seconds": ordered / 1000,
        "enforced_seconds": held / 1000,
        "unattended_seconds": (lengths["unattended"] + lengths["silent_end"]) / 1000,
        "share": held / ordered if ordered else None,
    }


def _stretch(each: Stretch) -> StretchPart:
    said = each.suspension or {}
    by = said.get("by") or {}
    return {
        "kind": each.kind,  # type: ignore[typeddict-item]
        "since": instant(each.start),
        "until": instant(each.end),
        "seconds": (each.end - each.start) / 1000,
        "reason": said.get("reason") or None,
        "by": by.get("name"),
    }


def _revision(each: Revision) -> RevisionPart:
    document = each.document
    return {
        "seq": each.seq,
        "revision": each.number,
        "taken_in": _taken_in(each),
        "says": each.says,
        "text_sha256": str(each.texts["policy"]["sha256"]),
        "title": document.title if document else None,
        "effective": _effective(document) if document else None,
        "action": document.block.action.value if document else None,
        "direction": document.block.direction.value if document else None,
        "services": list(document.block.services) if document else [],
    }


def _effective(document: PolicyDocument) -> Effective:
    given = document.effective
    return {
        "from": _given(given.start) or "",
        "until": _given(given.until),
        "review_by": _given(given.review_by),
    }


def _event(each: Event) -> EventPart:
    return {"seq": each.seq, "at": instant(each.at), "kind": each.kind, "sentence": sentence(each.kind, each.data)}


def _counters(counted: tuple[Mapping[str, Count], int] | None, name: str) -> Counters | None:
    if counted is None or name not in counted[0]:
        return None
    count = counted[0][name]
    return {"packets": count.packets, "bytes": count.bytes, "counted_at": instant(counted[1] * 1000)}


def _taken_in(revision: Revision) -> str | None:
    return None if revision.earlier else instant(revision.at)


def _within(at: int, frame: Frame) -> bool:
    return frame.start <= at < frame.end


def _given(given: Instant | None) -> str | None:
    """Give an instant of an order in UTC."""
    return None if given is None else utc_text(given.epoch)


def instant(milliseconds: int) -> str:
    """Give an instant of the journal in UTC, with its milliseconds; one that no calendar has as what it counts."""
    try:
        when = datetime.fromtimestamp(milliseconds // 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"
    return f"{when:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03}Z"


def own_clocks(account: Account, frame: Frame) -> dict[str, dict[str, str | None]]:
    """Give each policy's instants as the order's own clocks show them, where those don't show UTC."""
    found = {}
    for life in account.lives.values():
        last = next((each for each in reversed(life.revisions) if each.at < frame.end), None)
        if last is not None and last.document is not None:
            received = last.document.order.received
            own: dict[str, Any] = words.own_clocks(last.document.effective)
            found[life.name] = {**own, "received": words.own_clock(received) if received else None}
    return found
