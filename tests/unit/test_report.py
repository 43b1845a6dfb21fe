"""The account of an order's life, from a journal with instants of our own: what it says, and what it must not show."""

from __future__ import annotations

import html
import json
import re
import sqlite3
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import jsonschema
import pytest

from gatewrit.cli import report_page
from gatewrit.cli.report import Wanted, made
from gatewrit.cli.report_facts import public
from gatewrit.cli.report_words import GENERAL, OF_A_POLICY, sentence
from gatewrit.engine.journal import database
from gatewrit.engine.journal.rows import Entry, Kind
from gatewrit.engine.journal.verify import verify
from gatewrit.engine.journal.writer import Journal, Keeping
from gatewrit.engine.store import Kept
from gatewrit.policy.load import PolicyDocument, ServiceDocument, parse_policy, parse_service
from support.gateway import service

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMAS = Path(__file__).resolve().parents[2] / "docs/schema"
#: 2015-11-29T00:00:00Z
DAY = 86_400
BEGIN = 1448755200
START = BEGIN + DAY
HOSTILE = '<script>alert(1)</script> & "quoted" عدالتی حکم'
SECRETS = ("198.51.100", "REG-7", "noc@example.net", "regulatory", "alpha", "emergency", "root", "core-1", "alert")


def revision(number: int, *, state: str = "active", until: str = "2015-12-30T00:00:00Z") -> Kept:
    text = (
        "policy: alpha\n"
        f"title: {json.dumps(HOSTILE, ensure_ascii=False)}\n"
        f"revision: {number}\n"
        "order: {authority: 'An Authority <b>', reference: No. 1, issued: 2015-07-24, ticket: REG-7,\n"
        "  received: '2015-07-24T18:00:00+05:00', contact: noc@example.net, text: '198.51.100.0/24 & more'}\n"
        f"effective: {{from: '2015-11-30T00:00:00Z', until: '{until}'}}\n"
        f"state: {state}\n"
        "block: {services: [alpha], action: reject}\n"
        "labels: {queue: regulatory}\n"
    )
    document = parse_policy(text.encode(), "alpha.yaml")
    described = parse_service(service("alpha", ("198.51.100.0/24", "tcp/3101")).encode(), "services/alpha.yaml", {})
    assert isinstance(document, PolicyDocument)
    assert isinstance(described, ServiceDocument)
    return Kept(document, {"alpha": described})


