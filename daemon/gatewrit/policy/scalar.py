"""What a single unquoted word of YAML is: text, a number or a truth value, or something readers disagree about.

YAML 1.1 turns `no` into false, 22:30 into 1350, 0777 into 511 and 1_000 into 1000; YAML 1.2 and JSON don't. A word
that another reader would take for something else than it looks is a `Trap` here, and no type accepts a trap.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Trap:
    """A plain scalar that isn't what it looks like: what readers take it for (None: null), that number plainly."""

    text: str
    taken_for: str | None
    number: str | None = None


Plain: TypeAlias = str | int | float | bool | Trap


#: No number that we know is as long, and int() has a limit of its own.
_LONGEST = 40
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_WORDY_BOOL = re.compile(r"(?:(yes|on)|no|off)", re.IGNORECASE)
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+")
_ODD_FLOAT = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_RADIX = re.compile(r"[-+]?0(?:x[0-9a-fA-F]+|o[0-7]+|b[01]+)")
_UNDERSCORES = re.compile(r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?")
# Base 60, YAML 1.1's most surprising number. Eight groups are left alone: that is an IPv6 address.
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9]){1,6}(?:\.[0-9_]*)?")


def resolve(text: str) -> Plain:  # noqa: PLR0911 - one return for each kind of scalar reads best
    """Say what a plain scalar is. Dates and instants stay text: their fields read them."""
    if text and text[0] not in "~nNtTfFyYoO+-.0123456789":
        return text
    if _NULL.fullmatch(text):
        return Trap(text, None)
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if truth := _WORDY_BOOL.fullmatch(text):
        return Trap(text, "true" if truth[1] else "false")
    if _INT.fullmatch(text):
        return int(text) if len(text) <= _LONGEST else Trap(text, "a number")
    if _FLOAT.fullmatch(text):
        return float(text) if len(text) <= _LONGEST else Trap(text, "a number")
    return _numeric_trap(text) or text


def _numeric_trap(text: str) -> Trap | None:
    taken_for, number = _number_taken(text) if len(text) <= _LONGEST else (None, None)
    return Trap(text, taken_for, number) if taken_for else None


def _number_taken(text: str) -> tuple[str | None, str | None]:  # noqa: PLR0911 - one return for each kind
    """Say what number some readers make of a word, and how it is written plainly."""
    digits = text.replace("_", "")
    if _ODD_FLOAT.fullmatch(text):
        return "no finite number", None
    if _RADIX.fullmatch(digits):
        return f"the number {int(digits, 0)}", str(int(digits, 0))
    if re.fullmatch(r"[-+]?0[0-7]+", digits):
        octal, decimal = int(digits, 8), int(digits)
        return f"the octal number {octal}", f"{decimal} or {octal}, whichever is meant"
    if re.fullmatch(r"[-+]?0[0-9]+", digits):
        return "a number to some and text to others", str(int(digits))
    if "_" in text and _UNDERSCORES.fullmatch(text):
        return f"the number {digits}", digits
    if _SEXAGESIMAL.fullmatch(text):
        total = 0.0
        for group in digits.lstrip("+-").split(":"):
            total = total * 60 + float(group or 0)
        return f"the number {'-' * text.startswith('-')}{total:.12g} (base 60)", None
    return None, None
