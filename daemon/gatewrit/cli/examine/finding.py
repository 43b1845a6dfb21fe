"""What an examination found, and what it is handed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gatewrit.engine.status import ACTIONS, WARNING_ACTION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatewrit.engine.status import Trouble
    from gatewrit.kernel.trial import Trial
    from gatewrit.settings import Settings

Severity = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: what it is and what it means for enforcement in `message`; `action` only where there is one."""

    severity: Severity
    code: str
    message: str
    action: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What is examined. `settings` are the defaults where `readable` is false: the file can't be used then.

    `trial` is what the kernel took in a namespace of its own, None where none could be made.
    """

    settings: Settings
    readable: bool
    trial: Trial | None


def unseen(what: str, error: Exception) -> Finding:
    """Say what couldn't be looked at."""
    reason = getattr(error, "strerror", None) or error
    return Finding("note", "not_looked", f"{what} couldn't be looked at: {reason}", "Run gatewrit doctor as root")


def problem(trouble: Trouble) -> Finding:
    """Give a finding in the words that the daemon has for it."""
    action = ACTIONS.get(trouble.code, WARNING_ACTION)
    where = f" ({trouble.place})" if trouble.place is not None else ""
    return Finding(trouble.severity, trouble.code, f"{trouble.message}{where}", action)


def guarded(what: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Give findings one by one; where something can't be looked at, say so behind what was found before."""
    try:
        yield from findings
    except OSError as error:
        yield unseen(what, error)
