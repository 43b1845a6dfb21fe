"""The page on semantics holds: each row of its tables is judged by the policies and by the compiled rules."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from ipaddress import IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gatewrit.compile.acting import Local, acting
from gatewrit.compile.rails import Judge, Rails
from gatewrit.compile.render import compile_policies
from gatewrit.compile.surroundings import Surroundings
from gatewrit.kernel.plan import diff
from gatewrit.policy.instant import parse_instant
from gatewrit.policy.load import load
from gatewrit.policy.ranges import parse_span, to_ranges
from support.fake import FakeKernel
from support.paper import Fate, Packet, by_policies, by_rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatewrit.compile.render import Compiled
    from gatewrit.kernel.transaction import Actual

PAGE = (Path(__file__).parents[2] / "docs/semantics.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
LOCAL = Local(names=("core-1",))
SUBSCRIBERS = [ip_network("100.64.0.0/10"), ip_network("2001:db8:64::/48")]
PROTOCOLS = {"tcp": 6, "udp": 17, "gre": 47}
OMITTED = {
    "policy": {
        "title": "An order",
        "revision": 1,
        "order": {"authority": "An authority", "reference": "No. 1", "issued": "2015-07-24"},
        "effective": {"from": "2016-01-01T00:00:00Z", "until": "2199-01-01T00:00:00Z"},
        "state": "active",
    },
    "service": {"title": "A service"},
}
#: Before any of the page's instants, so that the rules carry all of their guards.
EARLY, USUAL = "2015-12-01T00:00:00Z", "2029-01-01T00:00:00Z"


def blocks(section: str) -> Iterator[str]:
    """Give YAML blocks and tables in their order."""
    for found in re.finditer(r"^```yaml\n(.*?)^```|^((?:\|[^\n]*\n)+)", section, re.MULTILINE | re.DOTALL):
        yield found[1] or found[2]


def rows(table: str) -> list[dict[str, str]]:
    lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines()]
    return [dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]]


def write(documents: dict[str, dict[str, Any]], folder: Path) -> None:
    (folder / "services").mkdir(exist_ok=True)
    for name, document in documents.items():
        kind = "policy" if "policy" in document else "service"
        below = folder / "services" if kind == "service" else folder
        (below / f"{name}.yaml").write_text(yaml.safe_dump(OMITTED[kind] | document))


def packet(row: dict[str, str]) -> Packet:
    source, destination = ip_address(row["from"]), ip_address(row["to"])
    outward = any(source in network for network in SUBSCRIBERS)
    name, _, rest = row["packet"].partition(" ")
    number = (58 if destination.version == 6 else 1) if name == "icmp" else PROTOCOLS[name]
    sport, dport = (0, 0) if not rest else (None, None)
    if ">" in rest:
        sport, dport = map(int, rest.split(">"))
    return Packet(
        4 if destination.version == 4 else 6,
        int(source),
        int(destination),
        number,
        sport,
        dport,
        icmp_type=128 if destination.version == 6 else 8,
        iif=row.get("in", "gn0" if outward else "gi0"),
        oif=row.get("out", "gi0" if outward else "gn0"),
    )


def expected(row: dict[str, str]) -> Fate:
    counts = Counter[str]()
    for text in filter(None, row["counted for"].split(", ")):
        name, twice, _ = text.partition(" twice")
        counts[name] = 2 if twice else 1
    return Fate(row["becomes"], counts)


def epoch(text: str) -> int:
    return parse_instant(text).epoch


def loaded(compiled: Compiled) -> Actual:
    async def work() -> Actual:
        kernel = FakeKernel()
        await kernel.commit(diff(compiled.ruleset, await kernel.read()).whole)
        return await kernel.read()

    return asyncio.run(work())


@pytest.mark.parametrize("section", [name for name, text in SECTIONS.items() if "```yaml" in text])
def test_each_row_is_what_the_policies_say_and_the_rules_do(section: str, tmp_path: Path) -> None:
    around = Surroundings(to_ranges([(parse_span(str(IPv6Network("64:ff9b::/96"))), 1)], "settings"))
    documents: dict[str, dict[str, Any]] = {}
    told = SECTIONS[section]
    refused: list[str] = []
    judged = 0
    for block in blocks(told):
        if not block.startswith("|"):
            for document in yaml.safe_load_all(block):
                documents[document.get("policy") or document["service"]] = document
            write(documents, tmp_path)
            continue
        policies, faults = load(tmp_path, Judge(Rails()).faults)
        refused += [fault.code for fault in faults if fault.severity == "error"]
        chosen = list(acting(policies, LOCAL, epoch(EARLY)).values())
        for compiled_at in (EARLY, USUAL):
            compiled = compile_policies(chosen, epoch(compiled_at), ("forward",), -10, around)
            actual = loaded(compiled)
            for row in rows(block):
                now = epoch(row.get("at", USUAL))
                wanted = expected(row)
                assert by_policies(chosen, packet(row), "forward", now, around) == wanted, (row, faults)
                assert by_rules(actual, compiled.counters, packet(row), "forward", now) == wanted, row
                judged += 1
    assert judged
    assert refused == re.findall(r"^Refused with `(\w+)`", told, re.MULTILINE)


def test_every_block_on_the_page_belongs_to_a_section_with_a_table() -> None:
    assert sum(text.count("```yaml") for text in SECTIONS.values()) == PAGE.count("```yaml")
    assert sum(len(rows(block)) for text in SECTIONS.values() for block in blocks(text) if block[0] == "|") > 60
