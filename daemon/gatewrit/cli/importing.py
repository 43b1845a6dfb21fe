"""`gatewrit import`: a service's list from somebody else's feed, with where each entry came from.

All or nothing: one entry that can't be taken refuses the feed, and the list that is there stays. A list that changes
more than `limits.change_share` of its addresses isn't replaced without a reason.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import time
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import gatewrit
from gatewrit.cli import waiting
from gatewrit.cli.app import FINE, REFUSED, Quit, print_json, refuse, verb
from gatewrit.cli.written import write
from gatewrit.compile.imported import line, prefixes, swings
from gatewrit.policy import files
from gatewrit.policy.faults import cap, fault, first_of
from gatewrit.policy.feeds import Columns, Reader, lines_of
from gatewrit.policy.files import MANIFEST, RefusedFile
from gatewrit.policy.ranges import MAX_LIST_BYTES, parse_list, span_text
from gatewrit.policy.terms import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatewrit.compile.imported import Swing
    from gatewrit.policy.feeds import Entry
    from gatewrit.policy.ranges import AddressList
    from gatewrit.policy.terms import Fault
    from gatewrit.settings import Settings

_GZIP = b"\x1f\x8b"
_LONGEST = 300
#: So many announcements of others are told; all are in --json.
_SHOWN = 5
_FORMATS = ("cidr", "spamhaus", "csv", "table")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: a feed's format and what goes with it, and what the list's head is to say."""

    format: str
    asns: frozenset[int]
    columns: Columns
    source: str | None
    licence: str
    allow_swing: str | None


@dataclass(frozen=True, slots=True)
class Made:
    """What came of it.

    `others` is what others announce inside of what was taken from a BGP table. `manifest` names the list, and doesn't
    fit any more.
    """

    entries: int
    prefixes: int
    changes: Sequence[Swing]
    others: Sequence[Entry]
    manifest: Path | None
    written: bool


@verb("gatewrit import drop.txt --licence CC0-1.0 --output services/drop.txt")
@click.argument("feed", required=False, type=click.Path(path_type=Path, allow_dash=True), metavar="[FEED]")
@click.option("--format", "form", type=click.Choice(_FORMATS), metavar="KIND", help=f"{', '.join(_FORMATS)} [cidr].")
@click.option("--table", type=click.Path(path_type=Path), metavar="FILE", help="A BGP table: prefix, tab, AS.")
@click.option(
    "--asn",
    "asns",
    multiple=True,
    type=click.IntRange(1, 2**32 - 1),
    metavar="NUMBER",
    help="Of a BGP table: this AS's.",
)
@click.option("--map", "maps", multiple=True, metavar="WHAT=COLUMN", help="Of CSV: prefix, or first and last; note.")
@click.option("--where", "wheres", multiple=True, metavar="COLUMN=VALUE", help="Of CSV: only such rows.")
@click.option("--source", metavar="TEXT", help="For the list's head: whence [file's name].")
@click.option("--licence", required=True, metavar="TEXT", help="For the list's head: its terms.")
@click.option("--allow-swing", metavar="REASON", help="Replace the list, however much changes.")
@click.option("--output", required=True, type=click.Path(path_type=Path), metavar="LIST", help="The list to write.")
def import_(settings: Settings, *, feed: Path | None, output: Path, as_json: bool, **given: Any) -> int:
    """Make a service's list from a feed, or an AS in a BGP table.

    FEED may be gzip, and - for standard input. Bogons, entries that are too wide, a feed that is cut off or empty, too
    large a change: nothing is written, exit 2.
    """
    path, wanted = _wanted(feed, **given)
    widest = {4: settings.limits.widest_ipv4, 6: settings.limits.widest_ipv6}
    file = str(path)
    reader = Reader(file, widest)
    with waiting.working("reading the feed"):
        data = _read(path)
        text = _text(reader, data)
        lines = lines_of(text) if wanted.asns else []
        entries = list(reader.table(lines, wanted.asns)) if wanted.asns else _entries(reader, text, wanted)
    if not entries and not reader.faults:
        reader.faults.append(fault(Place(file, 1, 1), "list_empty", "the feed has no entry that is asked for"))
    if reader.faults:
        refuse(cap(sorted(reader.faults)), as_json=as_json, meaning=_refusal(output, reader.faults))
    before = _before(output, wanted)
    with waiting.working("making the list"):
        blocks = list(prefixes(entries, widest))
        body = [line(block, sources) for block, sources in blocks]
        made = parse_list("\n".join(body).encode(), str(output))
        changes = swings(before.ranges if before else (), made.ranges)
    _hold_swing(changes, settings.limits.change_share, wanted, output)
    written = before is None or bool(before.faults) or any(each.added or each.lifted for each in changes)
    if written:
        head = _head(wanted, file, data, changes, len(entries), len(body))
        write(output, "\n".join([*head, *body, ""]).encode(), 0o644)
    others = tuple(reader.inside(lines, wanted.asns, [block for block, _ in blocks])) if wanted.asns else ()
    manifest = _manifest(output) if written else None
    _tell(output, Made(len(entries), len(body), changes, others, manifest, written), as_json=as_json)
    return FINE


