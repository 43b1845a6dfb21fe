"""Which policies act on this gateway, and from when: what decides that beside the policy files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING

from gatewrit.policy.terms import Direction, Instant

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from gatewrit.policy.model import Policy


@dataclass(frozen=True, slots=True, eq=False)
class Local:
    """What is true of this gateway alone.

    `names` are its name and tags, which `scope.gateways` means. `suspended` says until when (epoch seconds, exclusive)
    a policy is suspended by hand.
    """

    names: tuple[str, ...] = ()
    suspended: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def suspended_until(self, policy: str, now: int) -> int | None:
        """Say until when a policy is suspended by hand at `now`; None if it isn't."""
        until = self.suspended.get(policy)
        return until if until is not None and now < until else None


#: A gateway without a name, where nothing was done by hand.
PLAIN = Local()


def in_scope(policy: Policy, names: Iterable[str]) -> bool:
    """Whether a policy means a gateway of these names (its name and its tags); without a scope it means every one.

    A glob is matched with its case, on the whole name.
    """
    globs = policy.scope.gateways
    return globs is None or any(fnmatchcase(name, glob) for name in names for glob in globs)


def unseen(policies: Iterable[Policy], hooks: Collection[str]) -> list[Policy]:
    """Give the policies of which these hooks can't enforce a part: on prerouting no packet has an outgoing interface.

    So a scope of interfaces matches nothing there that is judged by where it goes.
    """
    if "prerouting" not in hooks:
        return []
    return [each for each in policies if each.scope.interfaces is not None and each.block.direction != Direction.FROM]


def unseen_text(policy: Policy) -> str:
    """Say which part of a policy that is, and what to do."""
    rest = "" if policy.block.direction == Direction.TO else "; what comes from it is judged as ordered"
    return (
        f"nothing that goes to the services of {policy.id} is matched: its scope names outgoing interfaces, which the "
        f"hook prerouting doesn't know yet{rest}; use `hooks: [forward]` in the settings, or leave scope.interfaces out"
    )


def acting(policies: Iterable[Policy], local: Local, now: int) -> dict[str, Policy]:
    """Give the policies to render, by id: those in scope.

    One that is suspended by hand starts when its suspension ends. So the kernel itself resumes it, also with nobody
    running. One that ends before that is left out.
    """
    chosen: dict[str, Policy] = {}
    for policy in policies:
        if not in_scope(policy, local.names):
            continue
        until = local.suspended_until(policy.id, now)
        if until is None or until <= policy.effective.start.epoch:
            chosen[policy.id] = policy
        elif policy.effective.until is None or until < policy.effective.until.epoch:
            start = Instant(until, f"the end of the suspension, {until}")
            chosen[policy.id] = replace(policy, effective=replace(policy.effective, start=start))
    return chosen
