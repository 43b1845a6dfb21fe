"""The verbs that only ask the running daemon: reload, status. They load little: they are called often, in a hurry."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from gatewrit.api import client
from gatewrit.cli import guardian, plugin, status_table, waiting
from gatewrit.cli.app import FAILED, FINE, REFUSED, print_json, run, verb
from gatewrit.cli.span import read_trial

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.settings import Settings

#: The option of those verbs that change what is enforced.
confirm_within = click.option(
    "--confirm-within",
    callback=read_trial,
    metavar="TIME",
    help="Take it back unless `gatewrit confirm` comes in time: 5m, 1h.",
)
#: Seconds that a look at how far a reload is may take.
_PATIENCE = 30.0
#: Seconds that an answer may take where somebody watches, or a monitoring program waits, which gives up after 10.
_HURRY = 8.0


@verb("gatewrit reload && gatewrit status")
@confirm_within
def reload(settings: Settings, *, confirm_within: int | None, as_json: bool) -> int:
    """Have the running daemon read everything again, and wait for the outcome."""
    guard(settings, confirm_within)
    return tell(run(ask(settings, "reload", confirm_within)), as_json=as_json)


@plugin.told_as_plugin
@verb("gatewrit status --json | jq .enforcement; gatewrit status --watch; gatewrit status --check")
@click.option("--watch", is_flag=True, help="Keep it up to date in the terminal, until Ctrl-C.")
@click.option("--interval", type=click.FloatRange(0.1, 3600), metavar="SECONDS", help="For --watch: ask so often [1].")
@click.option("--check", is_flag=True, help="One line for Nagios and the like: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.")
@click.option(
    "-w",
    "--warning",
    type=click.IntRange(1),
    metavar="SECONDS",
    help="For --check: WARNING if not verified for so long [120].",
)
@click.option(
    "-c", "--critical", type=click.IntRange(1), metavar="SECONDS", help="For --check: CRITICAL likewise [600]."
)
def status(settings: Settings, *, as_json: bool, **given: Any) -> int:
    """Show what is blocked now, by whose order, and whether it holds.

    Exits with 0 only if everything that is ordered is enforced; with --watch with 0 when it is ended; with --check as
    monitoring programs expect.
    """
    _refuse_odd(as_json=as_json, **given)
    if given["watch"]:
        return _watch(settings, given["interval"] or 1.0)
    if given["check"]:
        return _check(settings, _thresholds(given["warning"], given["critical"]))
    answer = run(client.call(settings.runtime, "status", within=_PATIENCE))
    shown = answer["status"]
    if as_json:
        print_json(shown)
    else:
        items = [{**item, "clocks": answer["clocks"].get(item["id"], {})} for item in answer["policies"]]
        status_table.show(shown, items, status_table.console())
    return FINE if shown["enforcement"] == "in_sync" else FAILED


def _refuse_odd(*, as_json: bool, watch: bool, check: bool, **given: Any) -> None:
    """Refuse what doesn't go together."""
    if as_json + watch + check > 1:
        raise click.UsageError("one of --json, --watch and --check")
    for name, of, there in (("interval", "watch", watch), ("warning", "check", check), ("critical", "check", check)):
        if given[name] is not None and not there:
            raise click.UsageError(f"--{name} is for: gatewrit status --{of}")


def _watch(settings: Settings, interval: float) -> int:
    from gatewrit.cli.watch import watch  # noqa: PLC0415 - whoever only asks once is in a hurry

    if not sys.stdout.isatty():
        raise click.UsageError("--watch draws on a terminal, and this isn't one; for programs: gatewrit status --json")
    run(watch(lambda: client.call(settings.runtime, "status", within=_HURRY), interval, status_table.console()))
    return FINE


def _thresholds(warning: int | None, critical: int | None) -> plugin.Thresholds:
    usual = plugin.Thresholds()
    found = plugin.Thresholds(warning or usual.warning, critical or usual.critical)
    if found.warning > found.critical:
        raise click.UsageError(f"--warning {found.warning} is over --critical {found.critical}: it could never be met")
    return found


def _check(settings: Settings, thresholds: plugin.Thresholds) -> int:
    async def hurried() -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(_HURRY):
                return await client.call(settings.runtime, "status")
        except TimeoutError:
            raise client.LostError(f"the daemon didn't answer within {_HURRY:g} s; it may hang, see its log") from None

    try:
        answer = run(hurried())
    except client.ControlError as error:
        return plugin.tell(plugin.unanswered(error))
    return plugin.tell(plugin.judge(answer["status"], thresholds))


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
