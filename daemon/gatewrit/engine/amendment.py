"""What an amendment says that figures don't: instants that move, another action, another title. Pure.

Sentences for people, in the order's own wording of instants; programs have the figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewrit.compile.cells import FAMILIES
from gatewrit.compile.ladder import pending
from gatewrit.compile.overlap import ports_of
from gatewrit.compile.spans import alike, merge
from gatewrit.policy.faults import first_of
from gatewrit.policy.terms import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gatewrit.policy.model import Policy, Ranges, Service
    from gatewrit.policy.terms import Instant

#: So many of a list are named; the rest are counted.
_SHOWN = 4


def in_force(policy: Policy, now: int) -> bool:
    """Whether a policy acts at `now` (epoch seconds)."""
    return pending(policy, now) and policy.effective.start.epoch <= now


def started(new: Policy, now: int) -> tuple[str, ...]:
    """Say from when until when a policy that wasn't there is enforced."""
    begins = "in force at once" if in_force(new, now) else f"scheduled: in force from {new.effective.start.text}"
    ends = new.effective.until
    return (f"{begins}, {'with no end' if ends is None else f'until {ends.text}'}",)


def ended(new: Policy | None, now: int) -> tuple[str, ...]:
    """Say why a policy's rules go; `new` is what it has become, None if it no longer means this gateway."""
    if new is None:
        return ("lifted now: it no longer means this gateway, or is suspended by hand to its end",)
    if new.state is not State.ACTIVE:
        return (f"lifted now: revision {new.revision} is {new.state.value}",)
    until = new.effective.until
    if until is not None and until.epoch <= now:
        return (f"lifted now: it ended at {until.text}",)
    return ()


def amended(old: Policy, new: Policy, now: int) -> tuple[str, ...]:
    """Say, field by field, what a revision changes besides addresses."""
    return tuple(sentence for part in (_times(old, new, now), _block(old, new), _paper(old, new)) for sentence in part)


def _times(old: Policy, new: Policy, now: int) -> Iterator[str]:
    before, after = old.effective, new.effective
    was, will = in_force(old, now), in_force(new, now)
    if was and not will:
        yield f"postponed: lifted now, in force again from {after.start.text}"
    elif will and not was:
        yield f"brought forward: in force at once, instead of from {before.start.text}"
    elif before.start.epoch != after.start.epoch:
        more = "; it is in force and stays so" if was else ""
        yield f"from {after.start.text} instead of {before.start.text}{more}"
    if _epoch(before.until) != _epoch(after.until):
        yield f"until {_text(after.until)} instead of {_text(before.until)}"
    if _epoch(before.review_by) != _epoch(after.review_by):
        yield f"to be reviewed by {_text(after.review_by)} instead of {_text(before.review_by)}"


def _block(old: Policy, new: Policy) -> Iterator[str]:
    if old.block.action != new.block.action:
        yield f"action {new.block.action.value} instead of {old.block.action.value}"
    if old.block.direction != new.block.direction:
        yield f"direction {new.block.direction.value} instead of {old.block.direction.value}"
    if added := new.services.keys() - old.services.keys():
        yield f"services added: {_names(added)}"
    if gone := old.services.keys() - new.services.keys():
        yield f"services left out: {_names(gone)}"
    yield from _contents(old.services, new.services)
    if old.scope.interfaces != new.scope.interfaces:
        shown = (_names(each.scope.interfaces or ("any",)) for each in (new, old))
        yield "interfaces: {} instead of {}".format(*shown)
    if not _same(old.scope.sources, new.scope.sources):
        yield "the subscribers that its scope names change"
    if not _same(old.exceptions.sources, new.exceptions.sources):
        yield "the subscribers that it excepts change"


def _contents(old: Mapping[str, Service], new: Mapping[str, Service]) -> Iterator[str]:
    for name in sorted(old.keys() & new.keys()):
        if old[name].digest == new[name].digest:
            continue
        ports = [ports_of([one[name]]) for one in (new, old)]
        if ports[0] != ports[1]:
            yield f"ports of {name}: {_names(ports[0])} instead of {_names(ports[1])}"
        else:
            yield f"the content of {name} changes"


def _paper(old: Policy, new: Policy) -> Iterator[str]:
    if old.title != new.title:
        yield f"title {new.title!r} instead of {old.title!r}"
    if old.order != new.order:
        yield f"order: {new.order.authority}, {new.order.reference}"
    if old.must_continue.keys() != new.must_continue.keys():
        yield f"must continue: {_names(new.must_continue) or 'nothing'}"
    if old.allow_wide != new.allow_wide:
        yield f"allow_wide: {new.allow_wide!r}" if new.allow_wide is not None else "allow_wide is gone"
    if dict(old.labels) != dict(new.labels):
        yield "labels change"


def _same(one: Iterable[Ranges] | None, other: Iterable[Ranges] | None) -> bool:
    if one is None or other is None:
        return one is other
    parts = [(merge(family, one), merge(family, other)) for family in FAMILIES]
    return all(alike(a.first, b.first) and alike(a.last, b.last) for a, b in parts)


def _names(names: Iterable[str]) -> str:
    return first_of(sorted(names), _SHOWN)


def _epoch(instant: Instant | None) -> int | None:
    return None if instant is None else instant.epoch


def _text(instant: Instant | None) -> str:
    return "no instant" if instant is None else instant.text
