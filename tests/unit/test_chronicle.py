"""Who waits for a reload waits until small texts are in the journal; large ones come later all the same."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from gatewrit.engine.chronicle import Chronicle
from gatewrit.engine.clock import SystemClock
from gatewrit.engine.journal.database import LARGE_TEXT
from gatewrit.engine.journal.writer import Keeping

if TYPE_CHECKING:
    from pathlib import Path


def shown(text: bytes) -> Any:
    source = SimpleNamespace(sha256="0" * 64, data=text)
    intake = SimpleNamespace(policies={}, kept={}, findings=(), loaded={"list.txt": SimpleNamespace(source=source)})
    ruleset = SimpleNamespace(verified_at=None, generation=0, digest=None)
    return SimpleNamespace(intake=intake, failed=False, ruleset=ruleset, drift_total=0, installed={})


@pytest.mark.parametrize(("size", "waits"), [(100, True), (LARGE_TEXT, False)])
def test_an_answer_waits_for_small_texts_only(tmp_path: Path, size: int, waits: object) -> None:
    async def story() -> None:
        chronicle = Chronicle(tmp_path, SystemClock(), Keeping())
        snapshot: Any = SimpleNamespace(policies=(), problems=())
        look = shown(b"x" * size)
        chronicle.see(look, snapshot)
        await chronicle.write(10.0)
        assert (not chronicle._waiting) is waits
        await chronicle.close()
        assert not chronicle._waiting
        # Once it is written it is a text as any other.
        assert chronicle._large <= chronicle._large_written

    asyncio.run(story())
