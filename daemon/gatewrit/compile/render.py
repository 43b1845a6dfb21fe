"""Policies to the ruleset. DESIGN.md explains the shape that comes out, packet by packet.

Here it is put together: which packets each policy names (`named`), judged at which hooks. `ports` judges by address and
port, `conditions` by interface and subscriber, `cells` by time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.cells import DEFAULT_SIZES, FAMILIES, FROM, FROM_EARLY, KEYS, TO, Draft, Sizes, keys_of, label
from gatewrit.compile.conditions import condition
from gatewrit.compile.ladder import pending
from gatewrit.compile.memo import Drawer
from gatewrit.compile.named import count_addresses, count_segments, owner_spans
from gatewrit.compile.ports import judge
from gatewrit.compile.spans import merge
from gatewrit.compile.surroundings import ALONE
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.ruleset import Chain, Counter, Hook, InSet, Rule, Ruleset, SetSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gatewrit.compile.cells import End
    from gatewrit.compile.memo import Memo
    from gatewrit.compile.surroundings import Surroundings
    from gatewrit.kernel.ruleset import HookName
    from gatewrit.policy.model import Policy
    from gatewrit.policy.terms import Family

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
    memo: Memo | None = None,
) -> Compiled:
    """Compile all policies that act now or later into one ruleset, as it should stand at `now` (epoch seconds).

    What has ended by `now` is left out, and what has begun keeps no guard for its start. The caller gives a `now` that
    never goes back, so that a clock which does can't lift anything, and leaves out what isn't meant for this gateway
    (`acting`).

    With a `memo`, what was worked out for the compile before, with that memo, isn't worked out again; nothing else
    depends on it.
    """
    drawer = memo.compile if memo else Drawer()
    by_id = sorted(policies, key=lambda policy: policy.id)
    chosen = {policy.id: policy for policy in by_id if pending(policy, now)}
    conditions = {name: found for name, policy in chosen.items() if (found := condition(policy, around, drawer))}
    draft = Draft(now, chosen, conditions, sizes, memo=drawer)
    spans = {family: owner_spans(drawer, family, chosen.values(), around.nat64) for family in FAMILIES}
    needed = {end for hook in hooks for end in _HOOK_ENDS[hook]}
    judged = [end for end in (FROM, FROM_EARLY, TO) if end in needed and judge(draft, end, spans)]
    chains: dict[str, Chain] = {}
    for hook in hooks:
        ends = [end for end in _HOOK_ENDS[hook] if end in judged]
        rules = tuple(Rule((Verdict("jump", end.entry),)) for end in ends)
        if judged == [TO]:
            # Where nobody judges the other end, all stands on the hook itself, and every packet is spared a jump.
            rules = tuple(rule for end in ends for rule in draft.chains[end.entry].rules)
        spared = tuple(_spared(draft, hook, around)) if ends else ()
        chains[hook] = Chain(hook, (*spared, *rules), Hook(hook, priority))
    if judged == [TO]:
        del draft.chains[TO.entry]
    # Callees were drafted before their callers; a reader wants them the other way round.
    chains.update(reversed(draft.chains.items()))
    counters = {name: Counter(name, label(ids)) for name, ids in sorted(draft.counters.items())}
    compiled = Compiled(
        Ruleset(chains, dict(sorted(draft.sets.items())), counters),
        draft.counters,
        {family: count_segments(drawer, family, chosen, spans[family], around.nat64) for family in FAMILIES},
        {name: count_addresses(policy, drawer) for name, policy in chosen.items()},
    )
    drawer.turn()
    return compiled


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
