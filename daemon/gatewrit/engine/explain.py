"""Whether an address is blocked, and why: the policies judged word by word, with none of the code that renders. Pure.

An exchange with a service is blocked where either end of it is: whoever can't send to it, or can't be answered, can't
use it. So `to` and `from` count alike for `blocked`; each reason says which it is.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, summarize_address_range
from typing import TYPE_CHECKING

from gatewrit.compile.acting import Local, in_scope
from gatewrit.compile.surroundings import ALONE, Surroundings
from gatewrit.engine.answer import SEVERITY, Answer, Reason, Standing, Verdict
from gatewrit.engine.cover import Box, Subscribers, covered
from gatewrit.engine.ledger import Count
from gatewrit.engine.places import Index, line_of, number, readings
from gatewrit.engine.spread import answer_prefix
from gatewrit.policy.terms import Action, Direction, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gatewrit.engine.answer import Address, Question
    from gatewrit.engine.cover import Parts
    from gatewrit.engine.places import Hit
    from gatewrit.engine.snapshot import Enforcement
    from gatewrit.policy.model import Policy, Ranges, Transport

#: Protocols by name; `icmp` is the family's own.
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1}
_WITH_PORTS = frozenset({6, 17, 132})
#: A protocol that no policy can name: what blocks it blocks everything.
_OTHER = 255
_TOP_PORT = 65535
_ENDS = {"forward": {"to", "from"}, "prerouting": {"to", "from"}, "input": {"from"}, "output": {"to"}}
#: The hooks at which an end knows its interface.
_KNOWS = {"to": {"forward", "output"}, "from": {"forward", "prerouting", "input"}}


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What an answer is made of: the policies that count, and what is true of the gateway.

    `installed` says since when each policy's rules are in the kernel (epoch seconds), None if nobody knows.
    """

    gateway: str
    policies: Sequence[Policy]
    local: Local
    hooks: tuple[str, ...]
    counts: Mapping[str, Count] | None
    installed: Mapping[str, int] | None
    enforcement: Enforcement | None
    around: Surroundings = ALONE


def explain(index: Index, facts: Facts, question: Question, now: int) -> Answer:
    """Answer a question; `index` is over `facts.policies`. Raises NotKeptError for a prefix that is too varied."""
    if question.length is None:
        return _explain(index, facts, question, now)

    def one(each: Question) -> Answer:
        return _explain(index, facts, each, now)

    return answer_prefix(question, one, index, facts.policies, facts.around.nat64)


