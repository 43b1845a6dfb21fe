"""How the daemon takes changes back: it keeps the generations, and what `undo.json` says.

What can't be written is told by the scribe and stops nothing; only a change that is to be confirmed isn't begun
unless it is written down that it must be, for nobody else could take it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import structlog

from gatewrit.engine import undo
from gatewrit.engine.byhand import RefusedError
from gatewrit.engine.generations import Generations, UnknownGenerationError, put_back
from gatewrit.engine.undo import RolledBack, Undo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gatewrit.engine.chronicle import Chronicle
    from gatewrit.engine.scribe import Scribe
    from gatewrit.engine.status import Trouble
    from gatewrit.engine.store import Kept, Store
    from gatewrit.engine.timing import Agenda
    from gatewrit.engine.undo import Unconfirmed

log = structlog.get_logger()

#: Files that changed by themselves so many seconds before somebody wants to confirm what comes belong to that: a file
#: that is saved is in force before anybody can type a command.
_BELONGS = 60


@dataclass(frozen=True, slots=True)
class Taking:
    """What somebody asks for: to confirm the change that waits, or to go back.

    To go back to `generation`, None for the one before; with a `token` only if that very change still waits.
    """

    verb: Literal["confirm", "rollback"]
    by: str = ""
    uid: int = 0
    generation: int | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Expecting:
    """A change that is to be confirmed within so many seconds, and who makes it."""

    within: int
    by: str
    uid: int


class TakeBack:
    """Keeps the generations and what waits. `store` has the texts of both what counts and what counted."""

    def __init__(self, state: Path, store: Store, scribe: Scribe, chronicle: Chronicle, agenda: Agenda) -> None:
        self._store = store
        self._scribe = scribe
        self._chronicle = chronicle
        self._agenda = agenda
        self._generations = Generations(state)
        self._undo = Undo()
        #: The last generation that somebody ordered, or confirmed.
        self.ordered = 0
        store.spared = lambda: self._generations.texts

    def load(self, now: int) -> list[str]:
        """Read all of it back; what can't be is begun anew and said."""
        lost = [f"{each}: nobody can go back to it any more" for each in self._generations.load()]
        try:
            self._undo = undo.load(self._scribe.state)
        except (OSError, ValueError) as error:
            lost.append(f"{self._scribe.state / undo.FILE}: {error}: the policy files count, and nothing is taken back")
        self._plan(now)
        return lost

    @property
    def rolled_back(self) -> bool:
        """Whether an earlier generation counts, and not the policy files."""
        return self._undo.rolled_back is not None

    @property
    def troubles(self) -> list[Trouble]:
        """Give what people must know of it."""
        return self._undo.troubles

    def told(self) -> str:
        """Say what waits, to be put behind the outcome of a reload."""
        return self._undo.told()

    # -- changes that wait ---------------------------------------------------------------------------------------

    async def expect(self, asked: Expecting, number: int, kept: Mapping[str, Kept], now: int) -> None:
        """Have what comes now wait to be confirmed; `kept` counts in generation `number`. Raises `RefusedError`."""
        await self.note(number, now, kept)
        base = self._generations.settled(number, now - _BELONGS, self.ordered)
        made = self._undo.expecting(base, asked.within, now, (asked.by, asked.uid))
        if not await self._keep(made, now):
            raise RefusedError(
                "state_unwritable",
                "nothing was changed: that the change waits to be confirmed can't be written to the state directory, "
                "so it might not be taken back; free or remount that directory, or leave --confirm-within out",
            )

    async def begun(self, number: int, now: int, *, changed: bool) -> None:
        """Have the time run from now on if something has `changed`: only now it is in force, in generation `number`.

        What reloads again and again without any change mustn't put it off for ever.
        """
        waits = self._undo.unconfirmed
        if waits is None:
            self.ordered = number
        elif changed or not waits.begun:
            await self._keep(self._undo.begun(now), now)
            self._agenda.plan("undo", waits.within)

    async def confirm(self, asked: Taking, number: int, now: int) -> str:
        """Have what counts in generation `number` stay; raises `RefusedError` if no change waits."""
        waits = self._undo.unconfirmed
        if waits is None:
            raise RefusedError(
                "nothing_waits", "no change waits to be confirmed; `gatewrit log` shows what became of it"
            )
        await self._keep(self._undo.confirmed(), now)
        self.ordered = number
        self._chronicle.note("confirmed", None, {"by": {"uid": asked.uid, "name": asked.by}, "base": waits.base})
        return f"confirmed: what counts now stays, and generation {waits.base} isn't put back"

    # -- going back ----------------------------------------------------------------------------------------------

    async def choose(
        self, asked: Taking | None, number: int, kept: Mapping[str, Kept], now: int, *, coming: bool
    ) -> dict[str, Kept] | None:
        """Give the policies to go back to from generation `number`, where `kept` counts; they are kept from now on.

        None is asked when nobody confirmed a change; None is given if that would change nothing, neither what counts
        nor what is `coming`. Raises `RefusedError`.
        """
        waits = self._undo.unconfirmed
        who: Taking | Unconfirmed
        if asked is not None and asked.token is None:
            who, to = asked, asked.generation
            if to is None:
                before = self._generations.before(number)
                if before is None:
                    told = f"nothing that is kept counted before what counts now; {self._generations.told()}"
                    raise RefusedError("unknown_generation", told)
                to = before.number
        elif waits is None or (asked is not None and asked.token != waits.token):
            raise RefusedError("nothing_waits", "that change was confirmed, or taken back already")
        else:
            who, to = waits, waits.base
        try:
            found = put_back(self._generations.read(to, self._store, kept), kept, now)
        except UnknownGenerationError as error:
            raise RefusedError("unknown_generation", str(error)) from None
        expired = who is waits
        # What never began, for the daemon died first, must not come with the next start.
        coming |= waits is not None and expired and not waits.begun
        if not coming and found.keys() == kept.keys() and all(found[name] is each for name, each in kept.items()):
            # Nothing is there to be taken back.
            await self._keep(self._undo.confirmed(), now)
            return None
        # First what counts now: who dies in between finds a change that waits, or one that is taken back.
        await self._scribe.write("last good policies", lambda: self._store.save(found, kept))
        await self._keep(Undo(None, RolledBack(to, now, who.by, who.uid, expired)), now)
        said = {"generation": to, "by": {"uid": who.uid, "name": who.by}, "unconfirmed": expired}
        self._chronicle.note("rolled_back", None, said)
        log.warning("policies.rolled_back", generation=to, by=who.by, unconfirmed=expired)
        return found

    async def give_up(self, reason: str, now: int) -> None:
        """Leave what counts as it is, for it can't be taken back."""
        log.error("policies.not_rolled_back", reason=reason)
        await self._keep(self._undo.confirmed(), now)

    async def followed(self, now: int) -> None:
        """Note that the policy files count again."""
        if self._undo.rolled_back is not None:
            await self._keep(self._undo.followed(), now)

    # -- generations ---------------------------------------------------------------------------------------------

    async def note(self, number: int, now: int, kept: Mapping[str, Kept], *, found: bool = False) -> None:
        """Note what counts in a generation; what was `found` at a start, or put back, is no part of a later trial."""
        back = self._undo.rolled_back
        if found or back is not None:
            self.ordered = number
        origin = None if back is None else self._generations.covering(back.generation)
        restores = None if origin is None else origin.number

        def write() -> None:
            self._store.drop(self._generations.add(number, now, kept, restores), kept)

        await self._scribe.write("generations", write)

    async def forget(self, policy: str, kept: Mapping[str, Kept]) -> None:
        """See to it that a policy that is forgotten never comes back."""
        await self._scribe.write("generations", lambda: self._store.drop(self._generations.forget(policy), kept))

    async def _keep(self, made: Undo, now: int) -> bool:
        """Take over what stands, and write it down."""
        before, self._undo = self._undo, made
        written = made == before or await self._scribe.write("undo", lambda: undo.save(self._scribe.state, made))
        if not written and made.unconfirmed is not None and before.unconfirmed is None:
            self._undo = before
        self._plan(now)
        return written

    def _plan(self, now: int) -> None:
        waits = self._undo.unconfirmed
        if waits is None:
            self._agenda.drop("undo")
        else:
            self._agenda.plan("undo", max(0, waits.deadline - now))
