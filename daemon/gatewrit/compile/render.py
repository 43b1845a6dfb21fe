"""Segments, dispatches and ladders to the ruleset. DESIGN.md explains the shape that comes out, packet by packet.

Every name is made from what the object means, never from a running number, so the same policies always give the same
ruleset, whoever renders it, and an amendment changes only what it is about.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.dispatch import Cell, Dispatch, PortRange, dispatch, union
from gatewrit.compile.ladder import Rung, ladder, pending
from gatewrit.compile.segments import coalesce, segment
from gatewrit.compile.spans import merge
from gatewrit.kernel import expressions
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.ruleset import (
    COMMENT_BYTES,
    DPORT,
    ICMPV6,
    ICMPV6_TYPE,
    IP6_DADDR,
    IP6_SADDR,
    IP_DADDR,
    IP_SADDR,
    IPV4,
    IPV6,
    L4PROTO,
    PORT,
    PROTOCOL,
    SPORT,
    Before,
    ByMap,
    Chain,
    Count,
    Counter,
    Field,
    Hook,
    InSet,
    LaterFragment,
    ProtocolIs,
    Reject,
    Rule,
    Ruleset,
    Set,
    SetSpec,
    Unfragmented,
    padded,
)
from gatewrit.policy.model import IPV4_DTYPE, Action, Direction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from gatewrit.compile.segments import Segments
    from gatewrit.compile.spans import Addresses, Spans
    from gatewrit.kernel.ruleset import HookName, Statement
    from gatewrit.policy.model import Family, Policy, Transport

FAMILIES: tuple[Family, Family] = (4, 6)
REFUSE = "refuse"
NEIGHBOUR_DISCOVERY = "neighbour-discovery"

_NFPROTO = {4: expressions.NFPROTO_IPV4, 6: expressions.NFPROTO_IPV6}
_ICMP, _ICMPV6, _TCP = 1, expressions.IPPROTO_ICMPV6, 6
#: RFC 4861: router solicitation and advertisement, neighbour solicitation and advertisement, redirect.
_ND_TYPES = range(133, 138)
#: Up to so many single ports a set holds them one by one: a hash look-up costs half of one in intervals.
_SINGLE_PORTS = 64


@dataclass(frozen=True, slots=True)
class End:
    """One end of a packet that policies judge, and where a packet carries it."""

    name: Direction
    addresses: tuple[Field, Field]
    port: Field

    @property
    def entry(self) -> str:
        """The chain that judges this end."""
        return f"judge-{self.name}"


TO = End(Direction.TO, (IP_DADDR, IP6_DADDR), DPORT)
FROM = End(Direction.FROM, (IP_SADDR, IP6_SADDR), SPORT)

#: Which ends each hook judges, in order: output has only what goes to a service, input only what comes from one.
_HOOK_ENDS: dict[str, tuple[End, ...]] = {
    "prerouting": (TO, FROM),
    "forward": (TO, FROM),
    "input": (FROM,),
    "output": (TO,),
}


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


@dataclass(slots=True)
class _Draft:
    """The ruleset while it grows; one object is added once, whoever needs it."""

    now: int
    policies: Mapping[str, Policy]
    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, Set] = field(default_factory=dict)
    counters: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add_set(self, spec: SetSpec, elements: Elements) -> str:
        self.sets[spec.name] = Set(spec, elements)
        return spec.name


def compile_policies(policies: Iterable[Policy], now: int, hooks: Sequence[HookName], priority: int) -> Compiled:
    """Compile all policies that act now or later into one ruleset, as it should stand at `now` (epoch seconds).

    What has ended by `now` is left out, and what has begun keeps no guard for its start. The caller gives a `now` that
    never goes back, so that a clock which does can't lift anything.
    """
    by_id = sorted(policies, key=lambda policy: policy.id)
    chosen = {policy.id: policy for policy in by_id if pending(policy, now)}
    draft = _Draft(now, chosen)
    spans = {family: _spans(family, chosen.values()) for family in FAMILIES}
    ends = [end for end in (FROM, TO) if any(end in _HOOK_ENDS[hook] for hook in hooks)]
    judged = [end for end in ends if _judge(draft, end, spans)]
    chains: dict[str, Chain] = {}
    for hook in hooks:
        jumps = tuple(Rule((Verdict("jump", end.entry),)) for end in _HOOK_ENDS[hook] if end in judged)
        chains[hook] = Chain(hook, jumps, Hook(hook, priority))
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


def policy_spans(family: Family, policy: Policy) -> Spans:
    """Unite all addresses of one family that a policy names."""
    endpoints = [endpoint for service in policy.services.values() for endpoint in service.endpoints]
    return merge(family, [ranges for endpoint in endpoints for ranges in endpoint.ranges])


def count_addresses(policy: Policy) -> dict[Family, int]:
    """Count the distinct addresses that a policy names, by family."""
    return {family: policy_spans(family, policy).addresses for family in FAMILIES}


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
    return f"by.{ids[0]}" if len(ids) == 1 else f"by..{_hash(ids)}"


def _hash(value: object) -> str:
    """Give ten hex digits for what an object means. One length for all, so that elements can be stamped in bulk."""
    return hashlib.blake2b(repr(value).encode(), digest_size=5).hexdigest()


Owner = tuple[str, "Transport", Direction]


def _spans(family: Family, policies: Iterable[Policy]) -> dict[Owner, Spans]:
    """Give the addresses of each policy by transport and direction."""
    parts: dict[Owner, list[object]] = {}
    for policy in policies:
        for service in policy.services.values():
            for endpoint in service.endpoints:
                for transport in endpoint.transports:
                    owner = (policy.id, transport, policy.block.direction)
                    parts.setdefault(owner, []).extend(endpoint.ranges)
    return {owner: merge(family, ranges) for owner, ranges in parts.items()}  # type: ignore[arg-type]


def _judge(draft: _Draft, end: End, spans: Mapping[Family, Mapping[Owner, Spans]]) -> bool:
    """Add all that judges one end of a packet; False if no policy judges it.

    A packet whose port some policy limits is looked up in the full maps, any other only in those of the policies that
    no port limits: so a million addresses behind one port cost the other ports nothing.

    A later fragment has no ports, but the kernel's quick way to load them takes whatever stands there
    (nft_payload_fast_eval in net/netfilter/nf_tables_core.c, as of 6.18): it is told apart behind the gate.
    """
    views = [_View.of(end, family, spans[family]) for family in FAMILIES]
    ports = union(part for view in views for part in view.ports)
    portless = [Rule((ByMap((view.address,), name),)) for view in views if (name := view.add_map(draft, ported=False))]
    rules = portless
    if ports:
        onward = Verdict("return")
        if portless:
            onward = Verdict("goto", f"{end.name}.any-port")
            draft.chains[f"{end.name}.any-port"] = Chain(f"{end.name}.any-port", tuple(portless))
            rules = [Rule((onward,))]
        maps = [(view, name) for view in views if (name := view.add_map(draft, ported=True))]
        full = [Rule((LaterFragment(_NFPROTO[view.family]), onward), "no ports") for view, _ in maps if view.ports]
        full += [Rule((ByMap((view.address,), name),)) for view, name in maps]
        gate = _port_set(draft, f"{end.name}.ports", [(part, None) for part in ports], verdicts=False)
        draft.chains[f"{end.name}.ports"] = Chain(f"{end.name}.ports", tuple(full))
        rules = [Rule((InSet((L4PROTO, end.port), gate), Verdict("goto", f"{end.name}.ports"))), *rules]
    if rules:
        draft.chains[end.entry] = Chain(end.entry, tuple(rules))
    return bool(rules)


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """What one end of the packets of one family meets."""

    end: End
    family: Family
    segments: Segments
    dispatches: tuple[Dispatch, ...]

    @classmethod
    def of(cls, end: End, family: Family, spans: Mapping[Owner, Spans]) -> _View:
        owners = [owner for owner in spans if owner[2] in {end.name, Direction.BOTH}]
        segments = segment(family, [spans[owner] for owner in owners])
        return cls(end, family, segments, tuple(dispatch(owners[i][:2] for i in group) for group in segments.owners))

    @property
    def address(self) -> Field:
        return self.end.addresses[FAMILIES.index(self.family)]

    @property
    def ports(self) -> list[PortRange]:
        return [part for each in self.dispatches for part, _ in each.ports]

    def add_map(self, draft: _Draft, *, ported: bool) -> str | None:
        """Add the map from addresses to the chains that judge them, and those chains; None if it would be empty."""
        ported = ported and bool(self.ports)
        wanted = [each if ported else each.portless for each in self.dispatches]
        names = [_add_class(draft, self.end, self.family, each) if each.cells else None for each in wanted]
        targets = sorted({name for name in names if name})
        if not targets:
            return None
        index = np.array([targets.index(name) if name else -1 for name in names], np.int64)
        first, last, chosen = coalesce(self.segments, index)
        key = IPV4 if self.family == 4 else IPV6
        verdicts = tuple(Verdict("goto", name) for name in targets)
        elements = Elements(key.length, _keys(first), _keys(last), chosen.astype(np.int32), verdicts)
        name = f"{self.end.name}{self.family}" + ("" if ported else ".any-port")
        return draft.add_set(SetSpec(name, (key,), interval=True, verdicts=True), elements)


def _keys(addresses: Addresses) -> NDArray[np.bytes_]:
    """Give addresses as the kernel's keys: big-endian bytes."""
    if addresses.dtype == IPV4_DTYPE:
        return addresses.astype(">u4").view("S4")
    halves = np.stack([addresses["hi"], addresses["lo"]], axis=1).astype(">u8")
    return np.ascontiguousarray(halves).view("S16").ravel()


