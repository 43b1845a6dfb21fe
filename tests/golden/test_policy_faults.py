"""A folder for each case: what is put into `policies/`, and every word that is said about it in `faults.txt`.

`GOLDEN=write pytest tests/golden` writes what is said now; the diff is then for eyes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gatewrit.policy import load
from gatewrit.policy.faults import CODES

CASES = sorted(path.parent for path in Path(__file__).parent.glob("policies/*/why.txt"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_fault_is_told_at_its_place_and_nothing_else(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case)
    policies, faults = load.load("policies")
    assert {fault.code for fault in faults} <= CODES.keys()
    told = [f"{'(warning) ' if fault.severity == 'warning' else ''}{fault}" for fault in faults]
    told.append(f"loaded: {', '.join(policy.id for policy in policies) or 'none'}")
    text = "\n".join(told) + "\n"
    if os.environ.get("GOLDEN") == "write":
        Path("faults.txt").write_text(text)
    assert text == Path("faults.txt").read_text()
