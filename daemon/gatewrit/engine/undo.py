"""Taking a change back: one that waits to be confirmed, and a roll-back as long as it lasts.

Both outlive the daemon in `undo.json`, which is written before anything is changed: so a change that nobody confirms
is taken back by whoever runs then, the daemon, the next one, or what `gatewrit apply --confirm-within` left behind.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from gatewrit.engine import durable
from gatewrit.engine.byhand import RefusedError
from gatewrit.engine.status import Trouble
from gatewrit.policy.instant import LAST, utc_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VERSION = 1
FILE = "undo.json"
#: The longest time that a change may wait for its confirmation, in seconds.
LONGEST = 86400


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A change that is taken back after `within` seconds unless it is confirmed: `base` counts then.

    That is over at `deadline` at the latest (epoch seconds, rounded up). `token` tells it from other changes. It has
    `begun` once what was asked for has been in force.
    """

    base: int
    deadline: int
    within: int
    by: str
    uid: int
    token: str
    begun: bool = False


@dataclass(frozen=True, slots=True)
class RolledBack:
    """Which generation was put back, at which instant and by whom; `expired`: as nobody confirmed a change."""

    generation: int
    at: int
    by: str
    uid: int
    expired: bool


@dataclass(frozen=True, slots=True)
class Undo:
    """What stands in `undo.json`."""

    unconfirmed: Unconfirmed | None = None
    rolled_back: RolledBack | None = None

    def expecting(self, base: int, within: int, now: int, by: tuple[str, int]) -> Undo:
        """Have a change wait to be confirmed; one after another goes back to what was before the first."""
        if not 1 <= within <= LONGEST:
            raise RefusedError("bad_time", f"a change can wait for its confirmation from 1 s to {LONGEST // 3600} h")
        if self.unconfirmed is not None:
            base = self.unconfirmed.base
        made = Unconfirmed(base, now + within + 1, within, *by, secrets.token_hex(8))
        return replace(self, unconfirmed=made)

    def begun(self, now: int) -> Undo:
        """Have the time run from now on, for only now the change is in force."""
        waits = self.unconfirmed
        if waits is None:
            return self
        return replace(self, unconfirmed=replace(waits, deadline=now + waits.within + 1, begun=True))

    def confirmed(self) -> Undo:
        """Give what stands once nothing waits any more."""
        return replace(self, unconfirmed=None)

    def followed(self) -> Undo:
        """Give what stands once the policy files count again."""
        return replace(self, rolled_back=None)

    def told(self) -> str:
        """Say what waits, to be put behind the outcome of a reload."""
        waits = self.unconfirmed
        if waits is None:
            return ""
        return f"; unless `gatewrit confirm` comes by {utc_text(waits.deadline)}, generation {waits.base} is put back"

    @property
    def troubles(self) -> list[Trouble]:
        """Give what people must know of it."""
        found = []
        if (waits := self.unconfirmed) is not None:
            message = (
                f"what was changed since generation {waits.base} waits to be confirmed, by order of {waits.by}; "
                f"at {utc_text(waits.deadline)} that generation is put back"
            )
            found.append(Trouble("unconfirmed", "warning", message))
        if (back := self.rolled_back) is not None:
            why = "as nobody confirmed the change" if back.expired else f"by {back.by}"
            message = (
                f"generation {back.generation} was put back at {utc_text(back.at)}, {why}; what the policy files say "
                "beyond that isn't enforced, and changes to them aren't followed"
            )
            found.append(Trouble("rolled_back", "error", message))
        return found


def load(state: Path) -> Undo:
    """Read it back, nothing if there is no file; raises `ValueError` or `OSError`."""
    value = durable.read_json(state / FILE)
    if value is None:
        return Undo()
    try:
        if value["version"] != VERSION:
            raise ValueError(f"version {value['version']} is not {VERSION}")
        waits, back = value["unconfirmed"], value["rolled_back"]
        return Undo(None if waits is None else _unconfirmed(waits), None if back is None else _rolled_back(back))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not what was written: {error!r}") from error


def save(state: Path, undo: Undo) -> None:
    """Write it durably, or take the file away if there is nothing to say; raises `OSError`."""
    if undo == Undo():
        durable.remove(state / FILE)
    else:
        durable.write_json(state / FILE, {"version": VERSION, **asdict(undo)})


def _unconfirmed(value: Mapping[str, Any]) -> Unconfirmed:
    base, deadline = durable.whole(value["base"]), durable.whole(value["deadline"], LAST)
    within, uid = durable.whole(value["within"], LONGEST), durable.whole(value["uid"])
    begun = value.get("begun") is True
    return Unconfirmed(base, deadline, within, str(value["by"]), uid, str(value["token"]), begun)


def _rolled_back(value: Mapping[str, Any]) -> RolledBack:
    generation, at = durable.whole(value["generation"]), durable.whole(value["at"], LAST)
    return RolledBack(generation, at, str(value["by"]), durable.whole(value["uid"]), value["expired"] is True)
