"""The verdict and the other things we say to people, in the same words on the page and in the terminal.

Made from the JSON documents, so that a terminal at the other end of a socket says what the page says.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.policy.terms import Effective, Instant

Tone = Literal["good", "busy", "warn", "bad", "unknown"]

#: What to do where the process that enforces gives no answer.
SEE_WHY = "See `systemctl status gatewrit` on the gateway."
#: The problem that the HTTP server adds while the process that enforces isn't heard from.
SILENT = "enforcer_silent"

#: How a policy's state reads, in the order in which people want to see policies.
STATES: Mapping[str, str] = {
    "in_force": "in force",
    "scheduled": "scheduled",
    "suspended": "suspended",
    "rejected": "rejected",
    "out_of_scope": "not for this gateway",
    "lapsed": "lapsed",
    "rescinded": "rescinded",
}
#: How a direction reads between the action and the service.
DIRECTIONS: Mapping[str, str] = {"to": "to", "from": "from", "both": "to and from"}
_HEADLINES: Mapping[str, tuple[Tone, str]] = {
    "in_sync": ("good", "Enforced exactly as ordered"),
    "starting": ("busy", "Starting: what is ordered isn't confirmed in the kernel yet"),
    "degraded": ("warn", "Degraded: not everything that is ordered can be vouched for"),
    "drifted": ("bad", "Drifted: the kernel doesn't hold what is ordered"),
    "failed": ("bad", "Failed: what is ordered can't be put into the kernel"),
}
_STEPS = ((86400, "day", "days"), (3600, "h", "h"), (60, "min", "min"), (1, "s", "s"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to tell somebody who has one second: `tone` for colour, `headline` in words, the rest if they have ten."""

    tone: Tone
    headline: str
    verified: str
    details: tuple[str, ...]


def verdict(status: Mapping[str, Any]) -> Verdict:
    """Return the verdict of a status document."""
    in_force = int(status["policies"]["in_force"])
    errors = sum(problem["severity"] == "error" for problem in status["problems"])
    warnings = len(status["problems"]) - errors
    tone, headline = _headline(str(status["enforcement"]), in_force, errors)
    if any(problem["code"] == SILENT for problem in status["problems"]):
        tone, headline = "unknown", "Unknown: the daemon that enforces isn't heard from"
    return Verdict(tone, headline, _verified(status), tuple(_details(status, errors, warnings)))


def _headline(enforcement: str, in_force: int, errors: int) -> tuple[Tone, str]:
    if enforcement == "in_sync" and not in_force:
        return "good", "Nothing is ordered to be blocked now, and nothing is"
    if enforcement == "degraded" and errors:
        return "warn", f"Degraded: {count(errors, 'error needs', 'errors need')} attention"
    return _HEADLINES.get(enforcement, _HEADLINES["failed"])


def _verified(status: Mapping[str, Any]) -> str:
    verified = seconds_between(status["ruleset"]["verified_at"], status["now"])
    last = "" if status["enforcement"] == "in_sync" else "last "
    return "not verified yet" if verified is None else f"{last}verified {ago(verified)}"


def _details(status: Mapping[str, Any], errors: int, warnings: int) -> list[str]:
    counts = [f"{number} {STATES[state]}" for state, number in _by_state(status) if number]
    told = ["policies: " + ", ".join(counts) if counts else "no policies"]
    found = [count(errors, "error", "errors")] if errors else []
    found += [count(warnings, "warning", "warnings")] if warnings else []
    return told + ([" and ".join(found)] if found else [])


def _by_state(status: Mapping[str, Any]) -> list[tuple[str, int]]:
    return [(state, int(status["policies"][state])) for state in STATES]


def count(number: int, one: str, many: str) -> str:
    """Return a number with the word that fits it."""
    return f"{number} {one if number == 1 else many}"


def seconds_between(earlier: str | None, later: str | None) -> int | None:
    """Return the whole seconds from one RFC 3339 instant to another, None if one is absent."""
    if earlier is None or later is None:
        return None
    return int((datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds())


def ago(seconds: int) -> str:
    """Return how long ago something was, in words."""
    return "just now" if seconds <= 0 else f"{span(seconds)} ago"


def span(seconds: int) -> str:
    """Return a length of time by its two largest units at most: `12 s`, `2 h 5 min`, `3 days`."""
    seconds = max(seconds, 0)
    for index, (size, one, many) in enumerate(_STEPS):
        whole, rest = divmod(seconds, size)
        if whole or size == 1:
            text = count(whole, one, many)
            # Beyond three of a unit the next smaller one tells nobody anything.
            if index + 1 < len(_STEPS) and whole <= 3:
                finer, fine_one, fine_many = _STEPS[index + 1]
                if rest // finer:
                    text += f" {count(rest // finer, fine_one, fine_many)}"
            return text
    return "0 s"  # pragma: no cover


def own_clock(given: Instant) -> str | None:
    """Return an instant as the order's own clocks show it, with their zone; None where those show UTC."""
    if not given.offset and given.zone is None:
        return None
    local = datetime.fromtimestamp(given.epoch, timezone(timedelta(seconds=given.offset)))
    shown = local.strftime("%Y-%m-%d %H:%M:%S" if local.second else "%Y-%m-%d %H:%M")
    offset = local.isoformat()[19:]
    return f"{shown} {given.zone} ({offset})" if given.zone else f"{shown} {offset}"


def own_clocks(effective: Effective | None) -> dict[str, str | None]:
    """Return the instants of a policy by `own_clock`, under the names that they have in documents."""
    if effective is None:
        return {}
    instants = {"from": effective.start, "until": effective.until, "review_by": effective.review_by}
    return {name: own_clock(given) for name, given in instants.items() if given is not None}


def plain(text: str) -> str:
    """Return text from a policy file with nothing in it that steers a terminal or turns what follows around."""
    return "".join(character if _harmless(character) else "\N{REPLACEMENT CHARACTER}" for character in text)


def _harmless(character: str) -> bool:
    # Cc steers terminals; the bidirectional overrides, embeddings and isolates reorder what stands next to them.
    code = ord(character)
    if code < 0x20 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000:
        return False
    return not (0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069 or code in (0x2028, 0x2029))
