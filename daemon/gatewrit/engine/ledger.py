"""Packets and bytes by policy, for as long as the policy lives: across revisions, reloads, restarts and reboots.

The kernel counts by *set of policies* (each packet is counted once, whoever it is counted for); the ledger adds up what
each of its counters grew by since it was last read. A counter is known by where it lives (boot, network namespace,
table, handle): a new one begins at zero, so nothing is counted twice and nothing goes back, wherever we die between
reading, saving and deleting.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from gatewrit.engine.durable import whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gatewrit.kernel.transaction import ActualCounter

VERSION = 1


@dataclass(frozen=True, slots=True)
class Count:
    """Packets and their bytes (IP header and what follows, as nftables counts)."""

    packets: int = 0
    bytes: int = 0

    def plus(self, packets: int, octets: int) -> Count:
        """Add to it."""
        return Count(self.packets + packets, self.bytes + octets)


@dataclass(frozen=True, slots=True)
class Seen:
    """A kernel counter when it was last read. `home` tells it from any other of the same name."""

    home: str
    count: Count
    policies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was counted for each policy, and up to where each kernel counter is accounted for."""

    totals: Mapping[str, Count] = field(default_factory=lambda: MappingProxyType({}))
    seen: Mapping[str, Seen] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def members(self) -> dict[str, tuple[str, ...]]:
        """Whom each kernel counter counts for."""
        return {name: seen.policies for name, seen in self.seen.items()}

    def account(self, counters: Iterable[ActualCounter], members: Mapping[str, tuple[str, ...]], table: str) -> Ledger:
        """Add what the kernel's counters grew by. `members` says whom each counts for, `table` where they live."""
        totals, seen = dict(self.totals), {}
        for counter in counters:
            home = f"{table}/{counter.handle}"
            before = self.seen.get(counter.name)
            policies = members.get(counter.name) or (before.policies if before else ())
            start = before.count if before and before.home == home else Count()
            grown = counter.packets - start.packets, counter.bytes - start.bytes
            if min(grown) < 0:
                # Somebody reset it behind our back: what it shows now came after that.
                grown = counter.packets, counter.bytes
            for policy in policies:
                totals[policy] = totals.get(policy, Count()).plus(*grown)
            seen[counter.name] = Seen(home, Count(counter.packets, counter.bytes), policies)
        return type(self)(totals, seen)

    def without(self, policy: str) -> Ledger:
        """Drop the counts of one policy, and count nothing for it any more."""
        totals = {name: count for name, count in self.totals.items() if name != policy}
        seen = {
            name: Seen(each.home, each.count, left)
            for name, each in self.seen.items()
            if (left := tuple(member for member in each.policies if member != policy))
        }
        return type(self)(totals, seen)

    def document(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {
            "version": VERSION,
            "totals": {name: [count.packets, count.bytes] for name, count in self.totals.items()},
            "seen": {
                name: [seen.home, seen.count.packets, seen.count.bytes, list(seen.policies)]
                for name, seen in self.seen.items()
            },
        }

    @classmethod
    def load(cls, document: Mapping[str, Any]) -> Self:
        """Read it back; raises `ValueError` for anything else than `document` made."""
        try:
            if document["version"] != VERSION:
                raise ValueError(f"version {document['version']} is not {VERSION}")
            return cls(
                {name: Count(whole(packets), whole(octets)) for name, (packets, octets) in document["totals"].items()},
                {
                    name: Seen(str(home), Count(whole(packets), whole(octets)), tuple(map(str, policies)))
                    for name, (home, packets, octets, policies) in document["seen"].items()
                },
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a ledger: {error!r}") from error
