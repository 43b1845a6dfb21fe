"""Whom each counter of the kernel counts for, and whether a packet was counted for just those who should be.

A counter says it itself: by its name if it counts for one policy, else by its comment, as far as that has room. Where
the daemon's ledger is at hand, it must say the same. What is open after that is settled by the first packets that are
counted on it, and must then hold for all others.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gatewrit.kernel.transaction import ActualCounter

#: `by.POLICY` counts for one policy; `by..HASH` for several, which its comment names.
_ONE, _SEVERAL = "by.", "by.."


@dataclass(slots=True)
class Counters:
    """The kernel's counters; `ledger` is what the daemon takes them for, if that is known."""

    actual: Mapping[str, ActualCounter]
    ledger: Mapping[str, Sequence[str]] = field(default_factory=dict)
    _known: dict[str, frozenset[str]] = field(default_factory=dict)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Yield policy and sentence where the ledger takes a counter for something else than it says itself."""
        for name in self.actual:
            said, open_ = self._said(name)
            booked = frozenset(self.ledger.get(name, said))
            for policy in sorted(said - booked if open_ else said ^ booked):
                yield policy, f"counter {name} counts for {_list(said)}, but the ledger books it for {_list(booked)}"

    def check(self, counted: Sequence[str], ordered: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Give who wasn't counted though ordered, and who was though not ordered (or twice)."""
        tally: Counter[str] = Counter()
        undecided = []
        for name in counted:
            meaning = self._meaning(name)
            if meaning is None:
                undecided.append(name)
            else:
                tally.update(meaning)
        for name in undecided:
            meaning = ordered - tally.keys()
            said, more = self._said(name)
            if said <= meaning and len(meaning) == len(said) + more:
                self._known[name] = meaning
            tally.update(self._known.get(name, said))
        twice = frozenset(policy for policy, times in tally.items() if times > 1)
        return ordered - tally.keys(), frozenset(tally) - ordered | twice

    def _meaning(self, name: str) -> frozenset[str] | None:
        if name not in self._known:
            said, more = self._said(name)
            if not more:
                self._known[name] = said
            elif name in self.ledger:
                self._known[name] = frozenset(self.ledger[name])
        return self._known.get(name)

    def _said(self, name: str) -> tuple[frozenset[str], int]:
        """Give the policies that a counter names itself, and how many more it says there are."""
        if name.startswith(_ONE) and not name.startswith(_SEVERAL):
            return frozenset({name.removeprefix(_ONE)}), 0
        found = self.actual.get(name)
        words = (found.comment or "").split() if found else []
        more = int(words.pop()[1:]) if words and words[-1][:1] == "+" and words[-1][1:].isdecimal() else 0
        return frozenset(words), more


def _list(policies: frozenset[str]) -> str:
    return " and ".join(sorted(policies)) or "nobody"
