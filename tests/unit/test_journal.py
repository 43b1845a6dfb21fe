"""The journal by itself: its chain, what retention leaves, what damage does, and what it says of a past time."""

# The statements here tamper with a file of their own.
# ruff: noqa: S608
from __future__ import annotations

import json
import os
import sqlite3
import zlib
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewrit.engine.journal import database
from gatewrit.engine.journal.database import DamagedError, JournalError, NoJournalError
from gatewrit.engine.journal.reader import Filter, NotKept, Past, Reader
from gatewrit.engine.journal.rows import Entry
from gatewrit.engine.journal.verify import verify
from gatewrit.engine.journal.writer import Journal, Keeping
from gatewrit.engine.store import Kept
from gatewrit.policy.load import PolicyDocument, ServiceDocument, parse_policy, parse_service
from support.gateway import policy, service
from support.users import can_be

if TYPE_CHECKING:
    from collections.abc import Callable

#: 2026-01-01T00:00:00Z, in milliseconds.
BEGIN = 1_767_225_600_000
DAY = 86_400_000


def order(name: str, prefix: str = "203.0.113.0/24", revision: int = 1) -> Kept:
    document = parse_policy(policy(name, name, revision=revision).encode(), f"{name}.yaml")
    described = parse_service(service(name, (prefix, "tcp/3101")).encode(), f"services/{name}.yaml", {})
    assert isinstance(document, PolicyDocument)
    assert isinstance(described, ServiceDocument)
    return Kept(document, {name: described})


def accepted(at: int, kept: Kept) -> Entry:
    said = {"texts": kept.document_json(), "revision": kept.document.revision}
    return Entry(at, "accepted", kept.document.id, said)


