"""The verbs that change nothing: check, render, plan, status."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatewrit.cli.app import FINE, REFUSED, fault_json, print_faults, print_json, refuse, run, verb
from gatewrit.cli.seal import sealed
from gatewrit.cli.service import nat64, rails
from gatewrit.cli.taken import as_signed, book, taken_in
from gatewrit.compile.acting import Local, acting, unseen, unseen_text
from gatewrit.compile.conflicts import conflicts
from gatewrit.compile.ladder import pending
from gatewrit.compile.rails import Judge, carved
from gatewrit.compile.render import compile_policies
from gatewrit.compile.surroundings import Surroundings
from gatewrit.engine.around import here
from gatewrit.engine.clock import SystemClock
from gatewrit.engine.preview import preview
from gatewrit.engine.sealing import NotSealedError
from gatewrit.engine.store import Store
from gatewrit.engine.trust import settled_now
from gatewrit.kernel import text
from gatewrit.kernel.host import Rtnetlink
from gatewrit.kernel.plan import diff
from gatewrit.kernel.socket import NftSocket
from gatewrit.policy.instant import parse_instant
from gatewrit.policy.load import judged, load, resolve
from gatewrit.policy.model import Policy
from gatewrit.policy.terms import Fault

if TYPE_CHECKING:
    from gatewrit.compile.render import Compiled
    from gatewrit.engine.holds import Held
    from gatewrit.engine.preview import PolicyChange
    from gatewrit.kernel.transaction import Actual
    from gatewrit.settings import Settings


@verb("gatewrit check /etc/gatewrit/policies")
@click.argument("path", required=False, type=click.Path(path_type=Path))
def check(settings: Settings, path: Path | None, *, as_json: bool) -> int:
    """Check the policies, or those at PATH, and tell every fault; also whether they are as they were signed.

    PATH is a policies directory, or one file in one. Each fault is told as file:line:column: code: message.
    """
    directory, only = _where(path or settings.policies)
    policies, faults = load(directory, Judge(rails(settings)).faults)
    now, here = int(time.time()), Local((settings.gateway.name, *settings.gateway.tags))
    chosen = acting(policies, here, now).values()
    faults += tuple(
        Fault(each.policy.place, "orders_conflict", str(each), "warning") for each in conflicts(chosen, now)
    )
    meant = [each for each in chosen if pending(each, now)]
    faults += tuple(Fault(each.place, "interface_unseen", unseen_text(each)) for each in unseen(meant, settings.hooks))
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


@verb("gatewrit plan --verbose")
@click.option("--verbose", is_flag=True, help="The transaction too, in nft's words.")
def plan(settings: Settings, *, verbose: bool, as_json: bool) -> int:
    """Show what would change in the kernel if the policies were applied now.

    Exits with 2 if anything would. Faulty policies count as they last were good, as they would for the daemon.
    """
    now = settled_now(SystemClock(), settings.state)
    kept, _ = Store(settings.state).load()
    intake, held, local = taken_in(settings, kept, now)
    faults = [finding.fault for finding in intake.findings]
    wanted = acting(intake.policies.values(), local, now)
    chosen = carved(wanted.values(), rails(settings))
    around = here(Rtnetlink(), Surroundings(nat64(settings)))
    compiled = compile_policies(chosen, now, settings.hooks, settings.priority, around)
    actual = run(_read())
    enforced = (
        {}
        if actual.handle is None
        else {
            name: policy
            for name, each in kept.items()
            if isinstance(policy := resolve(each.document, each.services), Policy)
        }
    )
    changes = preview(acting(enforced.values(), local, now), wanted, now)
    change = diff(compiled.ruleset, actual).whole
    if as_json:
        print_json(
            {
                "pending": bool(change),
                "policies": [_change_json(each) for each in changes],
                "held": [_held_json(each) for each in held],
            }
        )
    else:
        print_faults(faults)
        _print_plan(changes, compiled, actual, size=change.size)
        for each in held:
            click.echo(
                f"held   {each.policy}: {each.addresses_added} addresses to block, {each.addresses_lifted} to lift"
            )
        if verbose and change:
            click.echo(f"\n{change}", nl=False)
    return REFUSED if change or held else FINE


async def _read() -> Actual:
    async with NftSocket() as kernel:
        return await kernel.read()


def _change_json(change: PolicyChange) -> dict[str, object]:
    return {
        "id": change.id,
        "change": change.change,
        "segments_added": change.segments_added,
        "segments_lifted": change.segments_lifted,
        # As everywhere, addresses are counted in decimal strings: IPv6 passes 2**53.
        "addresses_added": str(change.addresses_added),
        "addresses_lifted": str(change.addresses_lifted),
    }


def _held_json(held: Held) -> dict[str, object]:
    return {
        "id": held.policy,
        "services": list(held.services),
        "addresses_added": str(held.addresses_added),
        "addresses_lifted": str(held.addresses_lifted),
    }


def _print_plan(changes: tuple[PolicyChange, ...], compiled: Compiled, actual: Actual, *, size: int) -> None:
    for each in changes:
        added = f"+{each.segments_added} segments ({each.addresses_added} addresses)"
        lifted = f"-{each.segments_lifted} segments ({each.addresses_lifted} addresses)"
        click.echo(f"{each.change:6} {each.id}: {added}, {lifted}")
    if not size:
        click.echo("nothing would change: the kernel has what the policies ask for")
    elif actual.handle is None:
        click.echo(f"the table isn't there; it would be made, with {len(compiled.ruleset.chains)} chains")
    else:
        click.echo(f"{size} objects, rules and elements would change, in one transaction")
        if not changes:
            click.echo("no policy asks for it: somebody changed the table (drift), or time has moved on")
