"""What a reading of the policy directory means beside what was good before: which policies count now, and why.

Bad input is quarantined: the good files load, and whatever is bad leaves its policy at the last good revision. A file
that vanishes lifts nothing. Pure: the store, the clock and the log are the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from gatewrit.compile.ladder import pending
from gatewrit.engine.recall import Recall
from gatewrit.engine.store import Kept
from gatewrit.policy.terms import Fault, Place, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gatewrit.compile.rails import Rails
    from gatewrit.policy.load import Loaded, PolicyDocument, Reading, ServiceDocument
    from gatewrit.policy.model import Policy


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault with the policy that it keeps from following its file; None for one that concerns no policy."""

    fault: Fault
    policy: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Intake:
    """What counts from now on.

    `policies` are shown and, while active, enforced; `kept` is what to remember of them; `rejected` are the handles of
    those of which no revision was ever good; `gone` are those in `kept` whose file isn't there any more.
    `loaded` are the files that were read for it, good or not, by what messages call them.
    """

    policies: Mapping[str, Policy]
    kept: Mapping[str, Kept]
    rejected: tuple[str, ...]
    findings: tuple[Finding, ...]
    gone: tuple[str, ...] = ()
    loaded: Mapping[str, Loaded] = field(default_factory=lambda: MappingProxyType({}))

    def same(self, other: Intake) -> bool:
        """Whether both say the same, of the very same policies."""
        mine, theirs = self.policies, other.policies
        told = (self.rejected, self.findings, self.gone) == (other.rejected, other.findings, other.gone)
        return told and mine.keys() == theirs.keys() and all(mine[name] is theirs[name] for name in mine)


def take_in(
    reading: Reading, before: Mapping[str, Kept], now: int, rails: Rails, recall: Recall | None = None
) -> Intake:
    """Decide, policy by policy, which revision counts; one that breaks the guard rails doesn't.

    `recall` is for who reads again and again: what hasn't changed isn't judged again. `hold_back` follows with it.
    """
    recall = recall or Recall()
    recall.begin(rails)
    broken = _claim(reading, before)
    policies: dict[str, Policy] = {}
    kept: dict[str, Kept] = {}
    rejected: list[str] = []
    findings: list[Finding] = []
    there = {*reading.policies, *reading.duplicate_policies, *broken}
    for name in sorted(there | before.keys()):
        chosen, faults = _choose(name, reading, before.get(name), broken.get(name, ()), recall)
        findings += [Finding(fault, name) for fault in faults]
        if chosen is None:
            rejected.append(name)
            continue
        kept[name] = chosen
        policy = recall.joined(chosen, lasting=True)
        if name in there:
            policies[name] = policy
        elif policy.state is State.SUSPENDED or pending(policy, now):
            policies[name] = policy
            findings.append(Finding(_missing(policy), name))
    told = {finding.fault for finding in findings}
    findings += [Finding(fault) for fault in reading.faults if fault not in told]
    vanished = tuple(name for name in kept if name not in there)
    return Intake(policies, kept, tuple(rejected), tuple(findings), vanished, reading.loaded)


def remembered(kept: Mapping[str, Kept], faults: Iterable[Fault] = ()) -> Intake:
    """Give what counts as long as nobody vouches for what is in the directory: what last was good, and nothing else."""
    recall = Recall()
    policies = {name: recall.joined(each) for name, each in kept.items()}
    return Intake(policies, kept, (), tuple(map(Finding, faults)))


#: A policy whose services have so many entries that they are prepared in the kernel before they count.
BULK = 20_000


def without_bulk(intake: Intake, before: Intake | None) -> Intake | None:
    """Give an intake in which policies whose content is new and large stay as they are enforced now.

    None if there are none, or if nothing is enforced yet: what a daemon finds in force when it starts must stay.
    """
    if before is None:
        return None
    large = [
        name
        for name, policy in intake.policies.items()
        if policy.state is State.ACTIVE
        and _contents(policy) != (_contents(before.policies[name]) if name in before.policies else None)
        and sum(map(len, policy.ranges)) >= BULK
    ]
    if not large:
        return None
    policies = {name: each for name, each in intake.policies.items() if name not in large}
    kept = {name: each for name, each in intake.kept.items() if name not in large}
    for name in large:
        policies |= {name: before.policies[name]} if name in before.policies else {}
        kept |= {name: before.kept[name]} if name in before.kept else {}
    return replace(intake, policies=policies, kept=kept)