class Story:
    """Writes a journal; instants are seconds after the beginning."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self._entries: list[Entry] = []
        self._texts: dict[str, bytes] = {}

    def say(self, at: float, kind: str, policy: str | None = "alpha", /, **data: Any) -> None:
        self._entries.append(Entry(int((BEGIN + at) * 1000), kind, policy, data))

    def started(self, at: float) -> None:
        self.say(at, "started", None, name="core-1", tags=[], hooks=["forward"], version="0.1.0")

    def accepted(self, at: float, kept: Kept, before: int | None = None) -> None:
        self._texts |= kept.texts()
        number, says = kept.document.revision, kept.document.state.value
        self.say(at, "accepted", revision=number, before=before, says=says, texts=kept.document_json())

    def enforced(self, at: float, number: int, generation: int, since: float) -> None:
        what = {"generation": generation, "digest": f"sha256:{generation}"}
        self.say(at, "applied", None, **what)
        self.say(at, "enforced", revision=number, since=int(BEGIN + since), **what)

    def write(self) -> Path:
        with closing(Journal.open(database.path_in(self.state), BEGIN * 1000)) as journal:
            journal.append(self._entries, self._texts)
        return database.path_in(self.state)


def life(state: Path) -> Path:
    """Taken in a day before its start; amended, drifted, killed, suspended, rescinded, each at its own instant."""
    story = Story(state)
    story.started(0)
    story.accepted(10, revision(1))
    story.enforced(10.2, 1, 1, 10)
    story.say(10.2, "state", was=None, now="scheduled")
    story.say(DAY, "state", was="scheduled", now="in_force")
    story.accepted(DAY + 100, revision(2, until="2015-12-31T00:00:00Z"), 1)
    story.enforced(DAY + 100.5, 2, 2, 10)
    story.say(DAY + 200, "drift", None, repaired=True, generation=2)
    # Killed some time after the drift, started again at +300: nobody knows when it died, and its rules were there.
    story.started(DAY + 300)
    by = {"uid": 0, "name": "root"}
    until = BEGIN + DAY + 4000
    why = "emergency, see 198.51.100.7"
    story.say(DAY + 400, "suspended", at=BEGIN + DAY + 400, by=by, reason=why, until=until)
    story.say(DAY + 450, "resumed", at=BEGIN + DAY + 450, by=by, reason="")
    story.say(DAY + 500, "stopped", None)
    # The host was down: the next daemon found no table.
    story.started(DAY + 560)
    story.say(DAY + 561, "found", None, found="gone")
    story.say(DAY + 700, "problem", code="policy_missing", severity="error", place=None, message="alpha.yaml is gone")
    story.say(DAY + 710, "mended", code="policy_missing", place=None)
    story.accepted(DAY + 1000, revision(3, state="rescinded"), 2)
    story.say(DAY + 1000, "applied", None, generation=3, digest="sha256:3")
    story.say(DAY + 1000.25, "lifted", generation=3, digest="sha256:3")
    story.say(DAY + 1000.25, "state", was="in_force", now="rescinded")
    return story.write()


def test_every_kind_of_row_is_told_of_or_has_a_table_of_its_own() -> None:
    elsewhere = {"problem", "mended", "clock", "applied"}  # the table of problems; the head of the first page
    assert GENERAL | OF_A_POLICY | elsewhere == {*get_args(Kind)}
    by = {"uid": 0, "name": "root"}
    expired = sentence("rolled_back", {"generation": 3, "by": by, "unconfirmed": True})
    assert expired.startswith("Nobody confirmed a change by root in time: the policies of generation 3 counted again")
    taken = sentence("rolled_back", {"generation": 3, "by": by, "unconfirmed": False})
    assert taken.startswith("A change was taken back by root: the policies of generation 3")
    assert sentence("confirmed", {"by": by, "base": 3}) == "A change on trial was confirmed by root: it stays."


ALL = Wanted(None, None, None, None)
NOW = (BEGIN + 2 * DAY) * 1000


def told(state: Path, wanted: Wanted = ALL, now: int = NOW) -> Any:
    return made(state, wanted, now)[0]


def page(state: Path, *, for_all: bool = False) -> str:
    whole, clocks = made(state, ALL, NOW)
    return report_page.render(public(whole) if for_all else whole, clocks)


def test_an_orders_life_is_told(tmp_path: Path) -> None:
    path = life(tmp_path)
    whole = told(tmp_path)
    assert whole["gateway"] == "core-1"
    assert whole["journal"]["whole"]
    assert whole["journal"]["head"] == verify(path).head.digest
    assert whole["journal"]["begins"] == "2015-11-29T00:00:00.000Z"
    assert whole["ruleset"] == {"generation": 3, "digest": "sha256:3", "confirmed_at": "2015-11-30T00:16:40.000Z"}
    (policy,) = whole["policies"]
    assert policy["title"] == HOSTILE
    assert policy["dates"] == {
        "issued": "2015-07-24",
        "received": "2015-07-24T13:00:00Z",
        "taken_in": "2015-11-29T00:00:10.000Z",
        "effective_from": "2015-11-30T00:00:00Z",
        "effective_until": "2015-12-30T00:00:00Z",
        "enforced": "2015-11-30T00:00:00.000Z",
        "amended": ["2015-11-30T00:01:40.000Z", "2015-11-30T00:16:40.000Z"],
        "lifted": "2015-11-30T00:16:40.250Z",
    }
    assert policy["state"] == "rescinded"
    assert policy["addresses"] == {"ipv4": "256", "ipv6": "0"}
    assert [(each["kind"], each["since"][11:-1], each["seconds"]) for each in policy["interruptions"]] == [
        ("silent_end", "00:03:20.000", 100.0),
        ("suspended", "00:06:40.000", 50.0),
        ("put_in_anew", "00:08:20.000", 61.0),
        ("beyond", "00:16:40.000", 0.25),
    ]
    assert (policy["interruptions"][1]["by"], policy["interruptions"][1]["reason"]) == (
        "root",
        "emergency, see 198.51.100.7",
    )
    assert policy["coverage"] == {
        "ordered_seconds": 1000.0,
        "enforced_seconds": 889.0,
        "unattended_seconds": 100.0,
        "share": 0.889,
    }
    assert [each["revision"] for each in policy["revisions"]] == [1, 2, 3]
    sentences = " ".join(each["sentence"] for each in policy["events"])
    assert "Amended: revision 2 replaced 1." in sentences
    assert "it says: rescinded" in sentences
    assert "drift" in [each["kind"] for each in whole["events"]]
    assert [(each["code"], each["until"]) for each in whole["problems"]] == [
        ("policy_missing", "2015-11-30T00:11:50.000Z")
    ]


def test_a_period_clips_what_is_told(tmp_path: Path) -> None:
    life(tmp_path)
    start = (START + 350) * 1000
    policy = told(tmp_path, Wanted("alpha", start, start + 70_000, None))["policies"][0]
    assert policy["state"] == "suspended"
    assert policy["coverage"] | {"share": 0} == {
        "ordered_seconds": 70.0,
        "enforced_seconds": 50.0,
        "unattended_seconds": 0.0,
        "share": 0,
    }
    assert policy["dates"]["lifted"] == "2015-11-30T00:06:40.000Z"
    assert [each["kind"] for each in policy["events"]] == ["suspended"]
    assert [each["revision"] for each in policy["revisions"]] == [1, 2]
    before = told(tmp_path, Wanted(None, None, (BEGIN + 5) * 1000, None))
    assert before["policies"] == []
    scheduled = told(tmp_path, Wanted(None, None, (BEGIN + 1000) * 1000, None))["policies"][0]
    assert (scheduled["state"], scheduled["coverage"]["share"]) == ("scheduled", None)


def test_what_was_before_the_first_row_that_is_kept_still_counts(tmp_path: Path) -> None:
    path = life(tmp_path)
    whole = told(tmp_path)
    with closing(Journal.open(path, NOW)) as journal:
        # Everything before the suspension goes.
        journal.prune((START + 390) * 1000, Keeping(days=0))
    pruned = told(tmp_path)
    assert pruned["journal"]["whole"]
    policy = pruned["policies"][0]
    assert policy["revisions"][0]["taken_in"] is None
    assert policy["dates"]["taken_in"] is None
    assert policy["state"] == "rescinded"
    assert pruned["journal"]["begins"] == "2015-11-30T00:05:00.000Z"
    kinds = [each["kind"] for each in policy["interruptions"]]
    assert kinds == [each["kind"] for each in whole["policies"][0]["interruptions"]][1:]
    assert "tells nothing before" in page(tmp_path)


def test_an_order_that_the_kernel_never_confirmed_did_not_hold(tmp_path: Path) -> None:
    story = Story(tmp_path)
    story.started(0)
    story.accepted(DAY, revision(1))
    story.write()
    policy = told(tmp_path)["policies"][0]
    assert policy["state"] == "not_in_kernel"
    assert policy["coverage"]["share"] == 0
    assert policy["dates"]["enforced"] is None
    assert "NOT enforced, though ordered" in page(tmp_path)


def test_what_was_taken_out_by_hand_did_not_hold(tmp_path: Path) -> None:
    story = Story(tmp_path)
    story.started(0)
    story.accepted(10, revision(1))
    story.enforced(10, 1, 1, 10)
    story.say(DAY + 10, "stopped", None)
    story.say(DAY + 20, "removed", None, by={"uid": 0, "name": "root"})
    story.write()
    policy = told(tmp_path, now=(START + 30) * 1000)["policies"][0]
    assert [(each["kind"], each["seconds"]) for each in policy["interruptions"]] == [
        ("unattended", 10.0),
        ("not_in_kernel", 10.0),
    ]


def test_a_clock_that_was_set_back_breaks_nothing(tmp_path: Path) -> None:
    story = Story(tmp_path)
    story.started(DAY + 500)
    story.accepted(DAY + 500, revision(1))
    story.enforced(DAY + 500, 1, 1, DAY + 500)
    story.say(DAY + 100, "drift", None, repaired=True, generation=1)
    story.say(DAY + 600, "stopped", None)
    story.write()
    policy = told(tmp_path, now=(START + 700) * 1000)["policies"][0]
    assert policy["coverage"]["enforced_seconds"] == 200.0


@pytest.mark.parametrize(
    ("tampering", "says"),
    [
        ("UPDATE rows SET at = at + 1 WHERE seq = 4", "isn't as it was written"),
        ("DELETE FROM rows WHERE seq = 7", "missing"),
        ("DELETE FROM texts", "missing"),
        ("UPDATE rows SET data = '[]' WHERE kind = 'accepted'", "isn't as it was written"),
        ("UPDATE rows SET data = 'x' WHERE kind = 'suspended'", "isn't as it was written"),
    ],
)
def test_a_broken_chain_is_on_the_first_page(tmp_path: Path, tampering: str, says: str) -> None:
    with closing(sqlite3.connect(life(tmp_path))) as connection, connection:
        connection.execute(tampering)
    whole = told(tmp_path)
    assert not whole["journal"]["whole"]
    assert any(says in flaw["message"] for flaw in whole["journal"]["flaws"])
    first = html.unescape(page(tmp_path)).partition("Summary")[0]
    assert "The journal behind this account is BROKEN" in first
    assert says in first
    for each in (whole, public(whole)):
        valid(each)


def test_a_head_that_was_kept_elsewhere_must_be_there(tmp_path: Path) -> None:
    path = life(tmp_path)
    assert told(tmp_path, Wanted(None, None, None, verify(path).head.digest))["journal"]["whole"]
    assert not told(tmp_path, Wanted(None, None, None, "0" * 63 + "1"))["journal"]["whole"]


class _Tags(HTMLParser):
    """Holds a page to being closed in itself."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not {"src", "href", "action", "background"} & dict(attrs).keys()
        assert not any(name.startswith("on") for name, _ in attrs)


