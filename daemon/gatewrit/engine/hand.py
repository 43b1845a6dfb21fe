"""What stands by hand while the daemon lives: the book, whom it is kept for, and who waits for what."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import structlog

from gatewrit.compile.acting import Local
from gatewrit.compile.rails import Rails
from gatewrit.engine import byhand
from gatewrit.engine.byhand import Book, RefusedError
from gatewrit.engine.holds import Rules
from gatewrit.engine.intake import take_in
from gatewrit.engine.status import Trouble
from gatewrit.policy.faults import suggest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

    from gatewrit.engine.byhand import Act, Done, Request
    from gatewrit.engine.chronicle import Chronicle
    from gatewrit.engine.holds import Held
    from gatewrit.engine.scribe import Scribe
    from gatewrit.engine.store import Kept
    from gatewrit.engine.takeback import Taking
    from gatewrit.policy.load import Reading

log = structlog.get_logger()


class Hand:
    """Owns the book. The daemon serves one request after the other, as everything that changes something."""

    def __init__(self, scribe: Scribe, chronicle: Chronicle, names: tuple[str, ...]) -> None:
        self._scribe = scribe
        self._chronicle = chronicle
        self._names = names
        self._asked: deque[tuple[Request | Taking, asyncio.Future[Done]]] = deque()
        self._lost: list[Trouble] = []
        self.book = Book()
        #: When each suspension that has ended in this life did.
        self.resumed: dict[str, int] = {}

    def load(self) -> None:
        """Read the book back. If it can't be read, orders are enforced as their files say, and that is said."""
        path = self._scribe.state / "byhand.json"
        try:
            self.book = byhand.load(self._scribe.state)
        except (OSError, ValueError) as error:
            meaning = "who was suspended by hand isn't known any more, so all orders are enforced as their files say"
            log.error("state.damaged", what=f"{path}: {error}: {meaning}")  # noqa: TRY400 - no fault of ours
            self._lost = [Trouble("by_hand_lost", "error", f"{path}: {error}: {meaning}", place=str(path))]

    @property
    def local(self) -> Local:
        """What is true of this gateway alone."""
        return Local(self._names, self.book.suspended)

    def rules(self, share: float, rails: Rails) -> Rules:
        """Give what holding goes by now."""
        return Rules(share, self.book.held, self.book.released, self.local, rails)

    def troubles(self, now: int) -> list[Trouble]:
        """Give what people must know of all this."""
        return [*self._lost, *byhand.troubles(self.book, now)]

    # -- who waits for what --------------------------------------------------------------------------------------

    @property
    def asked(self) -> bool:
        """Whether somebody waits for something to be done."""
        return bool(self._asked)

    async def ask(self, request: Request | Taking, wake: asyncio.Event) -> Done:
        """Have the daemon do something, and wait until it is done; raises `RefusedError`."""
        waiter: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._asked.append((request, waiter))
        wake.set()
        return await waiter

    async def serve(self, carry_out: Callable[[Request | Taking], Awaitable[Done]]) -> None:
        """Do what was asked for first."""
        request, waiter = self._asked.popleft()
        try:
            done = await carry_out(request)
        except RefusedError as refusal:
            if not waiter.done():
                waiter.set_exception(refusal)
        else:
            if not waiter.done():
                waiter.set_result(done)

    # -- the book ------------------------------------------------------------------------------------------------

    async def keep(self, book: Book, acts: Iterable[Act], *, ordered: bool = False) -> None:
        """Take over a new state of the book with the acts that led to it: logged, and written down.

        `ordered`: somebody acted just now, so that a book which was lost is settled, whatever came of the act.
        """
        anew = ordered and bool(self._lost)
        for act in acts:
            self._chronicle.note(act.kind, act.policy, _said(act))
            given = {name: getattr(act, name) for name in ("by", "uid", "reason", "until", "content")}
            event = log.warning if act.kind in {"suspended", "held", "released", "forgotten"} else log.info
            event(
                f"policy.{act.kind}", policy=act.policy, at=act.at, **{key: each for key, each in given.items() if each}
            )
            if act.kind in {"resumed", "suspension_ended"}:
                self.resumed[act.policy] = act.at
        if anew:
            self._lost = []
        if book != self.book or anew:
            self.book = book
            await self._scribe.write("acts by hand", lambda: byhand.save(self._scribe.state, book))

    async def sweep(self, now: int) -> None:
        """Take out the suspensions that have ended."""
        await self.keep(*byhand.sweep(self.book, now))

    async def settle(self, held: Iterable[Held], now: int) -> None:
        """Note what a reload held back."""
        await self.keep(*byhand.settle(self.book, {each.policy: each.content for each in held}, now))


def check_gone(name: str, reading: Reading, kept: Mapping[str, Kept], counted: Collection[str], now: int) -> None:
    """See to it that only a policy whose file is gone is forgotten; raises `RefusedError`."""
    if reading.missing:
        raise RefusedError("directory_missing", "the policies directory can't be read: nobody can say what is gone")
    intake = take_in(reading, kept, now, Rails())
    if name in intake.gone or (name in counted and name not in intake.kept and name not in intake.rejected):
        return
    if name not in intake.kept and name not in intake.rejected:
        near = suggest(name, {*intake.kept, *counted})
        raise RefusedError("unknown_policy", f"nothing is known here of a policy {name}{near}")
    raise RefusedError(
        "file_there",
        f"the file of {name} is still there, and would bring it back; to lift the order, raise `revision` and write "
        "`state: rescinded`; to forget the policy, take the file away first",
    )


def _said(act: Act) -> dict[str, Any]:
    """Give an act as the journal has it."""
    by = None if act.uid is None else {"uid": act.uid, "name": act.by}
    return {"at": act.at, "by": by, "reason": act.reason, "until": act.until, "content": act.content}
