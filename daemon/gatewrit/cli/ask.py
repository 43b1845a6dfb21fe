"""The verbs that only ask the running daemon: reload, status. They load little: they are called often, in a hurry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gatewrit.api import client
from gatewrit.cli import guardian, status_table, waiting
from gatewrit.cli.app import FAILED, FINE, REFUSED, print_json, run, verb
from gatewrit.cli.span import read_span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.settings import Settings

#: The option of those verbs that change what is enforced.
confirm_within = click.option(
    "--confirm-within",
    callback=read_span,
    metavar="TIME",
    help="Take it back unless `gatewrit confirm` comes in time: 5m, 1h.",
)
#: Seconds that a look at how far a reload is may take.
_PATIENCE = 30.0


@verb("gatewrit reload && gatewrit status")
@confirm_within
def reload(settings: Settings, *, confirm_within: int | None, as_json: bool) -> int:
    """Have the running daemon read everything again, and wait for the outcome."""
    guard(settings, confirm_within)
    return tell(run(ask(settings, "reload", confirm_within)), as_json=as_json)


@verb("gatewrit status --json | jq .enforcement")
def status(settings: Settings, *, as_json: bool) -> int:
    """Show what is blocked now, by whose order, and whether it holds.

    Exits with 0 only if everything that is ordered is enforced.
    """
    answer = run(client.call(settings.runtime, "status", within=30))
    shown = answer["status"]
    if as_json:
        print_json(shown)
    else:
        items = [{**item, "clocks": answer["clocks"].get(item["id"], {})} for item in answer["policies"]]
        status_table.show(shown, items, status_table.console())
    return FINE if shown["enforcement"] == "in_sync" else FAILED


def guard(settings: Settings, within: int | None) -> None:
    """Have a change that isn't confirmed taken back also if neither this terminal nor the daemon lives by then."""
    if within is not None and not guardian.start(settings, within):
        click.echo(
            "gatewrit: only the daemon can take this back, as this user can't write the state directory; "
            "should it be gone by then, its next start does",
            err=True,
        )


async def ask(settings: Settings, verb: str, confirm_within: int | None = None) -> Mapping[str, Any]:
    """Have the running daemon do it, and show how far it is."""

    async def progress() -> Mapping[str, Any] | None:
        status: Mapping[str, Any] = (await client.call(settings.runtime, "status", within=_PATIENCE))["status"]
        return status.get("progress")

    return await waiting.shown(client.call(settings.runtime, verb, confirm_within=confirm_within), progress)


def tell(outcome: Mapping[str, Any], *, as_json: bool) -> int:
    """Print an outcome, and give its exit code."""
    if as_json:
        print_json(outcome)
    else:
        for fault in outcome["faults"]:
            place = f"{fault['file']}:{fault['line']}:{fault['column']}"
            click.echo(f"{place}: {fault['code']}: {fault['message']}", err=True)
        click.echo(outcome["sentence"])
    if not outcome["ok"]:
        return FAILED
    return REFUSED if any(fault["severity"] == "error" for fault in outcome["faults"]) else FINE
