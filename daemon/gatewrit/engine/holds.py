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
from typing import TYPE_CHECKING, cast

from gatewrit.compile.acting import Local
from gatewrit.compile.cells import FAMILIES
from gatewrit.compile.rails import Judge
from gatewrit.compile.segments import segment
from gatewrit.compile.spans import Spans, merge
from gatewrit.engine.intake import Finding, Intake
from gatewrit.engine.snapshot import PolicyState
from gatewrit.engine.status import state_of
from gatewrit.engine.store import Kept
from gatewrit.policy.load import join, resolve
from gatewrit.policy.model import Action, Direction, Fault, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gatewrit.compile.rails import Rails
    from gatewrit.policy.model import Family, Ranges, Transport

_PORTS = 65535


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


@dataclass(frozen=True, slots=True)
class Delta:
    """Distinct addresses of one family that come to be blocked, or blocked more, and those that are blocked less."""

    added: int
    lifted: int


def content(kept: Kept) -> str:
    """Give the digest of what a policy's services and their lists say."""
    named = kept.document.block.services
    parts = [f"{name} {kept.services[name].service.digest}" for name in sorted(named) if name in kept.services]
    return "sha256:" + hashlib.sha256("\n".join(parts).encode()).hexdigest()


def hold_back(intake: Intake, before: Mapping[str, Kept], rules: Rules, now: int) -> tuple[Intake, tuple[Held, ...]]:
    """Leave large changes of content out of an intake, and say so: those policies stay at the content that was good."""
    changed = {
        name: old
        for name, kept in intake.kept.items()
        if name in intake.policies and (old := _as_it_was(kept, before.get(name))) is not None
    }
    acts = _acts_in(rules.local, now)
    digests = {name: content(intake.kept[name]) for name in changed}
    judged = {name for name in changed if acts(intake.policies[name]) and rules.released.get(name) != digests[name]}
    waiting = {name for name in judged if rules.held.get(name) == digests[name]}
    figures = {name: _figures(old, intake.policies[name]) for name, old in changed.items() if name in judged}
    fresh = {name: (changed[name], intake.policies[name]) for name in sorted(judged - waiting)}
    steady = [
        changed[name] if name in waiting else policy
        for name, policy in intake.policies.items()
        if name not in fresh and acts(policy)
    ]
    blocked = [policy for each in before.values() if acts(policy := _joined(each))] if fresh else []
    over = _over(blocked, steady, list(fresh.values()), rules.share)
    concerned = waiting | {name for name in judged if any(_part(figures[name][each], kind) for each, kind in over)}
    told = _reason(over, rules.share)
    policies, kept, findings = dict(intake.policies), dict(intake.kept), list(intake.findings)
    judge = Judge(rules.rails)
    for name in sorted(concerned):
        policy, left, faults = _stay(intake.kept[name], before[name], judge)
        policies[name], kept[name] = policy, left
        findings += [Finding(fault, name) for fault in faults]
        findings.append(Finding(_fault(policy, figures[name], "" if name in waiting else told), name))
    held = [_held(name, digests[name], intake.kept[name], before[name], figures[name]) for name in sorted(concerned)]
    return replace(intake, policies=policies, kept=kept, findings=tuple(findings)), tuple(held)


def _as_it_was(kept: Kept, before: Kept | None) -> Policy | None:
    """Give a policy as it would be with the content of before, None if that is the same."""
    if before is None or not _changed(kept, before):
        return None
    return _joined(_keeping(kept, before))


def _changed(kept: Kept, before: Kept) -> tuple[str, ...]:
    """Name the blocked services that say something else than before."""
    services = {name: kept.services[name] for name in kept.document.block.services if name in kept.services}
    return tuple(
        name
        for name, each in services.items()
        if name in before.services and before.services[name].service.digest != each.service.digest
    )


def _keeping(kept: Kept, before: Kept) -> Kept:
    return Kept(kept.document, {name: before.services.get(name, each) for name, each in kept.services.items()})


def _stay(kept: Kept, before: Kept, judge: Judge) -> tuple[Policy, Kept, tuple[Fault, ...]]:
    """Give a policy with the content of before; all of before if its new fields don't go with that."""
    left = _keeping(kept, before)
    policy = resolve(left.document, left.services)
    faults = judge.faults(policy, left.document) if isinstance(policy, Policy) else policy
    if isinstance(policy, Policy) and not any(fault.severity == "error" for fault in faults):
        return policy, left, ()
    return _joined(before), before, faults


def _joined(kept: Kept) -> Policy:
    return join(kept.document, {name: each.service for name, each in kept.services.items()})


