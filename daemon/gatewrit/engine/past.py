"""Answers about the past, from the journal: what the kernel had rules of then, and where the orders said otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gatewrit.compile.acting import Local
from gatewrit.engine.answer import NotKeptError, Standing
from gatewrit.engine.explain import Facts, explain
from gatewrit.engine.journal.database import JournalError
from gatewrit.engine.journal.reader import NotKept, Reader
from gatewrit.engine.places import Index
from gatewrit.engine.snapshot import PastView
from gatewrit.engine.status import shown, state_of
from gatewrit.policy.instant import utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gatewrit.compile.surroundings import Surroundings
    from gatewrit.engine.answer import Answer, Question
    from gatewrit.engine.journal.reader import Past
    from gatewrit.engine.snapshot import PolicyView
    from gatewrit.policy.model import Policy

_NO_DAEMON = (
    "No daemon ran then: the rules stood as the last one left them, unless the host was down or they were removed."
)
_UNKNOWN = "Whether a daemon ran then isn't known; one ended about then without a word."


def explain_past(state: Path, question: Question, hooks: tuple[str, ...], around: Surroundings) -> Answer:
    """Answer a question about the past from the journal in `state`; raises NotKeptError. Blocks on the disk."""
    at = question.at
    if at is None:
        raise ValueError("a question about the past says when")
    return answer_from(read_past(state, at.epoch, at.text), question, hooks, around)


def read_past(state: Path, at: int, text: str) -> Past:
    """Give how everything stood at `at`, which `text` names; raises NotKeptError. Blocks on the disk."""
    try:
        past = Reader(state).standing_at(at)
    except JournalError as error:
        raise NotKeptError(f"the journal can't tell of {text}: {error}") from None
    if isinstance(past, NotKept):
        raise NotKeptError(f"{text} is before what the journal tells of, which begins at {utc_text(past.since)}")
    return past


def local_of(past: Past) -> Local:
    """Give what was true of this gateway alone: its names, and what was suspended by hand."""
    named = past.gateway
    suspended = {
        name: int(each.suspended["until"]) for name, each in past.policies.items() if each.suspended is not None
    }
    return Local((str(named.get("name", "")), *map(str, named.get("tags", ()))), suspended)


def views_of(past: Past) -> tuple[PolicyView, ...]:
    """Give the policies as they stood. What they had counted, and how many addresses they were, nobody knows."""
    local = local_of(past)
    views = []
    for _, each in sorted(past.policies.items()):
        policy = each.policy
        since = None if not each.enforced or each.since is None else max(each.since, policy.effective.start.epoch)
        views.append(shown(policy, state_of(policy, past.at, local), since=since))
    return tuple(views)


def view_of(past: Past) -> PastView:
    """Give how the gateway stood."""
    name, version = past.gateway.get("name"), past.gateway.get("version")
    return PastView(
        at=past.at,
        gateway=None if name is None else str(name),
        version=None if version is None else str(version),
        running=past.running,
        generation=past.generation,
        digest=past.digest,
        applied_at=past.applied_at,
        policies=views_of(past),
        problems=tuple(sorted(past.problems, key=lambda each: [part or "" for part in each])),
    )


def answer_from(past: Past, question: Question, hooks: tuple[str, ...], around: Surroundings) -> Answer:
    """Answer a question from how everything stood; NAT64 prefixes and VRF devices are taken to have been as now."""
    named, local = past.gateway, local_of(past)
    facts = Facts(str(named.get("name", "")), (), local, tuple(named.get("hooks", hooks)), None, None, None, around)
    installed = {name: each.since for name, each in past.policies.items() if each.enforced and each.since is not None}
    enforced = _ask(
        replace(facts, installed=installed),
        (each.policy for each in past.policies.values() if each.enforced),
        question,
        past.at,
    )
    ordered = _ask(
        facts, (each.accepted for each in past.policies.values() if each.accepted is not None), question, past.at
    )
    notes = ["This is what the gateway enforced then, as its journal has it."]
    if past.running is None:
        notes.append(_UNKNOWN)
    elif not past.running:
        notes.append(_NO_DAEMON)
    had, wanted = _acting(enforced), _acting(ordered)
    if lacking := sorted(wanted - had):
        notes.append(f"Ordered too, but not in the kernel then: {', '.join(lacking)}.")
    if beyond := sorted(had - wanted):
        notes.append(f"No longer ordered like this, but still in the kernel then: {', '.join(beyond)}.")
    return replace(enforced, past=True, notes=tuple(notes))


def _ask(facts: Facts, policies: Iterable[Policy], question: Question, at: int) -> Answer:
    chosen = tuple(policies)
    return explain(Index(chosen), replace(facts, policies=chosen), question, at)


def _acting(answer: Answer) -> set[str]:
    told = (each for each in answer.reasons if each.standing is Standing.ACTS)
    return {f"{each.id} revision {each.revision}" for each in told}
