"""How much of the guard rails a change uses up: 1.0 is all that they allow. Pure.

Whether a rail holds a change or refuses a policy isn't decided here, but in `rails` and `holds`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.cells import FAMILIES
from gatewrit.compile.named import count_addresses
from gatewrit.compile.spans import merge
from gatewrit.engine.extent import measure, region, total
from gatewrit.engine.holds import acts_in, changed, keeping
from gatewrit.engine.recall import Recall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.compile.acting import Local
    from gatewrit.compile.rails import Rails
    from gatewrit.compile.spans import Addresses
    from gatewrit.engine.intake import Intake
    from gatewrit.engine.store import Kept
    from gatewrit.policy.model import Policy, Ranges
    from gatewrit.policy.terms import Family

_BITS: dict[Family, int] = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True)
class PolicyUsage:
    """What a policy uses of its own limits, by family: of `limits.total_share`, and its widest entry of `widest_*`.

    `widest` gives the bits of the widest entry, 32 or 128 for a single address. `allowed` is why no limit counts.
    """

    total: Mapping[Family, float]
    widest: Mapping[Family, int]
    allowed: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """What the content of services and lists adds to or lifts from the addresses blocked now, of one family."""

    family: Family
    added: int
    lifted: int
    blocked: int

    def used(self, share: float) -> float | None:
        """Give the part of `limits.change_share` that is used up; None where nothing is blocked to compare with."""
        return max(self.added, self.lifted) / (share * self.blocked) if self.blocked else None


def of_policy(policy: Policy, rails: Rails) -> PolicyUsage:
    """Say what a policy uses of its limits; families that it doesn't name are left out."""
    counts = count_addresses(policy)
    totals = {each: counts[each] / 2 ** _BITS[each] / rails.total_share for each in FAMILIES if counts[each]}
    widest = {
        each: min(_length(part) for part in policy.ranges if part.family == each and len(part)) for each in totals
    }
    return PolicyUsage(totals, widest, policy.allow_wide)


def _length(part: Ranges) -> int:
    """Give the length of the longest prefix that is as large as the widest range of a list."""
    if part.family == 4:
        size = int((part.last.astype(np.uint64) - part.first.astype(np.uint64)).max())
        return 32 - size.bit_length()
    first: Addresses = part.first
    last: Addresses = part.last
    high = last["hi"] - first["hi"] - (last["lo"] < first["lo"])
    widest = int(high.max())
    if widest:
        return 64 - widest.bit_length()
    return 128 - int((last["lo"] - first["lo"])[high == 0].max()).bit_length()


def of_change(intake: Intake, before: Mapping[str, Kept], local: Local, rails: Rails, now: int) -> tuple[Change, ...]:
    """Measure what new content of known policies changes, by family; what is held back isn't in the intake any more."""
    recall, acts = Recall(), acts_in(local, now)
    recall.begin(rails)
    old, new = [], []
    fresh = set[str]()
    for name, kept in intake.kept.items():
        policy = intake.policies.get(name)
        if policy is not None and name in before and acts(policy) and changed(kept, before[name]):
            old.append(recall.joined(keeping(kept, before[name])))
            new.append(policy)
            fresh.add(name)
    blocked = [each for each in map(recall.joined, before.values()) if acts(each)] if new else []
    steady = [each for name, each in intake.policies.items() if name not in fresh and acts(each)] if new else []
    found = []
    for family in FAMILIES if new else ():
        within = merge(family, [region(family, *pair) for pair in zip(old, new, strict=True)])
        delta = measure(family, [*steady, *old], [*steady, *new], within)
        if delta.added or delta.lifted:
            found.append(Change(family, delta.added, delta.lifted, total(family, blocked)))
    return tuple(found)
