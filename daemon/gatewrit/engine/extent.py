"""How much of what is blocked changes: first the rows that differ, then the addresses around them, counted. Pure.

A list of a million prefixes changes by a few lines at a time. What both states have row for row decides nothing about
the difference, so it is left out by looking at rows, and whatever else blocks is looked at only where the others are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatewrit.compile.rows import apart, meeting
from gatewrit.compile.segments import segment, subtract
from gatewrit.compile.spans import Spans, intersect, merge
from gatewrit.policy.terms import Direction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeAlias

    from gatewrit.policy.model import Endpoint, Policy, Ranges, Transport
    from gatewrit.policy.terms import Family

    _Way: TypeAlias = tuple[Direction, Transport]
    _Part: TypeAlias = tuple[_Way, Ranges | Spans]

_PORTS = 65535
#: So many rows are enough to see that much more is blocked than a change could be.
_SAMPLE = 20_000


@dataclass(frozen=True, slots=True)
class Delta:
    """Distinct addresses of one family that come to be blocked, or blocked more, and those that are blocked less."""

    added: int
    lifted: int


def region(family: Family, old: Policy, new: Policy) -> Spans:
    """Give addresses outside of which two policies, the same but for their services' content, block the same.

    It may have more than the addresses that differ: only rows are compared, each with the transports of its endpoint.
    """
    rows: list[Ranges] = []
    before, after = _by_transports(family, old), _by_transports(family, new)
    for key in {**before, **after}:
        rows += apart(before.get(key, []), after.get(key, []))
    return merge(family, rows)


def least(family: Family, policies: Iterable[Policy]) -> int:
    """Give how many distinct addresses policies block at least: some of their rows are counted."""
    rows: list[Ranges | Spans] = []
    left = _SAMPLE
    for policy in policies:
        if left <= 0:
            break
        found: list[Ranges | Spans] = []
        for part in _entries(family, policy):
            found.append(_few(part, max(1, left)))
            left -= len(found[-1])
        spared = merge(family, policy.exceptions.prefixes)
        rows += [subtract(merge(family, found), spared)] if len(spared) else found
    return merge(family, rows).addresses


def total(family: Family, policies: Iterable[Policy]) -> int:
    """Count the distinct addresses that policies block."""
    return merge(family, [part for policy in policies for _, part in _parts(family, policy, None)]).addresses


def measure(family: Family, before: Iterable[Policy], after: Iterable[Policy], within: Spans | None = None) -> Delta:
    """Compare what two sets of policies block, whoever of them does: address by address, in bulk.

    `within` are addresses outside of which nothing differs, as `region` gives them.
    """
    owners: dict[tuple[bool, _Way], list[Ranges | Spans]] = {}
    known: dict[int, list[_Part]] = {}
    for new, policies in ((False, tuple(before)), (True, tuple(after))):
        for policy in policies:
            if id(policy) not in known:
                known[id(policy)] = _parts(family, policy, within)
            for way, part in known[id(policy)]:
                owners.setdefault((new, way), []).append(part)
    keys = list(owners)
    blocked = [merge(family, owners[key]) for key in keys]
    if within is not None:
        # Of one list rows outside may be left out, and of the other not.
        blocked = [intersect(each, within) for each in blocked]
    if len(keys) == 2 and keys[0][1] == keys[1][1]:
        # One way in which all of it is blocked, before and after: what both have in common tells the rest.
        gone, come = blocked
        common = intersect(gone, come).addresses
        return Delta(come.addresses - common, gone.addresses - common)
    cut = segment(family, blocked)
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


# -- what a policy blocks ----------------------------------------------------------------------------------------------


def _endpoints(family: Family, policy: Policy) -> list[Endpoint]:
    """Give the endpoints that a policy blocks in a family: none if it names only others' subscribers."""
    sources = policy.scope.sources
    if sources is not None and not any(part.family == family for part in sources):
        return []
    return [endpoint for service in policy.services.values() for endpoint in service.endpoints]


def _entries(family: Family, policy: Policy) -> Iterable[Ranges]:
    for endpoint in _endpoints(family, policy):
        yield from (part for part in endpoint.ranges if part.family == family)


def _by_transports(family: Family, policy: Policy) -> dict[frozenset[Transport], list[Ranges]]:
    found: dict[frozenset[Transport], list[Ranges]] = {}
    for endpoint in _endpoints(family, policy):
        rows = found.setdefault(frozenset(endpoint.transports), [])
        rows += [part for part in endpoint.ranges if part.family == family]
    return found


def _few(part: Ranges, most: int) -> Spans:
    """Give some rows of all places of a list, for a list may be sorted."""
    step = max(1, len(part) // most)
    return Spans(part.family, part.first[::step], part.last[::step])


def _parts(family: Family, policy: Policy, within: Spans | None) -> list[_Part]:
    """Give the addresses that a policy blocks, by the end that it judges and the transport.

    With `within`, rows that don't meet it may be left out.
    """
    direction = policy.block.direction
    ends = (Direction.TO, Direction.FROM) if direction is Direction.BOTH else (direction,)
    spared = merge(family, policy.exceptions.prefixes)
    found: list[_Part] = []
    for endpoint in _endpoints(family, policy):
        own = (part for part in endpoint.ranges if part.family == family)
        chosen = own if within is None else (meeting(part, within) for part in own)
        rows: list[Ranges | Spans] = [part for part in chosen if len(part)]
        if rows and len(spared):
            rows = [subtract(merge(family, rows), spared)]
        found += [((end, transport), part) for part in rows for end in ends for transport in endpoint.transports]
    return found


# -- ways in which an address is blocked -------------------------------------------------------------------------------


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
