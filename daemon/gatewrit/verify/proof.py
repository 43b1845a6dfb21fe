"""The proof: for every packet on every hook, from now on, the kernel does and counts just what the policies say.

Each end of a packet is proved by itself, for all packets, as the policies judge it: so what a base chain does for the
one end may not depend on what it did for the other, and nothing is multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from gatewrit.verify.counters import Counters
from gatewrit.verify.differences import Findings
from gatewrit.verify.orders import ENDS, Gateway, Judge, Judged, Orders
from gatewrit.verify.reading import read
from gatewrit.verify.space import DESTINATION, NANOSECONDS, SOURCE, Clock, Names, Space
from gatewrit.verify.steps import Say
from gatewrit.verify.sweep import classify
from gatewrit.verify.walk import Leaf, Walker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gatewrit.kernel.transaction import Actual, ActualChain
    from gatewrit.policy.model import Policy
    from gatewrit.policy.terms import Family
    from gatewrit.verify.differences import Difference
    from gatewrit.verify.reading import Program
    from gatewrit.verify.space import Box

_FAMILIES: tuple[Family, Family] = (4, 6)
_DORMANT = "table flag dormant"
#: Where a base chain goes over from the one end to the other. Only a hint: wherever a rule stands, it is judged.
_SECOND_END = "judge-from"


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What the gateway is to do: the policies that count, on which hooks, at which priority, and where that is.

    `ledger` says for which policies the daemon takes each counter, as far as that is known.
    """

    policies: tuple[Policy, ...]
    hooks: tuple[str, ...]
    priority: int
    gateway: Gateway = field(default_factory=Gateway)
    ledger: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proof:
    """What is ordered and isn't done, and what is done and isn't ordered; equal if there is neither."""

    missing: tuple[Difference, ...]
    excess: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        """Whether the kernel does just what the policies say."""
        return not self.missing and not self.excess


def prove(actual: Actual, asked: Asked, now: int) -> Proof:
    """Compare what the kernel returned with the policies, over all packets from `now` (epoch seconds) on."""
    orders = Orders.of(asked.policies, now * NANOSECONDS, asked.gateway)
    counters = Counters(actual.counters, asked.ledger)
    findings = Findings(orders.policies, counters)
    for policy, sentence in counters.contradictions():
        findings.surplus(policy, sentence)
    for thing in actual.foreign:
        findings.surplus(None, f"can't be proved: {thing}, which gatewrit never makes")
    bases = _bases(actual, asked, orders, findings)
    for family in _FAMILIES:
        program = read(actual, family)
        space = _space(program, orders, family, now)
        judge, walker = Judge(orders, space), Walker(program, space)
        for hook, name in bases:
            ends = ENDS[hook] if hook in asked.hooks else ()
            for leaf, judged in _compare(walker, judge, (hook, name), ends):
                if leaf.unclear is None:
                    findings.compare(leaf, judged, space, hook)
                else:
                    findings.unclear(leaf, space, hook)
    return Proof(findings.missing(), findings.excess())


def _bases(actual: Actual, asked: Asked, orders: Orders, findings: Findings) -> list[tuple[str, str | None]]:
    """Give the base chain on each hook, None where there is none; note what is wrong with where they stand."""
    standing: dict[str, list[ActualChain]] = {hook: [] for hook in asked.hooks}
    for each in actual.chains.values():
        if each.hook is not None and _DORMANT not in actual.foreign:
            standing.setdefault(each.hook.name, []).append(each)
    found: list[tuple[str, str | None]] = []
    for hook, chains in standing.items():
        if not chains and orders.policies:
            findings.lack(None, f"no chain of gatewrit's judges on {hook}")
        if len(chains) > 1:
            names = " and ".join(sorted(each.name for each in chains))
            findings.surplus(None, f"can't be proved: several chains judge on {hook}: {names}")
        for each in chains:
            if each.hook is not None and hook in asked.hooks and each.hook.priority != asked.priority:
                at = f"at priority {each.hook.priority}, the settings say {asked.priority}"
                findings.lack(None, f"chain {each.name} judges on {hook} {at}")
        found.append((hook, chains[0].name if chains else None))
    return found


def _space(program: Program, orders: Orders, family: Family, now: int) -> Space:
    at = {
        dimension: classify(
            family,
            {asking: layer for asking, layer in program.layers.items() if asking[0] == dimension},
            orders.stretches(family, dimension),
        )
        for dimension in (DESTINATION, SOURCE)
    }
    clock = Clock.of(now * NANOSECONDS, chain(program.instants(), orders.instants()))
    return Space(family, at[DESTINATION], at[SOURCE], clock, Names.of(chain(program.names(), orders.interfaces())))


def _compare(
    walker: Walker, judge: Judge, base: tuple[str, str | None], ends: tuple[str, ...]
) -> Iterator[tuple[Leaf, Judged]]:
    """Yield every box of packets with what the kernel does to it and what the policies say, end by end."""
    hook, name = base
    for leaf, end, later in _walk(walker, judge.space.on(hook), name, ends):
        if end is None:
            yield leaf, Judged(leaf.box, frozenset(), "pass")
            continue
        for judged in judge.judge(leaf.box, end, hook):
            yield leaf, judged
            if leaf.verdict == "accept" and judged.verdict == "pass":
                # The kernel is done with it, so nobody judges its other end.
                ignored = (each for other in later for each in judge.judge(judged.box, other, hook))
                yield from ((Leaf(each.box, "accept", (), leaf.chain), each) for each in ignored)


def _walk(
    walker: Walker, everything: Box, name: str | None, ends: tuple[str, ...]
) -> Iterator[tuple[Leaf, str | None, tuple[str, ...]]]:
    """Yield every box of packets, the end at which it is judged, and the ends that are judged after that."""
    if name is None:
        for at, end in enumerate(ends):
            yield Leaf(everything, "pass", (), ""), end, ends[at + 1 :]
        return
    sections: Iterable[tuple[str | None, int, int | None, tuple[str, ...]]] = (
        ((end, 0, None, ()) for end in ends or (None,)) if len(ends) < 2 else _sections(walker.program, name, ends)
    )
    for judged, first, last, later in sections:
        yield from ((leaf, judged, later) for leaf in walker.walk(everything, name, first, last))


def _sections(
    program: Program, name: str, ends: tuple[str, ...]
) -> Iterator[tuple[str, int, int | None, tuple[str, ...]]]:
    rules = program.chains[name]
    jumps = [any(isinstance(step, Say) and step.verdict.chain == _SECOND_END for step in steps) for steps in rules]
    cut = jumps.index(True) if True in jumps else len(rules)
    yield ends[0], 0, cut, ends[1:]
    yield ends[1], cut, None, ()