@pytest.mark.parametrize("for_all", [False, True])
def test_the_page_runs_nothing_fetches_nothing_and_escapes_everything(tmp_path: Path, for_all: object) -> None:
    life(tmp_path)
    shown = page(tmp_path, for_all=bool(for_all))
    parser = _Tags()
    parser.feed(shown)
    assert not {"script", "iframe", "link", "img", "object", "form", "b"} & set(parser.tags)
    style = shown[shown.index("<style>") : shown.index("</style>")]
    assert not re.search(r"url\(|@import", style)
    assert "default-src 'none'" in shown
    assert '<span dir="auto">An Authority &lt;b&gt;</span>' in shown
    if not for_all:
        assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;quoted&#34; عدالتی حکم" in shown
        # The order's own clock beside UTC.
        assert "2015-07-24 18:00 +05:00" in shown


def test_what_anybody_may_see_has_no_address_name_contact_or_free_text(tmp_path: Path) -> None:
    life(tmp_path)
    whole = told(tmp_path)
    shown = public(whole)
    text = json.dumps(shown, ensure_ascii=False) + page(tmp_path, for_all=True)
    assert [each for each in SECRETS if each in text] == []
    assert [each for each in SECRETS if each not in json.dumps(whole, ensure_ascii=False)] == []
    assert shown["counts"] == {
        "orders": 1,
        "held_at_end": 0,
        "by_state": {"rescinded": 1},
        "by_authority": {"An Authority <b>": 1},
    }
    assert [each["kind"] for each in shown["orders"][0]["interruptions"]] == ["suspended", "put_in_anew"]


def valid(document: Mapping[str, Any]) -> None:
    name = "report" if document["kind"] == "gatewrit report" else "report-public"
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(document)


def test_the_json_is_as_its_schema_says(tmp_path: Path) -> None:
    life(tmp_path)
    whole = told(tmp_path)
    valid(whole)
    valid(public(whole))
    with pytest.raises(jsonschema.ValidationError):
        valid({**whole, "journal": {}})
