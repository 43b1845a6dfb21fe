"""Orders that contradict each other: one blocks what another says must continue, at overlapping times. Both stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gatewrit.compile.ladder import pending
from gatewrit.compile.overlap import FAMILIES, Atlas, ends, listed, meetings, shared, unite
from gatewrit.compile.rows import meets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from gatewrit.compile.overlap import Meeting
    from gatewrit.policy.model import Family, Policy, Service

_FOREVER = 2**63 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Conflict:
    """What `policy` says must continue, and another blocks; `more` counts the others that block it too."""

    policy: Policy
    service: str
    other: Policy
    more: int
    overlap: tuple[Meeting, ...]

    def __str__(self) -> str:
        does = "rejects" if self.other.block.action == "reject" else "drops"
        more = f" ({self.more:,} more do too)" if self.more else ""
        return (
            f"{self.policy.id} says that {self.service} must continue, and {self.other.id}{more} {does} some of it: "
            f"{listed(self.overlap)}; both orders stay"
        )


def conflicts(policies: Iterable[Policy], now: int) -> list[Conflict]:
    """Find the conflicts among policies that act at `now` or later, as `acting` gives them: one for each service."""
    alive = [policy for policy in policies if pending(policy, now)]
    services = {service.digest: service for policy in alive for service in policy.must_continue.values()}
    if not services:
        return []
    near = _Near.of([policy for policy in alive if ends(policy)])
    atlas = Atlas()
    hits = {digest: near.hits(service, atlas) for digest, service in services.items()}
    windows = {digest: _windows(each for each, _ in found) for digest, found in hits.items()}
    result = []
    for policy in alive:
        (mine,) = _windows([policy])
        for name, service in policy.must_continue.items():
            found, times = hits[service.digest], windows[service.digest]
            # Two spans of time overlap if each begins before the other ends.
            meet = np.flatnonzero((times[:, 0] < mine[1]) & (mine[0] < times[:, 1]))
            others = [index for index in meet[:2].tolist() if found[index][0] is not policy]
            if others:
                itself = any(each is policy for each, _ in found)
                other, overlap = found[others[0]]
                result.append(Conflict(policy, name, other, len(meet) - 1 - itself, tuple(overlap)))
    return result


@dataclass(frozen=True, slots=True, eq=False)
class _Near:
    """All entries of all policies that block, in bulk: `owner` is the index of the policy of each."""

    policies: Sequence[Policy]
    first: dict[Family, NDArray[Any]]
    last: dict[Family, NDArray[Any]]
    owner: dict[Family, NDArray[np.int64]]

    @classmethod
    def of(cls, policies: Sequence[Policy]) -> _Near:
        near = cls(policies, {}, {}, {})
        for family in FAMILIES:
            parts = [
                (index, part)
                for index, policy in enumerate(policies)
                for service in policy.services.values()
                for endpoint in service.endpoints
                for part in endpoint.ranges
                if part.family == family
            ]
            if parts:
                near.first[family] = np.concatenate([part.first for _, part in parts])
                near.last[family] = np.concatenate([part.last for _, part in parts])
                near.owner[family] = np.repeat([index for index, _ in parts], [len(part) for _, part in parts])
        return near

    def hits(self, service: Service, atlas: Atlas) -> list[tuple[Policy, list[Meeting]]]:
        """Give the policies that block something of a service, and what."""
        candidates: set[int] = set()
        for family, first in self.first.items():
            held = atlas.service(service, family)
            if held:
                met = meets(first, self.last[family], unite(family, list(held.values())))
                candidates |= set(np.unique(self.owner[family][met]).tolist())
        found = []
        for index in sorted(candidates):
            policy = self.policies[index]
            if shared(policy, service) and (overlap := meetings(policy, service, atlas)):
                found.append((policy, overlap))
        return found


def _windows(policies: Iterable[Policy]) -> NDArray[np.int64]:
    """Give from when until when policies act, shape (n, 2), epoch seconds."""
    rows = [
        (each.effective.start.epoch, each.effective.until.epoch if each.effective.until else _FOREVER)
        for each in policies
    ]
    return np.array(rows, np.int64).reshape(-1, 2)
