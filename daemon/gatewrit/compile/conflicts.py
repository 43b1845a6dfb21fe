"""Orders that contradict each other: one blocks what another says must continue, at overlapping times. Both stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.ladder import pending
from gatewrit.compile.memo import Drawer
from gatewrit.compile.overlap import FAMILIES, Atlas, Entries, ends, listed, meetings, shared, unite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from gatewrit.compile.memo import Memo
    from gatewrit.compile.overlap import Meeting
    from gatewrit.policy.model import Endpoint, Policy, Ranges, Service
    from gatewrit.policy.terms import Action, Direction

    _Key = tuple[Action, Direction, tuple[Endpoint, ...], tuple[Ranges, ...]]
    _Hit = tuple[Policy, list[Meeting]]

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


def conflicts(policies: Iterable[Policy], now: int, memo: Memo | None = None) -> list[Conflict]:
    """Find the conflicts among policies that act at `now` or later, as `acting` gives them: one for each service.

    With a `memo`, only what has changed since the last time is looked at.
    """
    drawer = memo.conflicts if memo else Drawer()
    alive = [policy for policy in policies if pending(policy, now)]
    services = {service.digest: service for policy in alive for service in policy.must_continue.values()}
    hits = _hits(drawer, services, [policy for policy in alive if ends(policy)]) if services else {}
    drawer.turn()
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


def _hits(drawer: Drawer, services: Mapping[str, Service], policies: Sequence[Policy]) -> dict[str, list[_Hit]]:
    """Give, for each service by its digest, the policies that block something of it, and what.

    What is known of a policy from before, that it blocks something of a service or doesn't, isn't asked again.
    """
    places: dict[_Key, list[int]] = {}
    for at, policy in enumerate(policies):
        places.setdefault(_key(policy), []).append(at)
    seen: AbstractSet[_Key] = drawer.known("seen") or frozenset()
    near: dict[bool, Entries] = {}
    atlas, result = Atlas(), {}
    for digest, service in services.items():
        known: Mapping[_Key, list[Meeting]] | None = drawer.known(("hits", digest))
        anew = known is None
        if anew not in near:
            near[anew] = Entries.of([policies[at[0]] for key, at in places.items() if anew or key not in seen])
        found = {key: overlap for key, overlap in (known or {}).items() if key in places}
        found |= {_key(policy): overlap for policy, overlap in _blocked(near[anew], service, atlas)}
        drawer.put(("hits", digest), found)
        rows = sorted((at, key) for key in found for at in places[key])
        result[digest] = [(policies[at], found[key]) for at, key in rows]
    # Last, so that what breaks off in between leaves nothing as seen that wasn't.
    drawer.put("seen", places.keys())
    return result


def _key(policy: Policy) -> _Key:
    """Give all that decides what a policy blocks, its times aside."""
    endpoints = tuple(endpoint for service in policy.services.values() for endpoint in service.endpoints)
    return policy.block.action, policy.block.direction, endpoints, policy.exceptions.prefixes


def _blocked(near: Entries, service: Service, atlas: Atlas) -> Iterator[_Hit]:
    """Yield the policies, of those whose entries these are, that block something of a service, and what."""
    candidates: set[int] = set()
    for family in FAMILIES:
        if held := atlas.service(service, family):
            candidates |= near.meeting(unite(family, list(held.values())))
    for index in sorted(candidates):
        policy = near.policies[index]
        if shared(policy, service) and (overlap := meetings(policy, service, atlas)):
            yield policy, overlap


def _windows(policies: Iterable[Policy]) -> NDArray[np.int64]:
    """Give from when until when policies act, shape (n, 2), epoch seconds."""
    rows = [
        (each.effective.start.epoch, each.effective.until.epoch if each.effective.until else _FOREVER)
        for each in policies
    ]
    return np.array(rows, np.int64).reshape(-1, 2)
