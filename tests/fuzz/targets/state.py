"""The state directory, damaged: each file is read, or refused with what its reader declares, and no further.

The first line names the file: one of those of `_READERS`, or a kept policy's (`policies/NAME.json`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fuzz import seeds
from fuzz.holding import home
from gatewrit.api.documents import instant
from gatewrit.engine import byhand, memory, trust
from gatewrit.engine.store import Store
from gatewrit.policy.instant import LAST
from unit.api_samples import NOW

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatewrit.engine.ledger import Ledger

_STATE = home()
_KEPT = _STATE / "policies" / "bes-shutdown.json"


def _ledger(found: Ledger) -> None:
    assert all(count.packets >= 0 and count.bytes >= 0 for count in found.totals.values())
    found.account([], {}, "table")
    memory.save_ledger(_STATE, found)
    assert memory.load_ledger(_STATE) == found


def _record(found: memory.Record) -> None:
    assert found.generation >= 0
    assert all(map(instant, found.installed.values()))
    assert found.applied_at is None or instant(found.applied_at)
    memory.save_record(_STATE, found)
    assert memory.load_record(_STATE) == found


def _book(found: byhand.Book) -> None:
    assert all(str(trouble) for trouble in byhand.troubles(found, NOW))
    byhand.save(_STATE, found)
    assert byhand.load(_STATE) == found


def _floor(found: float | None) -> None:
    assert found is None or 0 <= found <= LAST


#: How each file is read, and what must be true of what that gives.
_READERS: dict[str, tuple[Callable[[Path], Any], Callable[[Any], None]]] = {
    "counters.json": (memory.load_ledger, _ledger),
    "standing.json": (memory.load_record, _record),
    "byhand.json": (byhand.load, _book),
    "clock.json": (trust.load_floor, _floor),
}


def one_input(data: bytes) -> None:
    first, _, content = data.partition(b"\n")
    name = first.decode("latin-1")
    if name not in _READERS:
        _kept(content)
        return
    (_STATE / name).write_bytes(content)
    read, holds = _READERS[name]
    try:
        found = read(_STATE)
    except (OSError, ValueError) as error:
        assert str(error)
    else:
        holds(found)


def _kept(content: bytes) -> None:
    _KEPT.write_bytes(content)
    kept, damaged = Store(_STATE).load()
    assert len(kept) + len(damaged) == 1
    for each in kept.values():
        assert each.texts()
        assert json.dumps(each.document_json())
        assert all(isinstance(source.file, str) for source in each.sources())


_KEPT.parent.mkdir()
(_STATE / "texts").mkdir()
for _digest, _text in seeds.kept().texts().items():
    (_STATE / "texts" / _digest).write_bytes(_text)
