"""A question about a whole prefix, answered for each part of it within which all addresses fare alike. Pure.

What becomes of an address changes only where a range of some policy begins or ends: of those it blocks, and of those it
excepts. So one address of each part tells of all of them, and the answer is exact.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from gatewrit.engine.answer import SEVERITY, NotKeptError, Standing
from gatewrit.engine.places import beginnings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gatewrit.engine.answer import Address, Answer, Question, Reason
    from gatewrit.engine.places import Index
    from gatewrit.policy.model import Policy, Ranges

#: Parts of one prefix that are looked at: each costs as much as a question of its own.
MOST_PARTS = 256
_TOLD = 4
_SOME = "for some of its addresses only"


def answer_prefix(
    question: Question,
    one: Callable[[Question], Answer],
    index: Index,
    policies: Iterable[Policy],
    nat64: Iterable[Ranges],
) -> Answer:
    """Answer about the prefix of `question.length` bits; `one` answers about an address.

    Raises NotKeptError for a prefix that is cut into too many parts, and for one that a NAT64 reads otherwise.
    """
    network = ip_network(f"{question.address}/{question.length}")
    low, high = int(network[0]), int(network[-1])
    if next(iter(beginnings(nat64, network.version, low, high)), None) is not None:
        raise NotKeptError(f"{network} is what a NAT64 makes of IPv4 addresses: ask about one address of it")
    parts = {low} | set(index.beginnings(network.version, low, high, MOST_PARTS + 1))
    for policy in policies:
        if len(parts) > MOST_PARTS:
            break
        parts |= set(beginnings(policy.exceptions.prefixes, network.version, low, high))
    if len(parts) > MOST_PARTS:
        raise NotKeptError(
            f"the orders cut {network} into more than {MOST_PARTS} parts that fare differently: ask about a smaller one"
        )
    make = type(question.address)
    firsts = sorted(parts)
    answers = [one(replace(question, address=make(first), length=None)) for first in firsts]
    stretches = list(zip(firsts, [*(first - 1 for first in firsts[1:]), high], answers, strict=True))
    return _together(question, answers, _notes(stretches, network.version))


def _together(question: Question, answers: Sequence[Answer], notes: tuple[str, ...]) -> Answer:
    blocked = all(each.blocked for each in answers)
    partly = not blocked and any(each.blocked or each.partly for each in answers)
    found: dict[str, list[Reason]] = {}
    for answer in answers:
        for reason in answer.reasons:
            found.setdefault(reason.id, []).append(reason)
    reasons = []
    for own in found.values():
        reason = min(own, key=_rank)
        acting = sum(each.standing is reason.standing for each in own)
        reasons.append(reason if acting == len(answers) else replace(reason, limits=(*reason.limits, _SOME)))
    return replace(
        answers[0],
        question=question,
        blocked=blocked,
        partly=partly,
        verdict=max((each.verdict for each in answers), key=SEVERITY.__getitem__),
        reasons=tuple(sorted(reasons, key=lambda each: (*_rank(each), each.id))),
        notes=notes if partly else (),
    )


def _rank(reason: Reason) -> tuple[bool, int]:
    return reason.standing is not Standing.ACTS, -SEVERITY[reason.verdict]


def _notes(stretches: Iterable[tuple[int, int, Answer]], version: int) -> tuple[str, ...]:
    """Say which addresses are blocked, as a whole or in part, neighbours of a kind together."""
    runs: list[tuple[str, int, int]] = []
    for first, last, answer in stretches:
        kind = "Blocked" if answer.blocked else "Blocked in part" if answer.partly else ""
        if runs and runs[-1][0] == kind:
            runs[-1] = (kind, runs[-1][1], last)
        else:
            runs.append((kind, first, last))
    told = [f"{kind}: {_span(first, last, version)}." for kind, first, last in runs if kind]
    more = [f"And {len(told) - _TOLD} more such ranges."] if len(told) > _TOLD else []
    return (*told[:_TOLD], *more)


def _span(first: int, last: int, version: int) -> str:
    low, high = _address(first, version), _address(last, version)
    return str(low) if first == last else f"{low} to {high}"


def _address(value: int, version: int) -> Address:
    return ip_address(value.to_bytes(4 if version == 4 else 16, "big"))