def _explain(index: Index, facts: Facts, question: Question, now: int) -> Answer:
    case = _Case.of(facts, question, now)
    hits: dict[int, list[Hit]] = defaultdict(list)
    for hit in index.covering(case.ways):
        hits[hit.policy].append(hit)
    reasons: list[Reason] = []
    boxes: dict[tuple[int, str], list[Box]] = defaultdict(list)
    for which, own in sorted(hits.items()):
        policy = facts.policies[which]
        concern = _concern(policy, own, case)
        if concern is None:
            continue
        reason = _reason(policy, concern, case)
        reasons.append(reason)
        if reason.standing is Standing.ACTS and reason.verdict in {Verdict.REJECT, Verdict.DROP}:
            for key, box in _boxes(policy, concern, question):
                boxes[key].append(box)
    everything = _all_covered(boxes, case)
    acting = [reason for reason in reasons if reason.standing is Standing.ACTS]
    reasons.sort(key=lambda each: (each.standing is not Standing.ACTS, -SEVERITY[each.verdict], each.id))
    return Answer(
        question=question,
        gateway=facts.gateway,
        now=now,
        at=case.at,
        blocked=everything,
        partly=bool(boxes) and not everything,
        verdict=max((reason.verdict for reason in acting), key=SEVERITY.__getitem__, default=Verdict.PASS),
        reasons=tuple(reasons),
        enforcement=facts.enforcement,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """A question with all that it is judged by; `ways` and `source_ways` are what its addresses are."""

    facts: Facts
    question: Question
    now: int
    at: int
    ways: tuple[Address, ...]
    source_ways: tuple[Address, ...]
    subscribers: Subscribers
    interfaces: tuple[str, ...]

    @classmethod
    def of(cls, facts: Facts, question: Question, now: int) -> _Case:
        nat64 = facts.around.nat64
        return cls(
            facts,
            question,
            now,
            now if question.at is None else question.at.epoch,
            readings(question.address, nat64),
            () if question.source is None else readings(question.source, nat64),
            Subscribers(question.address.version, question.source, nat64),
            _interfaces(question, facts.around),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Concern:
    """Which part of a question a policy concerns, and the exception that frees it."""

    place: str
    met: Sequence[tuple[Transport, Sequence[tuple[int, int, int]]]]
    ends: set[str]
    interfaces: Sequence[str]
    who: Parts
    excepted: tuple[Ranges, int] | None


def _concern(policy: Policy, hits: Sequence[Hit], case: _Case) -> _Concern | None:
    """Say which part of a question a policy concerns at that time or later; None if it concerns nothing of it."""
    until = policy.effective.until
    past = policy.state is State.RESCINDED or (until is not None and until.epoch <= case.at)
    if past or not in_scope(policy, case.facts.local.names):
        return None
    wanted = [(hit.place, each, _meets(each, case.question)) for hit in hits for each in hit.endpoint.transports]
    met = [(place, transport, ports) for place, transport, ports in wanted if ports]
    ends = _ends(policy, case.facts.hooks)
    names = [name for name in case.interfaces if _passes(policy, name, case.facts.around)]
    if not met or not ends or not names:
        return None
    who = case.subscribers.hit_by(policy)
    excepted = line_of(policy.exceptions.prefixes, case.ways) or line_of(policy.exceptions.sources, case.source_ways)
    if excepted is None and not who:
        return None
    pairs = [(transport, ports) for _, transport, ports in met]
    return _Concern(met[0][0], pairs, ends, names, who, excepted)


def _reason(policy: Policy, concern: _Concern, case: _Case) -> Reason:
    """Say what a policy does with the part that it concerns."""
    standing, since, suspended = _when(policy, case)
    excepted = concern.excepted
    if standing is Standing.ACTS and excepted is not None:
        standing = Standing.EXCEPTED
    count = None if case.facts.counts is None else case.facts.counts.get(policy.id, Count())
    return Reason(
        id=policy.id,
        title=policy.title,
        revision=policy.revision,
        order=policy.order,
        standing=standing,
        verdict=_verdict(policy, concern.ends) if standing is Standing.ACTS else Verdict.PASS,
        direction=policy.block.direction,
        start=policy.effective.start,
        since=since if standing is Standing.ACTS else None,
        until=policy.effective.until,
        review_by=policy.effective.review_by,
        place=concern.place,
        reach=_reach(transport for transport, _ in concern.met),
        limits=_limits(policy, case.question),
        excepted_by=None if excepted is None else _entry(*excepted),
        excepted_at=None if excepted is None else f"{excepted[0].file}:{int(excepted[0].line[excepted[1]])}",
        suspended_until=suspended,
        packets=None if count is None else count.packets,
        bytes=None if count is None else count.bytes,
    )


def _boxes(policy: Policy, concern: _Concern, question: Question) -> Iterator[tuple[tuple[int, str], Box]]:
    # Some interface is always left that no pattern names, so with one it is part of the whole at most.
    some = question.interface is None and policy.scope.interfaces is not None
    for _, ports in concern.met:
        for protocol, first, last in ports:
            for name in concern.interfaces:
                yield (protocol, "some" if some else name), Box(first, last, concern.who)


def _when(policy: Policy, case: _Case) -> tuple[Standing, int | None, int | None]:
    """Say whether a policy acts at an instant, since when, and until when it is suspended by hand."""
    facts, at, now = case.facts, case.at, case.now
    suspended = facts.local.suspended.get(policy.id)
    start = policy.effective.start.epoch
    if policy.state is State.SUSPENDED or (suspended is not None and at < suspended):
        return Standing.SUSPENDED, None, suspended if policy.state is not State.SUSPENDED else None
    if at < start:
        return Standing.SCHEDULED, None, None
    if suspended is not None and now < suspended:
        # The kernel itself resumes it then.
        start = max(start, suspended)
    installed = None if facts.installed is None else facts.installed.get(policy.id)
    if installed is not None:
        return Standing.ACTS, max(start, installed), None
    return Standing.ACTS, start if at > now and start > now else None, None


def _verdict(policy: Policy, ends: set[str]) -> Verdict:
    # What matches by `from` alone is dropped silently: nothing answers towards the service.
    if policy.block.action is Action.REJECT and "to" not in ends:
        return Verdict.DROP
    return Verdict(policy.block.action.value)


def _ends(policy: Policy, hooks: Iterable[str]) -> set[str]:
    """Give the ends at which a policy is judged by any of the hooks."""
    wanted = {"to", "from"} if policy.block.direction is Direction.BOTH else {policy.block.direction.value}
    limited = policy.scope.interfaces is not None
    return {end for hook in hooks for end in _ENDS[hook] & wanted if not limited or hook in _KNOWS[end]}


def _interfaces(question: Question, around: Surroundings) -> tuple[str, ...]:
    """Give the interfaces asked about: of a VRF its members; of any, an empty name too, which no pattern matches."""
    if question.interface is None:
        return ("",)
    return around.masters.get(question.interface) or (question.interface,)


def _passes(policy: Policy, name: str, around: Surroundings) -> bool:
    patterns = policy.scope.interfaces
    if patterns is None or not name:
        return True
    known = [name, *(device for device, members in around.masters.items() if name in members)]
    return any(fnmatchcase(each, pattern) for each in known for pattern in patterns)


def _meets(transport: Transport, question: Question) -> list[tuple[int, int, int]]:
    """Give what of the question a transport covers, as (protocol, first port, last port)."""
    port = question.port
    met = []
    for protocol in _asked(question):
        if transport.protocol not in {None, protocol}:
            continue
        low, high = _ports_of(protocol)
        if port is not None:
            low = high = port
        if transport.first is not None and transport.last is not None:
            low, high = max(low, transport.first), min(high, transport.last)
        if low <= high:
            met.append((protocol, low, high))
    return met


def _asked(question: Question) -> tuple[int, ...]:
    if question.protocol is not None:
        return (PROTOCOLS[question.protocol],)
    if question.port is not None:
        return tuple(sorted(_WITH_PORTS))
    return (*sorted(PROTOCOLS.values()), _OTHER)


def _ports_of(protocol: int) -> tuple[int, int]:
    return (0, _TOP_PORT) if protocol in _WITH_PORTS else (0, 0)


def _all_covered(boxes: Mapping[tuple[int, str], Sequence[Box]], case: _Case) -> bool:
    """Whether everything that was asked about is in some box."""
    port = case.question.port
    for protocol in _asked(case.question):
        low, high = _ports_of(protocol) if port is None else (port, port)
        for name in case.interfaces:
            if not covered(boxes.get((protocol, name), ()), low, high, case.subscribers.everybody):
                return False
    return True


def _reach(transports: Iterable[Transport]) -> tuple[str, ...]:
    names = {value: name.upper() for name, value in PROTOCOLS.items()}
    told = []
    for each in transports:
        name = "everything" if each.protocol is None else names[each.protocol]
        if each.first is None:
            told.append(name)
        elif each.first == each.last:
            told.append(f"{name} port {each.first}")
        else:
            told.append(f"{name} ports {each.first} to {each.last}")
    return tuple(dict.fromkeys(told))


def _limits(policy: Policy, question: Question) -> tuple[str, ...]:
    told = []
    if policy.scope.interfaces is not None and question.interface is None:
        told.append(f"only through {', '.join(policy.scope.interfaces)}")
    if policy.scope.sources is not None and question.source is None:
        told.append("only for the subscribers that its scope names")
    if policy.exceptions.sources and question.source is None:
        told.append("not for the subscribers that it excepts")
    return tuple(told)


def _entry(part: Ranges, row: int) -> str:
    """Write a range as a prefix if it is one, else as first-last."""
    first, last = number(part.first[row], part.family), number(part.last[row], part.family)
    low, high = (IPv4Address(first), IPv4Address(last)) if part.family == 4 else (IPv6Address(first), IPv6Address(last))
    networks = list(summarize_address_range(low, high))
    return str(networks[0]) if len(networks) == 1 else f"{low}-{high}"
