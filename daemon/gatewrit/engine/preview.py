"""What a change would come to, policy by policy, before it is made. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gatewrit.compile.cells import FAMILIES
from gatewrit.compile.conditions import condition
from gatewrit.compile.ladder import pending
from gatewrit.compile.named import policy_spans
from gatewrit.compile.segments import segment
from gatewrit.compile.spans import Spans, merge
from gatewrit.compile.surroundings import ALONE
from gatewrit.engine import amendment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.policy.model import Policy
    from gatewrit.policy.terms import Family

Change = Literal["start", "end", "amend"]


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """What becomes of one policy's rules; segments and distinct addresses are of both families together.

    `notes` are sentences for people: from when until when, and what else an amendment changes.
    """

    id: str
    change: Change
    segments_added: int
    segments_lifted: int
    addresses_added: int
    addresses_lifted: int
    notes: tuple[str, ...] = ()


def preview(before: Mapping[str, Policy], after: Mapping[str, Policy], now: int) -> tuple[PolicyChange, ...]:
    """Compare what is rendered of the policies in `before` with what would be of those in `after`.

    An order in force that is postponed counts as lifted as a whole, one that is brought forward as added, though their
    addresses stay in the kernel's sets behind another guard.
    """
    old = {name: policy for name, policy in before.items() if pending(policy, now)}
    new = {name: policy for name, policy in after.items() if pending(policy, now)}
    found = (_change(name, old.get(name), new.get(name), after.get(name), now) for name in sorted({*old, *new}))
    return tuple(change for change in found if change is not None)


def _change(name: str, old: Policy | None, new: Policy | None, now_is: Policy | None, now: int) -> PolicyChange | None:
    """Give what becomes of one policy, None if nothing does; `now_is` is what its file says, rendered or not."""
    if old is None or new is None:
        kind: Change = "start" if old is None else "end"
        notes = amendment.ended(now_is, now) if new is None else amendment.started(new, now)
        return PolicyChange(name, kind, *_figures(old, new), notes)
    before, after = (amendment.in_force(each, now) for each in (old, new))
    forward, postponed = after and not before, before and not after
    added, lifted = _gained(None if forward else old, new), _gained(None if postponed else new, old)
    notes = amendment.amended(old, new, now)
    if not (any(added) or any(lifted) or notes or _rules(old) != _rules(new)):
        return None
    return PolicyChange(name, "amend", added[0], lifted[0], added[1], lifted[1], notes)


def _figures(old: Policy | None, new: Policy | None) -> tuple[int, int, int, int]:
    added, lifted = _gained(old, new), _gained(new, old)
    return added[0], lifted[0], added[1], lifted[1]


def _rules(policy: Policy) -> object:
    """Give what of a policy, besides its addresses, decides which rules it gets."""
    block, effective = policy.block, policy.effective
    services = {service.name: service.digest for service in policy.services.values()}
    until = effective.until.epoch if effective.until else None
    limits = condition(policy, ALONE)
    return block.action, block.direction, effective.start.epoch, until, services, limits and limits.identity


def _gained(before: Policy | None, after: Policy | None) -> tuple[int, int]:
    """Count the segments and addresses that `after` has and `before` doesn't."""
    segments = addresses = 0
    for family in FAMILIES:
        old, new = _spans(before, family), _spans(after, family)
        cut = segment(family, [old, new])
        for group, owners in enumerate(cut.owners):
            if owners == (1,):
                chosen = cut.group == group
                segments += int(chosen.sum())
                addresses += Spans(family, cut.first[chosen], cut.last[chosen]).addresses
    return segments, addresses


def _spans(policy: Policy | None, family: Family) -> Spans:
    return merge(family, ()) if policy is None else policy_spans(family, policy)
