"""The HTTP server's side: what the enforcing process said last, and what is shown when it says nothing any more."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, TypeVar

import structlog

import gatewrit
from gatewrit.api import certificate, codec, tokens
from gatewrit.api.access import Keys
from gatewrit.api.documents import instant
from gatewrit.api.question import parameters_of
from gatewrit.api.wire import RequestError
from gatewrit.api.words import SEE_WHY, SILENT
from gatewrit.engine.answer import NotKeptError
from gatewrit.engine.events import Recent
from gatewrit.engine.particulars import UnknownPolicyError
from gatewrit.engine.snapshot import Enforcement, Problem, RulesetView, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatewrit.api.access import Access
    from gatewrit.api.codec import Happened, Material, Told
    from gatewrit.engine.answer import Answer, Question
    from gatewrit.engine.events import Page, Turn
    from gatewrit.engine.particulars import Listing, Particulars
    from gatewrit.engine.snapshot import PastView

log = structlog.get_logger()

T = TypeVar("T")

#: Seconds without a word after which the enforcer is said to be gone: five ticks.
_SILENCE = 5 * codec.TICK_EVERY
#: Seconds for an answer. A first question about a million addresses takes one, ten thousand orders at one address half.
_ANSWER = 20.0
#: Questions that wait for an answer at once.
_WAITING = 64
_ACTION = (
    "See `systemctl status gatewrit` and its log on the gateway. Orders go on starting and ending in the kernel, but "
    "nothing new is enforced and nothing is put right"
)


class Remote(asyncio.Protocol):
    """A snapshot source that lives in another process. One object over all connections to it."""

    def __init__(self, gateway: str, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        self._access = access
        self._clock = clock
        unknown = RulesetView(0, None, None, None, 0, 0)
        self._held = Snapshot(gateway, gatewrit.__version__, int(time.time()), Enforcement.STARTING, unknown, (), ())
        self._heard: float | None = None
        self._heard_at: int | None = None
        self._turning = False
        self._marked: tuple[Snapshot, int, Snapshot] | None = None
        self._material: Material | None = None
        self._split = codec.Splitter(b"STKEA", codec.LARGEST)
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, asyncio.Future[Told]] = {}
        self._numbers = count()
        self.lost, self.heard = asyncio.Event(), asyncio.Event()
        self.recent = Recent()
        #: Called whenever something else is to be shown.
        self.told: Callable[[], None] = lambda: None

    # -- what is shown -------------------------------------------------------------------------------------------

    def connected(self) -> bool:
        """Whether the enforcer is there and was heard from."""
        heard = self._heard
        return self._transport is not None and heard is not None and self._clock() - heard < _SILENCE

    def alive(self) -> bool:
        """Whether the enforcer is there, and its loops turn."""
        return self._turning and self.connected()

    def snapshot(self) -> Snapshot:
        """Return what the enforcer said last; if it is silent, with a problem that says so and for how long."""
        if self.connected():
            return self._held
        now = int(time.time())
        marked = self._marked
        if marked is None or marked[0] is not self._held or marked[1] != now:
            marked = self._marked = (self._held, now, self._mark(now))
        return marked[2]

    def _mark(self, now: int) -> Snapshot:
        if self._heard_at is None:
            since, text = self._held.started_at, "the enforcing process hasn't been heard from yet: nothing is known"
        else:
            since, ago = self._heard_at, max(0, now - self._heard_at)
            text = (
                f"the enforcing process is silent: what is shown here is {ago} s old, of {instant(since)}; "
                "what the kernel had stays in force"
            )
        problem = Problem(SILENT, "error", text, _ACTION, since)
        held = self._held
        calm = held.enforcement is Enforcement.IN_SYNC
        enforcement = Enforcement.DEGRADED if calm else held.enforcement
        return replace(held, enforcement=enforcement, problems=(problem, *held.problems), progress=None)

    async def explain(self, question: Question) -> Answer:
        """Have the enforcer answer; raises NotKeptError, and RequestError if no answer can be had."""
        told = await self._ask(codec.Ask(next(self._numbers), parameters=parameters_of(question)))
        return _given(told.answer)

    async def stood(self, at: int) -> PastView:
        """Have the enforcer tell how the gateway stood at a past instant; raises as `explain` does."""
        return _given((await self._ask(codec.Ask(next(self._numbers), at=at))).past)

    async def particulars(self, name: str, at: int | None = None) -> Particulars:
        """Have the enforcer tell all of a policy; raises as `explain` does, and UnknownPolicyError."""
        return _given((await self._ask(codec.Ask(next(self._numbers), policy=name, at=at))).particulars)

    async def listing(self, name: str, start: int, limit: int) -> Listing:
        """Have the enforcer give entries that a policy names; raises as `particulars` does."""
        stretch = codec.Stretch(name, start, limit)
        return _given((await self._ask(codec.Ask(next(self._numbers), stretch=stretch))).listing)

    async def events(self, turn: Turn) -> Page:
        """Have the enforcer read the journal; raises as `explain` does."""
        return _given((await self._ask(codec.Ask(next(self._numbers), turn=turn))).page)

    @property
    def archive(self) -> Remote:
        """What may be asked beside `explain`."""
        return self

    async def _ask(self, ask: codec.Ask) -> Told:
        transport = self._transport
        if transport is None or not self.connected():
            raise RequestError(503, SILENT, f"Nobody can tell: the enforcing process isn't heard from. {SEE_WHY}")
        if len(self._waiting) >= _WAITING:
            raise RequestError(503, "busy", "Too many questions wait for their answers; ask again in a moment.")
        waiting: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._waiting[ask.number] = waiting
        try:
            transport.write(codec.encode(codec.QUESTION, ask))
            async with asyncio.timeout(_ANSWER):
                told = await waiting
        except TimeoutError:
            raise RequestError(503, "busy", f"No answer came within {_ANSWER:g} s; ask again.") from None
        finally:
            del self._waiting[ask.number]
        if told.not_kept is not None:
            raise NotKeptError(told.not_kept)
        if told.unknown:
            raise UnknownPolicyError(ask.policy)
        return told

    # -- being told ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to listen."""
        if not isinstance(transport, asyncio.Transport):  # pragma: no cover
            raise TypeError("a stream is needed")
        self._split = codec.Splitter(b"STKEA", codec.LARGEST)
        self._transport = transport
        self.lost.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those who wait that no answer comes."""
        del exc
        self._transport = None
        for waiting in self._waiting.values():
            if not waiting.done():
                gone = RequestError(503, SILENT, f"The enforcing process ended before it answered. {SEE_WHY}")
                waiting.set_exception(gone)
        self.lost.set()
        self.told()

    def data_received(self, data: bytes) -> None:
        """Take in what the enforcer says."""
        self._split.feed(data)
        try:
            for kind, body in self._split.messages():
                self._take(codec.decode(kind, body))
        except (codec.MessageError, certificate.CertificateError, tokens.TokensError) as error:
            # After an upgrade the two may be of different versions until both are restarted.
            log.error("http.enforcer_not_understood", reason=str(error))  # noqa: TRY400 - no mistake
            if self._transport is not None:
                self._transport.abort()

    def _take(self, value: object) -> None:
        """Take in one message."""
        self._heard, self._heard_at = self._clock(), int(time.time())
        self.heard.set()
        if isinstance(value, Snapshot):
            self._held = value
            self.told()
        elif isinstance(value, codec.Happened):
            self.recent = _followed(self.recent, value)
            self.told()
        elif isinstance(value, codec.Tick):
            self._turning = value.alive
        elif isinstance(value, codec.Material):
            # With other keys all streams end, so that everybody is asked for a token again: not for the same ones.
            if value != self._material:
                self._access.keys, self._material = keys(value), value
        elif isinstance(value, codec.Told) and (waiting := self._waiting.get(value.number)) and not waiting.done():
            waiting.set_result(value)


def _given(value: T | None) -> T:
    """Return what was asked for; raises RequestError if something else came."""
    if value is None:
        raise RequestError(503, "no_answer", "The enforcing process couldn't answer; its log says more.")
    return value


def _followed(recent: Recent, happened: Happened) -> Recent:
    """Return what is recent once something has happened; an enforcer that was started anew tells some of it again."""
    known = recent.floor < recent.last and happened.after <= recent.last
    last = happened.events[-1].id if happened.events else happened.after
    if not known or last < recent.last:
        return Recent(happened.after, happened.events)
    recent.add(event for event in happened.events if event.id > recent.last)
    return recent


def keys(material: Material) -> Keys:
    """Make of the files' contents what lets clients in. The enforcer has looked at them, and sends what is good."""
    text, cert, key = (codec.unpack(each) for each in (material.tokens, material.cert, material.key))
    context = None if cert is None or key is None else certificate.make_context(cert, key)
    return Keys(None if text is None else tokens.parse(text, "tokens"), context)
