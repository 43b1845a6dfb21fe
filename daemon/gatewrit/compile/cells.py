"""The ruleset while it grows, the two ends of a packet, and the ladder that each cell of policies gets.

Every name is made from what the object means, never from a running number, so the same policies always give the same
ruleset, whoever renders it, and an amendment changes only what it is about.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.ladder import ladder
from gatewrit.compile.memo import Drawer
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.ruleset import (
    COMMENT_BYTES,
    DPORT,
    IIFNAME,
    IP6_DADDR,
    IP6_SADDR,
    IP_DADDR,
    IP_SADDR,
    IPV4,
    IPV6,
    OIFNAME,
    SDIFNAME,
    SPORT,
    Before,
    Chain,
    Count,
    Field,
    ProtocolIs,
    Reject,
    Rule,
    Set,
    SetSpec,
)
from gatewrit.policy.model import IPV4_DTYPE
from gatewrit.policy.terms import Action, Direction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gatewrit.compile.dispatch import Cell
    from gatewrit.compile.ladder import Rung
    from gatewrit.compile.spans import Addresses, Spans
    from gatewrit.kernel.ruleset import KeyType, Statement
    from gatewrit.policy.model import Policy
    from gatewrit.policy.terms import Family

FAMILIES: tuple[Family, Family] = (4, 6)
KEYS: Mapping[Family, KeyType] = {4: IPV4, 6: IPV6}
REFUSE = "refuse"
_TCP = 6


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """One end of a packet that policies judge, and where a packet carries it.

    `addresses` and `port` are the service's side, `others` the subscriber's addresses, each for IPv4 and IPv6.
    `interfaces` are those on the service's side: any of them may be the one that a scope names.
    """

    name: Direction
    addresses: tuple[Field, Field]
    others: tuple[Field, Field]
    port: Field
    interfaces: tuple[Field, ...]

    @property
    def entry(self) -> str:
        """The chain that judges this end."""
        return f"judge-{self.name}"


TO = End(Direction.TO, (IP_DADDR, IP6_DADDR), (IP_SADDR, IP6_SADDR), DPORT, (OIFNAME,))
FROM = End(Direction.FROM, (IP_SADDR, IP6_SADDR), (IP_DADDR, IP6_DADDR), SPORT, (IIFNAME, SDIFNAME))
#: In prerouting the kernel refuses `sdifname` (nft_meta_get_validate_sdif); a VRF's packets pass there twice instead,
#: coming in from the member first, then from the VRF's device.
FROM_EARLY = End(Direction.FROM, FROM.addresses, FROM.others, SPORT, (IIFNAME,))


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """What besides address and port decides whether a policy means a packet, at either end.

    `interfaces` are names, or beginnings of names with a `*`; None for any. `sources` are the subscriber's addresses
    of each family: those that alone are meant if `within`, else those that aren't. `identity` stands for all of it.
    """

    interfaces: Mapping[Direction, tuple[str, ...] | None]
    sources: Mapping[Family, Spans]
    within: bool
    identity: str

    @property
    def by_source(self) -> bool:
        """Whether the subscriber's address decides at all."""
        return self.within or any(len(spans) for spans in self.sources.values())


@dataclass(frozen=True, slots=True)
class Sizes:
    """From how much on the address look-up takes which shape; other values serve tests, not gateways.

    `plain`: so many ranges stand in one interval map. `block`: so many ranges at most, about, share a block. `hashed`:
    from so many prefixes of one length on they get a hash. `bulk`: from so many ranges on a verdict gets sets of its
    own.
    `ports`: so many parts of the port space are told apart by rules, more of them by a map.
    """

    plain: int = 256
    block: int = 16384
    hashed: int = 64
    bulk: int = 1024
    ports: int = 3


DEFAULT_SIZES = Sizes()


@dataclass(frozen=True, slots=True, eq=False)
class Added:
    """What was drafted apart, by name; what of it is there already is the same."""

    chains: tuple[tuple[str, Chain], ...]
    sets: tuple[tuple[str, Set], ...]
    counters: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(slots=True)
