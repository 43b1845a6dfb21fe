"""Where everything that is shown comes from: the daemon itself, or what stands for it in another process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatewrit.engine.answer import Answer, Question
    from gatewrit.engine.events import Page, Recent, Turn
    from gatewrit.engine.particulars import Listing, Particulars
    from gatewrit.engine.snapshot import PastView, Snapshot


class Archive(Protocol):
    """What may be asked besides; whoever can't tell raises NotKeptError."""

    async def events(self, turn: Turn) -> Page:
        """Return events of the journal."""

    async def stood(self, at: int) -> PastView:
        """Return how the gateway stood at a past instant, in epoch seconds."""

    async def particulars(self, name: str, at: int | None = None) -> Particulars:
        """Return all that is shown of a policy, now or at a past instant; raises UnknownPolicyError."""

    async def listing(self, name: str, start: int, limit: int) -> Listing:
        """Return some of the entries that a policy names; raises UnknownPolicyError."""


class SnapshotSource(Protocol):
    """What the daemon hands over: its present snapshot, whether its loops turn, and what happened."""

    def snapshot(self) -> Snapshot:
        """Return the present snapshot."""

    def alive(self) -> bool:
        """Return whether the engine's loops turn."""

    async def explain(self, question: Question) -> Answer:
        """Return whether an address is blocked, and why; raises NotKeptError for what the journal lacks."""

    @property
    def recent(self) -> Recent:
        """Return what happened lately."""

    #: To be called whenever something else is to be shown.
    told: Callable[[], None]

    @property
    def archive(self) -> Archive:
        """Return who knows the rest."""
