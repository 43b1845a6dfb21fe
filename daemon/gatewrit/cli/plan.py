"""The verb that says what a change would come to before it is made: plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatewrit.cli import live, waiting
from gatewrit.cli.app import FINE, REFUSED, print_faults, print_json, run, verb
from gatewrit.cli.service import nat64, rails
from gatewrit.cli.taken import look_into, taken_in
from gatewrit.compile.acting import acting
from gatewrit.compile.nearness import counted, near
from gatewrit.compile.rails import carved
from gatewrit.compile.render import compile_policies
from gatewrit.compile.surroundings import Surroundings
from gatewrit.engine import memory, usage
from gatewrit.engine.around import here
from gatewrit.engine.clock import SystemClock
from gatewrit.engine.preview import preview
from gatewrit.engine.store import Store
from gatewrit.engine.trust import settled_now
from gatewrit.kernel.host import Rtnetlink
from gatewrit.kernel.plan import diff
from gatewrit.kernel.socket import NftSocket
from gatewrit.kernel.transaction import foreseen
from gatewrit.policy.load import resolve
from gatewrit.policy.model import Policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.compile.nearness import Near
    from gatewrit.compile.render import Compiled
    from gatewrit.engine.holds import Held
    from gatewrit.engine.ledger import Count
    from gatewrit.engine.preview import PolicyChange
    from gatewrit.kernel.transaction import Actual, Transaction
    from gatewrit.policy.terms import Fault
    from gatewrit.settings import Settings

#: So many policies are shown by themselves unless --verbose; the rest are counted.
_SHOWN = 20


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What would change, with what there is to say of it.

    `counts` is None where they can't be read. `cut` are the live connections, why they can't be counted, or None where
    nobody asked.
    """

    faults: tuple[Fault, ...]
    held: tuple[Held, ...]
    changes: tuple[PolicyChange, ...]
    policies: Mapping[str, Policy]
    content: tuple[usage.Change, ...]
    counts: Mapping[str, Count] | None
    compiled: Compiled
    actual: Actual
    transaction: Transaction
    cut: live.Cut | str | None


@verb("gatewrit plan --verbose")
@click.argument(
    "path", required=False, type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path)
)
@click.option("--verbose", is_flag=True, help="All policies, and the transaction in nft's words, every element.")
@click.option("--live", "ask_live", is_flag=True, help="How many live connections would be cut; never which.")
def plan(settings: Settings, path: Path | None, *, verbose: bool, ask_live: bool, as_json: bool) -> int:
    """Show what would change in the kernel if the policies were applied now, or those at PATH in their stead.

    By policy: what is added and lifted, when it starts or ends, what must continue nearby, and how much of the guard
    rails it uses up. Exits with 2 if anything would change or is held. Faulty policies count as they last were good.
    """
    if path is not None:
        settings = settings.model_copy(update={"policies": path})
    with waiting.working("working out what would change"):
        found = _find(settings, ask_live=ask_live)
    if as_json:
        print_json(_json(found, settings))
    else:
        _print(found, settings, verbose=verbose)
    return REFUSED if found.transaction or found.held else FINE


def _find(settings: Settings, *, ask_live: bool) -> _Plan:
    look_into(settings)
    now = settled_now(SystemClock(), settings.state)
    kept, _ = Store(settings.state).load()
    intake, held, local = taken_in(settings, kept, now)
    wanted = acting(intake.policies.values(), local, now)
    around = here(Rtnetlink(), Surroundings(nat64(settings)))
    chosen = carved(wanted.values(), rails(settings))
    compiled = compile_policies(chosen, now, settings.hooks, settings.priority, around)
    actual = run(_read())
    # Without a table nothing that is kept is in force: all of it would start.
    resolved = (resolve(each.document, each.services) for each in kept.values()) if actual.handle is not None else ()
    enforced = acting((each for each in resolved if isinstance(each, Policy)), local, now)
    return _Plan(
        tuple(finding.fault for finding in intake.findings),
        held,
        preview(enforced, wanted, now),
        {**enforced, **wanted},
        usage.of_change(intake, kept, local, rails(settings), now),
        _counts(settings),
        compiled,
        actual,
        diff(compiled.ruleset, actual).whole,
        _live(compiled, actual, now) if ask_live else None,
    )


def _live(compiled: Compiled, actual: Actual, now: int) -> live.Cut | str:
    try:
        own = Rtnetlink().read().addresses
        return live.count(actual, foreseen(compiled.ruleset), compiled.counters, own, now)
    except live.UntrackedError as error:
        return str(error)
    except OSError as error:
        return f"this host's own addresses can't be read, so nobody knows which packets pass here: {error}"


async def _read() -> Actual:
    async with NftSocket() as kernel:
        return await kernel.read()


def _counts(settings: Settings) -> Mapping[str, Count] | None:
    try:
        return memory.load_ledger(settings.state).totals
    except (OSError, ValueError) as error:
        click.echo(f"gatewrit: what was counted can't be read: {error}; counting would begin anew", err=True)
        return None


# -- for programs ------------------------------------------------------------------------------------------------------


def _json(found: _Plan, settings: Settings) -> dict[str, object]:
    return {
        "pending": bool(found.transaction),
        "policies": [_change_json(each, found, settings) for each in found.changes],
        "held": [_held_json(each) for each in found.held],
        "size": found.transaction.size,
        "counters_kept": None if found.counts is None else sorted(found.counts),
        "limits": {"change_share": {f"ipv{each.family}": _percent(each, settings) for each in found.content}},
        "live": _live_json(found.cut),
    }


