"""How many live connections a change would cut: counted in memory, and nothing but the number is kept or shown."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.kernel import connections, wire
from gatewrit.kernel.connections import Way
from gatewrit.verify.traffic import Table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from gatewrit.kernel.connections import Connections
    from gatewrit.kernel.keys import Keys
    from gatewrit.kernel.transaction import Actual
    from gatewrit.policy.terms import Family

    Flags = NDArray[np.bool_]
    Rows = NDArray[np.intp]

_FAMILIES: tuple[Family, Family] = (4, 6)
_WIDTHS = {4: 4, 6: 16}


@dataclass(frozen=True, slots=True)
class Cut:
    """Of `connections` that the kernel tracks so many are `cut`; of `unclear` ones it depends on an interface.

    `by_policy` counts a connection for each policy that would stop it.
    """

    connections: int
    cut: int
    unclear: int
    by_policy: Mapping[str, int]


class UntrackedError(Exception):
    """Why nobody can say how many connections there are."""


def count(before: Actual, after: Actual, members: Mapping[str, Collection[str]], own: Collection[str], now: int) -> Cut:
    """Count the connections that pass by the rules of `before`, and don't by those of `after`.

    `members` says whom each counter of `after` counts for, `own` are the host's addresses. Raises `UntrackedError`.
    """
    total = cut = unclear = 0
    by_policy: dict[str, int] = defaultdict(int)
    for family in _FAMILIES:
        found = _read(family)
        total += len(found)
        packed = [each.packed for each in map(ip_address, own) if each.version == family]
        local = np.array(packed, f"S{_WIDTHS[family]}")
        was, will = (_Judged.of(Table(each, family, now), found, local) for each in (before, after))
        gone = will.blocked & ~was.blocked
        cut += int(gone.sum())
        unclear += int((will.unclear & ~was.unclear & ~was.blocked & ~gone).sum())
        for policy, rows in will.by_policy(members).items():
            by_policy[policy] += int(gone[rows].sum())
    if not total:
        raise UntrackedError(
            "the kernel tracks no connections here, so how many would be cut can't be said; it does so only where a "
            "rule asks for it (`ct state`, NAT)"
        )
    return Cut(total, cut, unclear, {name: number for name, number in sorted(by_policy.items()) if number})


def _read(family: Family) -> Connections:
    try:
        return connections.read(family)
    except PermissionError as error:
        raise UntrackedError(f"the kernel doesn't show its connections: {error}; this needs CAP_NET_ADMIN") from None
    except (OSError, wire.WireError) as error:
        raise UntrackedError(
            f"the kernel's connections can't be read: {error}; conntrack may be lacking here (modprobe "
            "nf_conntrack_netlink), and nothing else depends on it"
        ) from None


@dataclass(slots=True, eq=False)
class _Judged:
    """What becomes of connections: one is blocked where any packet of it is, either way and on any hook."""

    blocked: Flags
    unclear: Flags
    stopped: dict[str, list[Rows]]

    @classmethod
    def of(cls, table: Table, found: Connections, local: Keys) -> _Judged:
        """Judge both directions on the hooks that they pass."""
        result = cls(np.zeros(len(found), np.bool_), np.zeros(len(found), np.bool_), defaultdict(list))
        # Addresses and ports are translated before the hooks that judge: what is sent goes to where answers come from.
        here, there = found.original, found.reply
        ours = np.isin(here.source, local), np.isin(there.source, local)
        for (sender, receiver), (origin, end) in (((here, there), ours), ((there, here), ours[::-1])):
            packets = Way(sender.source, receiver.source, sender.first, receiver.first)
            passes = {"prerouting": ~origin, "input": end, "forward": ~(origin | end), "output": origin}
            for hook, through in passes.items():
                result._judge(table, hook, found.protocol, packets, np.flatnonzero(through))
        return result

    def _judge(self, table: Table, hook: str, protocol: NDArray[np.uint8], packets: Way, rows: Rows) -> None:
        """Judge packets of one direction on one hook."""
        fate = table.judge(hook, protocol[rows], packets.take(rows))
        self.blocked[rows[fate.blocked]] = True
        self.unclear[rows[fate.unclear]] = True
        counted = np.flatnonzero(fate.blocked & (fate.counter >= 0))
        ordered = counted[np.argsort(fate.counter[counted], kind="stable")]
        numbers, starts = np.unique(fate.counter[ordered], return_index=True)
        for number, part in zip(numbers.tolist(), np.split(ordered, starts[1:]), strict=False):
            self.stopped[fate.counters[number]].append(rows[part])

    def by_policy(self, members: Mapping[str, Collection[str]]) -> dict[str, Rows]:
        """Give which connections each policy stops, alone or with others."""
        found: dict[str, list[Rows]] = defaultdict(list)
        for name, parts in self.stopped.items():
            for policy in members.get(name, ()):
                found[policy] += parts
        return {policy: np.unique(np.concatenate(parts)) for policy, parts in found.items()}
