"""What the targets begin with: made here rather than kept where it is binary, so that it follows the code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewrit.engine.journal.database import path_in
from gatewrit.engine.journal.rows import Entry
from gatewrit.engine.journal.writer import Journal, Keeping
from gatewrit.engine.store import Kept
from gatewrit.policy.load import PolicyDocument, ServiceDocument, parse_policy, parse_service
from support.gateway import policy, service

if TYPE_CHECKING:
    from pathlib import Path

#: 2026-01-01T00:00:00Z, in milliseconds.
JOURNAL_MS = 1_767_225_600_000
_DAY = 86_400_000


def kept(name: str = "bes-shutdown") -> Kept:
    """Give a small policy with a service and its list."""
    document = parse_policy(policy(name, name).encode(), f"{name}.yaml")
    text = service(name, ("list.txt", "tcp/3101"))
    described = parse_service(text.encode(), f"services/{name}.yaml", {"list.txt": b"203.0.113.0/24\n"})
    assert isinstance(document, PolicyDocument)
    assert isinstance(described, ServiceDocument)
    return Kept(document, {name: described})


def journal(state: Path) -> bytes:
    """Give the file of a journal with a checkpoint, and rows of the kinds that readers follow."""
    made, path = kept(), path_in(state)
    said = {"texts": made.document_json(), "revision": 1}
    name = made.document.id
    begun = Journal.open(path, JOURNAL_MS - 3 * _DAY)
    begun.append([Entry(JOURNAL_MS - 3 * _DAY, "accepted", name, said)], made.texts())
    begun.prune(JOURNAL_MS - _DAY, Keeping(days=1))
    rows = [
        ("started", None, {"name": "core-1", "tags": ["core"], "hooks": ["forward"]}),
        ("accepted", name, said),
        ("enforced", name, {"since": JOURNAL_MS // 1000, "generation": 1}),
        ("applied", None, {"generation": 1, "digest": "sha256:0"}),
        ("suspended", name, {"until": JOURNAL_MS // 1000 + 60, "reason": "a test"}),
        ("problem", name, {"code": "policy_missing", "place": None, "texts": said["texts"]}),
        ("mended", name, {"code": "policy_missing", "place": None}),
        ("stopped", None, {}),
    ]
    begun.append([Entry(JOURNAL_MS + at, kind, of, data) for at, (kind, of, data) in enumerate(rows)], made.texts())
    begun.close()
    return path.read_bytes()
