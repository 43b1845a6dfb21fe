"""The gateway's surroundings as they change: what the host says, for its own traffic to be spared, and its VRFs.

Addresses and links are followed at once; next hops and resolvers are read again twice a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import structlog

from gatewrit.compile.cells import FAMILIES
from gatewrit.compile.memo import Drawer
from gatewrit.compile.overlap import Entries, texts
from gatewrit.compile.segments import subtract
from gatewrit.compile.spans import Spans, clip, merge
from gatewrit.compile.surroundings import ALONE
from gatewrit.engine.status import Trouble
from gatewrit.engine.timing import RARENESS
from gatewrit.kernel.host import Host, drain, open_changes
from gatewrit.policy.model import IPV4_DTYPE, IPV6_DTYPE, Ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gatewrit.compile.memo import Memo
    from gatewrit.compile.surroundings import Surroundings
    from gatewrit.engine.clock import Clock
    from gatewrit.engine.timing import Agenda
    from gatewrit.kernel.host import HostReader
    from gatewrit.policy.model import Policy
    from gatewrit.policy.terms import Family

log = structlog.get_logger()

#: Seconds between two readings while nothing is told, of 40 ms each, and after something was: changes come in bursts.
READ_EVERY, SETTLED = 30.0, 0.1
#: A reading that takes t seconds follows a change after t times this at the earliest: subscribers' links come and go.
_BUSY = 20.0
#: Where resolvers stand; systemd-resolved keeps the real ones behind its stub's back.
RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_MOST = 1 << 20


def surroundings(base: Surroundings, host: Host, resolvers: Iterable[str]) -> Surroundings:
    """Give the surroundings of a host; `base` is what the settings say."""
    spared = {ip_address(each) for each in (*host.addresses, *host.next_hops, *resolvers)}
    found: list[Ranges] = []
    for family in FAMILIES:
        numbers = sorted(int(each) for each in spared if each.version == family)
        if numbers:
            found.append(_ranges(family, numbers))
    return replace(base, masters=MappingProxyType(dict(host.masters)), spared=tuple(found))


def read_resolvers(files: Iterable[Path] = RESOLVERS) -> frozenset[str]:
    """Give the addresses that resolv.conf(5) files name; what isn't there or no address is left out."""
    found = set()
    for file in files:
        with contextlib.suppress(OSError), file.open("rb") as open_file:
            for line in open_file.read(_MOST).decode("utf-8", "replace").splitlines():
                key, *values = line.split() or [""]
                if key == "nameserver" and values:
                    with contextlib.suppress(ValueError):
                        address = ip_address(values[0].partition("%")[0])
                        if not address.is_link_local:
                            found.add(str(address))
    return frozenset(found)


def overlaps(policies: Iterable[Policy], around: Surroundings, memo: Memo | None = None) -> list[Trouble]:
    """Say which policies name the gateway's own addresses, next hops or resolvers.

    With a `memo`, only policies and surroundings that have changed since the last time are looked at.
    """
    drawer = memo.overlaps if memo else Drawer()
    spared = tuple(merge(family, around.spared) for family in FAMILIES)
    asked = [(policy, ("met", around.spared, policy.ranges, policy.exceptions.prefixes)) for policy in policies]
    fresh = [(policy, key) for policy, key in asked if drawer.known(key) is None]
    entries = Entries.of([policy for policy, _ in fresh])
    near = {index for each in spared for index in entries.meeting(each)}
    for index, (policy, key) in enumerate(fresh):
        drawer.put(key, _met(policy, spared) if index in near else (0, ()))
    troubles = []
    for policy, key in asked:
        count, some = drawer.get(key, lambda: (0, ()))
        if count:
            message = (
                f"{policy.id} covers this gateway's own addresses, next hops or resolvers: {', '.join(some)}"
                f"{' and others' if count > 3 else ''}. They are carved out for the gateway's own traffic; what is "
                "forwarded to or from them is blocked as ordered"
            )
            troubles.append(Trouble("protected_overlap", "warning", message, policy.id, str(policy.place)))
    drawer.turn()
    return troubles


def _met(policy: Policy, spared: Iterable[Spans]) -> tuple[int, tuple[str, ...]]:
    """Count the spared spans that a policy names, and write the first few."""
    met = []
    for each in spared:
        family = each.family
        parts = [clip(part.first, part.last, each)[:2] for part in policy.ranges if part.family == family]
        named = merge(family, [Spans(family, *part) for part in parts])
        met.append(subtract(named, merge(family, policy.exceptions.prefixes)))
    return sum(len(each) for each in met), tuple([text for each in met for text in texts(each, 3)][:3])


def here(reader: HostReader, base: Surroundings = ALONE) -> Surroundings:
    """Read once, for who renders without a daemon; where the host can't be asked, nothing is spared."""
    try:
        return surroundings(base, reader.read(), read_resolvers())
    except OSError as error:
        log.warning("host.unreadable", reason=str(error))
        return base


class Around:
    """Follows the host. It plans `host` on the agenda; the daemon calls `look` when that is due."""

    def __init__(self, reader: HostReader | None, base: Surroundings, clock: Clock, agenda: Agenda) -> None:
        self._reader = reader
        self._base = base
        self._clock = clock
        self._agenda = agenda
        self._seen: tuple[Host, frozenset[str]] | None = None
        self.now = base
        self.overlaps: list[Trouble] = []
        self._unreadable: list[Trouble] = []
        self._took = 0.0

    @property
    def troubles(self) -> list[Trouble]:
        """What is to be said of the host."""
        return [*self._unreadable, *self.overlaps]

    async def look(self) -> bool:
        """Read the host again; True if rules may have to change for it. What can't be read stays as it was."""
        if self._reader is None:
            return False
        began = self._clock.monotonic()
        seen = self._seen
        try:
            seen = await asyncio.to_thread(lambda reader: (reader.read(), read_resolvers()), self._reader)
            self._unreadable = []
        except OSError as error:
            if not self._unreadable:
                log.error("host.unreadable", reason=str(error))  # noqa: TRY400 - no fault of ours
            message = f"the gateway's own addresses and next hops can't be read: {error}; those known before are spared"
            self._unreadable = [Trouble("host_unreadable", "warning", message)]
        self._took = self._clock.monotonic() - began
        self._agenda.plan("host", max(READ_EVERY, self._took * RARENESS))
        if seen is None or seen == self._seen:
            return False
        self._seen = seen
        self.now = surroundings(self._base, *seen)
        return True

    def compare(self, policies: Iterable[Policy], memo: Memo) -> None:
        """See which policies cover what is spared."""
        self.overlaps = overlaps(policies, self.now, memo)

    @contextmanager
    def watch(self, wake: Callable[[], None]) -> Iterator[None]:
        """Plan a look soon after addresses or links have changed, and call `wake`."""
        if self._reader is None:
            yield
            return
        loop = asyncio.get_running_loop()
        with open_changes() as listener:

            def told() -> None:
                drain(listener)
                self._agenda.hasten("host", max(SETTLED, self._took * _BUSY))
                wake()

            loop.add_reader(listener, told)
            try:
                yield
            finally:
                loop.remove_reader(listener)


def _ranges(family: Family, numbers: list[int]) -> Ranges:
    low = (1 << 64) - 1
    if family == 4:
        array = np.array(numbers, IPV4_DTYPE)
    else:
        array = np.array([(number >> 64, number & low) for number in numbers], IPV6_DTYPE)
    return Ranges(family, array, array, np.zeros(len(numbers), np.int32), "this host")
