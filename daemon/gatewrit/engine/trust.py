"""Which instant counts as now, and how far the clock may be believed.

The latest instant seen is a floor: it is stored, and a clock behind it isn't believed, so that one which comes up in
1970 lifts nothing and gives nothing that has begun its guard back. Two instants come of it:

* `now`, the later of the clock and the floor, is what is shown and what states are told by;
* `settled` is the floor itself: up to there the past is certain, so that rules may lose what ended by then and the
  guards of what began by then. What is later stays in the rules with both guards, and the kernel decides.

The floor follows a clock that is synchronised wherever it goes. One that isn't may go back, or leap ahead by more than
`LEAP`, without the floor: that goes on with the monotonic clock instead, by as much as has surely passed. So a year
mistyped by hand, or a receiver whose week counter wrapped, sweeps nothing and spoils no floor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewrit.engine import durable
from gatewrit.engine.status import Trouble
from gatewrit.policy.instant import LAST, utc_text

if TYPE_CHECKING:
    from pathlib import Path

    from gatewrit.engine.clock import Clock
    from gatewrit.engine.scribe import Scribe

VERSION = 1
FILE = "clock.json"
#: Seconds that a clock may be behind the floor: a leap second, or a small correction. The floor waits for it.
TOLERANCE = 2.0
#: Seconds by which a clock that isn't synchronised may leap ahead and still be believed: a gateway was switched off.
LEAP = 31 * 86400.0
#: Seconds between two saves of the floor while nothing is applied.
SAVE_EVERY = 60.0

_UNTOLD = (
    "the unit doesn't let the kernel be asked (ProtectClock=), and systemd-timesyncd doesn't vouch for it; where "
    "another program keeps it, install the drop-in other-time-daemon.conf (README has its place)"
)


def advance(floor: float, elapsed: float, wall: float, *, synchronised: bool) -> float:
    """Give the floor after `elapsed` seconds, with the clock at `wall`. It never goes back."""
    if synchronised or floor - TOLERANCE <= wall <= floor + elapsed + LEAP:
        return max(floor, wall)
    return floor + elapsed


def load_floor(state: Path) -> float | None:
    """Read the latest instant seen, in epoch seconds, None if none was stored; raises `ValueError` or `OSError`."""
    value = durable.read_json(state / FILE)
    if value is None:
        return None
    latest = value.get("latest")
    if value.get("version") != VERSION or type(latest) is not int or not 0 <= latest <= LAST:
        raise ValueError(f"not an instant that was seen: {value!r:.200}")
    return float(latest)


def settled_now(clock: Clock, state: Path) -> int:
    """Give up to when a daemon that started now would take the past for certain, in whole epoch seconds."""
    try:
        floor = load_floor(state)
    except (OSError, ValueError):
        # The daemon says so; it would begin anew with the clock, too.
        floor = None
    wall = clock.time()
    return int(wall if floor is None else advance(floor, 0, wall, synchronised=clock.synchronised() is True))


class Timekeeper:
    """Holds the floor. Every question looks at the clock anew."""

    def __init__(self, clock: Clock, scribe: Scribe) -> None:
        self._clock = clock
        self._scribe = scribe
        self._floor: float | None = None
        self._seen = clock.monotonic()
        self._said: dict[str, str] = {}
        self._saved: int | None = None
        self._save_at = self._seen

    def load(self) -> None:
        """Read the stored floor; raises `ValueError` or `OSError`, and then begins anew with the clock."""
        self._floor = load_floor(self._scribe.state)
        self._seen = self._clock.monotonic()

    def now(self) -> int:
        """Give what counts as now, in whole epoch seconds."""
        return int(max(self._look(), self._clock.time()))

    def settled(self) -> int:
        """Give up to when the past is certain, in whole epoch seconds; never later than `now`."""
        return int(self._look())

    def left(self, instant: int) -> float:
        """Give the seconds until `instant` is settled, as far as they can be foreseen; none or less once it is."""
        return instant - self._look()

    def troubles(self) -> list[Trouble]:
        """Say what is wrong with the clock, in the same words for as long as it lasts."""
        floor, wall, synchronised = self._look(), self._clock.time(), self._clock.synchronised()
        found = {}
        if wall < floor - TOLERANCE:
            found["behind"] = (
                f"the clock said {_utc(wall)} when {_utc(floor)} had been seen before. The later counts as now: "
                "nothing is lifted for it, and nothing that has begun waits again"
            )
        elif wall > floor + LEAP:
            found["ahead"] = (
                f"the clock, which nothing synchronises, leapt to {_utc(wall)} from {_utc(floor)}. Orders start and "
                "end by it, but until something vouches for it no rule is swept and no guard dropped"
            )
        if not synchronised:
            why = "nothing synchronises it" if synchronised is False else _UNTOLD
            found["unknown"] = f"the clock isn't known to be right, as {why}; orders start and end when it says so"
        self._said = {kind: self._said.get(kind, message) for kind, message in found.items()}
        return [_trouble(kind, message, self._scribe.state) for kind, message in self._said.items()]

    async def save(self) -> None:
        """Store the floor, if it has moved."""
        self._save_at = self._clock.monotonic() + SAVE_EVERY
        floor = self.settled()
        if floor != self._saved:
            document = {"version": VERSION, "latest": floor}
            path = self._scribe.state / FILE
            if await self._scribe.write("latest instant seen", lambda: durable.write_json(path, document)):
                self._saved = floor

    async def save_in_time(self) -> None:
        """Store the floor if that was long ago."""
        if self._save_at <= self._clock.monotonic():
            await self.save()

    def _look(self) -> float:
        wall, monotonic = self._clock.time(), self._clock.monotonic()
        if self._floor is None:
            self._floor = wall
        else:
            synchronised = self._clock.synchronised() is True
            self._floor = advance(self._floor, monotonic - self._seen, wall, synchronised=synchronised)
        self._seen = monotonic
        return self._floor


def _trouble(kind: str, message: str, state: Path) -> Trouble:
    if kind == "unknown":
        return Trouble("clock_unsynchronised", "warning", message)
    return Trouble("clock_untrusted", "error", message, place=str(state / FILE))


def _utc(epoch: float) -> str:
    return utc_text(int(epoch))
