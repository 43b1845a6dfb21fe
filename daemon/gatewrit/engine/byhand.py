"""What people order from the command line: suspensions, releases of held changes, forgetting. Pure but for its file.

A suspension binds to the policy's id, across its revisions, and has an end, which the rules themselves keep. A release
binds to the content that was held when it was given. Both, and what is held, outlive a restart in `byhand.json`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from gatewrit.engine import durable
from gatewrit.engine.status import Trouble
from gatewrit.policy.faults import suggest
from gatewrit.policy.instant import LAST, utc_text
from gatewrit.policy.terms import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gatewrit.engine.snapshot import Outcome
    from gatewrit.policy.load import PolicyDocument

VERSION = 1
#: The longest suspension, in seconds (contract, section 2), and the longest reason, in characters.
LONGEST = 7 * 86400
REASON_LENGTH = 300

Verb = Literal["suspend", "resume", "release", "forget"]
Kind = Literal["suspended", "resumed", "suspension_ended", "held", "released", "forgotten"]


class RefusedError(Exception):
    """A request that isn't carried out: a code for programs, and a sentence that says what to do instead."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for. `policy` is None for all of them; `until` is in epoch seconds."""

    verb: Verb
    policy: str | None = None
    by: str = ""
    uid: int = 0
    reason: str = ""
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Act:
    """Something that was done by hand, or came of it, for the journal. `uid` is None where nobody did it just then."""

    kind: Kind
    policy: str
    at: int
    by: str | None = None
    uid: int | None = None
    reason: str = ""
    until: int | None = None
    content: str | None = None


@dataclass(frozen=True, slots=True)
class Suspension:
    """Until when (epoch seconds, exclusive) a policy is suspended, since when, by whom and why."""

    until: int
    since: int
    by: str
    uid: int
    reason: str


@dataclass(frozen=True, slots=True)
class Release:
    """The content that may take effect, by its digest; when that was said, by whom and why."""

    content: str
    at: int
    by: str
    uid: int
    reason: str


def _none() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Book:
    """All that stands by hand, by policy id. `held` has the digest of each content that waits for a release."""

    suspensions: Mapping[str, Suspension] = field(default_factory=_none)
    releases: Mapping[str, Release] = field(default_factory=_none)
    held: Mapping[str, str] = field(default_factory=_none)

    @property
    def suspended(self) -> dict[str, int]:
        """Until when each policy is suspended."""
        return {name: each.until for name, each in self.suspensions.items()}

    @property
    def released(self) -> dict[str, str]:
        """Which content of each policy may take effect."""
        return {name: each.content for name, each in self.releases.items()}

    def without(self, policy: str) -> Book:
        """Drop all that stands for one policy."""
        return Book(
            {name: each for name, each in self.suspensions.items() if name != policy},
            {name: each for name, each in self.releases.items() if name != policy},
            {name: each for name, each in self.held.items() if name != policy},
        )


@dataclass(frozen=True, slots=True)
class Done:
    """What a request came to: the policies that it concerned, and how the pass over the kernel went.

    `held`: a change of the policy is still (or again) held.
    """

    acts: tuple[Act, ...]
    outcome: Outcome
    sentence: str
    held: bool


def write_down(
    book: Book, request: Request, known: Mapping[str, PolicyDocument], now: int
) -> tuple[Book, tuple[Act, ...]]:
    """Enter a request into the book; raises `RefusedError`. `known` are the policies with a good revision."""
    _check_reason(request)
    if request.verb != "forget" and request.policy is not None and request.policy not in known:
        listed = f"`gatewrit status` lists them{suggest(request.policy, known)}"
        raise RefusedError("unknown_policy", f"no policy {request.policy} is known here; {listed}")
    match request.verb:
        case "suspend":
            return _suspend(book, request, known, now)
        case "resume":
            return _resume(book, request, now)
        case "release":
            return _release(book, request, now)
        case "forget":
            name = _one(request)
            return book.without(name), (Act("forgotten", name, now, request.by, request.uid, request.reason),)


def _check_reason(request: Request) -> None:
    reason = request.reason
    if not reason.strip() and request.verb != "resume":
        raise RefusedError("bad_reason", f"{request.verb} needs a reason: it is kept and shown")
    if len(reason) > REASON_LENGTH or not reason.isprintable():
        raise RefusedError("bad_reason", f"a reason is one line of at most {REASON_LENGTH} printable characters")


def _one(request: Request) -> str:
    if request.policy is None:
        raise RefusedError("unknown_policy", f"{request.verb} needs a policy")
    return request.policy


