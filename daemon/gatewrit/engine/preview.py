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

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.policy.model import Policy
    from gatewrit.policy.terms import Family

Change = Literal["start", "end", "amend"]


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """What becomes of one policy's rules; segments and distinct addresses are of both families together."""

    id: str
    change: Change
    segments_added: int
    segments_lifted: int
    addresses_added: int
    addresses_lifted: int


def preview(before: Mapping[str, Policy], after: Mapping[str, Policy], now: int) -> tuple[PolicyChange, ...]:
    """Compare what is rendered of the policies in `before` with what would be of those in `after`."""
    old = {name: policy for name, policy in before.items() if pending(policy, now)}
    new = {name: policy for name, policy in after.items() if pending(policy, now)}
    changes = []
    for name in sorted({*old, *new}):
        kind: Change = "amend" if name in old and name in new else "start" if name in new else "end"
        added_segments, added = _gained(old.get(name), new.get(name))
        lifted_segments, lifted = _gained(new.get(name), old.get(name))
        if kind != "amend" or added or lifted or _rules(old[name]) != _rules(new[name]):
            changes.append(PolicyChange(name, kind, added_segments, lifted_segments, added, lifted))
    return tuple(changes)


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
