"""Time inside a cell: the slices between the instants at which its policies start and end, as rungs of a ladder.

A rung holds until its end and is judged in order, so that only `<` is needed and no packet slips between two guards.
The first rung that isn't past acts: one rule counts for every policy that is active and does what the strictest says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewrit.policy.terms import STRICTNESS, Action, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatewrit.policy.model import Policy


@dataclass(frozen=True, slots=True)
class Rung:
    """Who is active until `end` (exclusive, epoch seconds; None for ever), and what happens to a packet then."""

    end: int | None
    policies: tuple[str, ...]
    action: Action | None


def pending(policy: Policy, now: int) -> bool:
    """Whether a policy acts now or ever will: active, and not yet past its end."""
    until = policy.effective.until
    return policy.state is State.ACTIVE and (until is None or now < until.epoch)


def ladder(policies: Iterable[Policy], now: int) -> tuple[Rung, ...]:
    """Give the rungs that aren't past at `now`; the last one may have no end.

    Neighbouring slices with the same policies are one rung. Nothing stands where nobody is active to the end.
    """
    chosen = sorted(policies, key=lambda policy: policy.id)
    instants = {policy.effective.start.epoch for policy in chosen}
    instants |= {policy.effective.until.epoch for policy in chosen if policy.effective.until}
    rungs: list[Rung] = []
    begins = [min(instants, default=now) - 1, *sorted(instants)]
    for begin, end in zip(begins, [*begins[1:], None], strict=True):
        if end is not None and end <= now:
            continue
        active = [policy for policy in chosen if _active(policy, begin)]
        action = max((policy.block.action for policy in active), key=STRICTNESS.__getitem__, default=None)
        names = tuple(policy.id for policy in active)
        if rungs and rungs[-1].policies == names:
            rungs.pop()
        rungs.append(Rung(end, names, action))
    if rungs and not rungs[-1].policies:
        rungs.pop()
    return tuple(rungs)


def _active(policy: Policy, instant: int) -> bool:
    until = policy.effective.until
    return policy.effective.start.epoch <= instant and (until is None or instant < until.epoch)
