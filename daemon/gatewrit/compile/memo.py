"""What was worked out before, kept from one compile to the next: it changes how long things take, and nothing else.

A value is found by all that it is made of. What holds addresses in bulk counts by identity there: a list that hasn't
changed is the same object. So nothing here is ever out of date, and what isn't asked for any more is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    Value = TypeVar("Value")


class Drawer:
    """Values for one purpose: those of the turn before, and those of the turn that is under way."""

    def __init__(self) -> None:
        self._before: dict[Hashable, Any] = {}
        self._now: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self._before) + len(self._now)

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Give the value of a key, made if it isn't known."""
        if key in self._now:
            found: Value = self._now[key]
            return found
        value: Value = self._before[key] if key in self._before else make()
        self._now[key] = value
        return value

    def known(self, key: Hashable) -> Any | None:
        """Give the value of a key if it is known; that alone doesn't keep it."""
        return self._now.get(key, self._before.get(key))

    def put(self, key: Hashable, value: object) -> None:
        """Keep a value instead of the one before, which it began from: the key then says what it is for."""
        self._now[key] = value

    def turn(self) -> None:
        """End a turn: what it didn't use is dropped."""
        self._before, self._now = self._now, {}


class Memo:
    """What a daemon keeps between compiles, and between looking through its policies."""

    def __init__(self) -> None:
        self.compile = Drawer()
        self.conflicts = Drawer()
        self.overlaps = Drawer()