def enforced(at: int, name: str) -> Entry:
    return Entry(at, "enforced", name, {"since": at // 1000, "generation": 1})


def lifted(at: int, name: str) -> Entry:
    return Entry(at, "lifted", name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return database.path_in(tmp_path)


def write(path: Path, *entries: Entry, texts: dict[str, bytes] | None = None) -> None:
    with closing(Journal.open(path, BEGIN)) as journal:
        journal.append(entries, texts or {})


def tamper(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def notes(count: int, begin: int = BEGIN, every: int = 1000) -> list[Entry]:
    return [Entry(begin + number * every, "note", f"order-{number % 3}", {"n": number}) for number in range(count)]


# -- the chain ---------------------------------------------------------------------------------------------------------


def test_what_is_written_verifies_and_is_read_back(path: Path) -> None:
    write(path, *notes(5))
    write(path, *notes(2, BEGIN + DAY))
    verdict = verify(path)
    assert verdict.whole
    assert (verdict.rows, verdict.first, verdict.head.seq) == (8, 1, 8)
    rows = Reader(path.parent).rows(Filter())
    assert [row.seq for row in rows] == list(range(1, 9))
    assert rows[0].kind == "begun"
    assert rows[-1].content() == {"n": 1}
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_digest_is_over_everything_that_a_row_says_in_plain_sight(path: Path) -> None:
    write(path, Entry(BEGIN + 5, "note", "order-a", {"b": "é", "a": 1}))
    first, row = Reader(path.parent).rows(Filter())
    # By hand, for whoever verifies without this program.
    text = f'{first.digest}\n[2,{BEGIN + 5},"note","order-a","{{\\"a\\":1,\\"b\\":\\"\\\\u00e9\\"}}"]'
    assert row.digest == sha256(text.encode()).hexdigest()


values = st.one_of(st.none(), st.integers(), st.text(max_size=8), st.lists(st.integers(), max_size=3))
entries = st.builds(
    Entry,
    at=st.integers(0, 1 << 45),
    kind=st.sampled_from(["note", "other"]),
    policy=st.one_of(st.none(), st.sampled_from(["order-a", "order-b"])),
    data=st.dictionaries(st.text(max_size=5), values, max_size=3),
)


def change_data(seq: int, _last: int) -> list[str]:
    return [f"UPDATE rows SET data = data || ' ' WHERE seq = {seq}"]


def change_time(seq: int, _last: int) -> list[str]:
    return [f"UPDATE rows SET at = at + 1 WHERE seq = {seq}"]


def change_kind(seq: int, _last: int) -> list[str]:
    return [f"UPDATE rows SET kind = kind || 'x' WHERE seq = {seq}"]


def change_policy(seq: int, _last: int) -> list[str]:
    return [f"UPDATE rows SET policy = CASE WHEN policy IS NULL THEN '' ELSE NULL END WHERE seq = {seq}"]


def change_digest(seq: int, _last: int) -> list[str]:
    return [f"UPDATE rows SET digest = '{'0' * 64}' WHERE seq = {seq}"]


def take_out(seq: int, _last: int) -> list[str]:
    return [f"DELETE FROM rows WHERE seq = {seq}"]


def take_out_and_close_up(seq: int, last: int) -> list[str]:
    shifts = [f"UPDATE rows SET seq = {each - 1} WHERE seq = {each}" for each in range(seq + 1, last + 1)]
    return [f"DELETE FROM rows WHERE seq = {seq}", *shifts]


def swap(seq: int, _last: int) -> list[str]:
    return [
        f"UPDATE rows SET seq = -1 WHERE seq = {seq}",
        f"UPDATE rows SET seq = {seq} WHERE seq = {seq + 1}",
        f"UPDATE rows SET seq = {seq + 1} WHERE seq = -1",
    ]


def truncate_front(seq: int, _last: int) -> list[str]:
    return [f"DELETE FROM rows WHERE seq <= {seq}"]


MUTATIONS = [
    change_data,
    change_time,
    change_kind,
    change_policy,
    change_digest,
    take_out,
    take_out_and_close_up,
    swap,
    truncate_front,
]


@settings(max_examples=60, deadline=None)
@given(
    written=st.lists(entries, min_size=2, max_size=8),
    where=st.integers(0, 100),
    mutation=st.sampled_from(MUTATIONS),
)
def test_any_row_that_is_changed_missing_or_moved_is_found(
    tmp_path_factory: pytest.TempPathFactory,
    written: list[Entry],
    where: int,
    mutation: Callable[[int, int], list[str]],
) -> None:
    path = database.path_in(tmp_path_factory.mktemp("journal"))
    write(path, *written)
    assert verify(path).whole
    last = len(written) + 1
    # Not the last row: that it is gone only a head kept elsewhere can tell.
    seq = 1 + where % (last - 1)
    tamper(path, *mutation(seq, last))
    verdict = verify(path)
    assert not verdict.whole
    assert verdict.flaws[0].seq in {seq, seq + 1}


def test_rows_taken_off_the_end_are_found_with_a_head_kept_elsewhere(path: Path) -> None:
    write(path, *notes(5))
    kept = verify(path).head.digest
    write(path, *notes(2))
    assert verify(path, kept).whole
    tamper(path, "DELETE FROM rows WHERE seq > 4")
    assert verify(path).whole
    verdict = verify(path, kept)
    assert [flaw.seq for flaw in verdict.flaws] == [4]
    assert kept in verdict.flaws[0].message


def test_a_text_that_is_changed_or_missing_is_found(path: Path) -> None:
    kept = order("order-a")
    write(path, accepted(BEGIN, kept), texts=kept.texts())
    digest = kept.document.source.sha256
    assert verify(path).whole
    other = zlib.compress(b"policy: another").hex()
    tamper(path, f"UPDATE texts SET packed = x'{other}' WHERE sha256 = '{digest}'")
    assert [(flaw.seq, digest in flaw.message) for flaw in verify(path).flaws] == [(2, True)]
    tamper(path, f"DELETE FROM texts WHERE sha256 = '{digest}'")
    assert [(flaw.seq, digest in flaw.message) for flaw in verify(path).flaws] == [(2, True)]


def test_a_text_is_kept_once(path: Path) -> None:
    kept = order("order-a")
    write(path, accepted(BEGIN, kept), texts=kept.texts())
    write(path, accepted(BEGIN + 1, kept), texts=kept.texts())
    with database.open_to_read(path) as connection:
        assert connection.execute("SELECT count(*) FROM texts").fetchone() == (2,)
        assert database.get_text(connection, kept.document.source.sha256) == kept.document.source.data


# -- retention ---------------------------------------------------------------------------------------------------------


def test_what_is_old_goes_and_what_still_stands_is_known(path: Path) -> None:
    stays, went = order("stays"), order("went", "198.51.100.0/24")
    write(
        path,
        accepted(BEGIN, stays),
        accepted(BEGIN, went),
        enforced(BEGIN + 2000, "stays"),
        enforced(BEGIN + 2000, "went"),
        lifted(BEGIN + DAY, "went"),
        Entry(BEGIN + DAY, "gone", "went"),
        *notes(3, BEGIN + 500 * DAY),
        texts={**stays.texts(), **went.texts()},
    )
    now = BEGIN + 600 * DAY
    with closing(Journal.open(path, now)) as journal:
        assert journal.prune(now, Keeping(days=1000)).rows == 0
        pruned = journal.prune(now, Keeping(days=400))
    assert pruned.rows == 7
    verdict = verify(path)
    assert verdict.whole, verdict.flaws
    assert (verdict.rows, verdict.first, verdict.head) == (4, 8, pruned.head)
    with database.open_to_read(path) as connection:
        texts = {digest for (digest,) in connection.execute("SELECT sha256 FROM texts")}
    assert texts >= set(stays.texts())
    assert not texts & set(went.texts())
    reader = Reader(path.parent)
    # Between what is gone and the first row that is kept, the checkpoint knows.
    for instant in ((BEGIN + 300 * DAY) // 1000, now // 1000):
        past = reader.standing_at(instant)
        assert isinstance(past, Past)
        assert list(past.policies) == ["stays"]
        assert past.policies["stays"].enforced
        assert past.policies["stays"].since == BEGIN // 1000 + 2
    before = reader.standing_at(BEGIN // 1000)
    assert isinstance(before, NotKept)
    assert before.since == (BEGIN + DAY) // 1000


def test_all_rows_can_be_old(path: Path) -> None:
    kept = order("order-a")
    write(path, accepted(BEGIN, kept), enforced(BEGIN + 1, "order-a"), texts=kept.texts())
    for years in (2, 4, 6):
        now = BEGIN + years * 365 * DAY
        with closing(Journal.open(path, now)) as journal:
            assert journal.prune(now, Keeping()).rows > 0
        assert verify(path).whole
        assert verify(path).rows == 1
        past = Reader(path.parent).standing_at(now // 1000 - 100 * 86400)
        assert isinstance(past, Past)
        assert past.policies["order-a"].policy.revision == 1
    write(path, lifted(now + 1, "order-a"))
    assert verify(path).whole


def test_front_rows_that_no_checkpoint_accounts_for_are_missed(path: Path) -> None:
    write(path, *notes(20, every=DAY))
    with closing(Journal.open(path, BEGIN)) as journal:
        assert journal.prune(BEGIN + 20 * DAY, Keeping(days=10)).rows
    first = verify(path).first
    tamper(path, f"DELETE FROM rows WHERE seq = {first}")
    assert [flaw.seq for flaw in verify(path).flaws] == [first + 1]


def test_a_checkpoint_that_lies_about_what_stood_is_found(path: Path) -> None:
    kept = order("order-a")
    write(path, accepted(BEGIN, kept), enforced(BEGIN, "order-a"), texts=kept.texts())
    with closing(Journal.open(path, BEGIN)) as journal:
        journal.prune(BEGIN + 500 * DAY, Keeping())
    standing = Reader(path.parent).rows(Filter(kind="checkpoint"))[0].content()["standing"]
    tamper(path, f"UPDATE texts SET packed = x'{zlib.compress(b'{}').hex()}' WHERE sha256 = '{standing}'")
    assert not verify(path).whole


def test_a_file_that_is_too_large_shrinks(path: Path) -> None:
    texts = [os.urandom(50_000) for _ in range(40)]
    with closing(Journal.open(path, BEGIN)) as journal:
        for number, text in enumerate(texts):
            name = sha256(text).hexdigest()
            said = {"texts": {"policy": {"file": "a", "sha256": name}, "services": {}}, "revision": number}
            journal.append([Entry(BEGIN + number, "accepted", "order-a", said)], {name: text})
        pruned = journal.prune(BEGIN + 100, Keeping(max_bytes=1_000_000))
        assert pruned.rows > 0
        assert not pruned.too_large
        # What stands isn't let go, however large it is.
        assert journal.prune(BEGIN + 100, Keeping(max_bytes=1000)).too_large
        assert journal.standing().policies["order-a"].revision == 39
    assert path.stat().st_size < 1_000_000
    assert verify(path).whole


# -- damage and refusals -----------------------------------------------------------------------------------------------


def spoil_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"not a data base at all")


def spoil_pages(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8 * 4096))


@pytest.mark.parametrize("spoil", [spoil_header, spoil_pages])
def test_a_damaged_journal_is_moved_aside_and_a_new_one_says_so(path: Path, spoil: Callable[[Path], None]) -> None:
    write(path, *notes(500))
    spoil(path)
    content = path.read_bytes()
    assert not verify(path).whole
    with closing(Journal.open(path, BEGIN + DAY)) as journal:
        assert journal.head().seq == 1
    aside = path.with_name(f"journal.db.damaged-{(BEGIN + DAY) // 1000}")
    assert aside.read_bytes() == content
    (row,) = Reader(path.parent).rows(Filter())
    assert row.kind == "begun"
    assert row.content()["damaged"] == aside.name
    assert verify(path).whole


def test_a_newer_journal_is_left_alone(path: Path) -> None:
    write(path, *notes(2))
    tamper(path, "PRAGMA user_version = 2")
    before = path.read_bytes()
    with pytest.raises(JournalError, match="newer gatewrit"):
        Journal.open(path, BEGIN)
    with pytest.raises(JournalError, match="newer gatewrit"):
        verify(path)
    assert path.read_bytes() == before


def test_who_may_not_read_it_is_told_so() -> None:
    before = os.geteuid()
    # Not where pytest's are, which nobody else may even come near.
    with TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        path = Path(name) / "journal.db"
        path.touch(0)
        os.seteuid(65534 if can_be(65534) else before)
        try:
            with (
                pytest.raises(JournalError, match="this user may not read it; run it as root"),
                database.open_to_read(path),
            ):
                pass
        finally:
            os.seteuid(before)


def test_no_journal_is_said(path: Path) -> None:
    with pytest.raises(NoJournalError, match="there is no journal yet"):
        verify(path)


def test_a_full_disk_writes_nothing_or_all(path: Path) -> None:
    with closing(Journal.open(path, BEGIN)) as journal:
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        journal._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(JournalError, match="full"):
            journal.append(notes(500), {})
        assert journal.head().seq == 1
        journal._connection.execute("PRAGMA max_page_count = 100000")
        journal.append(notes(500), {})
    assert verify(path).rows == 501


def test_two_writers_by_turns_make_one_chain(path: Path) -> None:
    with closing(Journal.open(path, BEGIN)) as one, closing(Journal.open(path, BEGIN)) as other:
        for number in range(5):
            (one, other)[number % 2].append(notes(2), {})
    assert verify(path).whole
    assert verify(path).rows == 11


# -- what stood when ---------------------------------------------------------------------------------------------------


def past_at(reader: Reader, at: int) -> Past:
    found = reader.standing_at(at // 1000)
    assert isinstance(found, Past)
    return found


def test_what_stood_when(path: Path) -> None:
    first, second = order("order-a"), order("order-a", "198.51.100.0/24", 2)
    held = {"until": BEGIN // 1000 + 2 * 86_400, "reason": "court", "by": {"uid": 0, "name": "root"}}
    write(
        path,
        Entry(BEGIN, "started", None, {"name": "core-1", "tags": ["core"]}),
        accepted(BEGIN + 1000, first),
        enforced(BEGIN + 5000, "order-a"),
        accepted(BEGIN + DAY, second),
        enforced(BEGIN + DAY + 5000, "order-a"),
        Entry(BEGIN + 2 * DAY, "suspended", "order-a", held),
        lifted(BEGIN + 2 * DAY, "order-a"),
        Entry(BEGIN + 3 * DAY, "resumed", "order-a"),
        Entry(BEGIN + 4 * DAY, "stopped"),
        Entry(BEGIN + 5 * DAY, "started", None, {"name": "core-1", "tags": []}),
        Entry(BEGIN + 6 * DAY, "started", None, {"name": "core-1", "tags": []}),
        texts={**first.texts(), **second.texts()},
    )
    reader = Reader(path.parent)
    assert isinstance(reader.standing_at(BEGIN // 1000 - 1), NotKept)
    assert past_at(reader, BEGIN).policies == {}

    said = past_at(reader, BEGIN + 1000).policies["order-a"]
    assert (said.enforced, said.policy.revision) == (False, 1)
    there = past_at(reader, BEGIN + 6000)
    assert there.gateway["tags"] == ["core"]
    assert there.policies["order-a"].enforced
    assert there.policies["order-a"].since == BEGIN // 1000 + 5

    # What the kernel has is what counts, until it confirms the next.
    between = past_at(reader, BEGIN + DAY + 1000).policies["order-a"]
    assert between.policy.revision == 1
    assert between.accepted is not None
    assert between.accepted.revision == 2
    after = past_at(reader, BEGIN + DAY + 5000).policies["order-a"]
    assert after.policy.revision == 2
    assert after.policy.services["order-a"].endpoints[0].ranges[0].file == "services/order-a.yaml"

    apart = past_at(reader, BEGIN + 2 * DAY).policies["order-a"]
    assert not apart.enforced
    assert apart.suspended == held
    assert past_at(reader, BEGIN + 3 * DAY).policies["order-a"].suspended is None

    assert past_at(reader, BEGIN + 3 * DAY).running is True
    assert past_at(reader, BEGIN + 4 * DAY + 1000).running is False
    assert past_at(reader, BEGIN + 5 * DAY + 1000).running is None
    assert past_at(reader, BEGIN + 7 * DAY).running is True


def test_a_clock_that_ran_ahead_hides_nothing(path: Path) -> None:
    kept = order("order-a")
    write(
        path,
        accepted(BEGIN, kept),
        enforced(BEGIN + 30 * 365 * DAY, "order-a"),
        lifted(BEGIN + DAY, "order-a"),
        texts=kept.texts(),
    )
    reader = Reader(path.parent)
    assert not past_at(reader, BEGIN).policies["order-a"].enforced
    assert not past_at(reader, BEGIN + 2 * DAY).policies["order-a"].enforced


def test_what_cannot_be_parsed_any_more_is_said(path: Path) -> None:
    kept = order("order-a")
    write(path, accepted(BEGIN, kept))
    with pytest.raises(DamagedError, match="missing"):
        Reader(path.parent).standing_at(BEGIN // 1000)


def test_rows_are_filtered(path: Path) -> None:
    write(path, *notes(10, every=DAY))

    def found(**wanted: Any) -> list[int]:
        return [json.loads(row.data).get("n", -1) for row in Reader(path.parent).rows(Filter(**wanted))]

    assert found(policy="order-1") == [1, 4, 7]
    assert found(kind="note", limit=2) == [8, 9]
    assert found(kind="note", since=BEGIN + 8 * DAY) == [8, 9]
    assert found(kind="note", until=BEGIN + DAY) == [0]


@pytest.mark.parametrize(
    "said",
    [
        "[]",
        "{}",
        "[" * 100_000,
        '{"through": 1e999, "digest": "", "at": 0, "rows": 0, "standing": ""}',
        '{"through": 1, "digest": "", "at": "now", "rows": 0, "standing": ""}',
        '{"through": 99999999999999999999, "digest": "", "at": 0, "rows": 0, "standing": ""}',
    ],
)
def test_a_checkpoint_that_nobody_wrote_is_damage_to_every_reader(path: Path, said: str) -> None:
    write(path, *notes(20, every=DAY))
    with closing(Journal.open(path, BEGIN)) as journal:
        journal.prune(BEGIN + 20 * DAY, Keeping(days=10))
    tamper(path, f"UPDATE rows SET data = '{said}' WHERE kind = 'checkpoint'")
    assert not verify(path).whole
    with pytest.raises(DamagedError, match="can't be read"):
        Reader(path.parent).standing_at(0)
    with closing(Journal.open(path, BEGIN)) as journal, pytest.raises(DamagedError, match="can't be read"):
        journal.prune(BEGIN + 40 * DAY, Keeping(days=10))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("started", {"name": 7}),
        ("started", {"tags": 7}),
        ("started", {"tags": [[]]}),
        ("started", {"hooks": "forward"}),
        ("started", {"hooks": ["nowhere"]}),
        ("suspended", {}),
        ("suspended", {"until": "later"}),
        ("suspended", {"until": 10**18}),
        ("enforced", {"since": -1}),
        ("enforced", {"since": "then"}),
    ],
)
def test_a_row_that_nobody_wrote_is_damage_to_whoever_asks_about_the_past(
    path: Path, kind: str, said: dict[str, Any]
) -> None:
    kept = order("order-a")
    of = None if kind == "started" else "order-a"
    write(path, accepted(BEGIN, kept), Entry(BEGIN, kind, of, said), texts=kept.texts())
    with pytest.raises(DamagedError, match="can't be read"):
        Reader(path.parent).standing_at(BEGIN // 1000)
