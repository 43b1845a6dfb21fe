"""The verbs that change nothing: check, render, plan, status."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatewrit.cli import waiting
from gatewrit.cli.app import FINE, REFUSED, fault_json, print_faults, print_json, refuse, verb
from gatewrit.cli.seal import sealed
from gatewrit.cli.service import nat64, rails
from gatewrit.cli.taken import as_signed, book
from gatewrit.compile.acting import Local, acting, unseen, unseen_text
from gatewrit.compile.conflicts import conflicts
from gatewrit.compile.ladder import pending
from gatewrit.compile.rails import Judge, carved
from gatewrit.compile.render import compile_policies
from gatewrit.compile.surroundings import Surroundings
from gatewrit.engine.around import here
from gatewrit.engine.sealing import NotSealedError
from gatewrit.kernel import text
from gatewrit.kernel.host import Rtnetlink
from gatewrit.policy.instant import parse_instant
from gatewrit.policy.load import judged, load
from gatewrit.policy.terms import Fault

if TYPE_CHECKING:
    from gatewrit.settings import Settings


@verb("gatewrit check /etc/gatewrit/policies")
@click.argument("path", required=False, type=click.Path(path_type=Path))
def check(settings: Settings, path: Path | None, *, as_json: bool) -> int:
    """Check the policies, or those at PATH, and tell every fault; also whether they are as they were signed.

    PATH is a policies directory, or one file in one. Each fault is told as file:line:column: code: message.
    """
    directory, only = _where(path or settings.policies)
    with waiting.working("reading the policies"):
        policies, faults = load(directory, Judge(rails(settings)).faults)
        now, here = int(time.time()), Local((settings.gateway.name, *settings.gateway.tags))
        chosen = acting(policies, here, now).values()
        faults += tuple(
            Fault(each.policy.place, "orders_conflict", str(each), "warning") for each in conflicts(chosen, now)
        )
        meant = [each for each in chosen if pending(each, now)]
        faults += tuple(
            Fault(each.place, "interface_unseen", unseen_text(each)) for each in unseen(meant, settings.hooks)
        )
        against, seal = sealed(settings, directory)
        faults += against
    told = tuple(fault for fault in sorted(faults) if only is None or Path(fault.place.file).name == only)
    broken = any(fault.severity == "error" for fault in told)
    if as_json:
        print_json(fault_json(told))
    else:
        print_faults(told)
        if not broken:
            click.echo(f"{path or settings.policies}: fine, policies: {len(policies)}")
        if seal is not None:
            click.echo(seal)
    return REFUSED if broken else FINE


def _where(path: Path) -> tuple[Path, str | None]:
    """Give the policies directory that a path means, and the one file in it that was asked about."""
    if path.is_dir() or not path.exists():
        return path, None
    folder = path.parent
    return (folder.parent if folder.name == "services" else folder), path.name


@verb("gatewrit render | nft -c -f -")
@click.option("--at", metavar="TIME", help="As the rules should stand then [now], e.g. 2015-12-01T00:00:00+05:00.")
def render(settings: Settings, at: str | None, *, as_json: bool) -> int:
    """Print the ruleset that the policies ask for, as an nft script.

    Instants are printed as epoch seconds, so that the script means the same in every time zone.
    """
    now = int(time.time()) if at is None else _instant(at)
    try:
        policies, faults = judged(as_signed(settings), Judge(rails(settings)).faults)
    except NotSealedError as refused:
        policies, faults = (), refused.faults
    if any(fault.severity == "error" for fault in faults):
        refuse(faults, as_json=as_json, meaning="nothing was rendered; correct the faults above")
    suspended = {name: each.until for name, each in book(settings).suspensions.items() if each.since <= now}
    chosen = acting(policies, Local((settings.gateway.name, *settings.gateway.tags), suspended), now).values()
    around = here(Rtnetlink(), Surroundings(nat64(settings)))
    with waiting.working("compiling the ruleset"):
        compiled = compile_policies(carved(chosen, rails(settings)), now, settings.hooks, settings.priority, around)
    if as_json:
        print_json({"at": now, "digest": text.digest(compiled.ruleset), "ruleset": text.script(compiled.ruleset)})
    else:
        click.echo(text.script(compiled.ruleset), nl=False)
    return FINE


def _instant(text_: str) -> int:
    try:
        return parse_instant(text_).epoch
    except ValueError as error:
        raise click.UsageError(f"--at: {error}") from None
