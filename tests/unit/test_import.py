"""`gatewrit import`: excerpts of real feeds, what is refused with its line, and lists of just their addresses."""

from __future__ import annotations

import gzip
import json
from ipaddress import collapse_addresses, ip_address, ip_network, summarize_address_range
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.compile.imported import prefixes
from gatewrit.policy.feeds import BOGONS, Columns, Entry, Reader, lines_of
from gatewrit.policy.ranges import Span, parse_list, span_text
from support.gateway import policy, service
from support.inplace import invoke

if TYPE_CHECKING:
    from pathlib import Path

WIDEST = {4: 16, 6: 32}
#: The BGP table of 2015-11-01 as python3-pyasn has it: nested announcements, and a neighbour that is somebody else's.
TABLE = """\
; IP-ASN32-DAT file
67.223.64.0/19	18705
68.171.224.0/19	18705
68.171.224.0/20	18705
68.171.239.0/24	18705
193.109.81.0/24	18705
204.187.87.0/24	11647
206.51.25.0/24	11647
206.51.26.0/24	18705
206.51.26.188/30	29136
206.51.26.240/28	29136
2607:ffc0::/32	18705
2607:ffc0:c::/48	18705
"""
DROP = """\
{"cidr":"1.10.16.0/20","sblid":"SBL256894","rir":"apnic"}
{"cidr":"1.19.0.0/16","sblid":"SBL434604","rir":"apnic"}
{"type":"metadata","timestamp":1716540000,"size":112,"records":2,"copyright":"(c) 2024 The Spamhaus Project SLU"}
"""
FEODO = """\
################################################################
# Feodo Tracker Botnet C2 IP Blocklist (CSV)                   #
################################################################
"first_seen_utc","dst_ip","dst_port","c2_status","last_online","malware"
"2021-01-17 07:30:05","67.213.75.205","443","online","2024-05-23","Dridex"
"2022-06-04 21:24:53","8.8.4.4","80","offline","2024-05-20","QakBot"
"""
GEOIP = "# converted\n16777216,16777471,AU\n87965000,87965003,PK\n5.62.63.60,5.62.63.63,PK\n"


def entries(
    read: str, text: str | list[str], *more: Any, widest: dict[int, int] | None = None
) -> list[tuple[str, int, str]]:
    reader = Reader("feed", widest or WIDEST)
    found = [(span_text(each.span), each.line, each.note) for each in getattr(reader, read)(text, *more)]
    assert not reader.faults
    return found


def faults(read: str, text: str | list[str], *more: Any) -> list[str]:
    reader = Reader("feed", WIDEST)
    list(getattr(reader, read)(text, *more))
    return [str(each) for each in reader.faults]


def test_what_an_as_announces() -> None:
    table = lines_of(TABLE)
    assert entries("table", table, frozenset({11647})) == [
        ("204.187.87.0/24", 7, "AS11647"),
        ("206.51.25.0/24", 8, "AS11647"),
    ]
    assert len(entries("table", table, frozenset({18705}))) == 8
    assert faults("table", ["1.0.0.0/24 15169"], frozenset({15169})) == [
        "feed:1:1: bad_record: a line is prefix, tab, number of the autonomous system"
    ]


def test_lines_with_comments() -> None:
    old = "; Spamhaus DROP List\n1.10.16.0/20 ; SBL256894\r\n\n  2a03:1b80::/32 # why\n"
    assert entries("cidr", old) == [("1.10.16.0/20", 2, "SBL256894"), ("2a03:1b80::/32", 4, "why")]
    # A line is what editors take for one.
    assert faults("cidr", "1.1.1.1\x0b8.8.8.8\n1.2.3.4/33")[1].startswith("feed:2:1: bad_entry: 1.2.3.4/33")


def test_spamhaus_drop() -> None:
    assert entries("spamhaus", DROP) == [("1.10.16.0/20", 1, "SBL256894"), ("1.19.0.0/16", 2, "SBL434604")]
    lines = DROP.splitlines(keepends=True)
    assert faults("spamhaus", "".join(lines[:2])) == [
        "feed:2:1: bad_record: no metadata at the end: the feed is cut off; fetch it again"
    ]
    assert "the metadata say 2 records, and 1 are here" in faults("spamhaus", "".join(lines[1:]))[0]
    assert faults("spamhaus", '{"cidr": 1}\n[\n' + DROP)[:2] == [
        'feed:1:1: bad_record: neither an entry ({"cidr": …}) nor {"type": "metadata", …}',
        "feed:2:1: bad_record: this line isn't a JSON object",
    ]


