"""What is new since the journal last was told: the difference of how things are and how it says they stand. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gatewrit.engine.journal.refused import Refused, stamps
from gatewrit.engine.journal.rows import Entry, named
from gatewrit.engine.journal.standing import telling

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatewrit.engine.journal.standing import Standing
    from gatewrit.engine.snapshot import Problem
    from gatewrit.engine.store import Kept
    from gatewrit.policy.load import Loaded

_CLOCK = frozenset({"clock_untrusted", "clock_unsynchronised"})


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """How things are at `at` (epoch milliseconds), as far as the journal is concerned.

    `kept` are the revisions that count, `states` what each amounts to. `installed` says since when (epoch seconds) the
    kernel has rules for whom, None while it hasn't confirmed what counts. `refusals` are (code, policy, place) of the
    problems that keep a policy from following its file. `asked` are those who asked for the files to be read, `loaded`
    the files as they were read, good or not.
    """

    at: int
    kept: Mapping[str, Kept]
    states: Mapping[str, str]
    problems: tuple[Problem, ...]
    refusals: frozenset[tuple[str, str | None, str | None]]
    installed: Mapping[str, int] | None
    generation: int
    digest: str | None
    drifts: int = 0
    asked: tuple[Mapping[str, Any], ...] = ()
    loaded: Mapping[str, Loaded] = field(default_factory=lambda: MappingProxyType({}))

    def texts(self, entry: Entry) -> dict[str, bytes]:
        """Give the texts that an entry names, by digest."""
        if entry.kind == "accepted" and entry.policy:
            return self.kept[entry.policy].texts()
        files = [self.loaded[each["file"]] for each in named(entry.data.get("texts") or {})]
        return {each.source.sha256: each.source.data for each in files}


def changes(seen: Seen, standing: Standing) -> Iterator[Entry]:
    """Give the entries that bring the journal from `standing` to what was seen."""
    yield from _decided(seen, standing)
    yield from _troubles(seen, standing)
    if seen.installed is not None:
        yield from _enforced(seen, seen.installed, standing)
    for name, state in seen.states.items():
        stood = standing.policies.get(name)
        was = stood.state if stood else None
        if was != state:
            yield Entry(seen.at, "state", name, {"was": was, "now": state})
    for name, stood in standing.policies.items():
        if stood.texts is not None and name not in seen.states:
            yield Entry(seen.at, "gone", name)
    for _ in range(seen.drifts):
        yield Entry(seen.at, "drift", None, {"repaired": True, "generation": seen.generation})


def _decided(seen: Seen, standing: Standing) -> Iterator[Entry]:
    by = {"asked": list(seen.asked)} if seen.asked else {}
    for name in seen.states:
        kept = seen.kept.get(name)
        if kept is None:
            continue
        stood, texts = standing.policies.get(name), kept.document_json()
        if stood is None or stood.texts != texts:
            document = kept.document
            received = document.order.received
            yield Entry(
                seen.at,
                "accepted",
                name,
                {
                    "revision": document.revision,
                    "before": stood.revision if stood else None,
                    "says": document.state.value,
                    "received": received.epoch if received else None,
                    "texts": texts,
                    "files": stamps(texts, seen.loaded),
                    **by,
                },
            )


def _troubles(seen: Seen, standing: Standing) -> Iterator[Entry]:
    now = {(each.code, each.policy, each.place): each for each in seen.problems}
    by = {"asked": list(seen.asked)} if seen.asked else {}
    refused = Refused(seen.loaded)
    for key, each in now.items():
        texts = refused.texts(each.place) if key in seen.refusals else None
        if key in standing.problems and standing.problems[key] == telling(texts):
            continue
        said = {"code": each.code, "severity": each.severity, "place": each.place, "message": each.message}
        if key in seen.refusals:
            told = {} if texts is None else {"texts": texts, "files": stamps(texts, seen.loaded)}
            yield Entry(seen.at, "refused", each.policy, {**said, **told, **by})
        else:
            yield Entry(seen.at, "clock" if each.code in _CLOCK else "problem", each.policy, said)
    for code, policy, place in sorted(standing.problems.keys() - now.keys(), key=str):
        yield Entry(seen.at, "mended", policy, {"code": code, "place": place})


def _enforced(seen: Seen, installed: Mapping[str, int], standing: Standing) -> Iterator[Entry]:
    what = {"generation": seen.generation, "digest": seen.digest}
    if (seen.generation, seen.digest) != (standing.generation, standing.digest):
        yield Entry(seen.at, "applied", None, what)
    for name, since in installed.items():
        stood, kept = standing.policies.get(name), seen.kept.get(name)
        if kept is None:
            continue
        if stood is None or stood.enforced != kept.document_json() or stood.since != since:
            yield Entry(seen.at, "enforced", name, {"revision": kept.document.revision, "since": since, **what})
    for name, stood in standing.policies.items():
        if stood.enforced is not None and name not in installed:
            yield Entry(seen.at, "lifted", name, what)
