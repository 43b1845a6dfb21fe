"""Policies to the ruleset. DESIGN.md explains the shape that comes out, packet by packet.

Here it is put together: which packets each policy names (`policy_spans`), judged at which hooks. `ports` judges by
address and port, `conditions` by interface and subscriber, `cells` by time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.cells import DEFAULT_SIZES, FAMILIES, FROM, FROM_EARLY, KEYS, TO, Draft, Sizes, keys_of, label
from gatewrit.compile.conditions import condition
from gatewrit.compile.ladder import pending
from gatewrit.compile.nat64 import spread
from gatewrit.compile.ports import judge
from gatewrit.compile.segments import segment, subtract
from gatewrit.compile.spans import merge
from gatewrit.compile.surroundings import ALONE
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.ruleset import Chain, Counter, Hook, InSet, Rule, Ruleset, SetSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gatewrit.compile.cells import End
    from gatewrit.compile.ports import Owner
    from gatewrit.compile.spans import Spans
    from gatewrit.compile.surroundings import Surroundings
    from gatewrit.kernel.ruleset import HookName
    from gatewrit.policy.model import Family, Policy, Ranges

#: Which ends each hook judges, in order: output has only what goes to a service, input only what comes from one.
_HOOK_ENDS: dict[str, tuple[End, ...]] = {
    "prerouting": (TO, FROM_EARLY),
    "forward": (TO, FROM),
    "input": (FROM,),
    "output": (TO,),
}
#: The hooks of the gateway's own traffic, and the end of a packet there that isn't the gateway itself.
_OWN: dict[str, End] = {"input": FROM, "output": TO}


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """The ruleset with what is needed to account for it.

    `counters` says which policies each counter counts for; `segments` counts the segments of each family; `addresses`
    the distinct addresses of each policy that is rendered, by family.
    """

    ruleset: Ruleset
    counters: Mapping[str, tuple[str, ...]]
    segments: Mapping[Family, int]
    addresses: Mapping[str, Mapping[Family, int]]


def compile_policies(  # noqa: PLR0913, PLR0917 - what the gateway is, besides the policies
    policies: Iterable[Policy],
    now: int,
    hooks: Sequence[HookName],
    priority: int,
    around: Surroundings = ALONE,
    sizes: Sizes = DEFAULT_SIZES,
) -> Compiled:
    """Compile all policies that act now or later into one ruleset, as it should stand at `now` (epoch seconds).

    What has ended by `now` is left out, and what has begun keeps no guard for its start. The caller gives a `now` that
    never goes back, so that a clock which does can't lift anything, and leaves out what isn't meant for this gateway
    (`acting`).
    """
    by_id = sorted(policies, key=lambda policy: policy.id)
    chosen = {policy.id: policy for policy in by_id if pending(policy, now)}
    conditions = {name: found for name, policy in chosen.items() if (found := condition(policy, around))}
    draft = Draft(now, chosen, conditions, sizes)
    spans = {family: _spans(family, chosen.values(), around) for family in FAMILIES}
    needed = {end for hook in hooks for end in _HOOK_ENDS[hook]}
    judged = [end for end in (FROM, FROM_EARLY, TO) if end in needed and judge(draft, end, spans)]
    chains: dict[str, Chain] = {}
    for hook in hooks:
        jumps = tuple(Rule((Verdict("jump", end.entry),)) for end in _HOOK_ENDS[hook] if end in judged)
        spared = tuple(_spared(draft, hook, around)) if jumps else ()
        chains[hook] = Chain(hook, (*spared, *jumps), Hook(hook, priority))
    # Callees were drafted before their callers; a reader wants them the other way round.
    chains.update(reversed(draft.chains.items()))
    counters = {name: Counter(name, label(ids)) for name, ids in sorted(draft.counters.items())}
    whole = {family: {name: policy_spans(family, policy) for name, policy in chosen.items()} for family in FAMILIES}
    return Compiled(
        Ruleset(chains, dict(sorted(draft.sets.items())), counters),
        draft.counters,
        {family: len(segment(family, list(whole[family].values()))) for family in FAMILIES},
        {name: {family: whole[family][name].addresses for family in FAMILIES} for name in chosen},
    )


def _spared(draft: Draft, hook: HookName, around: Surroundings) -> Iterator[Rule]:
    """Give the rules that keep the gateway's own traffic with what it lives on from being judged."""
    for family in FAMILIES if hook in _OWN else ():
        spared = merge(family, around.spared)
        if len(spared):
            key = KEYS[family]
            elements = Elements(
                key.length, keys_of(spared.first), keys_of(spared.last), np.zeros(len(spared), np.int32)
            )
            name = draft.add_set(SetSpec(f"spared{family}", (key,), interval=True, verdicts=False), elements)
            field = _OWN[hook].addresses[FAMILIES.index(family)]
            yield Rule((InSet((field,), name), Verdict("return")), "the gateway's own addresses, next hops, resolvers")


def policy_spans(family: Family, policy: Policy) -> Spans:
    """Unite all addresses of one family that a policy names, without those that it excepts.

    IPv4 addresses count as such, also where they are blocked in NAT64 prefixes too.
    """
    endpoints = [endpoint for service in policy.services.values() for endpoint in service.endpoints]
    named = merge(family, [ranges for endpoint in endpoints for ranges in endpoint.ranges])
    return subtract(named, merge(family, policy.exceptions.prefixes))


def count_addresses(policy: Policy) -> dict[Family, int]:
    """Count the distinct addresses that a policy names, by family."""
    return {family: policy_spans(family, policy).addresses for family in FAMILIES}


def _spans(family: Family, policies: Iterable[Policy], around: Surroundings) -> dict[Owner, Spans]:
    """Give the addresses of each policy by transport and direction, as packets carry them."""
    parts: dict[Owner, list[Ranges]] = {}
    excepted: dict[str, Spans] = {}
    for policy in policies:
        if policy.exceptions.prefixes:
            excepted[policy.id] = spread(family, policy.exceptions.prefixes, around.nat64)
        for service in policy.services.values():
            for endpoint in service.endpoints:
                for transport in endpoint.transports:
                    owner = (policy.id, transport, policy.block.direction)
                    parts.setdefault(owner, []).extend(endpoint.ranges)
    spans = {owner: spread(family, ranges, around.nat64) for owner, ranges in parts.items()}
    return {
        owner: subtract(each, excepted[owner[0]]) if owner[0] in excepted else each for owner, each in spans.items()
    }
