"""Who waits for a reload waits until small texts are in the journal; large ones come later all the same."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from gatewrit.engine.chronicle import Chronicle
from gatewrit.engine.clock import SystemClock
from gatewrit.engine.journal.database import LARGE_TEXT
from gatewrit.engine.journal.writer import Journal, Keeping

if TYPE_CHECKING:
    from pathlib import Path


def look(text: bytes) -> Any:
    """Give how things are with one policy that a text makes."""
    texts = {"policy": {"file": "policies/one.yaml", "sha256": "0" * 64}}
    document = SimpleNamespace(revision=1, state=SimpleNamespace(value="active"), order=SimpleNamespace(received=None))
    kept = SimpleNamespace(document=document, document_json=lambda: texts, texts=lambda: {"0" * 64: text})
    intake = SimpleNamespace(policies={"one": None}, kept={"one": kept}, findings=(), loaded={})
    ruleset = SimpleNamespace(verified_at=None, generation=0, digest=None)
    return SimpleNamespace(intake=intake, failed=False, ruleset=ruleset, drift_total=0, installed={})


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(("size", "waits"), [(100, True), (LARGE_TEXT, False)])
def test_an_answer_waits_for_small_texts_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, *, waits: bool, before: bool
) -> None:
    may_end = threading.Event()
    append = Journal.append

    def patient(*given: Any) -> Any:
        if given[1][0].kind == "accepted" and not waits:
            # What is slow about a large text.
            may_end.wait(5)
        return append(*given)

    async def story() -> None:
        chronicle = Chronicle(tmp_path, SystemClock(), Keeping())
        views: Any = SimpleNamespace(policies=(SimpleNamespace(id="one", state=SimpleNamespace(value="in_force")),))
        views.problems = ()
        if before:
            # That something was written before the text turned up makes no difference.
            chronicle.note("started")
            await chronicle.write(10.0)
            assert not chronicle._waiting
        chronicle.see(look(b"x" * size), views)
        await chronicle.write(60.0)
        assert (not chronicle._waiting) is waits
        may_end.set()
        await chronicle.close()
        assert not chronicle._waiting

    monkeypatch.setattr(Journal, "append", patient)
    asyncio.run(story())
