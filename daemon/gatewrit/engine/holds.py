"""Large changes of content are held: a wrong list must not lift, or put up, most of what is blocked by itself. Pure.

What counts is what a reload's *service and list content* does, with every policy's own fields as they are now: those
act at once, and nothing that a revision, a new policy or an instant brings is ever held. Changes are measured all
together, over the gateway, against the distinct addresses of that family that are blocked now; an address is lifted if
some protocol or port that was blocked there isn't any more, and added if one comes to be. Orders in force count, those
suspended by hand among them because they come back by themselves; those that only observe don't. Where nothing of a
family is blocked there is nothing to compare with, and its first content isn't held.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gatewrit.compile.acting import Local
from gatewrit.compile.cells import FAMILIES
from gatewrit.compile.spans import merge
from gatewrit.engine.extent import Delta, least, measure, region, total
from gatewrit.engine.intake import Finding, Intake
from gatewrit.engine.recall import Recall
from gatewrit.engine.snapshot import PolicyState
from gatewrit.engine.status import state_of
from gatewrit.engine.store import Kept
from gatewrit.policy.terms import Action, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gatewrit.compile.rails import Rails
    from gatewrit.compile.spans import Spans
    from gatewrit.policy.model import Policy
    from gatewrit.policy.terms import Family


@dataclass(frozen=True, slots=True)
class Held:
    """A policy whose new content waits for a release: the content's digest, and its own part of the change."""

    policy: str
    content: str
    services: tuple[str, ...]
    addresses_added: int
    addresses_lifted: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What holding goes by: the share, what was held before and what is released (digests by policy), the gateway.

    New fields together with the content of before must keep to the `rails`, as anything that counts.
    """

    share: float
    held: Mapping[str, str]
    released: Mapping[str, str]
    local: Local
    rails: Rails


def content(kept: Kept) -> str:
    """Give the digest of what a policy's services and their lists say."""
    named = kept.document.block.services
    parts = [f"{name} {kept.services[name].service.digest}" for name in sorted(named) if name in kept.services]
    return "sha256:" + hashlib.sha256("\n".join(parts).encode()).hexdigest()


def hold_back(
    intake: Intake, before: Mapping[str, Kept], rules: Rules, now: int, recall: Recall | None = None
) -> tuple[Intake, tuple[Held, ...]]:
    """Leave large changes of content out of an intake, and say so: those policies stay at the content that was good.

    `recall` is what the intake was taken in with.
    """
    if recall is None:
        recall = Recall()
        recall.begin(rules.rails)
    changes = {
        name: _Change(keeping(kept, before[name]), kept, recall)
        for name, kept in intake.kept.items()
        if name in intake.policies and name in before and changed(kept, before[name])
    }
    acts = acts_in(rules.local, now)
    digests = {name: content(intake.kept[name]) for name in changes}
    judged = {name for name in changes if acts(intake.policies[name]) and rules.released.get(name) != digests[name]}
    waiting = {name for name in judged if rules.held.get(name) == digests[name]}
    fresh = {name: changes[name] for name in sorted(judged - waiting)}
    steady = [
        changes[name].old if name in waiting else policy
        for name, policy in intake.policies.items()
        if fresh and name not in fresh and acts(policy)
    ]
    blocked = [policy for each in before.values() if acts(policy := recall.joined(each))] if fresh else []
    over = _over(blocked, steady, list(fresh.values()), rules.share)
    large = {name for name in judged if any(_part(changes[name].figures[each], kind) for each, kind in over)}
    concerned = {name: changes[name] for name in sorted(waiting | large)}
    told = _reason(over, rules.share)
    policies, kept, findings = dict(intake.policies), dict(intake.kept), list(intake.findings)
    for name, change in concerned.items():
        policy, left, faults = _stay(change, before[name], recall)
        policies[name], kept[name] = policy, left
        findings += [Finding(fault, name) for fault in faults]
        findings.append(Finding(_fault(policy, change.figures, "" if name in waiting else told), name))
    held = [_held(name, digests[name], change, before[name]) for name, change in concerned.items()]
    recall.end()
    return replace(intake, policies=policies, kept=kept, findings=tuple(findings)), tuple(held)


