"""The verb that proves the kernel against the policies: verify."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from gatewrit.api import client
from gatewrit.cli import waiting
from gatewrit.cli.app import FAILED, FINE, Quit, print_json, run, unreadable, verb
from gatewrit.cli.service import nat64, rails
from gatewrit.cli.taken import book, taken_in
from gatewrit.compile.surroundings import Surroundings
from gatewrit.engine import memory, undo
from gatewrit.engine.around import here
from gatewrit.engine.clock import SystemClock
from gatewrit.engine.store import Store
from gatewrit.engine.trust import settled_now
from gatewrit.kernel.host import Rtnetlink
from gatewrit.kernel.socket import NftSocket
from gatewrit.policy.load import join
from gatewrit.verify.orders import Gateway
from gatewrit.verify.proof import Asked, prove

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.engine.store import Kept
    from gatewrit.policy.model import Policy
    from gatewrit.settings import Settings
    from gatewrit.verify.differences import Difference
    from gatewrit.verify.proof import Proof

#: The daemon writes down what counts after it has enforced it; so many seconds later it has.
_SETTLED = 1.0
_ATTEMPTS = 5


@verb("gatewrit verify && echo equal")
def verify(settings: Settings, *, as_json: bool) -> int:
    """Read the kernel back, and prove that it blocks exactly what the policies say.

    All packets are compared, on every hook and from now on, with the policies that count: those that the running
    daemon goes by, or else those in the policies directory. What is missing and what is too much is told by policy.
    Exits with 1 if there is anything.
    """
    with waiting.working("proving what the kernel does"):
        proof, policies = run(_verify(settings))
    if as_json:
        print_json(
            {
                "equal": proof.equal,
                "missing": [_json(each) for each in proof.missing],
                "excess": [_json(each) for each in proof.excess],
            }
        )
    else:
        _tell(proof, policies)
    return FINE if proof.equal else FAILED


async def _verify(settings: Settings) -> tuple[Proof, int]:
    """Prove it; once more if what counts changed meanwhile."""
    for _ in range(_ATTEMPTS):
        served = await _is_served(settings)
        kept = await asyncio.to_thread(_kept, settings)
        proof, policies = await _prove(settings, kept, served=served)
        if proof.equal or not served:
            return proof, policies
        await asyncio.sleep(_SETTLED)
        if _texts(await asyncio.to_thread(_kept, settings)) == _texts(kept):
            return proof, policies
    raise Quit("what counts keeps changing, so nothing could be proved; try again when no reload is under way")


async def _is_served(settings: Settings) -> bool:
    try:
        await client.call(settings.runtime, "status", within=30)
    except client.NoDaemonError:
        return False
    return True


async def _prove(settings: Settings, kept: Mapping[str, Kept], *, served: bool) -> tuple[Proof, int]:
    async with NftSocket() as kernel:
        actual = await kernel.read()
    # After the reading: rules that are past by now may be gone already, none that is still to come can be.
    now = settled_now(SystemClock(), settings.state)
    policies = await asyncio.to_thread(_counting, settings, kept, now, served=served)
    suspended, protected = book(settings).suspended, rails(settings).ranges
    around = await asyncio.to_thread(here, Rtnetlink(), Surroundings(nat64(settings)))
    gateway = Gateway(_names(settings), suspended, around.nat64, around.masters, around.spared, protected)
    asked = Asked(policies, settings.hooks, settings.priority, gateway, _ledger(settings))
    return await asyncio.to_thread(prove, actual, asked, now), len(policies)


def _kept(settings: Settings) -> dict[str, Kept]:
    kept, damaged = Store(settings.state).load()
    if damaged:
        raise Quit(
            f"what counts can't be read, so nothing can be proved: {damaged[0]}; `gatewrit reload` has it written anew "
            "from the policy files"
        )
    return kept


def _texts(kept: Mapping[str, Kept]) -> dict[str, Any]:
    return {name: each.document_json() for name, each in kept.items()}


def _counting(settings: Settings, kept: Mapping[str, Kept], now: int, *, served: bool) -> tuple[Policy, ...]:
    """Give the policies that count: for a daemon those that it keeps; without one as it would take them in."""
    if served or _rolled_back(settings):
        services = {name: {called: one.service for called, one in each.services.items()} for name, each in kept.items()}
        return tuple(join(each.document, services[name]) for name, each in kept.items())
    return tuple(taken_in(settings, kept, now)[0].policies.values())


def _rolled_back(settings: Settings) -> bool:
    """Whether an earlier generation counts, and not the policy files."""
    try:
        return undo.load(settings.state).rolled_back is not None
    except (OSError, ValueError) as error:
        raise unreadable("whether the policy files count can't be read, so nothing can be proved", error) from None


def _names(settings: Settings) -> tuple[str, ...]:
    return (settings.gateway.name, *settings.gateway.tags)


def _ledger(settings: Settings) -> dict[str, tuple[str, ...]]:
    try:
        return memory.load_ledger(settings.state).members
    except (OSError, ValueError) as error:
        raise unreadable("whom the counters count for can't be read, so nothing can be proved", error) from None


def _json(difference: Difference) -> dict[str, object]:
    return {
        "policy": difference.policy,
        "what": difference.what,
        "hook": difference.hook,
        "packets": difference.packets,
        "more": difference.more,
    }


def _tell(proof: Proof, policies: int) -> None:
    for title, found in (("missing", proof.missing), ("too much", proof.excess)):
        for each in found:
            click.echo(f"{click.style(title, fg='red')}: {each}")
    if proof.equal:
        click.echo(f"equal: over all packets the kernel does exactly what the policies say (policies: {policies})")
    else:
        click.echo("unequal: the kernel doesn't do what the policies say; `gatewrit plan` shows what would mend it")
