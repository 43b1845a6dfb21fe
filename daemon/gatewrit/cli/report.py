"""`gatewrit report`: what an operator hands to the authority and to an auditor, from the journal alone."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

import gatewrit
from gatewrit.cli import report_page, waiting
from gatewrit.cli.app import FAILED, FINE, Quit, verb
from gatewrit.cli.completion import Known
from gatewrit.cli.report_facts import Frame, instant, own_clocks, public, report
from gatewrit.cli.written import write
from gatewrit.compile.named import count_addresses
from gatewrit.engine import memory
from gatewrit.engine.journal import database
from gatewrit.engine.journal.account import told
from gatewrit.engine.journal.database import DamagedError, JournalError
from gatewrit.engine.journal.verify import prove
from gatewrit.engine.journal.writer import checkpointed, gone_before
from gatewrit.engine.store import NOT_KEPT, read_kept
from gatewrit.policy.instant import parse_instant
from gatewrit.policy.load import join

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from gatewrit.cli.report_shapes import Addresses, JournalPart, PublicReport, Report
    from gatewrit.engine.journal.account import Account, Life
    from gatewrit.engine.journal.verify import Verdict
    from gatewrit.engine.ledger import Count
    from gatewrit.policy.load import ServiceDocument
    from gatewrit.settings import Settings

_TIME = "TIME"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: one policy or all, a period in epoch milliseconds, and a head that was kept elsewhere."""

    policy: str | None
    start: int | None
    end: int | None
    head: str | None


@verb("gatewrit report --policy bes-shutdown --output bes-shutdown.html")
@click.option("--policy", metavar="POLICY", type=Known("policies"), help="Only this one.")
@click.option(
    "--from", "start", metavar=_TIME, help="From then on: an instant as policies write it [all that is kept]."
)
@click.option("--to", "end", metavar=_TIME, help="Before then [now].")
@click.option(
    "--public", "for_all", is_flag=True, help="What anybody may see: counts, authorities, dates, no addresses."
)
@click.option("--head", metavar="DIGEST", help="A digest from the daemon's log, which must be in the journal's chain.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write it there, whole or not at all.")
def report_(settings: Settings, *, output: Path | None, for_all: bool, as_json: bool, **given: str | None) -> int:
    """Account for each order: when it was received, effective, enforced, amended and lifted, and whether it held.

    As HTML that prints well, or with --json for programs. It is read from the journal, also with no daemon running.
    Exits with 1 if the journal isn't whole; the first page says so.
    """
    wanted = Wanted(given["policy"], _instant("--from", given["start"]), _instant("--to", given["end"]), given["head"])
    if wanted.start is not None and wanted.end is not None and wanted.start >= wanted.end:
        raise click.UsageError("--from is before --to")
    now = int(time.time() * 1000)
    if wanted.start is not None and wanted.start > now:
        raise click.UsageError("--from is still to come: there is nothing to account for")
    try:
        with waiting.working("going through the journal"):
            whole, clocks = made(settings.state, wanted, now)
    except JournalError as error:
        raise Quit(f"no report can be made: {error}") from None
    if wanted.policy is not None and not whole["policies"]:
        raise Quit(f"the journal tells nothing of a policy {wanted.policy} in this period; see: gatewrit log")
    shown: Report | PublicReport = public(whole) if for_all else whole
    text = json.dumps(shown, indent=2, ensure_ascii=False) + "\n" if as_json else report_page.render(shown, clocks)
    if output is None:
        click.echo(text.encode("utf-8", "replace"), nl=False)
    else:
        write(output, text.encode("utf-8", "replace"), 0o640)
    if not whole["journal"]["whole"]:
        flaw = whole["journal"]["flaws"][0]
        raise Quit(f"the journal is broken, as the report says: row {flaw['seq']}: {flaw['message']}", FAILED)
    return FINE


def made(state: Path, wanted: Wanted, now: int) -> tuple[Report, Mapping[str, Mapping[str, str | None]]]:
    """Give the whole report, and the orders' own clocks by policy; raises `JournalError`. Blocks on the disk."""
    with database.open_to_read(database.path_in(state)) as connection:
        verdict = prove(connection, wanted.head)
        end = min(wanted.end or now, now)
        account, begins = _account(connection, end)
        frame = Frame(wanted.start or 0, end, now, gatewrit.__version__, wanted.start, begins)
        known: dict[str, ServiceDocument] = {}
        chosen = [life for name, life in account.lives.items() if wanted.policy in {None, name}]
        addresses = {life.name: found for life in chosen if (found := _addresses(connection, life, known))}
    journal = _journal(verdict, account, begins, wanted.head)
    return report(account, frame, journal, addresses, _counted(state), wanted.policy), own_clocks(account, frame)


def _account(connection: sqlite3.Connection, end: int) -> tuple[Account, int | None]:
    """Follow the rows up to the last one before `end`, and say from when on there are any."""
    before = None
    # A checkpoint that can't be read is a flaw of the journal, which is told; the rows behind it still say something.
    with suppress(DamagedError):
        if (checkpoint := database.last_checkpoint(connection)) is not None:
            before = checkpointed(connection), gone_before(checkpoint).at
    bound = next(database.rows(connection, "WHERE at < ? ORDER BY seq DESC LIMIT 1", (end,)), None)
    rows = database.rows(connection, "WHERE seq <= ? ORDER BY seq", (bound.seq if bound else 0,))
    first = next(database.rows(connection, "ORDER BY seq LIMIT 1"), None)
    begins = before[1] if before else first.at if first else None
    return told(rows, lambda digest: database.get_text(connection, digest), before), begins


def _addresses(connection: sqlite3.Connection, life: Life, known: dict[str, ServiceDocument]) -> Addresses | None:
    """Count what the last revision names; None where its texts aren't all there any more. `known` are its services."""
    if not life.revisions:
        return None
    try:
        kept = read_kept(life.revisions[-1].texts, lambda digest: database.get_text(connection, digest), known=known)
    except (JournalError, *NOT_KEPT):
        return None
    counts = count_addresses(join(kept.document, {name: each.service for name, each in kept.services.items()}))
    return {"ipv4": str(counts[4]), "ipv6": str(counts[6])}


def _journal(verdict: Verdict, account: Account, begins: int | None, head: str | None) -> JournalPart:
    flaws = [(each.seq, each.message) for each in verdict.flaws]
    told_of = {seq for seq, _ in flaws}
    flaws += [(seq, "this row says nothing that was ever written") for seq in account.unreadable if seq not in told_of]
    return {
        "whole": not flaws,
        "rows": verdict.rows,
        "first": verdict.first,
        "head_seq": verdict.head.seq,
        "head": verdict.head.digest,
        "begins": None if begins is None else instant(begins),
        "head_checked": head,
        "flaws": [{"seq": seq, "message": message} for seq, message in sorted(flaws)],
    }


def _counted(state: Path) -> tuple[Mapping[str, Count], int] | None:
    """Give what was counted by policy, and when that was last written down (epoch seconds)."""
    try:
        when = int((state / "counters.json").stat().st_mtime)
        return memory.load_ledger(state).totals, when
    except (OSError, ValueError):
        return None


def _instant(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_instant(text).epoch * 1000
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None
