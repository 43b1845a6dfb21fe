"""An answer about an address: as the document for programs, and in sentences to be read out on the phone. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from gatewrit.api.documents import instant, stated
from gatewrit.api.words import plain
from gatewrit.engine.answer import Standing, Verdict
from gatewrit.engine.snapshot import Enforcement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from gatewrit.api import shapes
    from gatewrit.engine.answer import Answer, Reason
    from gatewrit.policy.terms import Instant

#: More than these nobody reads out.
_NAMED, _PORTS_NAMED = 3, 6
_BLOCKS = frozenset({Verdict.REJECT, Verdict.DROP})
_DONE = {Verdict.REJECT: "rejected", Verdict.DROP: "dropped"}


def answer_document(answer: Answer) -> shapes.Explanation:
    """Return `/v1/explain`: `policies` are those that act on what was asked about, or would but for an exception."""
    question = answer.question
    told = [each for each in answer.reasons if each.standing in {Standing.ACTS, Standing.EXCEPTED}]
    return {
        "address": str(question.address),
        "protocol": question.protocol,
        "port": question.port,
        "at": stated(answer.at),
        "blocked": answer.blocked,
        "partly": answer.partly,
        "verdict": answer.verdict.value,
        "policies": [_policy(each) for each in told],
        "sentence": sentence(answer),
    }


def _policy(reason: Reason) -> shapes.Reason:
    return {
        "id": reason.id,
        "revision": reason.revision,
        "verdict": reason.verdict.value,
        "direction": reason.direction.value,
        "since": instant(reason.since),
        "until": None if reason.until is None else instant(reason.until.epoch),
        "review_by": None if reason.review_by is None else instant(reason.review_by.epoch),
        "place": reason.place,
        "excepted_by": reason.excepted_by,
    }


def sentence(answer: Answer) -> str:
    """Return the answer in one sentence, or two where the gateway can't vouch for it."""
    blocking = [each for each in answer.reasons if each.standing is Standing.ACTS and each.verdict in _BLOCKS]
    text = _blocked(answer, blocking) if blocking else _passing(answer)
    if answer.enforcement not in {None, Enforcement.IN_SYNC, Enforcement.DEGRADED}:
        text += f" This is what is ordered; the gateway's enforcement is {answer.enforcement}, see gatewrit status."
    return text


def _is(answer: Answer) -> str:
    """Return "is" or "will be", with the instant where one was asked about."""
    moment = answer.question.at
    if moment is None:
        return "is"
    if answer.past:
        return f"was at {shown(moment.epoch, moment)}"
    return f"{'will be' if answer.at > answer.now else 'is'} at {shown(moment.epoch, moment)}"


def _blocked(answer: Answer, blocking: Sequence[Reason]) -> str:
    if len(blocking) > 1:
        return _blocked_by_several(answer, blocking)
    (reason,) = blocking
    since = "" if reason.since is None else f" since {shown(reason.since, reason.start)}"
    how = f"{_is(answer)} blocked ({_DONE[answer.verdict]}){since} by order of {_order(reason)}{_limits(reason)}"
    terms = _terms(answer, reason)
    if answer.partly:
        return f"Partly: of {subject_of(answer)}, {_ports(reason)} {how}; {terms}."
    return f"Yes: {subject_of(answer)} {how}; {terms}."


def _blocked_by_several(answer: Answer, blocking: Sequence[Reason]) -> str:
    """Say of each order what it does, since when and until when: nobody may read one order's end as the other's."""
    verbs = {
        Verdict.DROP: "dropped" if answer.past else "drops",
        Verdict.REJECT: "rejected" if answer.past else "rejects",
    }
    clauses = []
    for reason in blocking[:_NAMED]:
        since = "" if reason.since is None else f" since {shown(reason.since, reason.start)}"
        what = _ports(reason) if answer.partly else "it"
        clause = (
            f"that of {_order(reason)} {verbs[reason.verdict]} {what}{_limits(reason)}{since}, {_terms(answer, reason)}"
        )
        clauses.append(clause)
    more = f"; and {len(blocking) - _NAMED} more" if len(blocking) > _NAMED else ""
    told = f"{_is(answer)} blocked ({_DONE[answer.verdict]}) by {len(blocking)} orders: {'; '.join(clauses)}{more}."
    if answer.partly:
        return f"Partly: some of {subject_of(answer)} {told}"
    return f"Yes: {subject_of(answer)} {told}"


def _terms(answer: Answer, reason: Reason) -> str:
    """Say until when an order is in force, and when somebody looks at it again."""
    review = "" if reason.review_by is None else f", review due {day(reason.review_by)}"
    if reason.until is None:
        return f"no end {'was' if answer.past else 'is'} set{review}"
    end = shown(reason.until.epoch, reason.until)
    return (f"its end was set for {end}" if answer.past else f"it ends at {end}") + review


def _ports(reason: Reason) -> str:
    return ", ".join(reason.reach[:_PORTS_NAMED]) + (", …" if len(reason.reach) > _PORTS_NAMED else "")


