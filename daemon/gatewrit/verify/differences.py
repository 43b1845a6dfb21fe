"""What the proof found, in words: what is missing and what is too much, by policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gatewrit.policy.terms import STRICTNESS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gatewrit.policy.model import Policy
    from gatewrit.verify.counters import Counters
    from gatewrit.verify.orders import Judged
    from gatewrit.verify.space import Box, Space
    from gatewrit.verify.walk import Leaf


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which the kernel differs for one policy (None: for none in particular).

    `packets` describes some of those that it hits; `more` counts the boxes of packets beside it with the same fault.
    """

    policy: str | None
    what: str
    hook: str | None = None
    packets: str | None = None
    more: int = 0

    def __str__(self) -> str:
        where = "" if self.hook is None else f" on {self.hook}"
        packets = "" if self.packets is None else f": {self.packets}"
        more = f" (and {self.more} more like it)" if self.more else ""
        return f"{self.policy or 'nobody'}: {self.what}{where}{packets}{more}"


_STRENGTH = {"pass": 0, "accept": 0, "reset": 1, "prohibited": 1, "drop": 2}
_SHOULD = {
    "pass": "should pass",
    "reset": "should be answered with a TCP reset",
    "prohibited": "should be answered with ICMP",
    "drop": "should be dropped",
}
_DOES = {
    "pass": "passes",
    "accept": "passes",
    "reset": "is answered with a TCP reset",
    "prohibited": "is answered with ICMP",
    "drop": "is dropped",
}
#: By policy, what is wrong and the hook: a description of some of the packets, and how many more boxes there are.
Notes = dict[tuple[str | None, str, str | None], tuple[str | None, int]]


@dataclass(slots=True)
class Findings:
    """Collects differences while the proof goes on: each kind once for each policy, with one example."""

    policies: Mapping[str, Policy]
    counters: Counters
    _missing: Notes = field(default_factory=dict)
    _excess: Notes = field(default_factory=dict)

    def missing(self) -> tuple[Difference, ...]:
        """Give what is ordered and isn't done."""
        return _told(self._missing)

    def excess(self) -> tuple[Difference, ...]:
        """Give what is done and isn't ordered, or can't be understood."""
        return _told(self._excess)

    def lack(self, policy: str | None, what: str) -> None:
        """Note something that is missing as such."""
        self._missing.setdefault((policy, what, None), (None, 0))

    def surplus(self, policy: str | None, what: str) -> None:
        """Note something that is too much as such."""
        self._excess.setdefault((policy, what, None), (None, 0))

    def compare(self, leaf: Leaf, judged: Judged, space: Space, hook: str) -> None:
        """Note how a box of packets fares in the kernel, where it isn't as ordered."""
        kernel, wanted = _STRENGTH[leaf.verdict], _STRENGTH[judged.verdict]
        uncounted, overcounted = self.counters.check(leaf.counted, judged.policies)
        where = _Where(judged.box, space, hook)
        told = f"what {_SHOULD[judged.verdict]} {_DOES[leaf.verdict]}"
        if kernel > wanted:
            culprits: Iterable[str | None] = overcounted or judged.policies or (None,)
            _note(self._excess, culprits, told, where)
        elif _DOES[leaf.verdict] != _DOES[judged.verdict]:
            strictness = {name: STRICTNESS[self.policies[name].block.action] for name in judged.policies}
            strictest = max(strictness.values())
            _note(self._missing, (name for name, each in strictness.items() if each == strictest), told, where)
        _note(self._missing, uncounted, "packets aren't counted for it that should be", where)
        _note(self._excess, overcounted, "packets are counted for it that shouldn't be, or more than once", where)

    def unclear(self, leaf: Leaf, space: Space, hook: str) -> None:
        """Note packets of which nobody can tell what becomes of them."""
        _note(self._excess, (None,), f"can't be proved: {leaf.unclear}", _Where(leaf.box, space, hook))


@dataclass(frozen=True, slots=True)
class _Where:
    """Which packets a finding is about."""

    box: Box
    space: Space
    hook: str


def _note(notes: Notes, policies: Iterable[str | None], what: str, where: _Where) -> None:
    for policy in policies:
        key = (policy, what, where.hook)
        packets, more = notes.get(key, (None, -1))
        notes[key] = (packets or where.space.describe(where.box), more + 1)


def _told(notes: Notes) -> tuple[Difference, ...]:
    found = (Difference(policy, what, hook, *counted) for (policy, what, hook), counted in notes.items())
    return tuple(sorted(found, key=lambda each: (each.policy or "", each.what, each.hook or "")))