def _contents(policy: Policy) -> set[str]:
    return {each.digest for each in policy.services.values()}


def _claim(reading: Reading, before: Mapping[str, Kept]) -> dict[str, tuple[Fault, ...]]:
    """Give the broken files by policy: one that can't even say its id belongs to whom it belonged before."""
    owners = {kept.document.source.file: name for name, kept in before.items()}
    claimed: dict[str, tuple[Fault, ...]] = {}
    for handle, faults in reading.broken_policies.items():
        file = faults[0].place.file if faults else ""
        name = handle if handle in before else owners.get(file, handle)
        if name in reading.policies:
            continue
        claimed[name] = claimed.get(name, ()) + faults
    return claimed


def _choose(
    name: str, reading: Reading, before: Kept | None, broken: tuple[Fault, ...], recall: Recall
) -> tuple[Kept | None, tuple[Fault, ...]]:
    """Give the revision that counts for one policy, and what speaks against a newer one."""
    document = reading.policies.get(name) or _incumbent(reading.duplicate_policies.get(name, ()), before)
    if document is None:
        duplicates = tuple(
            fault
            for each in reading.duplicate_policies.get(name, ())
            for fault in reading.faults
            if fault.place.file == each.place.file and fault.severity == "error"
        )
        if before is not None and _vanished(broken):
            message = (
                f"the file of {name} can't be read, which lifts nothing: revision {before.document.revision} stays"
            )
            broken += (Fault(before.document.place, "policy_missing", message),)
        return before, broken + duplicates
    if before is not None and (refusal := _goes_back(document, before.document)):
        return before, (refusal,)
    services, notes = _services(document, reading, before)
    verdict = recall.verdict(document, services)
    if verdict.policy is not None and verdict.against:
        return before, notes + verdict.against
    if verdict.policy is not None or document.state is not State.ACTIVE:
        # A rescission or suspension acts at once, whatever has become of its services.
        kept = Kept(document, services)
        # Who keeps the very same thing sees at a glance that nothing has changed.
        return before if before is not None and before.same(kept) else kept, notes
    return before, notes + verdict.against


def _incumbent(documents: Iterable[PolicyDocument], before: Kept | None) -> PolicyDocument | None:
    """Of several files with one id, the one whose revision is in force stays the policy's file."""
    file = before.document.source.file if before else None
    return next((each for each in documents if each.source.file == file), None)


def _goes_back(document: PolicyDocument, before: PolicyDocument) -> Fault | None:
    if document.revision > before.revision or document.meaning == before.meaning:
        return None
    needed = before.revision + 1
    return Fault(
        document.place,
        "revision_not_raised",
        f"{document.id} says something else than revision {before.revision}, which stays what counts here, but calls "
        f"itself revision {document.revision}; an amendment needs `revision: {needed}` or higher",
    )


def _services(
    document: PolicyDocument, reading: Reading, before: Kept | None
) -> tuple[dict[str, ServiceDocument], tuple[Fault, ...]]:
    """Give the services that a policy names as they are now, or else as they last were good for it."""
    found: dict[str, ServiceDocument] = {}
    notes: list[Fault] = []
    for name, place in document.named:
        old = before.services.get(name) if before else None
        now = reading.services.get(name)
        if now is None and old is not None:
            file = old.source.file
            now = next((each for each in reading.duplicate_services.get(name, ()) if each.source.file == file), None)
        if now is not None:
            found[name] = now
        elif old is not None:
            found[name] = old
            notes.append(_kept_service(name, place, reading.broken_services.get(name, ())))
    return found, tuple(notes)


def _vanished(faults: tuple[Fault, ...]) -> bool:
    """Whether a file isn't faulty but can't be had at all: it, or a list of it, is gone or unreadable."""
    return bool(faults) and all(fault.code in {"not_found", "unreadable"} for fault in faults)


def _kept_service(name: str, place: Place, faults: tuple[Fault, ...]) -> Fault:
    if _vanished(faults):
        message = f"service {name} can't be read in full ({faults[0]}); what it last was stays in force"
        return Fault(place, "policy_missing", message)
    if faults:
        return Fault(
            place,
            "service_broken",
            f"service {name} can't be used as it is now ({faults[0]}); what it last was stays in force",
        )
    return Fault(place, "policy_missing", f"the file of service {name} is gone; what it last was stays in force")


def _missing(policy: Policy) -> Fault:
    return Fault(
        policy.place,
        "policy_missing",
        f"the file of {policy.id} is gone, which lifts nothing: revision {policy.revision} stays",
    )
