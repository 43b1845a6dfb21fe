"""`status` in a terminal: the verdict first, what to do last, at any width, whatever a policy file says."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from gatewrit.api import words
from gatewrit.api.documents import policy_item, status_document
from gatewrit.cli import status_table
from gatewrit.engine.snapshot import PolicyState
from gatewrit.policy.instant import parse_instant
from gatewrit.policy.terms import Effective, Order
from unit.api_samples import DEGRADED, IN_SYNC, NOW, SHUTDOWN, STARTING, UNREAD_PROBLEM

if TYPE_CHECKING:
    from gatewrit.engine.snapshot import Snapshot


def shown(snapshot: Snapshot, width: int = 200, now: int = NOW, *, terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=terminal, markup=False, highlight=False, emoji=False, legacy_windows=False
    )
    status_table.show(status_document(snapshot, now), list(map(policy_item, snapshot.policies)), console)
    return out.getvalue()


def test_it_reads_from_the_verdict_down_to_what_to_do() -> None:
    assert shown(DEGRADED, 100) == (
        """\
Degraded: 1 error needs attention
last verified 12 s ago; policies: 1 in force, 1 scheduled, 1 rejected; 1 error
core-1, gatewrit 0.1.0, 2016-01-05 12:00 UTC
ruleset 7: 13 IPv4 and 3 IPv6 segments

in force         bes-shutdown r2
for 5 days       Shut down BlackBerry Enterprise Services
                 Pakistan Telecommunication Authority, PTA notification of 2015-07-24
                 reject to blackberry-enterprise, 120,433 packets
                 from 2015-12-30 19:00, until 2016-12-30 19:00, review by 2016-03-01 00:00 (UTC)
scheduled        court-118 r1
in 2 h           عدالتی حکم
                 لاہور ہائی کورٹ, W.P. 118/2016
                 drop to and from casino-a, casino-b, 0 packets
                 from 2016-01-05 14:00, no end, review by 2016-01-06 12:00 (UTC)
rejected         unread
policy_rejected

error policy_rejected unread since 2016-01-05 11:56:40 UTC, 3 min 20 s ago
  'prot' isn't a key of an endpoint
  To do: Correct the file and run: gatewrit reload
  policies/unread.yaml:14:7
"""
    )


def test_a_wide_terminal_gets_a_column_for_everything() -> None:
    text = shown(IN_SYNC, 160)
    lines = text.splitlines()
    assert lines[0] == "Enforced exactly as ordered"
    head = next(line for line in lines if line.startswith("STATE"))
    assert head.split("  ")[0] == "STATE"
    for column in ("POLICY", "BY WHOM", "WHAT", "WHEN (UTC)", "PACKETS"):
        assert column in head
    first = next(line for line in lines if line.startswith("in force"))
    assert re.fullmatch(r"in force +bes-shutdown r2 +Pakistan .* reject to +from 2015-12-30 19:00 +120,433", first)
    assert "…" not in text


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 119, 120, 160, 240])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut(width: int) -> None:
    text = shown(DEGRADED, width)
    assert max(map(len, text.splitlines())) <= width
    joined = re.sub(r"\s+", "", text)
    if width >= 40:
        assert "bes-shutdown" in joined
    assert "…" not in text


def test_without_a_terminal_it_is_plain() -> None:
    text = shown(DEGRADED)
    assert "\x1b" not in text
    assert not any(line.endswith(" ") for line in text.splitlines())
    assert "\x1b[1;33m" in shown(DEGRADED, terminal=True)


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown(DEGRADED, terminal=True))


def test_the_console_for_a_pipe_is_wide_and_plain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    console = status_table.console()
    assert console.width == 240
    assert not console.is_terminal


def test_a_standard_output_that_knows_no_urdu_does_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    console = status_table.console(width=100)
    status_table.show(status_document(DEGRADED, NOW), list(map(policy_item, DEGRADED.policies)), console)
    console.file.flush()
    assert b"court-118" in buffer.getvalue()


HOSTILE = (
    "[bold red]x[/]",
    ":warning:",
    "\x1b[2J\x1b]0;title\x07",
    "a\nb\rc\td",
    "\u202eevil",
    "\x9b31m",
    "bad-\udcff",
    "https://x",
)


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("width", [80, 200])
def test_hostile_text_steers_nothing(hostile: str, width: int) -> None:
    problem = replace(UNREAD_PROBLEM, code=hostile, message=hostile, action=hostile, policy=hostile, place=hostile)
    view = replace(
        SHUTDOWN,
        id=hostile,
        title=hostile,
        order=Order(hostile, hostile, hostile),
        services=(hostile,),
        problem=problem,
    )
    snapshot = replace(DEGRADED, gateway=hostile, policies=(view,), problems=(problem,))
    text = shown(snapshot, width)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert text.count(words.plain(hostile)) >= 5
    coloured = re.sub(r"\x1b\[[0-9;]*m", "", shown(snapshot, width, terminal=True))
    assert "\x1b" not in coloured


def test_an_overdue_review_is_said_so() -> None:
    assert "review overdue since 2016-03-01 00:00" in shown(IN_SYNC, now=1456790400)


def test_every_state_can_be_shown() -> None:
    views = tuple(replace(SHUTDOWN, id=state.value, state=state) for state in PolicyState)
    text = shown(replace(DEGRADED, policies=views))
    for label in words.STATES.values():
        assert label in text


def test_nothing_yet() -> None:
    assert shown(STARTING) == (
        "Starting: what is ordered isn't confirmed in the kernel yet\n"
        "not verified yet; no policies\n"
        "core-1, gatewrit 0.1.0, 2016-01-05 12:00 UTC\n"
        "ruleset 0: 0 IPv4 and 0 IPv6 segments\n"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (239, "3 min 59 s"),
        (240, "4 min"),
        (299, "4 min"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86400, "1 day"),
        (93600, "1 day 2 h"),
        (86400 * 4 + 7200, "4 days"),
    ],
)
def test_spans_are_short(seconds: int, text: str) -> None:
    assert words.span(seconds) == text


@pytest.mark.parametrize("width", [100, 240])
def test_instants_are_shown_in_the_orders_own_zone_too(width: int) -> None:
    """On both sides of a change of the clocks: in March 2016 Berlin goes from +01:00 to +02:00."""
    start = parse_instant("2016-03-27T01:59:59[Europe/Berlin]")
    until = parse_instant("2016-03-27T03:00:00[Europe/Berlin]")
    view = replace(SHUTDOWN, effective=Effective(start, until))
    item = {**policy_item(view), "clocks": words.own_clocks(view.effective)}
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False, markup=False, emoji=False)
    status_table.show(status_document(replace(DEGRADED, policies=(view,)), NOW), [item], console)
    told = " ".join(out.getvalue().split())
    for clock in ("2016-03-27 00:59:59", "2016-03-27 01:00", "2016-03-27 01:59:59 Europe/Berlin (+01:00)"):
        assert clock in told
    assert "2016-03-27 03:00 Europe/Berlin (+02:00)" in told


def test_who_orders_in_utc_is_not_told_twice() -> None:
    assert words.own_clock(parse_instant("2016-03-27T00:00:00Z")) is None
    assert words.own_clock(parse_instant("2016-03-27T00:00:00-03:30")) == "2016-03-27 00:00 -03:30"
    assert words.own_clock(parse_instant("2016-03-27T00:00:00[UTC]")) == "2016-03-27 00:00 UTC (+00:00)"
    assert words.own_clocks(None) == {}