def _limits(reason: Reason) -> str:
    return "".join(f", {limit}" for limit in reason.limits)


def _passing(answer: Answer) -> str:
    by = {standing: [each for each in answer.reasons if each.standing is standing] for standing in Standing}
    text = f"No: {subject_of(answer)} {_is(answer)} not blocked here"
    if by[Standing.ACTS]:
        return f"{text}; it is only counted, by order of {_order(by[Standing.ACTS][0])}."
    if by[Standing.EXCEPTED]:
        reason = by[Standing.EXCEPTED][0]
        if reason.protected:
            protected = f"this gateway's settings protect {reason.excepted_by}"
            return f"{text}: {protected}, also from the order of {_order(reason)}."
        return f"{text}: the order of {_order(reason)} excepts {reason.excepted_by}."
    if by[Standing.SUSPENDED]:
        reason = by[Standing.SUSPENDED][0]
        end = "" if reason.suspended_until is None else f" until {shown(reason.suspended_until, reason.start)}"
        return f"{text}: the order of {_order(reason)} is suspended{end}."
    if by[Standing.SCHEDULED]:
        reason = min(by[Standing.SCHEDULED], key=lambda each: each.start.epoch)
        return f"{text}; the order of {_order(reason)} begins at {shown(reason.start.epoch, reason.start)}."
    return f"{text}: no order {'covered' if answer.past else 'covers'} it."


def subject_of(answer: Answer) -> str:
    """Return what was asked about."""
    question = answer.question
    name = question.protocol.upper() if question.protocol else ""
    address = str(question.address) if question.length is None else f"{question.address}/{question.length}"
    if question.port is not None:
        what = f"{name} port {question.port} of {address}".strip()
    else:
        what = f"{name} of {address}" if name else address
    source = "" if question.source is None else f" for subscriber {question.source}"
    return what + source + ("" if question.interface is None else f" through {plain(question.interface)}")


def _order(reason: Reason) -> str:
    order = reason.order
    return plain(f"{order.authority}, {order.reference} ({reason.id}, revision {reason.revision})")


def shown(epoch: int, like: Instant) -> str:
    """Return an instant in the order's own zone and in UTC, without seconds where there are none."""
    form = "%Y-%m-%d %H:%M" if epoch % 60 == 0 else "%Y-%m-%d %H:%M:%S"
    utc = f"{datetime.fromtimestamp(epoch, UTC):{form}} UTC"
    if like.zone is None and not like.offset:
        return utc
    zone: tzinfo = ZoneInfo(like.zone) if like.zone else timezone(timedelta(seconds=like.offset))
    local = datetime.fromtimestamp(epoch, zone)
    name = local.tzname() or ""
    name = name if name.isalpha() else local.isoformat()[19:]
    return f"{local:{form}} {name} ({utc})"


def day(moment: Instant) -> str:
    """Return the date of an instant where the order is."""
    return f"{datetime.fromtimestamp(moment.epoch, timezone(timedelta(seconds=moment.offset))):%Y-%m-%d}"


def lines(answer: Answer) -> list[str]:
    """Return the whole answer for people: the sentence, what isn't concerned, then each policy."""
    told = [" ".join([sentence(answer), *answer.notes])]
    if answer.partly:
        told.append("Whatever else there is of it isn't blocked here.")
    elif answer.blocked and answer.question.port is not None:
        told.append("This is about that port alone; ask without a port about the others.")
    for reason in answer.reasons:
        told += ["", *_reason(reason)]
    if not answer.blocked:
        told += ["", "This is about this gateway alone; other paths of the network may differ."]
    return told


def _reason(reason: Reason) -> list[str]:
    state = reason.standing.value if reason.standing is not Standing.ACTS else reason.verdict.value
    told = [plain(f"{reason.id} (revision {reason.revision}), {state}: {reason.title}")]
    told.append(plain(f"  ordered by {reason.order.authority}, {reason.order.reference}"))
    way = {"to": "packets to it", "from": "packets from it", "both": "packets to and from it"}[reason.direction.value]
    told.append("; ".join([f"  judges {way}: {_ports(reason)}", *(plain(limit) for limit in reason.limits)]))
    told.append(plain(f"  the address is in {reason.place}"))
    if reason.protected:
        told.append(plain(f"  protected by this gateway's settings: {reason.excepted_by}"))
    elif reason.excepted_by is not None:
        told.append(plain(f"  excepted by {reason.excepted_by} in {reason.excepted_at}"))
    since = "" if reason.since is None else f"; acts here since {shown(reason.since, reason.start)}"
    until = "no end is set" if reason.until is None else f"until {shown(reason.until.epoch, reason.until)}"
    told.append(f"  from {shown(reason.start.epoch, reason.start)}, {until}{since}")
    if reason.review_by is not None:
        told.append(f"  to be reviewed by {day(reason.review_by)}")
    if reason.packets is not None and reason.bytes is not None:
        told.append(f"  the whole order has stopped or counted {reason.packets:,} packets, {reason.bytes:,} bytes")
    return told
