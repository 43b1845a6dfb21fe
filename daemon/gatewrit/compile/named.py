"""Which addresses policies name, each united once: what comes of the same lists is the same object, next time too."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.memo import Drawer
from gatewrit.compile.nat64 import spread
from gatewrit.compile.recut import segmented
from gatewrit.compile.segments import coalesce, subtract
from gatewrit.policy.terms import Direction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gatewrit.compile.ports import Owner
    from gatewrit.compile.segments import Segments
    from gatewrit.compile.spans import Spans
    from gatewrit.policy.model import Policy, Ranges
    from gatewrit.policy.terms import Family

FAMILIES: tuple[Family, Family] = (4, 6)


def united(memo: Drawer, family: Family, ranges: Iterable[Ranges], nat64: tuple[Ranges, ...] = ()) -> Spans:
    """Unite all addresses of one family, those of IPv4 embedded in each NAT64 prefix too."""
    behind = nat64 if family == 6 else ()
    parts = tuple(dict.fromkeys(each for each in ranges if len(each) and (each.family == family or behind)))
    return memo.get(("united", family, parts, behind), partial(spread, family, parts, behind))


def remaining(memo: Drawer, spans: Spans, gone: Spans) -> Spans:
    """Give what is in `spans` and not in `gone`."""
    return memo.get(("remaining", spans, gone), partial(subtract, spans, gone))


def policy_spans(family: Family, policy: Policy, memo: Drawer | None = None) -> Spans:
    """Unite all addresses of one family that a policy names, without those that it excepts.

    IPv4 addresses count as such, also where they are blocked in NAT64 prefixes too.
    """
    memo = memo or Drawer()
    named = united(memo, family, policy.ranges)
    return remaining(memo, named, united(memo, family, policy.exceptions.prefixes))


def count_addresses(policy: Policy, memo: Drawer | None = None) -> dict[Family, int]:
    """Count the distinct addresses that a policy names, by family."""
    memo = memo or Drawer()

    def count(family: Family) -> int:
        spans = policy_spans(family, policy, memo)
        return memo.get(("addresses", spans), lambda: spans.addresses)

    return {family: count(family) for family in FAMILIES}


def owner_spans(
    memo: Drawer, family: Family, policies: Iterable[Policy], nat64: tuple[Ranges, ...]
) -> dict[Owner, Spans]:
    """Give the addresses of each policy by transport and direction, as packets carry them."""
    found: dict[Owner, Spans] = {}
    for policy in policies:
        parts: dict[Owner, list[Ranges]] = {}
        for service in policy.services.values():
            for endpoint in service.endpoints:
                for transport in endpoint.transports:
                    owner = (policy.id, transport, policy.block.direction)
                    parts.setdefault(owner, []).extend(endpoint.ranges)
        spans = {owner: united(memo, family, ranges, nat64) for owner, ranges in parts.items()}
        if policy.exceptions.prefixes:
            excepted = united(memo, family, policy.exceptions.prefixes, nat64)
            spans = {owner: remaining(memo, each, excepted) for owner, each in spans.items()}
        found.update(spans)
    return found


def count_segments(
    memo: Drawer,
    family: Family,
    policies: Mapping[str, Policy],
    spans: Mapping[Owner, Spans],
    nat64: tuple[Ranges, ...],
) -> int:
    """Count the segments that policies, whatever their ports, cut the addresses of one family into.

    Where one end of packets has all policies, it is cut already.
    """
    everybody = {owner[2] for owner in spans}
    end = Direction.FROM if Direction.FROM in everybody else Direction.TO
    if everybody == {Direction.TO, Direction.FROM} or len(everybody) == 3 or (nat64 and family == 6):
        whole = {name: policy_spans(family, policy, memo) for name, policy in policies.items()}
        return len(segmented(memo, "whole", family, whole))
    segments = segmented(memo, end, family, spans)
    return memo.get(("count", segments), partial(_count, segments, [owner[0] for owner in spans]))


def _count(segments: Segments, names: list[str]) -> int:
    if len(set(names)) == len(names):
        # With one kind of transport each, other owners are other policies.
        return len(segments)
    ids = [frozenset([names[at] for at in owners]) for owners in segments.owners]
    number = {each: at for at, each in enumerate(dict.fromkeys(ids))}
    return len(coalesce(segments, np.array([number[each] for each in ids], np.int64))[0])
