"""What a row of the journal says, in a sentence for people who have never seen one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Rows about one policy that its account tells, and rows about the gateway. Problems have a table of their own.
OF_A_POLICY = frozenset(
    {
        "accepted",
        "refused",
        "enforced",
        "lifted",
        "state",
        "suspended",
        "resumed",
        "suspension_ended",
        "held",
        "released",
        "forgotten",
        "gone",
    }
)
GENERAL = frozenset(
    {"begun", "started", "stopped", "found", "drift", "gap", "removed", "checkpoint", "manifest"}
    | {"confirmed", "rolled_back"}
)

_STATES = {
    "in_force": "in force",
    "scheduled": "waiting for its start",
    "suspended": "suspended",
    "lapsed": "past its end",
    "rescinded": "rescinded",
    "out_of_scope": "not for this gateway",
}


_FOUND = {
    "gone": "The rules that the daemon before had left were gone, as after the host was down; they were put in anew.",
    "changed": "The rules weren't as the daemon before had left them, and nothing else was ordered; put right.",
}


def sentence(kind: str, data: Mapping[str, Any]) -> str:
    """Say what a row says."""
    told = _POLICY.get(kind) or _GATEWAY.get(kind)
    try:
        return kind if told is None else told(data)
    except (KeyError, TypeError, ValueError, AttributeError):
        return f"{kind} (what it says of it can't be read)"


def _accepted(data: Mapping[str, Any]) -> str:
    before, number = data.get("before"), data["revision"]
    what = f"Revision {number} was taken in" if before is None else f"Amended: revision {number} replaced {before}"
    if before == number:
        what = f"Services or lists of revision {number} changed"
    says = "" if data["says"] == "active" else f"; it says: {data['says']}"
    asked = ", ".join(str(each["name"]) for each in data.get("asked") or ())
    return f"{what}{says}{f' (read again at the request of {asked})' if asked else ''}."


def _state(data: Mapping[str, Any]) -> str:
    now, was = _STATES.get(data["now"], str(data["now"])), data.get("was")
    return f"From here on {now}{f', before that {_STATES.get(was, was)}' if was else ''}."


def _suspended(data: Mapping[str, Any]) -> str:
    return f"Suspended by hand{_by(data)} until {_instant(data['until'])}: {data['reason']}"


def _with_reason(what: str) -> Any:
    def tell(data: Mapping[str, Any]) -> str:
        reason = data.get("reason")
        return f"{what}{_by(data)}{f': {reason}' if reason else '.'}"

    return tell


def _by(data: Mapping[str, Any]) -> str:
    by = data.get("by")
    return f" by {by['name']}" if by else ""


def _instant(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _begun(data: Mapping[str, Any]) -> str:
    if data.get("damaged"):
        return f"The journal was damaged ({data.get('reason')}); it was moved to {data['damaged']} and begun anew."
    return "The journal begins."


_POLICY: dict[str, Any] = {
    "accepted": _accepted,
    "refused": lambda data: f"A text was refused, what counted before still did: {data['code']}: {data['message']}",
    "enforced": lambda data: (
        f"The kernel confirmed the rules of revision {data['revision']} (generation {data['generation']}); "
        f"it has rules of this order since {_instant(data['since'])}."
    ),
    "lifted": lambda data: f"The kernel confirmed that its rules are gone (generation {data['generation']}).",
    "state": _state,
    "suspended": _suspended,
    "resumed": _with_reason("The suspension was ended early"),
    "suspension_ended": lambda _: "The suspension ended as said.",
    "held": lambda _: "A large change of services or lists was held; what was good before still counts.",
    "released": _with_reason("The held change was released"),
    "forgotten": _with_reason("Forgotten by hand"),
    "gone": lambda _: "The policy is gone.",
}
_GATEWAY: dict[str, Any] = {
    "begun": _begun,
    "started": lambda data: f"A daemon started (gatewrit {data.get('version')}).",
    "stopped": lambda _: "The daemon stopped; the rules stayed in the kernel.",
    "found": lambda data: _FOUND[data["found"]],
    "drift": lambda data: (
        f"The kernel's rules differed from what is ordered though nobody ordered it; "
        f"they were put right (generation {data['generation']})."
    ),
    "gap": lambda data: f"{data['looks']} looks couldn't be written down.",
    "removed": lambda data: f"Every block was taken out by hand{_by(data)}.",
    "checkpoint": lambda data: f"Rows up to {data['through']} have gone, as the settings say; how all stood is kept.",
    "confirmed": lambda data: f"A change on trial was confirmed{_by(data)}: it stays.",
    "rolled_back": lambda data: (
        (
            f"Nobody confirmed a change{_by(data)} in time"
            if data["unconfirmed"]
            else f"A change was taken back{_by(data)}"
        )
        + f": the policies of generation {data['generation']} counted again, but for what was lifted since."
    ),
    "manifest": lambda data: f"A signed manifest, serial {data['serial']}, was accepted.",
}
