"""What counts on this gateway, for the verbs that look without asking the daemon."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from gatewrit.cli.service import rails, signing
from gatewrit.compile.acting import Local
from gatewrit.engine import byhand, sealing
from gatewrit.engine.byhand import Book
from gatewrit.engine.gate import read_signed
from gatewrit.engine.holds import Rules, hold_back
from gatewrit.engine.intake import remembered, take_in
from gatewrit.engine.sealing import NotSealedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.engine.holds import Held
    from gatewrit.engine.intake import Intake
    from gatewrit.engine.snapshot import Accepted
    from gatewrit.engine.store import Kept
    from gatewrit.policy.load import Reading
    from gatewrit.settings import Settings


def look_into(settings: Settings) -> None:
    """See that this user may look into the state directory, if there is one; raises `PermissionError`."""
    with suppress(FileNotFoundError, NotADirectoryError):
        os.scandir(settings.state).close()


def book(settings: Settings) -> Book:
    """Give what stands by hand; nothing if that can't be read, as the daemon has it then."""
    try:
        return byhand.load(settings.state)
    except (OSError, ValueError) as error:
        where = settings.state / "byhand.json"
        click.echo(
            f"gatewrit: {where}: {error}; this is told as if nobody had suspended or released anything", err=True
        )
        return Book()


def as_signed(settings: Settings) -> Reading:
    """Read the policies directory as the daemon would; raises `NotSealedError`."""
    return read_signed(settings.policies, signing(settings), last_accepted(settings))[0]


def last_accepted(settings: Settings) -> Accepted | None:
    """Give the highest manifest that was accepted here, None where none is required; raises `NotSealedError`."""
    if not settings.signatures.required:
        return None
    try:
        return sealing.load_accepted(settings.state)
    except (OSError, ValueError) as error:
        raise sealing.unknown(settings.state, error) from None


def taken_in(settings: Settings, kept: Mapping[str, Kept], now: int) -> tuple[Intake, tuple[Held, ...], Local]:
    """Give the policies that would count after a reload, what would be held back of them, and what is true here."""
    stands = book(settings)
    here = Local((settings.gateway.name, *settings.gateway.tags), stands.suspended)
    rules = Rules(settings.limits.change_share, stands.held, stands.released, here, rails(settings))
    try:
        reading = as_signed(settings)
    except NotSealedError as refused:
        return remembered(kept, refused.faults), (), here
    taken = take_in(reading, kept, now, rules.rails)
    return *hold_back(taken, kept, rules, now), here