class Draft:
    """The ruleset while it grows; one object is added once, whoever needs it.

    `conditions` has the policies that don't mean every packet with the right address and port; `ways` the cells that
    were added, and the way to each.
    """

    now: int
    policies: Mapping[str, Policy]
    conditions: Mapping[str, Condition]
    sizes: Sizes = DEFAULT_SIZES
    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, Set] = field(default_factory=dict)
    counters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    memo: Drawer = field(default_factory=Drawer)
    ways: dict[tuple[End, Cell], Verdict] = field(default_factory=dict)

    def apart(self) -> Draft:
        """Give a draft for the same that has nothing yet: for what is to be told from the rest, and taken over then."""
        return Draft(self.now, self.policies, self.conditions, self.sizes, memo=self.memo)

    @property
    def added(self) -> Added:
        """All that there is."""
        return Added(tuple(self.chains.items()), tuple(self.sets.items()), tuple(self.counters.items()))

    def take_over(self, other: Added) -> None:
        """Add what was drafted apart: now, or the last time."""
        self.chains.update(other.chains)
        if other.sets:
            self.sets.update(other.sets)
        if other.counters:
            self.counters.update(other.counters)

    def add_set(self, spec: SetSpec, elements: Elements) -> str:
        """Add a set or map; gives its name."""
        self.sets[spec.name] = Set(spec, elements)
        return spec.name

    def add_map(
        self,
        name: str,
        family: Family,
        ranges: tuple[Addresses, Addresses, NDArray[np.int64]],
        verdicts: Sequence[Verdict],
    ) -> str:
        """Add the map of address ranges, each with the index of its verdict; gives its name."""
        first, last, chosen = ranges
        key = KEYS[family]
        elements = Elements(key.length, keys_of(first), keys_of(last), chosen.astype(np.int32), tuple(verdicts))
        return self.add_set(SetSpec(name, (key,), interval=True, verdicts=True), elements)


def keys_of(addresses: Addresses) -> NDArray[np.bytes_]:
    """Give addresses as the kernel's keys: big-endian bytes."""
    if addresses.dtype == IPV4_DTYPE:
        return addresses.astype(">u4").view("S4")
    halves = np.empty((len(addresses), 2), ">u8")
    halves[:, 0], halves[:, 1] = addresses["hi"], addresses["lo"]
    return halves.view("S16").ravel()


def label(ids: Sequence[str]) -> str:
    """Name policies in a comment: as many as fit, and how many more there are."""
    for shown in range(len(ids), 0, -1):
        more = f" +{len(ids) - shown}" if shown < len(ids) else ""
        text = " ".join(ids[:shown]) + more
        # The closing NUL counts too.
        if len(text) < COMMENT_BYTES:
            return text
    return ""


def counter_name(ids: Cell) -> str:
    """Name the counter that counts for just these policies."""
    return f"by.{ids[0]}" if len(ids) == 1 else f"by..{digest_name(ids)}"


def digest_name(value: object) -> str:
    """Give ten hex digits for what an object means. One length for all, so that elements can be stamped in bulk."""
    return hashlib.blake2b(repr(value).encode(), digest_size=5).hexdigest()


def add_ladder(draft: Draft, end: End, ids: Cell) -> Verdict:
    """Add the ladder for the policies that mean a packet at this end, and give the way there."""
    if not ids:
        return Verdict("return")
    name = f"{end.name}.{counter_name(ids)}"
    if name not in draft.chains:
        key = "ladder", name, tuple([draft.policies[policy] for policy in ids])
        known: _Ladder | None = draft.memo.known(key)
        if known is None or not known.holds(draft.now):
            known = _ladder(draft, end, name, ids)
        draft.memo.put(key, known)
        draft.take_over(known.made)
    return Verdict("goto", name)


@dataclass(frozen=True, slots=True, eq=False)
class _Ladder:
    """A ladder as it stands from one instant until before another (None: for ever), when its first rung is past."""

    begin: int
    end: int | None
    made: Added

    def holds(self, now: int) -> bool:
        return self.begin <= now and (self.end is None or now < self.end)


def _ladder(draft: Draft, end: End, name: str, ids: Cell) -> _Ladder:
    apart = draft.apart()
    rungs = ladder((draft.policies[policy] for policy in ids), draft.now)
    rules = tuple(_rung(apart, end, rung) for rung in rungs)
    apart.chains[name] = Chain(name, rules, comment=label(ids))
    return _Ladder(draft.now, rungs[0].end if rungs else None, apart.added)


def _rung(draft: Draft, end: End, rung: Rung) -> Rule:
    guard: tuple[Statement, ...] = () if rung.end is None else (Before(rung.end),)
    if rung.action is None:
        return Rule((*guard, Verdict("return")), "nobody's order acts yet")
    name = counter_name(rung.policies)
    draft.counters[name] = rung.policies
    return Rule((*guard, Count(name), _verdict(draft, end, rung.action)), label(rung.policies))


def _verdict(draft: Draft, end: End, action: Action) -> Verdict:
    if action is Action.OBSERVE:
        return Verdict("return")
    if action is Action.DROP or end.name is Direction.FROM:
        # What only comes from the service is dropped silently: an answer would go to the service, not the subscriber.
        return Verdict("drop")
    if REFUSE not in draft.chains:
        answers = (Rule((ProtocolIs(_TCP), Reject(reset=True))), Rule((Reject(reset=False),)))
        draft.chains[REFUSE] = Chain(REFUSE, answers)
    return Verdict("goto", REFUSE)
