"""Changes measured the plain way: everything that blocks, united and cut as a whole. What the quick way is held to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewrit.compile.segments import segment
from gatewrit.compile.spans import Spans, merge
from gatewrit.engine.extent import Delta
from gatewrit.policy.terms import Direction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gatewrit.policy.model import Policy, Transport
    from gatewrit.policy.terms import Family

    Way = tuple[Direction, Transport]

PORTS = 65535


def over(
    family: Family, blocked: Iterable[Policy], before: Iterable[Policy], after: Iterable[Policy], share: float
) -> dict[str, tuple[int, int]]:
    """Say by kind how many addresses of how many change, where that is more than the share."""
    base = merge(family, [spans for policy in blocked for _, spans in parts(family, policy)])
    delta = measure(family, before, after)
    kinds = {"added": delta.added, "lifted": delta.lifted}
    return {
        kind: (number, base.addresses)
        for kind, number in kinds.items()
        if len(base) and number > share * base.addresses
    }


def measure(family: Family, before: Iterable[Policy], after: Iterable[Policy]) -> Delta:
    owners: dict[tuple[bool, Way], list[Spans]] = {}
    for new, policies in ((False, before), (True, after)):
        for policy in policies:
            for way, spans in parts(family, policy):
                owners.setdefault((new, way), []).append(spans)
    keys = list(owners)
    cut = segment(family, [merge(family, owners[key]) for key in keys])
    added = lifted = 0
    for group, members in enumerate(cut.owners):
        old = [way for new, way in (keys[index] for index in members) if not new]
        fresh = [way for new, way in (keys[index] for index in members) if new]
        chosen = cut.group == group
        number = Spans(family, cut.first[chosen], cut.last[chosen]).addresses
        added += number * (not cover(old, fresh))
        lifted += number * (not cover(fresh, old))
    return Delta(added, lifted)


def parts(family: Family, policy: Policy) -> list[tuple[Way, Spans]]:
    """Give the addresses that a policy blocks, by the end that it judges and the transport."""
    sources = policy.scope.sources
    if sources is not None and not any(part.family == family for part in sources):
        return []
    ends = (Direction.TO, Direction.FROM) if policy.block.direction is Direction.BOTH else (policy.block.direction,)
    spared = merge(family, policy.exceptions.prefixes)
    found = []
    for service in policy.services.values():
        for endpoint in service.endpoints:
            spans = cut_out(merge(family, endpoint.ranges), spared)
            found += [((end, transport), spans) for end in ends for transport in endpoint.transports if len(spans)]
    return found


def cut_out(spans: Spans, spared: Spans) -> Spans:
    if not len(spared) or not len(spans):
        return spans
    cut = segment(spans.family, [spans, spared])
    kept = [group for group, owners in enumerate(cut.owners) if owners == (0,)]
    chosen = (cut.group[:, None] == kept).any(axis=1)
    return Spans(spans.family, cut.first[chosen], cut.last[chosen])


def cover(by: Sequence[Way], these: Sequence[Way]) -> bool:
    """Whether what one list of ways blocks takes in all that another does: port by port."""
    return ways(these) <= ways(by)


def ways(of: Sequence[Way]) -> set[tuple[Direction, int, int]]:
    """Give (end, protocol, port); -1 stands for packets without ports, 255 for protocols that nobody names."""
    found = set()
    for end, each in of:
        for protocol in (1, 6, 17, 50, 132, 255):
            if each.protocol in {None, protocol}:
                reach = range(-1, PORTS + 1) if each.first is None or each.last is None else (each.first, each.last)
                found |= {(end, protocol, port) for port in EDGES if reach[0] <= port <= reach[-1]}
    return found


#: Enough ports to tell all ranges of the strategies apart.
EDGES = [-1, 0, 1, 2, 3, 9, 10, 3000, 3101, 3102, 3150, 3199, 3200, 3201, PORTS]