def _live_json(cut: live.Cut | str | None) -> dict[str, object] | None:
    match cut:
        case None:
            return None
        case str():
            return {"unknown": cut}
    return {
        "connections": cut.connections,
        "cut": cut.cut,
        "unclear": cut.unclear,
        "policies": [{"id": name, "cut": number} for name, number in cut.by_policy.items()],
    }


def _change_json(change: PolicyChange, found: _Plan, settings: Settings) -> dict[str, object]:
    policy = found.policies[change.id]
    used = usage.of_policy(policy, rails(settings))
    return {
        "id": change.id,
        "change": change.change,
        "segments_added": change.segments_added,
        "segments_lifted": change.segments_lifted,
        # As everywhere, addresses are counted in decimal strings: IPv6 passes 2**53.
        "addresses_added": str(change.addresses_added),
        "addresses_lifted": str(change.addresses_lifted),
        "notes": list(change.notes),
        "near": [_near_json(each) for each in near(policy)],
        "limits": {
            "total_share": {f"ipv{family}": round(100 * part, 6) for family, part in used.total.items()},
            "widest": {f"ipv{family}": length for family, length in used.widest.items()},
            "allow_wide": used.allowed,
        },
    }


def _near_json(each: Near) -> dict[str, object]:
    same, prefixes = (
        {f"ipv{family}": str(count) for family, count in counts.items()} for counts in (each.same, each.prefixes)
    )
    return {"service": each.service, "same_addresses": same, "same_prefixes": prefixes, "ports": each.ports}


def _held_json(held: Held) -> dict[str, object]:
    return {
        "id": held.policy,
        "services": list(held.services),
        "addresses_added": str(held.addresses_added),
        "addresses_lifted": str(held.addresses_lifted),
    }


def _percent(change: usage.Change, settings: Settings) -> float | None:
    used = change.used(settings.limits.change_share)
    return None if used is None else round(100 * used, 6)


# -- for people --------------------------------------------------------------------------------------------------------


def _print(found: _Plan, settings: Settings, *, verbose: bool) -> None:
    print_faults(found.faults)
    shown = found.changes if verbose else found.changes[:_SHOWN]
    for each in shown:
        _print_change(each, found, settings)
    if len(found.changes) > len(shown):
        click.echo(f"and {len(found.changes) - len(shown):,} policies more; all of them: gatewrit plan --verbose")
    for held in found.held:
        added, lifted = counted(held.addresses_added), counted(held.addresses_lifted)
        click.echo(
            f"held   {held.policy}: {added} addresses to block, {lifted} to lift; "
            f"it stays as it is until: gatewrit release {held.policy} --reason TEXT"
        )
    for change in found.content:
        used = change.used(settings.limits.change_share)
        if used is not None:
            share = f"{settings.limits.change_share:.0%}"
            figures = f"+{counted(change.added)} -{counted(change.lifted)} of {counted(change.blocked)}"
            allowed = f"{100 * used:.3g} % of limits.change_share ({share})"
            click.echo(f"lists: {figures} IPv{change.family} addresses blocked now, {allowed}")
    _print_sum(found)
    _print_live(found.cut, verbose=verbose)
    if verbose and found.transaction:
        click.echo(f"\n{found.transaction}", nl=False)


def _print_change(change: PolicyChange, found: _Plan, settings: Settings) -> None:
    added = f"+{change.segments_added:,} segments ({counted(change.addresses_added)} addresses)"
    lifted = f"-{change.segments_lifted:,} segments ({counted(change.addresses_lifted)} addresses)"
    click.echo(f"{change.change:6} {change.id}: {added}, {lifted}")
    for note in change.notes:
        click.echo(f"         {note}")
    policy = found.policies[change.id]
    if change.change != "end":
        for each in near(policy):
            click.echo(f"         {each}")
        click.echo(f"         limits: {_limits(policy, settings)}")
    count = (found.counts or {}).get(change.id)
    if count is not None:
        click.echo(f"         keeps its count of {count.packets:,} packets, {count.bytes:,} bytes")


def _limits(policy: Policy, settings: Settings) -> str:
    used = usage.of_policy(policy, rails(settings))
    if used.allowed is not None:
        return f"none, as allow_wide says why: {used.allowed}"
    allowed = {4: settings.limits.widest_ipv4, 6: settings.limits.widest_ipv6}
    told = [
        f"{100 * used.total[family]:.2g} % of limits.total_share of IPv{family}, widest /{length} of /{allowed[family]}"
        for family, length in used.widest.items()
    ]
    return "; ".join(told) or "no address, nothing used"


def _print_sum(found: _Plan) -> None:
    size = found.transaction.size
    if not size and found.changes:
        click.echo("no rule would change")
    elif not size:
        click.echo("nothing would change in the kernel: it has what the policies ask for")
    elif found.actual.handle is None:
        chains = len(found.compiled.ruleset.chains)
        click.echo(f"the table isn't there; it would be made, with {chains} chains, in one transaction")
    else:
        click.echo(f"{size:,} objects, rules and elements would change; every other counter and element stays")
        if not found.changes:
            click.echo("no policy asks for it: somebody changed the table (drift), or time has moved on")


def _print_live(cut: live.Cut | str | None, *, verbose: bool) -> None:
    if cut is None:
        return
    if isinstance(cut, str):
        click.echo(f"live: {cut}")
        return
    click.echo(f"live: {cut.cut:,} of {cut.connections:,} connections would be cut at once")
    if cut.unclear:
        click.echo(f"      {cut.unclear:,} more may be, by the interface that they take, which the kernel doesn't tell")
    policies = list(cut.by_policy.items())
    shown = policies if verbose else policies[:_SHOWN]
    for name, number in shown:
        click.echo(f"      {name}: {number:,}")
    if len(policies) > len(shown):
        click.echo(f"      and {len(policies) - len(shown):,} policies more")
