"""The verb that asks the journal: `gatewrit log`, `gatewrit log verify`."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from gatewrit.cli import waiting
from gatewrit.cli.app import FAILED, FINE, Quit, print_json, verb
from gatewrit.cli.completion import Known
from gatewrit.engine.journal.database import JournalError, path_in
from gatewrit.engine.journal.reader import Filter, Reader
from gatewrit.engine.journal.verify import verify
from gatewrit.policy.instant import parse_instant

if TYPE_CHECKING:
    from gatewrit.engine.journal.rows import Row
    from gatewrit.settings import Settings

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TIME = "TIME"
#: Of a row's files, so many are shown; all are in --json.
_FILES = 3


@verb("gatewrit log --policy bes-shutdown --since 7d; gatewrit log verify")
@click.argument("what", required=False, type=click.Choice(["verify"]), metavar="[verify]")
@click.option("--policy", metavar="POLICY", type=Known("policies"), help="Only what is about this policy.")
@click.option("--kind", metavar="KIND", help="Only rows of this kind, e.g. accepted, refused, enforced, lifted.")
@click.option("--since", metavar=_TIME, help="From then on: an instant as policies write it, or 90m, 12h, 7d ago.")
@click.option("--until", metavar=_TIME, help="Before then.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=200, help="The newest so many [200].")
@click.option(
    "--head", metavar="DIGEST", help="For verify: a digest from the daemon's log, which must be in the chain."
)
def log_(settings: Settings, *, what: str | None, head: str | None, as_json: bool, **wanted: Any) -> int:
    """Show the journal, newest last; or verify that no row of it was changed, moved or taken out.

    `verify` exits with 1 if anything was. That rows are missing at the end it can only tell with --head.
    """
    if what is None and head is not None:
        raise click.UsageError("--head is for: gatewrit log verify")
    try:
        if what == "verify":
            return _verify(settings, head, as_json=as_json)
        since, until = _instant("--since", wanted["since"]), _instant("--until", wanted["until"])
        rows = Reader(settings.state).rows(Filter(wanted["policy"], wanted["kind"], since, until, wanted["limit"]))
    except JournalError as error:
        raise Quit(str(error)) from None
    if as_json:
        print_json({"items": [_item(row) for row in rows]})
    else:
        for row in rows:
            click.echo(_line(row))
        if not rows:
            click.echo("gatewrit: no row of the journal fits; all kinds, the newest: gatewrit log", err=True)
    return FINE


def _verify(settings: Settings, head: str | None, *, as_json: bool) -> int:
    with waiting.working("going through the journal"):
        verdict = verify(path_in(settings.state), head)
    if as_json:
        flaws = [{"seq": flaw.seq, "message": flaw.message} for flaw in verdict.flaws]
        last = {"seq": verdict.head.seq, "digest": verdict.head.digest}
        print_json({"whole": verdict.whole, "rows": verdict.rows, "first": verdict.first, "head": last, "flaws": flaws})
    elif verdict.whole:
        click.echo(f"whole: {verdict.rows} rows, {verdict.first} to {verdict.head.seq}, head {verdict.head.digest}")
    else:
        for flaw in verdict.flaws[:20]:
            click.echo(f"row {flaw.seq}: {flaw.message}")
        more = len(verdict.flaws) - 20
        click.echo(f"broken: first bad row {verdict.flaws[0].seq}{f'; and {more} flaws more' if more > 0 else ''}")
    return FINE if verdict.whole else FAILED


def _instant(option: str, text: str | None) -> int | None:
    """Give an instant in epoch milliseconds."""
    if text is None:
        return None
    ago = re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII)
    if ago:
        return int((time.time() - int(ago[1]) * _UNITS[ago[2]]) * 1000)
    try:
        return parse_instant(text).epoch * 1000
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}; or write how long ago, such as 12h or 7d") from None


def _when(row: Row) -> str:
    return _utc(row.at / 1000, "milliseconds")


def _utc(epoch: float, to: str) -> str:
    """Write an instant, even one that no calendar has."""
    try:
        return datetime.fromtimestamp(epoch, UTC).isoformat(timespec=to).replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return f"{epoch} s"


def _item(row: Row) -> dict[str, Any]:
    try:
        data = row.content()
    except ValueError:
        data = {}
    return {
        "seq": row.seq,
        "at": _when(row),
        "kind": row.kind,
        "policy": row.policy,
        "data": data,
        "digest": row.digest,
    }


def _line(row: Row) -> str:
    """Write a row for people: when, what, about whom, and what is worth knowing of it."""
    try:
        data = row.content()
    except ValueError:
        return f"{row.seq:>6}  {_when(row)}  this row's data can't be read; see: gatewrit log verify"
    told = " ".join(_facts(data))
    line = f"{row.seq:>6}  {_when(row)}  {row.kind:<10}  {row.policy or '-':<24}  {told}".rstrip()
    # Whatever a text from outside holds, it is one line that moves no cursor.
    return "".join(each if each.isprintable() else "?" for each in line)


def _written(file: object) -> str:
    """Say when a file was last changed, and whose it is."""
    match file:
        case {"mtime": int(mtime), "uid": uid}:
            return f"of {_utc(mtime, 'seconds')}, uid {uid}"
    return f"{file}"


def _facts(data: dict[str, Any]) -> list[str]:
    given = {key: value for key, value in sorted(data.items()) if value is not None and value not in ({}, [])}
    return [fact for key, value in given.items() for fact in _told(key, value)]


def _told(key: str, value: Any) -> list[str]:  # noqa: PLR0911 - one for each kind
    match key, value:
        case "message", str():
            return [value]
        case "texts", {"policy": {"sha256": digest}}:
            return [f"text={digest[:12]}"]
        case "files", {**files}:
            more = [f"and {len(files) - _FILES} more files"] if len(files) > _FILES else []
            return [f"file={name} ({_written(each)})" for name, each in sorted(files.items())[:_FILES]] + more
        case "by", {"uid": uid, "name": name}:
            return [f"by={name} (uid {uid})"]
        case "signers", [*signers]:
            return ["signed by " + ", ".join(f"{each['name']} ({each['fingerprint']})" for each in signers)]
        case "asked", [*callers]:
            return ["asked by " + ", ".join(f"{each['name']} (uid {each['uid']})" for each in callers)]
        case "since" | "until" | "at", int():
            return [f"{key}={_utc(value, 'seconds')}"]
        case "digest" | "standing" | "content", str():
            return [f"{key}={value.removeprefix('sha256:')[:12]}"]
    return [f"{key}={value}"]
