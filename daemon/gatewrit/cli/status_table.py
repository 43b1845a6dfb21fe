"""`gatewrit status` for people: the verdict in words, every policy, and at the end, next to the prompt, what to do.

Made from the JSON documents, so that it is fed by the control socket as well as by HTTP. What comes from policy files
is text and nothing else: it is neither markup to rich nor control characters to the terminal.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gatewrit.api import words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    Document = Mapping[str, Any]

#: Where nobody looks at the width, as in a pipe, lines are long rather than cut.
_PIPE_WIDTH = 240
#: From this width on there is room for the authority and the services in columns of their own.
_ROOMY = 120
_TONES = {"good": "bold green", "busy": "bold blue", "warn": "bold yellow", "bad": "bold red"}
_STATES = {
    "in_force": "green",
    "scheduled": "blue",
    "suspended": "yellow",
    "rejected": "red",
    "out_of_scope": "dim",
    "lapsed": "dim",
    "rescinded": "dim",
}
_SEVERITIES = {"error": "bold red", "warning": "bold yellow"}
_RANK = {state: rank for rank, state in enumerate(words.STATES)}


def console(*, width: int | None = None) -> Console:
    """Return the console for standard output: plain in a pipe or with NO_COLOR, and never failing on a character."""
    with suppress(ValueError, OSError):
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
    piped = not sys.stdout.isatty()
    return Console(width=width or (_PIPE_WIDTH if piped else None), highlight=False, markup=False, emoji=False)


def show(status: Document, items: Sequence[Document], to: Console) -> None:
    """Print a status document and the items of a policies document."""
    put(render(status, items, width=to.width), to)


def put(what: RenderableType, to: Console) -> None:
    """Print without the blanks at the ends of lines."""
    with to.capture() as captured:
        to.print(what)
    # rich fills lines up with blanks, which nobody wants in a file or a mail.
    for line in captured.get().splitlines():
        to.out(line if to.is_terminal else line.rstrip(), highlight=False)


def render(status: Document, items: Sequence[Document], *, width: int, problems_first: bool = False) -> RenderableType:
    """Return both documents as one thing that rich can print at that width.

    `problems_first`: where the end may not be seen, as on a screen that doesn't scroll.
    """
    policies: list[RenderableType] = []
    ranked = sorted(items, key=lambda item: (_RANK[item["state"]], item["id"]))
    if ranked:
        policies = [Text(), _columns(ranked, status) if width >= _ROOMY else _entries(ranked, status)]
    problems: list[RenderableType] = []
    for problem in sorted(status["problems"], key=lambda each: (each["severity"] != "error", each["since"])):
        problems += [Text(), *_problem(problem, status)]
    parts = problems + policies if problems_first else policies + problems
    return Group(_verdict(status), *parts)


def _verdict(status: Document) -> Text:
    verdict = words.verdict(status)
    ruleset = status["ruleset"]
    return Text.assemble(
        (verdict.headline, _TONES[verdict.tone]),
        "\n" + "; ".join((verdict.verified, *verdict.details)),
        (f"\n{words.plain(str(status['gateway']))}, gatewrit {status['version']}, {_clock(status['now'])} UTC", "dim"),
        (f"\nruleset {ruleset['generation']}: {ruleset['segments']['ipv4']} IPv4 and ", "dim"),
        (f"{ruleset['segments']['ipv6']} IPv6 segments", "dim"),
        (_signed(status.get("manifest")), "dim"),
    )


def _signed(manifest: Document | None) -> str:
    """Say who vouches for the policies, where somebody must."""
    if manifest is None:
        return ""
    return f"\nmanifest {manifest['serial']}, signed by {words.plain(', '.join(manifest['signers']))}"


def _columns(items: Sequence[Document], status: Document) -> Table:
    """Return the policies with a column for everything."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    table.add_column("STATE", no_wrap=True)
    table.add_column("POLICY", overflow="fold")
    table.add_column("BY WHOM", overflow="fold")
    table.add_column("WHAT", overflow="fold")
    table.add_column("WHEN (UTC)", no_wrap=True)
    table.add_column("PACKETS", justify="right", no_wrap=True)
    for item in items:
        title = Text("\n").join([_name(item), *_title(item)])
        order = Text("\n").join(_order(item))
        when = Text("\n").join(_when(item, status))
        table.add_row(_state(item, status), title, order, _what(item, "\n"), when, f"{item['counters']['packets']:,}")
    return table


