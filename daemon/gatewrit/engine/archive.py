"""What may be asked beside enforcement of one policy, of what happened, and of how things stood: in threads.

Whoever asks names a policy as it likes, so nothing here makes a path of it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gatewrit.engine.answer import NotKeptError
from gatewrit.engine.journal.database import JournalError
from gatewrit.engine.particulars import UnknownPolicyError
from gatewrit.engine.past import local_of, read_past, view_of
from gatewrit.engine.portray import listing, portray
from gatewrit.engine.telling import read_events, read_revisions
from gatewrit.policy.instant import utc_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatewrit.engine.events import Page, Turn
    from gatewrit.engine.intake import Intake
    from gatewrit.engine.journal.reader import Past
    from gatewrit.engine.particulars import Listing, Particulars, Revision
    from gatewrit.engine.snapshot import PastView
    from gatewrit.engine.status import Standing


class Archive:
    """One gateway's; `standing` gives how things are now."""

    def __init__(self, state: Path, standing: Callable[[], Standing]) -> None:
        self._state = state
        self._standing = standing
        self._reading = asyncio.Lock()

    async def events(self, turn: Turn) -> Page:
        """Give events of the journal; raises NotKeptError if it can't be read."""
        try:
            return await asyncio.to_thread(read_events, self._state, turn)
        except JournalError as error:
            raise NotKeptError(f"the journal can't be read: {error}") from None

    async def stood(self, at: int) -> PastView:
        """Give how the gateway stood at a past instant (epoch seconds); raises NotKeptError."""
        return view_of(await self._past(at))

    async def particulars(self, name: str, at: int | None = None) -> Particulars:
        """Give what is shown of a policy, now or at a past instant; raises UnknownPolicyError, NotKeptError."""
        if at is not None:
            past = await self._past(at)
            if name not in past.policies:
                raise UnknownPolicyError(name)
            then, until, end = past.policies[name].policy, local_of(past).suspended_until(name, at), at

            def work_then() -> Particulars:
                return portray(then, None, until, tuple(each for each in self._told_of(name) if each.at <= end))

            return await asyncio.to_thread(work_then)
        standing = self._standing()
        intake = _known(standing, name)
        policy, kept = intake.policies[name], intake.kept[name]

        def work() -> Particulars:
            return portray(policy, kept.document.source.sha256, standing.local.suspended.get(name), self._told_of(name))

        return await asyncio.to_thread(work)

    async def listing(self, name: str, start: int, limit: int) -> Listing:
        """Give some of the entries that a policy names; raises UnknownPolicyError."""
        policy = _known(self._standing(), name).policies[name]
        return await asyncio.to_thread(listing, policy, start, limit)

    async def _past(self, at: int) -> Past:
        # One at a time: each reads the whole journal, and parses every policy there was.
        async with self._reading:
            return await asyncio.to_thread(read_past, self._state, at, utc_text(at))

    def _told_of(self, name: str) -> tuple[Revision, ...]:
        try:
            return read_revisions(self._state, name)
        except JournalError:
            # That it can't be read is a problem of its own; what is enforced is shown without it.
            return ()


def _known(standing: Standing, name: str) -> Intake:
    intake = standing.intake
    if intake is None or name not in intake.policies or name not in intake.kept:
        raise UnknownPolicyError(name)
    return intake
