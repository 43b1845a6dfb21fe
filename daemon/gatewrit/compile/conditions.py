"""What decides besides address and port: the interface on the service's side, and the subscriber's address.

A cell whose policies carry conditions is split: first by the interface's name, then by the subscriber's address, down
to the policies that mean just this packet, whose ladder is the same as without conditions. Each step is a look-up or
a few of them, never one for each policy.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.cells import FAMILIES, Condition, add_ladder, digest_name, label
from gatewrit.compile.lookup import add_lookup, joined
from gatewrit.compile.memo import Drawer
from gatewrit.compile.named import remaining, united
from gatewrit.compile.segments import segment
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.ruleset import IFNAME, ByMap, Chain, Rule, SetSpec
from gatewrit.policy.terms import Direction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gatewrit.compile.cells import Draft, End
    from gatewrit.compile.dispatch import Cell
    from gatewrit.compile.spans import Spans
    from gatewrit.compile.surroundings import Surroundings
    from gatewrit.kernel.ruleset import Field
    from gatewrit.policy.model import Policy


def condition(policy: Policy, around: Surroundings, memo: Drawer | None = None) -> Condition | None:
    """Give what of a policy, besides addresses and ports, decides which packets it means; None if nothing does."""
    memo = memo or Drawer()
    scope, excepted = policy.scope, policy.exceptions.sources
    if scope.interfaces is None and scope.sources is None and not excepted:
        return None
    interfaces = {end: _interfaces(scope.interfaces, end, around.masters) for end in (Direction.TO, Direction.FROM)}
    sources = {family: united(memo, family, excepted, around.nat64) for family in FAMILIES}
    if scope.sources is not None:
        named = {family: united(memo, family, scope.sources, around.nat64) for family in FAMILIES}
        sources = {family: remaining(memo, named[family], sources[family]) for family in FAMILIES}
    within = scope.sources is not None
    digests = [memo.get(("digest", sources[family]), partial(_digest, sources[family])) for family in FAMILIES]
    identity = digest_name((sorted(interfaces.items()), within, digests))
    return Condition(interfaces, sources, within, identity)


def _interfaces(
    named: tuple[str, ...] | None, end: Direction, masters: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...] | None:
    """Give the interfaces that a scope means.

    Packets leave a VRF through its members, whose names alone `oifname` then tells; the member that they came in by
    is told beside the VRF's device.
    """
    if named is None or end is not Direction.TO:
        return named and tuple(sorted(set(named)))
    members = {
        each for device, mine in masters.items() if any(_begins(device, name) for name in named) for each in mine
    }
    return tuple(sorted({*named, *members}))


def _begins(name: str, pattern: str) -> bool:
    """Whether a name (or a beginning of names, with its `*`) is among those that a pattern means."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _digest(spans: Spans) -> str:
    return hashlib.blake2b(spans.first.tobytes() + spans.last.tobytes(), digest_size=16).hexdigest()


def add_cell(draft: Draft, end: End, ids: Cell) -> Verdict:
    """Add what decides which of the policies that a packet's address and port meet mean it; give the way there."""
    found = draft.ways.get((end, ids))
    if found is None:
        limited = tuple([policy for policy in ids if _named(draft, end, policy) is not None])
        found = _by_interface(draft, end, tuple(sorted({*ids} - {*limited})), limited, end.interfaces)
        draft.ways[end, ids] = found
    return found


def _named(draft: Draft, end: End, policy: str) -> tuple[str, ...] | None:
    found = draft.conditions.get(policy)
    return found.interfaces[end.name] if found else None


