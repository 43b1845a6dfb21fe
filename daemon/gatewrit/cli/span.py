"""Lengths of time as people type them: 2h, 3d, 1h30m, 90s."""

from __future__ import annotations

import re

import click

from gatewrit.engine.undo import LONGEST

_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?", re.ASCII)
_DIGITS = 9


def seconds_of(text: str) -> int | None:
    """Give the seconds that are meant, None if it isn't a length of time."""
    match = _SPAN.fullmatch(text)
    if not text or match is None or any(len(part or "") > _DIGITS for part in match.groups()):
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds


def read_trial(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    """Read how long a change may wait to be confirmed, in seconds; None where that isn't given."""
    if text is None:
        return None
    found = seconds_of(text)
    if not found:
        raise click.BadParameter(f"{text!r} isn't a length of time; write 90s, 5m, 2h or 1h30m")
    if found > LONGEST:
        raise click.BadParameter(f"{text} is too long: a change waits {LONGEST // 3600} h at most")
    return found