def test_csv_by_names_and_by_numbers() -> None:
    by_name = Columns(prefix="dst_ip", note="malware", where={"c2_status": "online"})
    assert entries("csv", FEODO, by_name) == [("67.213.75.205", 5, "Dridex")]
    by_number = Columns(first="1", last="2", note="3", where={"3": "PK"})
    assert entries("csv", GEOIP, by_number) == [("5.62.61.72/30", 3, "PK"), ("5.62.63.60/30", 4, "PK")]
    assert faults("csv", FEODO, Columns(prefix="ip"))[0].startswith("feed:4:1: bad_record: no column, or more than one")
    assert faults("csv", "1.1.1.1\n", Columns(prefix="2")) == [
        "feed:1:1: bad_record: this line has 1 columns, where 2 are needed"
    ]
    assert "bad_record" in faults("csv", '"1.1.1.1', Columns(prefix="1"))[0]


def test_addresses_may_be_numbers_of_either_family() -> None:
    numbers = Columns(first="1", last="2", note="3")
    # As IP2Location has them: Google's 8.8.8.0/24, and 2001:4860::/32.
    google = 0x20014860 << 96
    rows = f'"134744064","134744319","US"\n"{google}","{google + (1 << 96) - 1}","US"\n'
    assert entries("csv", rows, numbers) == [("8.8.8.0/24", 1, "US"), ("2001:4860::/32", 2, "US")]
    assert entries("csv", f"{google},{google},US\n", numbers) == [("2001:4860::", 1, "US")]
    for wrong in (f"134744064,{google},US", f"{google},134744319,US", f"1,{1 << 128},US", "134744319,134744064,US"):
        (told,) = faults("csv", wrong, numbers)
        assert told.startswith("feed:1:1: "), wrong


@pytest.mark.parametrize("bogon", BOGONS, ids=lambda bogon: span_text(bogon[0]))
def test_no_bogon_is_taken_at_either_end_nor_around_it(bogon: tuple[Span, str]) -> None:
    span, what = bogon
    for each in (Span(span.family, span.first, span.first), Span(span.family, span.last, span.last), span):
        assert faults("cidr", f"8.8.8.8\n{span_text(each)}\n")[0].startswith("feed:2:1: bogon: ")
        assert what.split(",")[0] in faults("cidr", span_text(each))[0]


def test_what_is_too_wide_or_not_global_has_its_line() -> None:
    assert faults("cidr", "\n 6.0.0.0/15\n2600::/31\nfd00::1\n1fff::\n4000::") == [
        "feed:2:2: too_wide: 6.0.0.0/15 is wider than a /16, which limits.widest_ipv4 allows",
        "feed:3:1: too_wide: 2600::/31 is wider than a /32, which limits.widest_ipv6 allows",
        *(
            f"feed:{line}:1: bogon: {text} isn't within 2000::/3, global unicast, RFC 4291"
            for line, text in ((4, "fd00::1"), (5, "1fff::"), (6, "4000::"))
        ),
    ]


SMALL = st.tuples(st.integers(0, 300), st.integers(0, 40)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(st.tuples(st.sampled_from([4, 6]), SMALL), max_size=12))
def test_the_list_is_exactly_the_fewest_prefixes_each_with_all_its_lines(
    pairs: list[tuple[Any, tuple[int, int]]],
) -> None:
    base = {4: int(ip_address("9.0.0.0")), 6: int(ip_address("2600::"))}
    given_ = [
        Entry(Span(family, base[family] + first, base[family] + last), line)
        for line, (family, (first, last)) in enumerate(pairs, 1)
    ]
    made = list(prefixes(given_, {4: 1, 6: 1}))
    wanted = []
    for family in (4, 6):
        networks = [
            network
            for entry in given_
            if entry.span.family == family
            for network in summarize_address_range(ip_address(entry.span.first), ip_address(entry.span.last))  # type: ignore[type-var]
        ]
        wanted += [str(each) for each in collapse_addresses(networks)]  # type: ignore[type-var]
    assert [str(ip_network(span_text(block))) for block, _ in made] == wanted
    for block, sources in made:
        touching = [
            entry
            for entry in given_
            if entry.span.family == block.family and entry.span.first <= block.last and block.first <= entry.span.last
        ]
        assert sorted(entry.line for entry in sources) == [entry.line for entry in touching]


def test_neighbours_are_not_joined_into_what_the_limits_refuse() -> None:
    two = [Entry(Span(4, 9 << 24, (9 << 24) + (1 << 17) - 1), 1)]
    assert [span_text(block) for block, _ in prefixes(two, WIDEST)] == ["9.0.0.0/16", "9.1.0.0/16"]


