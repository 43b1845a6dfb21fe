"""What one reload worked out and the next one needs again: verdicts on policies, and measured changes that are held.

What hasn't changed is the same object from one reading to the next, documents and services alike, so everything is
found by identity; what it was worked out from is held on to for as long as the answer is. A reload begins a round, and
what wasn't asked for in it is forgotten at its end, so that no list that nobody has any more stays in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from gatewrit.compile.named import count_addresses
from gatewrit.compile.rails import Judge
from gatewrit.policy.load import join, resolve
from gatewrit.policy.model import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gatewrit.compile.rails import Rails
    from gatewrit.engine.store import Kept
    from gatewrit.policy.load import PolicyDocument, ServiceDocument
    from gatewrit.policy.terms import Family, Fault

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """A document joined with its services: the policy, None if that isn't complete, and what speaks against it."""

    policy: Policy | None
    against: tuple[Fault, ...]


class Recall:
    """Remembers between reloads. One at a time may use it."""

    def __init__(self) -> None:
        self._rails: Rails | None = None
        self._judge: Judge | None = None
        self._counts: WeakKeyDictionary[Policy, Mapping[Family, int]] = WeakKeyDictionary()
        self._now: dict[tuple[object, ...], tuple[object, object]] = {}
        self._before: dict[tuple[object, ...], tuple[object, object]] = {}

    def begin(self, rails: Rails) -> None:
        """Begin a reload. By other rails nothing counts that was judged before."""
        same = rails is self._rails
        self._rails, self._judge = rails, None
        self._before = self._now if same else {}
        self._now = {}

    def end(self) -> None:
        """End a reload: forget what it didn't ask for."""
        self._before = {}
        self._judge = None

    def verdict(self, document: PolicyDocument, services: Mapping[str, ServiceDocument]) -> Verdict:
        """Judge a policy by the rails, unless that was done before."""
        return self._known(("verdict", *_key(document, services)), (document, services), self._judged)

    def joined(self, kept: Kept, *, lasting: bool = False) -> Policy:
        """Give what a kept revision says: the very policy that was judged, if it was; it may lack services.

        `lasting`: what was judged is to be remembered, as the revision goes on counting.
        """
        key = ("verdict", *_key(kept.document, kept.services))
        found = self._now.get(key) or self._before.get(key)
        if found is not None and lasting:
            self._now[key] = found
        if found is not None and isinstance(found[1], Verdict) and found[1].policy is not None:
            return found[1].policy
        return join(kept.document, {name: each.service for name, each in kept.services.items()})

    def between(self, old: Kept, new: Kept, work: Callable[[], T]) -> T:
        """Give what a change comes to: `work` does it, unless that was done before."""
        key = ("between", *_key(old.document, old.services), None, *_key(new.document, new.services))
        return self._known(key, (old, new), lambda *_: work())

    def addresses(
        self, policies: Mapping[str, Policy], known: Mapping[str, Mapping[Family, int]]
    ) -> dict[str, Mapping[Family, int]]:
        """Give how many distinct addresses policies name, by family; `known` are those that were counted anyway."""
        return {name: known.get(name) or self._counted(policy) for name, policy in policies.items()}

    def _counted(self, policy: Policy) -> Mapping[Family, int]:
        if policy not in self._counts:
            self._counts[policy] = count_addresses(policy)
        return self._counts[policy]

    def _judged(self, document: PolicyDocument, services: Mapping[str, ServiceDocument]) -> Verdict:
        resolved = resolve(document, services)
        if not isinstance(resolved, Policy):
            return Verdict(None, resolved)
        assert self._rails is not None  # noqa: S101 - a reload has begun
        self._judge = self._judge or Judge(self._rails)
        return Verdict(resolved, self._judge.faults(resolved, document))

    def _known(self, key: tuple[object, ...], source: tuple[object, ...], work: Callable[..., T]) -> T:
        if key not in self._now:
            self._now[key] = self._before.get(key) or (source, work(*source))
        found: T = self._now[key][1]  # type: ignore[assignment]
        return found


def _key(document: PolicyDocument, services: Mapping[str, ServiceDocument]) -> tuple[int, ...]:
    return id(document), *sorted(map(id, services.values()))
