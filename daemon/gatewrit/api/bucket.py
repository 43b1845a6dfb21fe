"""A limit on how often something may be asked: a token bucket (many at once, few for long)."""

from __future__ import annotations

import math

#: Questions a second that anybody's desk can live with, and how many may come at once.
RATE, BURST = 20.0, 50.0


class Bucket:
    """Tokens that come back at `rate` a second, `burst` of them at most."""

    def __init__(self, rate: float = RATE, burst: float = BURST) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at: float | None = None

    def take(self, now: float) -> int:
        """Take one token at `now` (seconds of any clock that never goes back); if there is none, say when: seconds."""
        if self._at is not None:
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            return 0
        return math.ceil((1 - self._left) / self._rate)
