"""Address and port to the policies that a packet meets: the maps, the gate and the dispatches of one end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from gatewrit.compile.cells import FAMILIES, digest_name, label
from gatewrit.compile.conditions import add_cell
from gatewrit.compile.dispatch import dispatch, union
from gatewrit.compile.lookup import add_lookup, joined
from gatewrit.compile.recut import segmented
from gatewrit.kernel import expressions
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.ruleset import (
    ICMPV6,
    ICMPV6_TYPE,
    L4PROTO,
    PORT,
    PROTOCOL,
    ByMap,
    Chain,
    InSet,
    LaterFragment,
    PortIs,
    Rule,
    SetSpec,
    Unfragmented,
    padded,
)
from gatewrit.policy.terms import Direction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatewrit.compile.cells import Added, Draft, End
    from gatewrit.compile.dispatch import Dispatch, PortRange
    from gatewrit.compile.memo import Drawer
    from gatewrit.compile.segments import Segments
    from gatewrit.compile.spans import Spans
    from gatewrit.kernel.ruleset import Field, Statement
    from gatewrit.policy.model import Transport
    from gatewrit.policy.terms import Family

NEIGHBOUR_DISCOVERY = "neighbour-discovery"

_NFPROTO = {4: expressions.NFPROTO_IPV4, 6: expressions.NFPROTO_IPV6}
_ICMP, _ICMPV6 = 1, expressions.IPPROTO_ICMPV6
#: RFC 4861: router solicitation and advertisement, neighbour solicitation and advertisement, redirect.
_ND_TYPES = range(133, 138)
#: Up to so many single ports a set holds them one by one: a hash look-up costs half of one in intervals.
_SINGLE_PORTS = 64

#: What one policy says of one kind of transport: whose spans are cut into segments.
Owner = tuple[str, "Transport", Direction]


def judge(draft: Draft, end: End, spans: Mapping[Family, Mapping[Owner, Spans]]) -> bool:
    """Add all that judges one end of a packet; False if no policy judges it.

    A packet whose port some policy limits is looked up where such policies name addresses, and only then, as any other
    packet is, where the rest do: so a million addresses behind one port cost the other ports nothing, and none of them
    stands in two maps unless both kinds of policies name it.

    A later fragment has no ports, but the kernel's quick way to load them takes whatever stands there
    (nft_payload_fast_eval in net/netfilter/nf_tables_core.c, as of 6.18): it is told apart behind the gate.
    """
    views = [_View.of(draft.memo, end, family, spans[family]) for family in FAMILIES]
    ports = union(part for view in views for part in view.ports)
    onward = Verdict("return")
    portless = [rule for view in views if (rule := view.add_map(draft, onward, ported=False))]
    rules = portless
    if ports:
        if portless:
            onward = Verdict("goto", f"{end.name}.any-port")
            draft.chains[f"{end.name}.any-port"] = Chain(f"{end.name}.any-port", tuple(portless))
            rules = [Rule((onward,))]
        maps = [(view, rule) for view in views if (rule := view.add_map(draft, onward, ported=True))]
        full = [Rule((LaterFragment(_NFPROTO[view.family]), onward), "no ports") for view, _ in maps]
        full += [*(rule for _, rule in maps), *rules] if portless else [rule for _, rule in maps]
        draft.chains[f"{end.name}.ports"] = Chain(f"{end.name}.ports", tuple(full))
        rules = [*_gate(draft, end, ports), *rules]
    if rules:
        draft.chains[end.entry] = Chain(end.entry, tuple(rules))
    return bool(rules)


def _gate(draft: Draft, end: End, ports: Sequence[PortRange]) -> list[Rule]:
    """Give what every packet meets: a comparison for each of few ports, which costs a third of a look-up, or that."""
    onward = Verdict("goto", f"{end.name}.ports")
    if len(ports) <= draft.sizes.ports:
        return [Rule((PortIs(part.protocol, end.port, part.first, part.last), onward)) for part in ports]
    gate = _port_set(draft, f"{end.name}.ports", [(part, None) for part in ports], verdicts=False)
    return [Rule((InSet((L4PROTO, end.port), gate), onward))]


@dataclass(frozen=True, slots=True, eq=False)
class _Dispatches:
    """The dispatch of each group of segments; `known` has them by the group's owners, for when it is cut again."""

    segments: Segments
    each: tuple[Dispatch, ...]
    known: Mapping[tuple[tuple[str, Transport], ...], Dispatch]

    @classmethod
    def of(cls, segments: Segments, owners: Sequence[tuple[str, Transport]], before: _Dispatches | None) -> Self:
        """Work out those that weren't there before."""
        sets = [tuple([owners[at] for at in group]) for group in segments.owners]
        known = before.known if before else {}
        found = {each: known.get(each) or dispatch(each) for each in sets}
        return cls(segments, tuple([found[each] for each in sets]), found)


