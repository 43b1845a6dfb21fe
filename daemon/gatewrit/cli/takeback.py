"""The verbs that take a change back, or have it stay: confirm, rollback. With or without a running daemon."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click

from gatewrit.api import client
from gatewrit.cli import owner
from gatewrit.cli.app import FAILED, FINE, REFUSED, Quit, account, print_json, run, unreadable, verb
from gatewrit.cli.completion import Known
from gatewrit.cli.service import have_done
from gatewrit.cli.taken import look_into
from gatewrit.engine import undo
from gatewrit.engine.byhand import RefusedError
from gatewrit.engine.claim import ClaimedError
from gatewrit.engine.generations import Generations
from gatewrit.engine.takeback import Taking
from gatewrit.kernel.backend import KernelError
from gatewrit.policy.instant import utc_text

if TYPE_CHECKING:
    from gatewrit.engine.undo import Unconfirmed
    from gatewrit.settings import Settings

#: What the daemon refuses because of what was asked for, and not for want of sense in the request.
_REFUSALS = {"nothing_waits", "unknown_generation", "not_as_signed"}
#: Tries at a daemon that is just ending or starting, and seconds between them.
_ATTEMPTS, _PAUSE = 20, 0.5
#: Seconds by which a busy daemon may begin a change later than its time would be over.
_LATE = 30


@verb("gatewrit verify && gatewrit confirm")
def confirm(settings: Settings, *, as_json: bool) -> int:
    """Have a change stay that was applied with --confirm-within."""
    owner.stand_in(settings)
    return _tell(settings, Taking("confirm", *account()), as_json=as_json)


@verb("gatewrit rollback --list; gatewrit rollback 41")
@click.argument("generation", required=False, type=Known("generations", click.IntRange(min=0)))
@click.option("--list", "listing", is_flag=True, help="Only show which generations are kept.")
@click.option("--unless-confirmed", type=click.IntRange(min=0), hidden=True)
def rollback(
    settings: Settings, generation: int | None, *, listing: bool, unless_confirmed: int | None, as_json: bool
) -> int:
    """Put the policies of an earlier GENERATION in force, or else of the one before this.

    What was rescinded, suspended or has lapsed since stays so. The policy files aren't followed until the next
    `gatewrit apply` or `gatewrit reload`; until then the gateway is degraded, `rolled_back`.
    """
    if not listing:
        owner.stand_in(settings)
    if unless_confirmed is not None:
        code: int = run(_unless_confirmed(settings, unless_confirmed))
        return code
    if listing:
        if generation is not None:
            raise click.UsageError("--list shows all generations; leave the number out")
        return _list(settings, as_json=as_json)
    return _tell(settings, Taking("rollback", *account(), generation), as_json=as_json)


def _list(settings: Settings, *, as_json: bool) -> int:
    look_into(settings)
    generations = Generations(settings.state)
    lost = generations.load()
    known = [each for _, each in sorted(generations.known.items())]
    if as_json:
        items = [
            {
                "generation": one.number,
                "since": utc_text(one.at),
                "policies": one.policies,
                "restores": one.restores,
            }
            for one in known
        ]
        print_json({"generations": items})
    else:
        for one in known:
            back = "" if one.restores is None else f", put back from {one.restores}"
            click.echo(f"{one.number:6}  since {utc_text(one.at)}  policies: {one.policies}{back}")
        if not known and not lost:
            click.echo("no generation is kept yet")
    for each in lost:
        click.echo(f"gatewrit: {each}", err=True)
    return FAILED if lost else FINE


def _tell(settings: Settings, asked: Taking, *, as_json: bool) -> int:
    """Have it done, and tell what came of it."""
    try:
        done = run(have_done(settings, asked, generation=asked.generation))
    except (RefusedError, client.RefusedError) as refusal:
        if refusal.code not in _REFUSALS:
            raise
        if as_json:
            print_json({"ok": False, "code": refusal.code, "message": str(refusal)})
        raise Quit(str(refusal), REFUSED) from None
    if as_json:
        print_json(done)
    else:
        click.echo(done["sentence"])
    return FINE if done["ok"] else FAILED


async def _unless_confirmed(settings: Settings, seconds: int) -> int:
    """Wait until the change that waits has had its time, and take it back unless it was confirmed.

    It isn't begun yet when this begins to wait: that is written down within so many seconds, a busy daemon's delay
    among them, or never.
    """
    begun = False
    for elapsed in range(seconds + _LATE + undo.LONGEST):
        waits = _waiting(settings)
        if waits is None and (begun or elapsed >= seconds + _LATE):
            return FINE
        left = 1.0 if waits is None else waits.deadline - time.time()
        if waits is not None and left <= 0:
            return await _take_back(settings, waits.token)
        begun |= waits is not None
        await asyncio.sleep(min(left, 1.0))
    return FAILED


def _waiting(settings: Settings) -> Unconfirmed | None:
    try:
        return undo.load(settings.state).unconfirmed
    except (OSError, ValueError) as error:
        raise unreadable("whether a change waits can't be read, so it isn't taken back", error) from None


async def _take_back(settings: Settings, token: str) -> int:
    for attempt in range(_ATTEMPTS):
        try:
            done = await have_done(settings, Taking("rollback", *account(), token=token), token=token)
            return FINE if done["ok"] else FAILED
        except (RefusedError, client.RefusedError) as refusal:
            if refusal.code == "nothing_waits":
                return FINE
            raise Quit(str(refusal)) from None
        except (client.ControlError, ClaimedError, KernelError):
            # A daemon that is just ending, or starting: it will do it itself, or be gone.
            if attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(_PAUSE)
    return FAILED
