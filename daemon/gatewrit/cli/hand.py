"""The verbs for what people decide themselves: suspend, resume, release, forget. With or without a running daemon."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

import click

from gatewrit.api import client
from gatewrit.cli import owner
from gatewrit.cli.app import FAILED, FINE, REFUSED, Quit, account, print_json, run, verb
from gatewrit.cli.completion import Known
from gatewrit.cli.service import have_done
from gatewrit.cli.span import seconds_of
from gatewrit.engine.byhand import RefusedError, Request
from gatewrit.policy.instant import parse_instant

if TYPE_CHECKING:
    from gatewrit.settings import Settings

#: Codes of the control socket itself; any other refusal is about what was asked for.
_OTHER_FAULTS = {"internal", "busy", "timeout", "unknown_verb", "unknown_key", "bad_value", "bad_request", "too_large"}

_reason = click.option("--reason", required=True, metavar="TEXT", help="Why: one line, kept and shown.")
_all = click.option("--all", "everything", is_flag=True, help="Every policy that is known now.")


@verb("gatewrit suspend bes-shutdown --until 2h --reason 'emergency calls fail, ticket 4711'")
@click.argument("policy", required=False, type=Known("policies"))
@_all
@click.option(
    "--until", required=True, metavar="TIME", help="When it is enforced again: an instant, or as 2h, 3d, 1h30m."
)
@_reason
def suspend(settings: Settings, policy: str | None, **given: Any) -> int:
    """Stop enforcing a policy for a while, whatever its revisions say: 7 days at most.

    It is enforced again at that time by the kernel itself, also if no daemon runs.
    """
    name, until = _which(policy, everything=given["everything"]), _until(given["until"])
    return _order(settings, Request("suspend", name, *account(), given["reason"], until), as_json=given["as_json"])


@verb("gatewrit resume bes-shutdown")
@click.argument("policy", required=False, type=Known("policies"))
@_all
@click.option("--reason", default="", metavar="TEXT", help="Why: one line, kept.")
def resume(settings: Settings, policy: str | None, **given: Any) -> int:
    """End a suspension by hand early."""
    name = _which(policy, everything=given["everything"])
    return _order(settings, Request("resume", name, *account(), given["reason"]), as_json=given["as_json"])


@verb("gatewrit release bes-shutdown --reason 'new address plan, ticket 4711'")
@click.argument("policy", type=Known("policies"))
@_reason
def release(settings: Settings, policy: str, *, reason: str, as_json: bool) -> int:
    """Let a change of services and lists take effect that was held because it is large.

    What is released is the content that was held; other content that lies there by now is judged anew.
    """
    return _order(settings, Request("release", policy, *account(), reason), as_json=as_json)


@verb("gatewrit forget bes-shutdown --reason 'order withdrawn, ticket 4711'")
@click.argument("policy", type=Known("policies"))
@_reason
def forget(settings: Settings, policy: str, *, reason: str, as_json: bool) -> int:
    """Lift a policy whose file is gone, and forget it with its counts and kept texts."""
    return _order(settings, Request("forget", policy, *account(), reason), as_json=as_json)


def _which(policy: str | None, *, everything: bool) -> str | None:
    if (policy is None) is not everything:
        raise click.UsageError("name one policy, or --all of them")
    return policy


def _until(text: str) -> int:
    """Give the instant that is meant, in epoch seconds."""
    seconds = seconds_of(text)
    if seconds is not None:
        return int(time.time()) + seconds
    try:
        return parse_instant(text).epoch
    except ValueError as error:
        raise click.UsageError(f"--until: {error}; or a time from now, as 2h, 3d, 1h30m") from None


def _order(settings: Settings, request: Request, *, as_json: bool) -> int:
    """Have it done, by the running daemon or without one, and tell what came of it."""
    owner.stand_in(settings)
    try:
        given = {"policy": request.policy, "until": request.until, "reason": request.reason}
        done = run(have_done(settings, request, **given))
    except RefusedError as refusal:
        _refuse(refusal.code, str(refusal), as_json=as_json)
    except client.RefusedError as refusal:
        if refusal.code in _OTHER_FAULTS:
            raise
        _refuse(refusal.code, str(refusal), as_json=as_json)
    if as_json:
        print_json(done)
    else:
        for fault in done["faults"]:
            click.echo(
                f"{fault['file']}:{fault['line']}:{fault['column']}: {fault['code']}: {fault['message']}", err=True
            )
        click.echo(done["sentence"])
    if not done["ok"]:
        return FAILED
    return REFUSED if request.verb == "release" and done["held"] else FINE


def _refuse(code: str, message: str, *, as_json: bool) -> NoReturn:
    if as_json:
        print_json({"ok": False, "code": code, "message": message})
    raise Quit(message, REFUSED)