def _add_class(draft: _Draft, end: End, family: Family, each: Dispatch) -> str:
    """Add the chain that judges the packets of all segments with one dispatch, by protocol and port."""
    name = f"{end.name}{family}.{_hash(each)}"
    if name in draft.chains:
        return name
    rules: list[tuple[Statement, ...]] = []
    if family == 6 and (each.protocols or each.other):
        types = [(bytes([kind]), bytes([kind]), None) for kind in _ND_TYPES]
        exempt = draft.add_set(SetSpec(NEIGHBOUR_DISCOVERY, (ICMPV6,), False, False), Elements.of(1, types))
        # Neighbour discovery is never fragmented (RFC 6980); a later fragment only looks like it.
        rules.append((InSet((ICMPV6_TYPE,), exempt), Unfragmented(), Verdict("return")))
    if each.ports:
        verdicts = [(part, _add_cell(draft, end, cell)) for part, cell in each.ports]
        rules.append((ByMap((L4PROTO, end.port), _port_set(draft, f"{name}.ports", verdicts, verdicts=True)),))
    if each.protocols:
        numbers = [(_number(number, family), _add_cell(draft, end, cell)) for number, cell in each.protocols]
        elements = Elements.of(1, [(bytes([number]), bytes([number]), verdict) for number, verdict in numbers])
        protocols = draft.add_set(SetSpec(f"{name}.protocols", (PROTOCOL,), False, True), elements)
        rules.append((ByMap((L4PROTO,), protocols),))
    if each.other:
        rules.append((_add_cell(draft, end, each.other),))
    ids = tuple(sorted({policy for cell in each.cells for policy in cell}))
    draft.chains[name] = Chain(name, tuple(Rule(statements) for statements in rules), comment=label(ids))
    return name


