"""Whether there is memory for what the files want: a list that hasn't enough leaves its policy at what last was good.

Who takes more memory than a control group allows is killed, and killed again at each start. So it is asked for before
anything is compiled, and what is small goes first. Pure, but for asking what is left.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gatewrit.engine.holds import content
from gatewrit.engine.intake import BULK, Finding
from gatewrit.policy.terms import Fault, State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatewrit.engine.intake import Intake
    from gatewrit.engine.recall import Recall
    from gatewrit.engine.store import Kept
    from gatewrit.kernel.spare import Spare
    from gatewrit.policy.model import Policy, Ranges
    from gatewrit.policy.terms import Family

#: What a new entry that is read takes at most until it is in force, of us and of the kernel together, without guards,
#: which come only where there is room for them; measured (`make bench-limits`).
EACH: Mapping[Family, int] = {4: 260, 6: 480}


def with_room(
    intake: Intake,
    before: Mapping[str, Kept],
    coming: Intake | None,
    left: Callable[[], Spare | None],
    recall: Recall,
) -> Intake:
    """Leave policies out of an intake whose new lists there is no memory for, and say so; `before` stays of them.

    What is in `coming` is being prepared, and has its memory. `recall` is what the intake was taken in with.
    """
    promised = coming.policies if coming is not None else {}
    asked = sorted(
        (needed, name)
        for name, policy in intake.policies.items()
        if policy.state is State.ACTIVE
        and promised.get(name) is not policy
        and content(intake.kept[name]) != (content(before[name]) if name in before else "")
        and (needed := _needed(policy, before.get(name))) >= BULK * min(EACH.values())
    )
    spare = left() if asked else None
    if spare is None:
        return intake
    policies, kept, rejected = {**intake.policies}, {**intake.kept}, [*intake.rejected]
    findings = [*intake.findings]
    taken = 0
    for needed, name in asked:
        policy = policies[name]
        entries = sum(map(len, policy.ranges))
        lack = spare.lacks(taken + needed, f"bringing the {entries:,} entries of {name} into force")
        if lack is None:
            taken += needed
            continue
        stays = "nothing of it is in force"
        if name in before:
            stays = f"revision {before[name].document.revision} with what its lists were stays in force"
            policies[name], kept[name] = recall.joined(before[name], lasting=True), before[name]
        else:
            del policies[name], kept[name]
            rejected.append(name)
        findings.append(Finding(Fault(policy.place, "memory_short", f"{lack}; {stays}"), name))
    return replace(intake, policies=policies, kept=kept, rejected=tuple(sorted(rejected)), findings=tuple(findings))


def _needed(policy: Policy, before: Kept | None) -> int:
    """Give the bytes that those entries take which weren't there before."""
    old = [part for each in before.services.values() for part in each.service.ranges] if before is not None else []
    known = {part.digest for part in old if part.digest}
    return sum(_fresh(part, old) * EACH[part.family] for part in policy.ranges if part.digest not in known)


def _fresh(part: Ranges, old: list[Ranges]) -> int:
    since = part.since
    came_from = since.old() if since is not None else None
    return len(since.fresh) if since is not None and any(each is came_from for each in old) else len(part)