def _suspend(
    book: Book, request: Request, known: Mapping[str, PolicyDocument], now: int
) -> tuple[Book, tuple[Act, ...]]:
    until = request.until
    if until is None or until <= now:
        raise RefusedError(
            "bad_until",
            f"nothing was suspended: a suspension needs an end that is still to come, and what counts as now here is "
            f"{utc_text(now)}; give an instant after it (if that is wrong, see clock_untrusted in `gatewrit status`)",
        )
    if until - now > LONGEST:
        latest = utc_text(now + LONGEST)
        raise RefusedError(
            "bad_until",
            f"a suspension from the command line lasts 7 days at most, so until {latest}; for longer, raise the "
            "policy's revision and write `state: suspended`",
        )
    chosen = [name for name in known if not _over(known[name], now)] if request.policy is None else [request.policy]
    if request.policy is not None and _over(known[request.policy], now):
        raise RefusedError("not_acting", f"{request.policy} is rescinded or has lapsed: there is nothing to suspend")
    suspension = Suspension(until, now, request.by, request.uid, request.reason)
    acts = [Act("suspended", name, now, request.by, request.uid, request.reason, until) for name in sorted(chosen)]
    return replace(book, suspensions={**book.suspensions, **dict.fromkeys(chosen, suspension)}), tuple(acts)


def _over(document: PolicyDocument, now: int) -> bool:
    until = document.effective.until
    return document.state is State.RESCINDED or (until is not None and until.epoch <= now)


def _resume(book: Book, request: Request, now: int) -> tuple[Book, tuple[Act, ...]]:
    chosen = sorted(book.suspensions) if request.policy is None else [request.policy]
    if request.policy is not None and request.policy not in book.suspensions:
        raise RefusedError(
            "not_suspended",
            f"{request.policy} isn't suspended by hand; what its file says, a raised revision of the file changes",
        )
    left = {name: each for name, each in book.suspensions.items() if name not in chosen}
    acts = [Act("resumed", name, now, request.by, request.uid, request.reason) for name in chosen]
    return replace(book, suspensions=left), tuple(acts)


def _release(book: Book, request: Request, now: int) -> tuple[Book, tuple[Act, ...]]:
    name = _one(request)
    if name not in book.held:
        raise RefusedError("nothing_held", f"no change of {name} is held; there is nothing to release")
    content = book.held[name]
    release = Release(content, now, request.by, request.uid, request.reason)
    act = Act("released", name, now, request.by, request.uid, request.reason, content=content)
    return replace(book, releases={**book.releases, name: release}), (act,)


def sweep(book: Book, now: int) -> tuple[Book, tuple[Act, ...]]:
    """Take out the suspensions that have ended."""
    ended = {name: each for name, each in book.suspensions.items() if each.until <= now}
    left = {name: each for name, each in book.suspensions.items() if name not in ended}
    acts = [Act("suspension_ended", name, each.until, reason=each.reason) for name, each in sorted(ended.items())]
    return replace(book, suspensions=left) if ended else book, tuple(acts)


def settle(book: Book, held: Mapping[str, str], now: int) -> tuple[Book, tuple[Act, ...]]:
    """Note what a reload held back. A release is used up by it, whether it was about what lay there or not."""
    acts = [Act("held", name, now, content=digest) for name, digest in held.items() if book.held.get(name) != digest]
    return replace(book, held=dict(held), releases={}), tuple(acts)


def troubles(book: Book, now: int) -> list[Trouble]:
    """Give the suspensions that hold now, as problems: nobody may forget that an order isn't being carried out."""
    return [
        Trouble(
            "suspended_by_hand",
            "warning",
            f"{name} is suspended until {utc_text(each.until)}, by {each.by} since {utc_text(each.since)}: "
            f"{each.reason}",
            name,
        )
        for name, each in sorted(book.suspensions.items())
        if now < each.until
    ]


def told(acts: Iterable[Act], outcome: Outcome) -> str:
    """Say what was done, and what came of it."""
    acts = tuple(acts)
    names = ", ".join(act.policy for act in acts)
    if not acts:
        return "nothing was suspended, so nothing is resumed"
    said = {
        "suspended": f"suspended until {utc_text(acts[0].until or 0)}: {names}; then their files say again what counts",
        "resumed": f"suspended no more: {names}",
        "released": f"released: {names}",
        "forgotten": f"forgotten, with its counts and kept texts: {names}",
    }[acts[0].kind]
    return f"{said}; {outcome.sentence}"


def load(state: Path) -> Book:
    """Read the book back, an empty one if there is none; raises `ValueError` or `OSError`."""
    value = durable.read_json(state / "byhand.json")
    if value is None:
        return Book()
    try:
        if value["version"] != VERSION:
            raise ValueError(f"version {value['version']} is not {VERSION}")
        return Book(
            {
                name: Suspension(
                    durable.whole(each["until"], LAST),
                    durable.whole(each["since"], LAST),
                    str(each["by"]),
                    durable.whole(each["uid"]),
                    str(each["reason"]),
                )
                for name, each in value["suspensions"].items()
            },
            {
                name: Release(
                    str(each["content"]),
                    durable.whole(each["at"], LAST),
                    str(each["by"]),
                    durable.whole(each["uid"]),
                    str(each["reason"]),
                )
                for name, each in value["releases"].items()
            },
            {name: str(digest) for name, digest in value["held"].items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a book: {error!r}") from error


def save(state: Path, book: Book) -> None:
    """Write the book durably; raises `OSError`."""
    durable.write_json(
        state / "byhand.json",
        {
            "version": VERSION,
            "suspensions": {name: _fields(each) for name, each in book.suspensions.items()},
            "releases": {name: _fields(each) for name, each in book.releases.items()},
            "held": dict(book.held),
        },
    )


def _fields(value: Suspension | Release) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}