def _number(protocol: int, family: Family) -> int:
    """`icmp` in a policy means each family's own."""
    return _ICMPV6 if protocol == _ICMP and family == 6 else protocol


def _port_set(draft: _Draft, name: str, parts: Sequence[tuple[PortRange, Verdict | None]], *, verdicts: bool) -> str:
    """Add a set or map keyed by protocol and port: single ports while they are few, else intervals."""
    single = sum(part.last - part.first + 1 for part, _ in parts) <= _SINGLE_PORTS
    rows = []
    for part, verdict in parts:
        pieces = range(part.first, part.last + 1) if single else (part.first,)
        rows += [
            (_port_key(part.protocol, port), _port_key(part.protocol, port if single else part.last), verdict)
            for port in pieces
        ]
    spec = SetSpec(name, (PROTOCOL, PORT), interval=not single, verdicts=verdicts)
    return draft.add_set(spec, Elements.of(2 * padded(1), rows))


def _port_key(protocol: int, port: int) -> bytes:
    return bytes([protocol, 0, 0, 0]) + port.to_bytes(2, "big") + bytes(2)


def _add_cell(draft: _Draft, end: End, ids: Cell) -> Verdict:
    """Add the ladder for the policies that a packet meets at this end, and give the way there."""
    name = f"{end.name}.{counter_name(ids)}"
    if name not in draft.chains:
        rungs = ladder((draft.policies[policy] for policy in ids), draft.now)
        draft.chains[name] = Chain(name, tuple(_rung(draft, end, rung) for rung in rungs), comment=label(ids))
    return Verdict("goto", name)


def _rung(draft: _Draft, end: End, rung: Rung) -> Rule:
    guard: tuple[Statement, ...] = () if rung.end is None else (Before(rung.end),)
    if rung.action is None:
        return Rule((*guard, Verdict("return")), "nobody's order acts yet")
    name = counter_name(rung.policies)
    draft.counters[name] = rung.policies
    return Rule((*guard, Count(name), _verdict(draft, end, rung.action)), label(rung.policies))


def _verdict(draft: _Draft, end: End, action: Action) -> Verdict:
    if action is Action.OBSERVE:
        return Verdict("return")
    if action is Action.DROP or end is FROM:
        # What only comes from the service is dropped silently: an answer would go to the service, not the subscriber.
        return Verdict("drop")
    if REFUSE not in draft.chains:
        answers = (Rule((ProtocolIs(_TCP), Reject(reset=True))), Rule((Reject(reset=False),)))
        draft.chains[REFUSE] = Chain(REFUSE, answers)
    return Verdict("goto", REFUSE)
