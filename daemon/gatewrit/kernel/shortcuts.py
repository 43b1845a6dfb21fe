"""A ruleset without shortcuts, the rules that only spare packets look-ups, while their sets are still to be filled.

Without them a list of a million is in force sooner, and takes less of the kernel's memory while it replaces another.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from gatewrit.kernel.draft import both_names
from gatewrit.kernel.elements import difference
from gatewrit.kernel.ruleset import InSet, Ruleset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.kernel.ruleset import Rule, Set

#: Where so many elements of shortcuts are missing at most, in all, a daemon has them come along with everything else.
AT_ONCE = 1 << 16
#: A shortcut that lacks this part of them at most comes along in any case.
_FEW = 256


def without_shortcuts(desired: Ruleset, there: Mapping[str, Set], at_once: int) -> Ruleset:
    """Give `desired` without the shortcuts whose elements the sets that are `there` lack; itself if few are lacking."""
    asked = {name: _sets(rule) for chain in desired.chains.values() for rule in chain.rules for name in _sets(rule)}
    lacking = {name: _lacking(desired.sets[name], there) for name in asked}
    if sum(lacking.values()) <= at_once:
        return desired
    late = {name for name, count in lacking.items() if count > at_once // _FEW}
    chains = {
        name: replace(chain, rules=kept)
        if len(kept := tuple(rule for rule in chain.rules if late.isdisjoint(_sets(rule)))) < len(chain.rules)
        else chain
        for name, chain in desired.chains.items()
    }
    return Ruleset(
        MappingProxyType(chains),
        MappingProxyType({name: each for name, each in desired.sets.items() if name not in late}),
        desired.counters,
    )


def _sets(rule: Rule) -> frozenset[str]:
    """Give the sets that a shortcut asks; none if the rule is no shortcut."""
    if not rule.shortcut:
        return frozenset()
    return frozenset(each.name for each in rule.statements if isinstance(each, InSet))


def _lacking(wanted: Set, there: Mapping[str, Set]) -> int:
    """Count the elements that are missing of a set, which may go by either of its names."""
    found = [there[each].elements for each in both_names(wanted.spec.name) if each in there]
    return min(
        (
            0 if each is wanted.elements else len(difference(wanted.elements, each)[0])
            for each in found
            if each.width == wanted.elements.width
        ),
        default=len(wanted.elements),
    )
