"""What the daemon remembers beside its policies: damage is told, whatever it is, and nothing impossible is believed."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from gatewrit.engine import memory
from gatewrit.engine.ledger import Count, Ledger, Seen
from gatewrit.engine.memory import Record

if TYPE_CHECKING:
    from pathlib import Path

RECORD = Record(7, "sha256:0", 1_451_995_200, {"a": 1_451_995_200})
LEDGER = Ledger({"a": Count(3, 180)}, {"by.a": Seen("boot/1", Count(3, 180), ("a",))})


def test_it_outlives_a_restart(tmp_path: Path) -> None:
    assert memory.load_record(tmp_path) == Record()
    assert memory.load_ledger(tmp_path) == Ledger()
    memory.save_record(tmp_path, RECORD)
    memory.save_ledger(tmp_path, LEDGER)
    assert memory.load_record(tmp_path) == RECORD
    assert memory.load_ledger(tmp_path) == LEDGER


@pytest.mark.parametrize(
    ("key", "number"),
    [
        *((key, each) for key in ("generation", "applied_at", "installed") for each in (math.inf, -1, "7", True, [])),
        ("generation", None),
        ("applied_at", 10**18),
        ("installed", 10**18),
    ],
)
def test_an_impossible_record_is_damage(tmp_path: Path, key: str, number: object) -> None:
    said = {**RECORD.document(), key: {"a": number} if key == "installed" else number}
    (tmp_path / "standing.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match=r"."):
        memory.load_record(tmp_path)


@pytest.mark.parametrize("number", [math.inf, math.nan, -1, "7", True, None, []])
@pytest.mark.parametrize("key", ["totals", "seen"])
def test_an_impossible_count_is_damage(tmp_path: Path, key: str, number: object) -> None:
    said = LEDGER.document()
    said[key] = {"a": [3, number]} if key == "totals" else {"by.a": ["boot/1", number, 180, ["a"]]}
    (tmp_path / "counters.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match=r"."):
        memory.load_ledger(tmp_path)