class Desk:
    """Settings, a policies directory, and the verb."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.services = root / "policies/services"
        self.services.mkdir(parents=True)
        self.list = self.services / "list.txt"
        (root / "gatewrit.yaml").write_text("policies: policies\n")

    def feed(self, data: str | bytes) -> str:
        path = self.root / "feed"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(path)

    def run(self, *words: str, licence: str = "CC0") -> tuple[int, str, str]:
        """Give the exit code, and what went to standard output and error."""
        config = str(self.root / "gatewrit.yaml")
        return invoke("import", "--config", config, "--licence", licence, "--output", str(self.list), *words)

    def entries(self) -> list[str]:
        return [line.split("  # ")[0] for line in self.list.read_text().splitlines() if not line.startswith("#")]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_list_says_where_it_comes_from_and_reads_as_one(desk: Desk) -> None:
    table = desk.feed(gzip.compress(TABLE.encode()))
    code, out, _ = desk.run("--asn", "18705", "--table", table, "--source", "BGP 2015-11-01", "--json")
    assert code == 0
    changes = json.loads(out)["changes"]["ipv4"]
    assert changes == {"before": "0", "added": str(2 * 8192 + 512), "lifted": "0"}
    text = desk.list.read_text()
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert head[1:3] == ["# source: BGP 2015-11-01 (table), of which AS18705", "# licence: CC0"]
    assert head[-1] == "# entries: 5"
    assert desk.entries() == [
        "67.223.64.0/19",
        "68.171.224.0/19",
        "193.109.81.0/24",
        "206.51.26.0/24",
        "2607:ffc0::/32",
    ]
    assert "68.171.224.0/19  # lines 3, 4, 5: AS18705\n" in text
    assert not parse_list(text.encode(), "list.txt").faults
    # Again: nothing to do, and the file is left alone.
    before = desk.list.stat()
    code, out, _ = desk.run("--asn", "18705", "--table", table, "--json")
    assert (code, json.loads(out)["written"]) == (0, False)
    assert (desk.list.stat().st_ino, desk.list.read_text()) == (before.st_ino, text)


def test_what_others_announce_inside_is_said(desk: Desk) -> None:
    code, out, complaint = desk.run("--asn", "18705", "--table", desk.feed(TABLE), "--json")
    assert code == 0
    assert json.loads(out)["others"] == [
        {"prefix": "206.51.26.188/30", "by": "AS29136", "line": 10},
        {"prefix": "206.51.26.240/28", "by": "AS29136", "line": 11},
    ]
    assert "others announce 206.51.26.188/30 (AS29136), 206.51.26.240/28 (AS29136) inside" in complaint
    assert (
        json.loads(desk.run("--asn", "29136", "--table", desk.feed(TABLE), "--allow-swing", "x", "--json")[1])["others"]
        == []
    )


def test_of_many_others_the_first_are_said_and_the_rest_counted(desk: Desk) -> None:
    others = "".join(f"206.51.26.{at}/32\t29136\n" for at in range(7))
    _, out, complaint = desk.run("--asn", "18705", "--table", desk.feed("206.51.26.0/24\t18705\n" + others), "--json")
    assert "206.51.26.4 (AS29136) and 2 more inside" in complaint
    assert "206.51.26.5" not in complaint
    assert len(json.loads(out)["others"]) == 7


def test_one_bad_entry_refuses_the_feed_and_the_list_stays(desk: Desk) -> None:
    desk.list.write_text("8.8.8.0/24\n")
    code, _, complaint = desk.run(desk.feed("8.8.8.8\n10.0.0.0/24\n"))
    assert code == 2
    assert f"{desk.root}/feed:2:1: bogon: 10.0.0.0/24 takes in 10.0.0.0/8" in complaint
    assert "stays as it is" in complaint
    assert desk.list.read_text() == "8.8.8.0/24\n"
    for empty in ("", "# nothing\n"):
        code, _, complaint = desk.run(desk.feed(empty), "--allow-swing", "meant")
        assert (code, "list_empty" in complaint) == (2, True)
    assert desk.run(desk.feed(b"8.8.8.8\n\xff\n"))[0] == 2
    assert desk.run(desk.feed(gzip.compress(b"8.8.8.8\n")[:-9]))[0] == 2
    assert desk.run(str(desk.root / "none"))[0] == 2
    assert desk.list.read_text() == "8.8.8.0/24\n"
    assert [each.name for each in desk.services.iterdir()] == ["list.txt"]


def test_what_is_meant_to_be_wide_can_be_had(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    # As Spamhaus has them: /15 in EDROP of 2018, /12 in DROP of 2025; and a list of FireHOL's with a bogon in it.
    feed = desk.feed("; EDROP\n43.57.0.0/16 ; SBL271294\n59.254.0.0/15 ; SBL230802\n")
    code, _, complaint = desk.run(feed)
    assert (code, desk.list.exists()) == (2, False)
    assert "feed:3:1: too_wide: 59.254.0.0/15" in complaint
    assert "GATEWRIT_LIMITS__WIDEST_IPV4=12 gatewrit import" in complaint
    assert "`allow_wide: REASON`" in complaint
    complaint = desk.run(desk.feed("8.8.8.8\n192.168.1.1\n"))[2]
    assert "sed '17d;23d' FEED | gatewrit import -" in complaint
    assert "WIDEST" not in complaint
    # What it says works, and the policy then says why, too.
    monkeypatch.setenv("GATEWRIT_LIMITS__WIDEST_IPV4", "12")
    assert desk.run(desk.feed("43.57.0.0/16\n59.254.0.0/15\n"))[0] == 0
    monkeypatch.delenv("GATEWRIT_LIMITS__WIDEST_IPV4")
    assert desk.entries() == ["43.57.0.0/16", "59.254.0.0/15"]
    (desk.services / "drop.yaml").write_text(service("drop", ("list.txt", "tcp/25")))
    config = str(desk.root / "gatewrit.yaml")
    order = policy("drop", "drop")
    for text, code in ((order, 2), (order + "allow_wide: as Spamhaus lists them\n", 0)):
        (desk.root / "policies/drop.yaml").write_text(text)
        told = invoke("check", "--config", config)
        assert told[0] == code, told


def test_a_swing_needs_a_reason_which_is_kept(desk: Desk) -> None:
    desk.list.write_text("8.8.8.0/24\n2600::/48\n")
    # Half of it is no swing yet.
    assert desk.run(desk.feed("8.8.8.0/25\n2600::/48\n"))[0] == 0
    code, _, complaint = desk.run(desk.feed("8.8.8.0/25\n"))
    assert code == 2
    assert "0 IPv6 addresses would come and 1208925819614629174706176 go" in complaint
    assert desk.entries() == ["8.8.8.0/25", "2600::/48"]
    assert desk.run(desk.feed("8.8.8.0/25\n"), "--allow-swing", "the service left IPv6")[0] == 0
    assert "# swing allowed: the service left IPv6 (IPv4 +0 -0 of 128; IPv6 +0 -" in desk.list.read_text()
    # What can't be compared with isn't replaced either.
    desk.list.write_text("8.8.8.0/24\nno address\n")
    code, _, complaint = desk.run(desk.feed("8.8.8.0/24\n"))
    assert (code, "nobody can say how much would change" in complaint) == (2, True)
    assert desk.run(desk.feed("8.8.8.0/24\n"), "--allow-swing", "it was broken")[0] == 0


def test_nothing_from_a_feed_is_read_as_ours(desk: Desk) -> None:
    nasty = "8.8.8.8 # x\u2028# entries: 7\x1b[2J\n1.1.1.1 ; # entries: 9\n"
    assert desk.run(desk.feed(nasty), "--source", "a # entries: 3", licence="; entries: 4")[0] == 0
    text = desk.list.read_text()
    assert not parse_list(text.encode(), "list.txt").faults
    assert all(line.isprintable() for line in text.split("\n"))


def test_a_signed_directory_is_said_to_need_new_signatures(desk: Desk) -> None:
    manifest = desk.services.parent / "MANIFEST"
    manifest.write_text("…")
    code, out, complaint = desk.run(desk.feed("8.8.8.8\n"), "--json")
    assert (code, json.loads(out)["manifest"]) == (0, str(manifest))
    assert "until it is signed anew" in complaint
    assert f"gatewrit manifest {manifest.parent}" in complaint
    assert json.loads(desk.run(desk.feed("8.8.8.8\n"), "--json")[1])["manifest"] is None


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["FEED", "--table", "t"],
        ["--table", "t"],
        ["FEED", "--asn", "1"],
        ["--table", "t", "--asn", "1", "--format", "csv"],
        ["FEED", "--map", "prefix=a"],
        ["FEED", "--format", "csv"],
        ["FEED", "--format", "csv", "--map", "prefix=a", "--map", "last=b"],
        ["FEED", "--format", "csv", "--map", "prefix=a", "--map", "note=2"],
        ["FEED", "--format", "csv", "--map", "prefix=0"],
        ["FEED", "--format", "csv", "--map", "prefix=1", "--where", "3"],
        ["FEED", "--source", "two\nlines"],
        ["FEED", "--allow-swing", " "],
    ],
)
def test_what_makes_no_sense_is_wrong_usage(desk: Desk, words: list[str]) -> None:
    assert desk.run(*words)[0] == 64