def _by_interface(draft: Draft, end: End, sure: Cell, limited: Cell, fields: tuple[Field, ...]) -> Verdict:
    """Split by interface: `sure` are the policies that mean the packet whatever else it came or goes through.

    Names stand in one map; beginnings of names in one for each length, the longest first, so there are never more
    than fifteen look-ups, and mostly one. Whatever is found first says all that the shorter ones would.
    """
    if not limited or not fields:
        return _by_source(draft, end, sure)
    patterns = {policy: _named(draft, end, policy) or () for policy in limited}
    said = [(policy, draft.conditions[policy].identity) for policy in (*sure, *limited) if policy in draft.conditions]
    name = f"{end.name}.by-interface.{digest_name((sure, limited, said, [each.nft for each in fields]))}"
    if name in draft.chains:
        return Verdict("goto", name)

    def target(interface: str) -> Verdict:
        meant = {each for each in limited if any(_begins(interface, pattern) for pattern in patterns[each])}
        rest = tuple(each for each in limited if each not in meant)
        return _by_interface(draft, end, tuple(sorted({*sure, *meant})), rest, fields[1:])

    rules = []
    for length, known in _by_length({pattern for each in patterns.values() for pattern in each}):
        map_ = f"{name}.names" if length is None else f"{name}.begin-{length}"
        rows = [(*_key(interface), target(interface)) for interface in known]
        spec = SetSpec(map_, (IFNAME,), interval=length is not None, verdicts=True)
        rules.append(Rule((ByMap((fields[0],), draft.add_set(spec, Elements.of(IFNAME.length, rows))),)))
    _finish(draft, name, rules, target(""), (*sure, *limited))
    return Verdict("goto", name)


def _by_length(patterns: Iterable[str]) -> Iterable[tuple[int | None, list[str]]]:
    """Group interfaces: whole names (None) first, then beginnings by their length, the longest first."""
    names = sorted(pattern for pattern in patterns if not pattern.endswith("*"))
    if names:
        yield None, names
    beginnings = sorted(pattern for pattern in patterns if pattern.endswith("*"))
    for length in sorted({len(pattern) - 1 for pattern in beginnings}, reverse=True):
        yield length, [pattern for pattern in beginnings if len(pattern) - 1 == length]


def _key(interface: str) -> tuple[bytes, bytes]:
    """Give the kernel's keys that a name, or a beginning with its `*`, stands for: from the first to the last."""
    name = interface.removesuffix("*").encode()
    return name.ljust(IFNAME.length, b"\0"), name.ljust(IFNAME.length, b"\xff" if interface.endswith("*") else b"\0")


def _by_source(draft: Draft, end: End, ids: Cell) -> Verdict:
    """Split by the subscriber's address, where it decides; then comes the ladder of those that mean the packet."""
    limited = [policy for policy in ids if policy in draft.conditions and draft.conditions[policy].by_source]
    if not limited:
        return add_ladder(draft, end, ids)
    said = [(policy, draft.conditions[policy].identity) for policy in limited]
    name = f"{end.name}.by-source.{digest_name((ids, said))}"
    if name in draft.chains:
        return Verdict("goto", name)
    usual = {policy for policy in ids if policy not in limited or not draft.conditions[policy].within}

    def target(inside: Iterable[str]) -> Verdict:
        return add_ladder(draft, end, tuple(sorted(usual ^ {*inside})))

    usually = target(())
    rules = []
    for family, field in zip(FAMILIES, end.others, strict=True):
        # Subscribers with whom not the usual policies mean a packet.
        spans = tuple(draft.conditions[policy].sources[family] for policy in limited)
        cut = draft.memo.get(("sources cut", family, spans), partial(segment, family, spans))
        ways = [target(limited[owner] for owner in owners) for owners in cut.owners]
        verdicts = sorted(set(ways))
        place = {way: at for at, way in enumerate(verdicts)}
        if len(cut):
            ranges = joined(draft.memo, cut, np.array([place[way] for way in ways], np.int64))
            rules.append(add_lookup(draft, f"{name}.ip{family}", field, ranges, verdicts, usually))
    _finish(draft, name, rules, usually, ids)
    return Verdict("goto", name)


def _finish(draft: Draft, name: str, rules: list[Rule], usual: Verdict, ids: Iterable[str]) -> None:
    """Add the chain of these look-ups, with what holds where none of them finds anything."""
    last = [] if usual.kind == "return" else [Rule((usual,))]
    draft.chains[name] = Chain(name, (*rules, *last), comment=label(sorted(ids)))
