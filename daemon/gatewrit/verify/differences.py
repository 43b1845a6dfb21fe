"""What the proof found, in words: what is missing and what is too much, by policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gatewrit.policy.model import STRICTNESS

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
_FATES = {
    "pass": "passes",
    "accept": "passes",
    "reset": "is answered with a TCP reset",
    "prohibited": "is answered with ICMP",
    "drop": "is dropped",
}


@dataclass(slots=True)
class Findings:
    """Collects differences while the proof goes on: each kind once for each policy, with one example."""

    policies: Mapping[str, Policy]
    counters: Counters
    _missing: dict[tuple[str | None, str, str | None], list[str | int | None]] = field(default_factory=dict)
    _excess: dict[tuple[str | None, str, str | None], list[str | int | None]] = field(default_factory=dict)

    def missing(self) -> tuple[Difference, ...]:
        """Give what is ordered and isn't done."""
        return _told(self._missing)

    def excess(self) -> tuple[Difference, ...]:
        """Give what is done and isn't ordered, or can't be understood."""
        return _told(self._excess)

    def lack(self, policy: str | None, what: str) -> None:
        """Note something that is missing as such."""
        self._missing.setdefault((policy, what, None), [None, 0])

    def surplus(self, policy: str | None, what: str) -> None:
        """Note something that is too much as such."""
        self._excess.setdefault((policy, what, None), [None, 0])

    def compare(self, leaf: Leaf, judged: Judged, space: Space, hook: str) -> None:
        """Note how a box of packets fares in the kernel, where it isn't as ordered."""
        kernel, wanted = _STRENGTH[leaf.verdict], _STRENGTH[judged.verdict]
        uncounted, overcounted = self.counters.check(leaf.counted, judged.policies)
        gets, should = _FATES[leaf.verdict], _FATES[judged.verdict]
        if kernel > wanted:
            culprits: Iterable[str | None] = overcounted or judged.policies or (None,)
            told = f"what {should} by the orders {gets}"
            self._note(self._excess, culprits, told, judged.box, space, hook)
        elif gets != should:
            strictest = max(STRICTNESS[self.policies[name].block.action] for name in judged.policies)
            concerned = [name for name in judged.policies if STRICTNESS[self.policies[name].block.action] == strictest]
            self._note(self._missing, concerned, f"what {should} by the orders {gets}", judged.box, space, hook)
        self._note(self._missing, uncounted, "a packet isn't counted for it", judged.box, space, hook)
        said = "a packet is counted for it though it shouldn't be, or twice"
        self._note(self._excess, overcounted, said, judged.box, space, hook)

    def unclear(self, leaf: Leaf, space: Space, hook: str) -> None:
        """Note packets of which nobody can tell what becomes of them."""
        self._note(self._excess, (None,), f"can't be proved: {leaf.unclear}", leaf.box, space, hook)

    def _note(
        self,
        notes: dict[tuple[str | None, str, str | None], list[str | int | None]],
        policies: Iterable[str | None],
        what: str,
        box: Box,
        space: Space,
        hook: str,
    ) -> None:
        for policy in policies:
            found = notes.get((policy, what, hook))
            if found is None:
                notes[policy, what, hook] = [space.describe(box), 0]
            else:
                found[1] = int(found[1] or 0) + 1


def _told(notes: Mapping[tuple[str | None, str, str | None], list[str | int | None]]) -> tuple[Difference, ...]:
    found = (
        Difference(policy, what, hook, None if packets is None else str(packets), int(more or 0))
        for (policy, what, hook), (packets, more) in notes.items()
    )
    return tuple(sorted(found, key=lambda each: (each.policy or "", each.what, each.hook or "")))