def _entries(items: Sequence[Document], status: Document) -> Table:
    """Return the policies with their state in one column and all else in the other, for narrow terminals."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for item in items:
        lines = [_name(item), *_title(item)]
        if item["order"]:
            lines.append(Text(", ").join(_order(item)))
        if item["action"]:
            lines.append(Text.assemble(_what(item, ", "), f", {item['counters']['packets']:,} packets"))
        if item["effective"]:
            lines.append(Text.assemble(Text(", ").join(_when({**item, "clocks": {}}, status)), " (UTC)"))
            own = [f"{name.replace('_', ' ')} {clock}" for name, clock in item.get("clocks", {}).items() if clock]
            lines += [Text(words.plain(", ".join(own)), "dim")] if own else []
        table.add_row(_state(item, status), Text("\n").join(lines))
    return table


def _state(item: Document, status: Document) -> Text:
    text = Text(words.STATES[item["state"]], _STATES[item["state"]])
    effective = item["effective"] or {}
    left = words.seconds_between(status["now"], effective.get("from"))
    held = words.seconds_between(item["in_force_since"], status["now"])
    if item["state"] == "scheduled" and left is not None and left > 0:
        text.append(f"\nin {words.span(left)}", "dim")
    if item["state"] == "in_force" and held is not None:
        text.append(f"\nfor {words.span(held)}", "dim")
    if item["problem"]:
        severity = item["problem"]["severity"]
        text.append("\n" + words.plain(item["problem"]["code"]), _SEVERITIES.get(severity, "bold"))
    return text


def _name(item: Document) -> Text:
    text = Text(words.plain(item["id"]), "bold")
    if item["revision"] is not None:
        text.append(f" r{item['revision']}", "not bold dim")
    return text


def _title(item: Document) -> list[Text]:
    return [Text(words.plain(item["title"]))] if item["title"] else []


def _order(item: Document) -> list[Text]:
    if not item["order"]:
        return [Text("not read", "dim")]
    return [Text(words.plain(item["order"]["authority"])), Text(words.plain(item["order"]["reference"]), "dim")]


def _what(item: Document, between: str) -> Text:
    if item["action"] is None:
        return Text("not read", "dim")
    text = Text.assemble((item["action"], "bold"), f" {words.DIRECTIONS.get(item['direction'], '')}")
    services = between.join(words.plain(service) for service in item["services"])
    return text.append(("\n" if between == "\n" else " ") + services)


def _when(item: Document, status: Document) -> list[Text]:
    effective = item["effective"]
    if not effective:
        return [Text("not read", "dim")]
    own = item.get("clocks") or {}
    told = [Text(f"from {_clock(effective['from'])}"), *_own(own.get("from"))]
    told.append(Text(f"until {_clock(effective['until'])}" if effective["until"] else "no end"))
    told += _own(own.get("until"))
    if effective["review_by"]:
        late = words.seconds_between(effective["review_by"], status["now"])
        overdue = item["state"] == "in_force" and late is not None and late >= 0
        review = f"review {'overdue since' if overdue else 'by'} {_clock(effective['review_by'])}"
        told += [Text(review, "bold red" if overdue else ""), *_own(own.get("review_by"))]
    return told


def _own(clock: str | None) -> list[Text]:
    """Return an instant as the order's own clocks show it, where those don't show UTC."""
    return [] if clock is None else [Text(f"  {words.plain(clock)}", "dim")]


def _problem(problem: Document, status: Document) -> list[RenderableType]:
    severity = str(problem["severity"])
    age = words.seconds_between(problem["since"], status["now"])
    head = Text.assemble((severity, _SEVERITIES.get(severity, "bold")), " ", (words.plain(problem["code"]), "bold"))
    if problem["policy"]:
        head.append(f" {words.plain(problem['policy'])}")
    head.append(f" since {_clock(problem['since'])} UTC, {words.ago(age or 0)}", "dim")
    lines = [Text(words.plain(problem["message"])), Text(f"To do: {words.plain(problem['action'])}", "bold")]
    if problem["place"]:
        lines.append(Text(words.plain(problem["place"]), "dim"))
    return [head, *(Padding(line, (0, 0, 0, 2)) for line in lines)]


def _clock(instant: str | None) -> str:
    """Return an RFC 3339 instant in UTC as it is shown: without seconds where there are none."""
    if instant is None:
        return "-"
    return instant.removesuffix("Z").removesuffix(":00").replace("T", " ")