def _portless(each: Dispatch) -> Dispatch:
    return each.portless


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """What one end of the packets of one family meets."""

    end: End
    family: Family
    segments: Segments
    dispatches: tuple[Dispatch, ...]

    @classmethod
    def of(cls, memo: Drawer, end: End, family: Family, spans: Mapping[Owner, Spans]) -> _View:
        """Cut the addresses that policies name at this end."""
        owners = {owner: each for owner, each in spans.items() if owner[2] in {end.name, Direction.BOTH}}
        segments = segmented(memo, end.name, family, owners)
        key = "dispatches", end.name, family
        known: _Dispatches | None = memo.known(key)
        if known is None or known.segments is not segments:
            known = _Dispatches.of(segments, [owner[:2] for owner in owners], known)
        memo.put(key, known)
        return cls(end, family, segments, known.each)

    @property
    def address(self) -> Field:
        return self.end.addresses[FAMILIES.index(self.family)]

    @property
    def ports(self) -> list[PortRange]:
        return [part for each in self.dispatches for part, _ in each.ports]

    def add_map(self, draft: Draft, miss: Verdict, *, ported: bool) -> Rule | None:
        """Add the look-up of the addresses that policies with ports name, or of those that others name.

        Gives the rule that asks; None if there are no such addresses.
        """
        if ported:
            wanted = [each if each.ports else None for each in self.dispatches]
        else:
            rest = [draft.memo.get(("portless", each), partial(_portless, each)) for each in self.dispatches]
            wanted = [each if each.protocols or each.other else None for each in rest]
        names = [each and _add_class(draft, self.end, self.family, each) for each in wanted]
        targets = sorted({name for name in names if name})
        if not targets:
            return None
        place = {name: at for at, name in enumerate(targets)}
        index = np.array([place[name] if name else -1 for name in names], np.int64)
        verdicts = tuple(Verdict("goto", name) for name in targets)
        name = f"{self.end.name}{self.family}" + ("" if ported else ".any-port")
        ranges = joined(draft.memo, self.segments, index)
        return add_lookup(draft, name, self.address, ranges, verdicts, miss)


def _add_class(draft: Draft, end: End, family: Family, each: Dispatch) -> str:
    """Add the chain that judges the packets of all segments with one dispatch, by protocol and port."""
    ids = draft.memo.get(("policies", each), lambda: each.policies)
    conditions = [(policy, draft.conditions[policy].identity) for policy in ids if policy in draft.conditions]
    # The cells are added each time, for their ladders follow the clock; what leads to them stays.
    ways = [add_cell(draft, end, cell) for cell in each.asked]

    def make() -> tuple[str, Added]:
        name = f"{end.name}{family}.{digest_name((each, conditions) if conditions else each)}"
        apart = draft.apart()
        rules = _class_rules(apart, end, family, name, each, ways)
        apart.chains[name] = Chain(name, tuple(Rule(statements) for statements in rules), comment=label(ids))
        return name, apart.added

    name, made = draft.memo.get(("class", end, family, each, tuple(conditions), draft.sizes.ports), make)
    draft.take_over(made)
    return name


def _class_rules(  # noqa: PLR0913, PLR0917 - whose, and what
    draft: Draft, end: End, family: Family, name: str, each: Dispatch, ways: Sequence[Verdict]
) -> list[tuple[Statement, ...]]:
    """Give the rules of one dispatch; `ways` lead to the cells that it asks for."""
    rules: list[tuple[Statement, ...]] = []
    if family == 6 and (each.protocols or each.other):
        types = [(bytes([kind]), bytes([kind]), None) for kind in _ND_TYPES]
        exempt = draft.add_set(SetSpec(NEIGHBOUR_DISCOVERY, (ICMPV6,), False, False), Elements.of(1, types))
        # Neighbour discovery is never fragmented (RFC 6980); a later fragment only looks like it.
        rules.append((InSet((ICMPV6_TYPE,), exempt), Unfragmented(), Verdict("return")))
    if each.ports:
        verdicts = [(part, way) for (part, _), way in zip(each.ports, ways, strict=False)]
        if len(verdicts) <= draft.sizes.ports:
            # No map of its own: with ten thousand dispatches the kernel looks for each by walking a list of all.
            rules += [(PortIs(part.protocol, end.port, part.first, part.last), way) for part, way in verdicts]
        else:
            rules.append((ByMap((L4PROTO, end.port), _port_set(draft, f"{name}.ports", verdicts, verdicts=True)),))
    if each.protocols:
        numbers = zip((_number(number, family) for number, _ in each.protocols), ways[len(each.ports) :], strict=False)
        elements = Elements.of(1, [(bytes([number]), bytes([number]), verdict) for number, verdict in numbers])
        protocols = draft.add_set(SetSpec(f"{name}.protocols", (PROTOCOL,), False, True), elements)
        rules.append((ByMap((L4PROTO,), protocols),))
    if each.other:
        rules.append((ways[-1],))
    return rules


def _number(protocol: int, family: Family) -> int:
    """`icmp` in a policy means each family's own."""
    return _ICMPV6 if protocol == _ICMP and family == 6 else protocol


def _port_set(draft: Draft, name: str, parts: Sequence[tuple[PortRange, Verdict | None]], *, verdicts: bool) -> str:
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
