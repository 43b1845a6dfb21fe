"""What others set up beside our table so that packets don't come to it as they were sent: told, with what to do.

None of it is undone here: it belongs to somebody, and may be meant. All are warnings, for what is ordered is loaded,
and whether a packet that an order means takes such a way isn't known.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gatewrit.engine.status import Trouble
from gatewrit.engine.timing import RARENESS
from gatewrit.kernel.beside import FAMILIES, Beside
from gatewrit.kernel.ruleset import HOOK_NUMBERS
from gatewrit.policy.faults import first_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from gatewrit.engine.clock import Clock
    from gatewrit.engine.timing import Agenda
    from gatewrit.kernel.beside import Base, BesideReader, Deed
    from gatewrit.kernel.ruleset import HookName

log = structlog.get_logger()

#: Seconds between two readings while nothing is told, and after something was: changes come in bursts.
READ_EVERY, SETTLED = 300.0, 2.0
#: So many names stand in a message.
_NAMED = 5
_NETDEV = 5
_INGRESS = 5


def troubles(found: Beside, hooks: Collection[HookName], priority: int) -> list[Trouble]:
    """Say what passes beside chains on these hooks with this priority; shared with whoever examines a host."""
    told = [
        *_flowtables(found, hooks),
        *_rewritten(found, hooks, priority),
        *_proxied(found, hooks),
        *_forwarded(found, hooks),
        *_bridged(found, hooks),
        *_programs(found, hooks),
    ]
    return [Trouble(code, "warning", message) for code, message in told]


def few(names: Collection[str]) -> str:
    """Write names, the first few of very many."""
    return first_of(sorted(set(names)), _NAMED)


def _flowtables(found: Beside, hooks: Collection[HookName]) -> Iterator[tuple[str, str]]:
    if found.flowtables and {"forward", "prerouting"} & {*hooks}:
        names = few([f"{FAMILIES[each.family]} {each.table} {each.name}" for each in found.flowtables])
        message = (
            f"flowtables ({names}) send established connections on at ingress: those that began before an order "
            "acts, or that it doesn't stop at once, pass beside every rule until they end"
        )
        yield "bypass_flowtable", message


def _chains(found: Beside, deed: Deed, bases: Collection[Base]) -> list[str]:
    """Give the chains with a rule that does this, on one of these base chains or reached from one."""
    own = {(each.family, each.table, each.name) for each in found.bases}
    meant = {(each.family, each.table, each.name) for each in bases}
    tables = {(each.family, each.table) for each in bases}
    return [
        f"{FAMILIES[each.family]} {each.table} {each.chain}"
        for each in found.doers
        if each.deed == deed
        and (
            (each.family, each.table, each.chain) in meant
            # Who jumps to it isn't known: any of the table's chains may.
            or ((each.family, each.table) in tables and (each.family, each.table, each.chain) not in own)
        )
    ]


def _rewritten(found: Beside, hooks: Collection[HookName], priority: int) -> Iterator[tuple[str, str]]:
    # Forwarding and delivery come after prerouting, whatever the priorities.
    later = not {"forward", "input"}.isdisjoint(hooks)
    meant = {HOOK_NUMBERS[name] for name in hooks}
    ahead = [
        each
        for each in found.bases
        if each.family != _NETDEV
        and each.hook != _INGRESS
        and ((later and each.hook == HOOK_NUMBERS["prerouting"]) or (each.priority <= priority and each.hook in meant))
    ]
    entered = [each for each in found.bases if _enters(each) and {*hooks} != {"output"}]
    rewriting = _chains(found, "rewrites", [each for each in ahead if each.kind == "nat"])
    if chains := [*rewriting, *_chains(found, "writes", [*ahead, *entered])]:
        message = (
            f"rules in {few(chains)} rewrite destinations before packets are judged: one that was sent to a blocked "
            "address and is rewritten passes, and one that is rewritten to a blocked address is stopped"
        )
        yield "bypass_nat", message


def _enters(base: Base) -> bool:
    """Whether packets meet it where they come in, ahead of all hooks of IP."""
    return base.family == _NETDEV or base.hook == _INGRESS


def _proxied(found: Beside, hooks: Collection[HookName]) -> Iterator[tuple[str, str]]:
    if "forward" not in hooks or "input" in hooks:
        return
    bases = [each for each in found.bases if each.hook == HOOK_NUMBERS["prerouting"] and each.family != _NETDEV]
    if chains := _chains(found, "proxies", bases):
        message = (
            f"rules in {few(chains)} hand packets to a proxy on this gateway (tproxy): these are never forwarded, so "
            "that they aren't judged, and the proxy's own connections are the gateway's"
        )
        yield "bypass_tproxy", message


def _forwarded(found: Beside, hooks: Collection[HookName]) -> Iterator[tuple[str, str]]:
    bases = [each for each in found.bases if _enters(each)]
    if {*hooks} != {"output"} and (chains := _chains(found, "forwards", bases)):
        message = f"rules in {few(chains)} send packets on from where they come in (fwd), before anything is judged"
        yield "bypass_ingress", message


def _bridged(found: Beside, hooks: Collection[HookName]) -> Iterator[tuple[str, str]]:
    if found.links is None or {*hooks} == {"output"}:
        return
    beside = [
        f"{each.name} ({few(each.ports)})"
        for each in found.links.bridges
        if len(each.ports) > 1 and not all(map(any, zip(each.calls, found.bridged, strict=True)))
    ]
    if beside:
        message = (
            f"what is bridged between the ports of {few(beside)} isn't routed, and passes beside every rule for IP"
        )
        yield "bypass_bridge", message


def _programs(found: Beside, hooks: Collection[HookName]) -> Iterator[tuple[str, str]]:
    if found.links is not None and found.links.xdp and {*hooks} != {"output"}:
        message = (
            f"XDP programs on {few(found.links.xdp)} see packets before anything else does, and may send them on; "
            "what they do can't be seen from here"
        )
        yield "bypass_xdp", message


class Watcher:
    """Reads it now and then. It plans `beside` on the agenda; the daemon calls `look` when that is due."""

    def __init__(
        self,
        reader: BesideReader | None,
        hooks: Collection[HookName],
        priority: int,
        clock: Clock,
        agenda: Agenda,
    ) -> None:
        self._reader = reader
        self._hooks = hooks
        self._priority = priority
        self._clock = clock
        self._agenda = agenda
        self._took = 0.0
        self._stirred = False
        self._unreadable = False
        self.troubles: list[Trouble] = []
        if reader is not None:
            agenda.plan("beside", 0.0)

    def stir(self) -> bool:
        """Note that somebody changed something: read soon, but never all the time. True if that wasn't planned yet."""
        if self._reader is None or self._stirred:
            return False
        self._stirred = True
        self._agenda.hasten("beside", max(SETTLED, self._took * RARENESS))
        return True

    async def look(self) -> bool:
        """Read again; True if there is something else to tell. What can't be read stays as it was."""
        assert self._reader is not None  # noqa: S101 - else it is never due
        began, before = self._clock.monotonic(), self.troubles
        self._stirred = False
        try:
            self.troubles = troubles(await asyncio.to_thread(self._reader), self._hooks, self._priority)
            self._unreadable = False
        except OSError as error:
            if not self._unreadable:
                log.warning("beside.unreadable", reason=str(error), means="what passes beside the table isn't known")
            self._unreadable = True
        self._took = self._clock.monotonic() - began
        self._agenda.plan("beside", max(READ_EVERY, self._took * RARENESS))
        for each in self.troubles:
            if each not in before:
                log.warning("beside.found", code=each.code, what=each.message)
        return self.troubles != before
