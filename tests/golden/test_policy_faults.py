"""A folder for each case: what is put into `policies/`, and every word that is said about it in `faults.txt`.

`GOLDEN=write pytest tests/golden` writes what is said now; the diff is then for eyes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gatewrit.cli.service import rails
from gatewrit.compile.rails import Judge
from gatewrit.policy import load
from gatewrit.policy.faults import CODES
from gatewrit.settings import load_settings

CASES = sorted(path.parent for path in Path(__file__).parent.glob("policies/*/why.txt"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_fault_is_told_at_its_place_and_nothing_else(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case)
    # Whatever else is set: the guard rails as a gateway with these settings, or with none, has them.
    given = load_settings(Path("gatewrit.yaml") if Path("gatewrit.yaml").exists() else None, {})
    policies, faults = load.load("policies", Judge(rails(given)).faults)
    assert {fault.code for fault in faults} <= CODES.keys()
    told = [f"{'(warning) ' if fault.severity == 'warning' else ''}{fault}" for fault in faults]
    told.append(f"loaded: {', '.join(policy.id for policy in policies) or 'none'}")
    text = "\n".join(told) + "\n"
    if os.environ.get("GOLDEN") == "write":
        Path("faults.txt").write_text(text)
    assert text == Path("faults.txt").read_text()
