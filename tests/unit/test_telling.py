"""The journal's rows as events: each kind has a sentence, damage has one too, and a restart forgets nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.engine import byhand
from gatewrit.engine.archive import Archive
from gatewrit.engine.chronicle import Chronicle
from gatewrit.engine.clock import SystemClock
from gatewrit.engine.events import RECENT, Event, Page, Recent, Topic, Turn
from gatewrit.engine.journal.database import path_in
from gatewrit.engine.journal.rows import Entry, Kind
from gatewrit.engine.journal.writer import Journal, Keeping
from gatewrit.engine.particulars import UnknownPolicyError
from gatewrit.engine.status import Standing
from gatewrit.engine.telling import TOPICS, UNTOLD, event_of, read_events, read_revisions

if TYPE_CHECKING:
    from pathlib import Path

BY = {"uid": 0, "name": "root"}
BACK = (
    "the policies of generation 5 count again, put back by root; the files aren't followed until somebody applies or "
    "reloads"
)
SAYS: dict[str, tuple[dict[str, Any], str]] = {
    "accepted": (
        {"revision": 2, "before": 1, "says": "active", "asked": [BY]},
        "revision 2 of a counts (before: 1), its file says active; asked by root",
    ),
    "refused": ({"code": "bad_port", "message": "no port"}, "a doesn't follow its file: no port"),
    "state": ({"was": "scheduled", "now": "in_force"}, "a is in_force, it was scheduled"),
    "enforced": ({"revision": 2}, "the kernel has the rules of a, revision 2, and they were read back"),
    "lifted": ({}, "the kernel has no rules of a any more"),
    "gone": ({}, "a is gone: neither a file nor an order in force"),
    "suspended": (
        {"until": 1451995200, "by": BY, "reason": "a court said so"},
        "a suspended by hand until 2016-01-05T12:00:00Z by root: a court said so",
    ),
    "resumed": ({"by": BY, "reason": ""}, "a resumed by hand by root"),
    "released": ({"by": BY, "reason": "meant"}, "a released by hand by root: meant"),
    "forgotten": ({"by": None, "reason": ""}, "a forgotten by hand"),
    "suspension_ended": ({}, "the suspension of a by hand has ended"),
    "held": ({}, "new content of a is held back until somebody releases it"),
    "started": ({}, "the daemon has started"),
    "stopped": ({}, "the daemon has stopped"),
    "applied": ({"generation": 7}, "generation 7 is enforced and read back"),
    "confirmed": ({"by": BY, "base": 5}, "the change was confirmed by root: what counts now stays"),
    "rolled_back": ({"generation": 5, "by": BY, "unconfirmed": False}, BACK),
    "found": (
        {"found": "gone"},
        "the rules that were left in the kernel were gone, as after the host was down; they were put in anew",
    ),
    "manifest": ({"serial": 8}, "the signed manifest 8 was accepted"),
    "removed": ({"by": BY}, "every block was taken out by root"),
    "begun": ({"damaged": "x", "reason": "torn"}, "the journal begins anew: torn"),
    "gap": ({"looks": 3}, "3 looks weren't written down; what holds is in the rows that follow"),
    "problem": ({"code": "policy_missing", "message": "it is gone"}, "policy_missing: it is gone"),
    "clock": ({"code": "clock_untrusted", "message": "behind"}, "clock_untrusted: behind"),
    "mended": ({"code": "policy_missing", "place": "a.yaml:1:1"}, "policy_missing is no more (a.yaml:1:1)"),
    "drift": ({}, "somebody else changed our table; that was undone"),
}


def test_every_kind_that_is_written_is_told_or_said_not_to_be() -> None:
    assert not TOPICS.keys() & UNTOLD
    assert TOPICS.keys() | UNTOLD == {*get_args(Kind)}
    assert {*get_args(byhand.Kind)} <= {*get_args(Kind)}


def test_what_was_taken_back_or_found_is_told_as_it_came_about() -> None:
    data = {"generation": 5, "by": BY, "unconfirmed": True}
    expired = event_of(1, 0, "rolled_back", None, data)
    assert expired is not None
    assert expired.message.startswith("nobody confirmed the change by root in time: the policies of generation 5 count")
    changed = event_of(1, 0, "found", None, {"found": "changed"})
    assert changed is not None
    assert "weren't as they had been left" in changed.message


def test_each_kind_has_a_sentence() -> None:
    assert SAYS.keys() == TOPICS.keys()
    for kind, (data, sentence) in SAYS.items():
        assert event_of(5, 1451995200999, kind, "a", data) == Event(5, 1451995200, TOPICS[kind], kind, "a", sentence)


@given(st.sampled_from(sorted(TOPICS)), st.dictionaries(st.sampled_from(["by", "until", "asked", "was", "now", "code"]),
       st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers(), max_size=2))))  # fmt: skip
def test_whatever_stands_in_a_row_it_is_told(kind: str, data: dict[str, Any]) -> None:
    event = event_of(1, 0, kind, None, data)
    assert event is not None
    assert event.message


def test_a_long_message_ends_and_a_checkpoint_is_no_event() -> None:
    event = event_of(1, 0, "problem", None, {"code": "x", "message": "y" * 5000})
    assert event is not None
    assert len(event.message) < 1100
    assert event_of(1, 0, "checkpoint", None, {}) is None


def test_recent_forgets_the_oldest_and_says_so() -> None:
    recent = Recent(3, (Event(number, 0, Topic.DRIFT, "drift", None, "x") for number in range(4, RECENT + 8)))
    assert (recent.floor, recent.last) == (7, RECENT + 7)
    assert recent.after(6) is None
    assert recent.after(RECENT + 8) is None
    assert [each.id for each in recent.after(RECENT + 5) or ()] == [RECENT + 6, RECENT + 7]


def test_a_restart_remembers_what_was_recent(tmp_path: Path) -> None:
    async def life(*kinds: str) -> Recent:
        chronicle = Chronicle(tmp_path, SystemClock(), Keeping())
        told: list[int] = []
        chronicle.told = lambda: told.append(chronicle.recent.last)
        for kind in kinds:
            chronicle.note(kind)
        await chronicle.write(10.0)
        await chronicle.close()
        assert told
        assert told[-1] == chronicle.recent.last
        return chronicle.recent

    first = asyncio.run(life("started", "drift"))
    assert [each.kind for each in first.after(0) or ()] == ["begun", "started", "drift"]
    again = asyncio.run(life("started"))
    assert [each.kind for each in again.after(0) or ()] == ["begun", "started", "drift", "started"]


def test_pages_of_the_journal(tmp_path: Path) -> None:
    assert read_events(tmp_path, Turn()) == Page()
    assert read_revisions(tmp_path, "a") == ()
    journal = Journal.open(path_in(tmp_path), 0)
    accepted = {"revision": 1, "before": None, "says": "active", "texts": {}}
    journal.append([Entry(1000 * n, "state", "a", {"was": None, "now": f"{n}"}) for n in range(2, 7)], {})
    journal.append([Entry(9000, "accepted", "a", accepted), Entry(9000, "drift")], {})
    journal.close()

    def ids(**turn: Any) -> tuple[list[int], bool]:
        page = read_events(tmp_path, Turn(**turn))
        assert (page.first, page.last) == (1, 8)
        return [each.id for each in page.events], page.more

    assert ids() == ([8, 7, 6, 5, 4, 3, 2, 1], False)
    assert ids(limit=3) == ([8, 7, 6], True)
    assert ids(limit=3, before=6) == ([5, 4, 3], True)
    assert ids(limit=3, before=4) == ([3, 2, 1], False)
    assert ids(after=6) == ([7, 8], False)
    assert ids(after=2, limit=2) == ([3, 4], True)
    assert ids(policy="a", topic=Topic.POLICY, limit=2) == ([7, 6], True)
    assert ids(topic=Topic.DRIFT) == ([8], False)
    assert ids(policy="' OR 1=1 --") == ([], False)
    assert [(each.id, each.revision) for each in read_revisions(tmp_path, "a")] == [(7, 1)]


async def test_nobody_is_told_of_a_policy_that_there_isn_t(tmp_path: Path) -> None:
    archive = Archive(tmp_path, lambda: Standing("core-1", 0))
    for name in ("nothing", "../../etc/passwd", ""):
        with pytest.raises(UnknownPolicyError):
            await archive.particulars(name)
        with pytest.raises(UnknownPolicyError):
            await archive.listing(name, 0, 1)
