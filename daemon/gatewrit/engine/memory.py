"""What the daemon remembers over a restart, beside the kept policies: the counts, and how it last stood.

Everything here may be lost or damaged without harm to enforcement: it is said, and begun anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gatewrit.engine import durable
from gatewrit.engine.ledger import Ledger
from gatewrit.policy.instant import LAST

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VERSION = 1


@dataclass(frozen=True, slots=True)
class Record:
    """How enforcement last stood: the ruleset's generation and digest, when it was applied, since when it has whom.

    Instants are epoch seconds. A generation is one state of the ruleset that was enforced; it only grows. `installed`
    says when each policy's rules came into the kernel, guards for a later start included; `starts` which start they
    have.
    """

    generation: int = 0
    digest: str | None = None
    applied_at: int | None = None
    installed: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    starts: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def document(self) -> dict[str, Any]:
        """Give it as JSON."""
        return {
            "version": VERSION,
            "generation": self.generation,
            "digest": self.digest,
            "applied_at": self.applied_at,
            "installed": dict(self.installed),
            "starts": dict(self.starts),
        }


def load_record(state: Path) -> Record:
    """Read the record back, a fresh one if there is none; raises `ValueError` or `OSError`."""
    value = durable.read_json(state / "standing.json")
    if value is None:
        return Record()
    try:
        if value["version"] != VERSION:
            raise ValueError(f"version {value['version']} is not {VERSION}")
        since, starts = (
            {name: durable.whole(instant, LAST) for name, instant in value.get(key, {}).items()}
            for key in ("installed", "starts")
        )
        applied = value["applied_at"]
        digest = value["digest"]
        return Record(
            durable.whole(value["generation"]),
            None if digest is None else str(digest),
            None if applied is None else durable.whole(applied, LAST),
            since,
            starts,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record: {error!r}") from error


def save_record(state: Path, record: Record) -> None:
    """Write the record durably; raises `OSError`."""
    durable.write_json(state / "standing.json", record.document())


def load_ledger(state: Path) -> Ledger:
    """Read the counts back, none if there are none; raises `ValueError` or `OSError`."""
    value = durable.read_json(state / "counters.json")
    return Ledger() if value is None else Ledger.load(value)


def save_ledger(state: Path, ledger: Ledger) -> None:
    """Write the counts durably; raises `OSError`."""
    durable.write_json(state / "counters.json", ledger.document())