def _acts_in(local: Local, now: int) -> Callable[[Policy], bool]:
    names = Local(local.names)

    def acts(policy: Policy) -> bool:
        return policy.block.action is not Action.OBSERVE and state_of(policy, now, names) is PolicyState.IN_FORCE

    return acts


def _over(
    blocked: Iterable[Policy], steady: Sequence[Policy], fresh: Sequence[tuple[Policy, Policy]], share: float
) -> dict[tuple[Family, str], tuple[int, int]]:
    """Say where changes pass the share: how many addresses, of how many, by family and kind.

    `blocked` are the policies that block now, `steady` those that stay, `fresh` those that change, before and after.
    """
    found: dict[tuple[Family, str], tuple[int, int]] = {}
    for family in FAMILIES if fresh else ():
        base = merge(family, [cast("Ranges", part) for policy in blocked for _, part in _parts(family, policy)])
        if not len(base):
            continue
        delta = measure(family, [*steady, *(old for old, _ in fresh)], [*steady, *(new for _, new in fresh)])
        for kind in ("added", "lifted"):
            if _part(delta, kind) > share * base.addresses:
                found[family, kind] = _part(delta, kind), base.addresses
    return found


def _part(delta: Delta, kind: str) -> int:
    return delta.added if kind == "added" else delta.lifted


def _figures(old: Policy, new: Policy) -> dict[Family, Delta]:
    return {family: measure(family, [old], [new]) for family in FAMILIES}


def _held(name: str, digest: str, kept: Kept, before: Kept, figures: Mapping[Family, Delta]) -> Held:
    added = sum(delta.added for delta in figures.values())
    lifted = sum(delta.lifted for delta in figures.values())
    return Held(name, digest, _changed(kept, before), added, lifted)


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


# -- measuring --------------------------------------------------------------------------------------------------------

_Way = tuple[Direction, "Transport"]


def measure(family: Family, before: Iterable[Policy], after: Iterable[Policy]) -> Delta:
    """Compare what two sets of policies block, whoever of them does: address by address, in bulk."""
    owners: dict[tuple[bool, _Way], list[Spans]] = {}
    for new, policies in ((False, before), (True, after)):
        for policy in policies:
            for way, spans in _parts(family, policy):
                owners.setdefault((new, way), []).append(spans)
    keys = list(owners)
    cut = segment(family, [merge(family, cast("list[Ranges]", owners[key])) for key in keys])
    added = lifted = 0
    for group, members in enumerate(cut.owners):
        old = [way for new, way in (keys[index] for index in members) if not new]
        fresh = [way for new, way in (keys[index] for index in members) if new]
        more, less = not _cover(old, fresh), not _cover(fresh, old)
        if more or less:
            chosen = cut.group == group
            number = Spans(family, cut.first[chosen], cut.last[chosen]).addresses
            added += number * more
            lifted += number * less
    return Delta(added, lifted)


def _parts(family: Family, policy: Policy) -> list[tuple[_Way, Spans]]:
    """Give the addresses that a policy blocks, by the end that it judges and the transport."""
    sources = policy.scope.sources
    if sources is not None and not any(part.family == family for part in sources):
        return []
    ends = (Direction.TO, Direction.FROM) if policy.block.direction is Direction.BOTH else (policy.block.direction,)
    spared = merge(family, policy.exceptions.prefixes)
    found = []
    for service in policy.services.values():
        for endpoint in service.endpoints:
            spans = _without(merge(family, endpoint.ranges), spared)
            found += [((end, transport), spans) for end in ends for transport in endpoint.transports if len(spans)]
    return found


def _without(spans: Spans, spared: Spans) -> Spans:
    if not len(spared) or not len(spans):
        return spans
    cut = segment(spans.family, [spans, spared])
    kept = [group for group, owners in enumerate(cut.owners) if owners == (0,)]
    chosen = (cut.group[:, None] == kept).any(axis=1)
    return Spans(spans.family, cut.first[chosen], cut.last[chosen])


def _cover(by: Sequence[_Way], these: Sequence[_Way]) -> bool:
    """Whether what one list of ways blocks takes in all that another does."""
    return all(_covers([other for at, other in by if at is end], transport) for end, transport in these)


def _covers(by: Sequence[Transport], transport: Transport) -> bool:
    if any(other.protocol is None for other in by):
        return True
    if transport.protocol is None:
        return False
    reached, last = _reach(transport)
    for first, end in sorted(_reach(other) for other in by if other.protocol == transport.protocol):
        if first > reached:
            break
        reached = max(reached, end + 1)
    return reached > last


def _reach(transport: Transport) -> tuple[int, int]:
    """Give the ports that are meant; -1 stands for packets that have none."""
    if transport.first is None or transport.last is None:
        return -1, _PORTS
    return transport.first, transport.last
