"""What happened, as values that are shown: events of the journal, pages of them, and the latest ones in memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Events that are kept in memory for who listens; whoever missed more of them asks the journal.
RECENT = 1000


class Topic(StrEnum):
    """What an event is about (contract, section 4)."""

    POLICY = "policy"
    ENFORCEMENT = "enforcement"
    PROBLEM = "problem"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the journal in words: `id` is its number, `at` in epoch seconds, `kind` as `gatewrit log` has it."""

    id: int
    at: int
    topic: Topic
    kind: str
    policy: str | None
    message: str


@dataclass(frozen=True, slots=True)
class Turn:
    """Which events: of one policy or all; those before or after an id (exclusive), else the newest; at most `limit`."""

    policy: str | None = None
    topic: Topic | None = None
    before: int | None = None
    after: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Page:
    """What a `Turn` brought: oldest first for `after`, else newest first.

    `more`: others follow in that direction. `first` is the id of the first row that is kept, None if there is none;
    `last` that of the last one.
    """

    events: tuple[Event, ...] = ()
    more: bool = False
    first: int | None = None
    last: int | None = None


class Recent:
    """The latest events: all that came after the id `floor`, in order, up to `last`."""

    def __init__(self, floor: int = 0, events: Iterable[Event] = ()) -> None:
        self._events: deque[Event] = deque()
        self.floor = self.last = floor
        self.add(events)

    def add(self, events: Iterable[Event]) -> None:
        """Take in what follows; the oldest go where there are too many."""
        for event in events:
            self._events.append(event)
            self.last = event.id
            if len(self._events) > RECENT:
                self.floor = self._events.popleft().id

    def after(self, number: int) -> tuple[Event, ...] | None:
        """Give the events after an id; None if some of them aren't here any more, or the id isn't of this journal."""
        if not self.floor <= number <= self.last:
            return None
        if number == self.last:
            return ()
        return tuple(event for event in self._events if event.id > number)