class _Change:
    """A policy's fields with the content of before and with the new one, and what lies between the two, once asked."""

    def __init__(self, before: Kept, after: Kept, recall: Recall) -> None:
        self.kept_before, self.kept_after = before, after
        self.old, self.new = recall.joined(before), recall.joined(after)
        self._recall = recall
        self._regions: dict[Family, Spans] = {}

    def region(self, family: Family) -> Spans:
        """Give addresses outside of which nothing changes."""
        if family not in self._regions:
            self._regions[family] = region(family, self.old, self.new)
        return self._regions[family]

    @property
    def figures(self) -> Mapping[Family, Delta]:
        """How much the policy by itself would change."""
        return self._recall.between(self.kept_before, self.kept_after, self._measured)

    def _measured(self) -> Mapping[Family, Delta]:
        return {family: measure(family, [self.old], [self.new], self.region(family)) for family in FAMILIES}


def changed(kept: Kept, before: Kept) -> tuple[str, ...]:
    """Name the blocked services that say something else than before."""
    named = [name for name in kept.document.block.services if name in kept.services and name in before.services]
    return tuple(name for name in named if before.services[name].service.digest != kept.services[name].service.digest)


def keeping(kept: Kept, before: Kept) -> Kept:
    """Give a revision with the content of before."""
    return Kept(kept.document, {name: before.services.get(name, each) for name, each in kept.services.items()})


def _stay(change: _Change, before: Kept, recall: Recall) -> tuple[Policy, Kept, tuple[Fault, ...]]:
    """Give a policy with the content of before; all of before if its new fields don't go with that."""
    left = change.kept_before
    verdict = recall.verdict(left.document, left.services)
    if verdict.policy is not None and not any(fault.severity == "error" for fault in verdict.against):
        return verdict.policy, left, ()
    return recall.joined(before), before, verdict.against


def acts_in(local: Local, now: int) -> Callable[[Policy], bool]:
    """Give what says whether a policy counts for the share: in force here, and not only observing."""
    names = Local(local.names)

    def acts(policy: Policy) -> bool:
        return policy.block.action is not Action.OBSERVE and state_of(policy, now, names) is PolicyState.IN_FORCE

    return acts


def _over(
    blocked: Sequence[Policy], steady: Sequence[Policy], fresh: Sequence[_Change], share: float
) -> dict[tuple[Family, str], tuple[int, int]]:
    """Say where changes pass the share: how many addresses, of how many, by family and kind.

    `blocked` are the policies that block now, `steady` those that stay, `fresh` those that change.
    """
    found: dict[tuple[Family, str], tuple[int, int]] = {}
    for family in FAMILIES if fresh else ():
        within = merge(family, [each.region(family) for each in fresh])
        most = within.addresses
        # Nearly always so little changes that a part of what is blocked shows that it is less than the share.
        if not most or most <= share * least(family, blocked):
            continue
        base = total(family, blocked)
        if not base:
            continue
        old, new = [each.old for each in fresh], [each.new for each in fresh]
        delta = measure(family, [*steady, *old], [*steady, *new], within)
        for kind in ("added", "lifted"):
            if _part(delta, kind) > share * base:
                found[family, kind] = _part(delta, kind), base
    return found


def _part(delta: Delta, kind: str) -> int:
    return delta.added if kind == "added" else delta.lifted


def _held(name: str, digest: str, change: _Change, before: Kept) -> Held:
    added = sum(delta.added for delta in change.figures.values())
    lifted = sum(delta.lifted for delta in change.figures.values())
    return Held(name, digest, changed(change.kept_after, before), added, lifted)


def _fault(policy: Policy, figures: Mapping[Family, Delta], told: str) -> Fault:
    own = ", ".join(
        f"{verb} {number} IPv{family} address{'es' if number != 1 else ''}"
        for family, delta in figures.items()
        for verb, number in (("block", delta.added), ("lift", delta.lifted))
        if number
    )
    why = f"; {told}" if told else "; it was held before and waits for a release"
    message = f"the new content of {policy.id}'s services would {own}{why}; what they last were stays in force"
    return Fault(policy.place, "change_held", message)


def _reason(over: Mapping[tuple[Family, str], tuple[int, int]], share: float) -> str:
    return "; ".join(
        f"together this reload would {'block' if kind == 'added' else 'lift'} {number} against {base} IPv{family} "
        f"addresses blocked now, more than limits.change_share ({share:.0%})"
        for (family, kind), (number, base) in over.items()
    )