def _wanted(feed: Path | None, **given: Any) -> tuple[Path, Wanted]:
    """Put together what is asked for; refuse what doesn't go together."""
    table, form = given["table"], given["form"]
    path: Path | None = table or feed
    if path is None or (feed is not None and table is not None):
        raise click.UsageError("give either FEED or --table FILE")
    form = "table" if table else form or "cidr"
    if table and given["form"] not in {None, "table"}:
        raise click.UsageError(f"--table isn't --format {given['form']}")
    if (form == "table") != bool(given["asns"]):
        raise click.UsageError("a BGP table needs --asn NUMBER, and nothing else takes it")
    if form != "csv" and (given["maps"] or given["wheres"]):
        raise click.UsageError("--map and --where are for --format csv")
    columns = _columns(given["maps"], given["wheres"]) if form == "csv" else Columns()
    texts = (("source", given["source"]), ("licence", given["licence"]), ("allow-swing", given["allow_swing"]))
    for name, text in texts:
        if text is not None and not (text.strip() and text.isprintable() and len(text) <= _LONGEST):
            raise click.UsageError(f"--{name}: write one line of at most {_LONGEST} characters")
    licence, allow = given["licence"], given["allow_swing"]
    return path, Wanted(form, frozenset(given["asns"]), columns, given["source"], licence, allow)


def _columns(maps: Sequence[str], wheres: Sequence[str]) -> Columns:
    """Read the column map."""
    found: dict[str, str] = {}
    for each in maps:
        what, equals, column = each.partition("=")
        if what not in {"prefix", "first", "last", "note"} or not equals or not column or what in found:
            raise click.UsageError(f"--map {each}: write prefix=COLUMN, or first=COLUMN and last=COLUMN; note=COLUMN")
        found[what] = column
    if found.keys() - {"note"} not in ({"prefix"}, {"first", "last"}):
        raise click.UsageError("--format csv needs --map prefix=COLUMN, or --map first=COLUMN --map last=COLUMN")
    where: dict[str, str] = {}
    for each in wheres:
        column, equals, value = each.partition("=")
        if not equals or not column or column in where:
            raise click.UsageError(f"--where {each}: write COLUMN=VALUE, each column once")
        where[column] = value
    columns = Columns(**found, where=where)
    numbers = [each for each in columns.named if each.isdecimal()]
    if numbers and (len(numbers) < len(columns.named) or "0" in numbers):
        raise click.UsageError("columns are either all named, as the first line has them, or all numbered from 1")
    return columns


def _read(path: Path) -> bytes:
    """Read a feed; raises `Quit`."""
    try:
        given = str(path) == "-"
        data = sys.stdin.buffer.read(MAX_LIST_BYTES + 1) if given else files.read_one(path, MAX_LIST_BYTES)
        if data.startswith(_GZIP):
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
                data = packed.read(MAX_LIST_BYTES + 1)
    except RefusedFile as refused:
        raise Quit(f"{path}: {refused.message}", REFUSED) from None
    except (EOFError, OSError, zlib.error) as error:
        raise Quit(f"{path}: it can't be unpacked ({error}): is it whole?", REFUSED) from None
    if len(data) > MAX_LIST_BYTES:
        raise Quit(f"{path}: more than {MAX_LIST_BYTES:,} bytes, which is the most that a list may have", REFUSED)
    return data


def _text(reader: Reader, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        place = Place(reader.file, data.count(b"\n", 0, error.start) + 1, 1)
        reader.faults.append(fault(place, "not_text", "this isn't UTF-8 text; is it packed, or another file?"))
        return ""


def _entries(reader: Reader, text: str, wanted: Wanted) -> list[Entry]:
    match wanted.format:
        case "csv":
            return list(reader.csv(text, wanted.columns))
        case "spamhaus":
            return list(reader.spamhaus(text))
    return list(reader.cidr(text))


def _refusal(output: Path, faults: Sequence[Fault]) -> str:
    """Say what it means that a feed is refused, and the next step, which for entries that are wide isn't the feed's."""
    codes = {each.code for each in faults}
    told = f"{output} wasn't written, and stays as it is"
    if codes & {"bogon", "too_wide"}:
        told += ". What isn't meant can be left out: sed '17d;23d' FEED | gatewrit import - …"
    if "too_wide" in codes:
        told += (
            ". Wide entries that are meant: GATEWRIT_LIMITS__WIDEST_IPV4=12 gatewrit import … lets this list have them "
            "(IPv6: WIDEST_IPV6), and its policy needs `allow_wide: REASON`"
        )
    return told


def _before(output: Path, wanted: Wanted) -> AddressList | None:
    """Give the list that is there; raises `Quit` if it can't be compared with and nobody says why it may go."""
    if not os.path.lexists(output):
        return None
    try:
        found = parse_list(files.read_one(output, MAX_LIST_BYTES), str(output))
    except RefusedFile as refused:
        raise Quit(f"{output}: {refused.message}; nothing was written", REFUSED) from None
    if found.faults and wanted.allow_swing is None:
        first = found.faults[0]
        raise Quit(
            f"{first}; so nobody can say how much would change, and nothing was written. Correct it, take it away, or "
            "give --allow-swing REASON",
            REFUSED,
        )
    return found


def _hold_swing(changes: Sequence[Swing], most: float, wanted: Wanted, output: Path) -> None:
    for each in changes:
        if each.share > most and wanted.allow_swing is None:
            what = f"{each.added} IPv{each.family} addresses would come and {each.lifted} go, of {each.before} listed"
            raise Quit(
                f"{output}: {what}: more than limits.change_share ({most:.0%}) allows. Nothing was written. If that is "
                "meant, give --allow-swing REASON",
                REFUSED,
            )


def _head(wanted: Wanted, file: str, data: bytes, changes: Sequence[Swing], entries: int, lines: int) -> list[str]:  # noqa: PLR0913, PLR0917 - what it says
    """Write the comments above the list."""
    source = wanted.source or Path(file).name
    asked = ", ".join(f"AS{asn}" for asn in sorted(wanted.asns))
    where = ", ".join(f"{column}={value}" for column, value in wanted.columns.where.items())
    chosen = f", of which {asked or where}" if asked or where else ""
    told = [
        f"made by gatewrit {gatewrit.__version__} import; what is changed here is lost with the next import",
        f"source: {source} ({wanted.format}){chosen}",
        f"licence: {wanted.licence}",
        f"date: {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}",
        f"input: sha256:{sha256(data).hexdigest()}, {entries} entries; behind each prefix their lines there",
    ]
    if wanted.allow_swing is not None and any(each.before for each in changes):
        sizes = "; ".join(f"IPv{each.family} +{each.added} -{each.lifted} of {each.before}" for each in changes)
        told.append(f"swing allowed: {wanted.allow_swing} ({sizes})")
    # What comes from outside mustn't read as a count of ours.
    return [f"# {''.join(each if each.isprintable() else '?' for each in text)}" for text in told] + [
        f"# entries: {lines}"
    ]


def _manifest(output: Path) -> Path | None:
    """Give the manifest that names the list, by where it lies: beside the folder of services, or in the same one."""
    folder = output.absolute().parent
    return next((each / MANIFEST for each in (folder, folder.parent) if (each / MANIFEST).is_file()), None)


def _tell(output: Path, made: Made, *, as_json: bool) -> None:
    if as_json:
        changes = {f"ipv{each.family}": _swing_json(each) for each in made.changes}
        counts = {"entries": made.entries, "prefixes": made.prefixes, "changes": changes}
        manifest = None if made.manifest is None else str(made.manifest)
        others = [{"prefix": span_text(each.span), "by": each.note, "line": each.line} for each in made.others]
        print_json({"output": str(output), "written": made.written, **counts, "others": others, "manifest": manifest})
    elif made.written:
        sizes = ", ".join(f"IPv{each.family} +{each.added} -{each.lifted} addresses" for each in made.changes)
        click.echo(f"{output}: {made.entries} entries made {made.prefixes} prefixes; {sizes}")
    else:
        click.echo(f"{output}: stays as it is: these are the addresses that it lists already")
    if made.others:
        shown = first_of([f"{span_text(each.span)} ({each.note})" for each in made.others], _SHOWN)
        click.echo(
            f"gatewrit: others announce {shown} inside of these prefixes, and are listed along. If they "
            "aren't meant, except them: `except: {prefixes: […]}` in the policy",
            err=True,
        )
    if made.manifest is not None:
        click.echo(
            f"gatewrit: {made.manifest} doesn't fit the directory any more: until it is signed anew, a gateway that "
            f"requires signatures keeps what it has. Now: gatewrit manifest {made.manifest.parent}, and have it signed",
            err=True,
        )


def _swing_json(each: Swing) -> dict[str, str]:
    # As everywhere, addresses are counted in decimal strings: IPv6 passes 2**53.
    return {"before": str(each.before), "added": str(each.added), "lifted": str(each.lifted)}
