"""The verb that examines the host: what of it could keep orders from being enforced, and what to do about it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from gatewrit.cli import status_table
from gatewrit.cli.app import FAILED, FINE, print_json, verb
from gatewrit.cli.examine import files, kernel, network, running
from gatewrit.cli.examine.finding import Finding, Subject, guarded
from gatewrit.kernel.trial import attempt
from gatewrit.settings import DEFAULT_FILE, Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from gatewrit.kernel.trial import Trial

#: What is examined, in the order in which it is told.
_PARTS: tuple[tuple[str, Callable[[Subject], Iterator[Finding]]], ...] = (
    ("Kernel", kernel.examine),
    ("Network", network.examine),
    ("Files", files.examine),
    ("Running", running.examine),
)
_STYLES = {"ok": "green", "note": "blue", "warning": "bold yellow", "error": "bold red"}
_MOST_FAULTS = 5


@verb(
    "gatewrit doctor; gatewrit doctor --json | jq '.findings[] | select(.severity == \"error\")'", reads_settings=False
)
def doctor(config: Path | None, *, as_json: bool) -> int:
    """Examine this host, and say what could keep orders from being enforced, what that costs and what to do.

    Changes nothing, and works without root, without a daemon and with a damaged state: it says what it couldn't look
    at. Exits with 1 if there is an error; warnings and notes don't count.
    """
    told = list(examine(config))
    findings = [each for _, found in told for each in found]
    if as_json:
        keys = ("code", "severity", "message", "action")
        print_json({"findings": [{key: getattr(each, key) for key in keys} for each in findings]})
    else:
        _print(told, status_table.console())
    return FAILED if any(each.severity == "error" for each in findings) else FINE


def examine(config: Path | None) -> Iterator[tuple[str, Sequence[Finding]]]:
    """Examine part after part; what can't be looked at keeps nobody from looking at the rest."""
    settings, found = _settings(config or DEFAULT_FILE, named=config is not None)
    yield "Settings", found
    subject = Subject(settings or Settings(), settings is not None, _trial())
    for title, part in _PARTS:
        yield title, list(guarded("the rest", part(subject)))


def _settings(path: Path, *, named: bool) -> tuple[Settings | None, list[Finding]]:
    """Read the settings; None and why if they can't be used."""
    try:
        settings = load_settings(path if named else None, os.environ)
    except SettingsError as error:
        effect = "every verb refuses them, and the daemon doesn't start"
        faults = error.faults[:_MOST_FAULTS]
        action = "Correct them; docs/settings.md has every key"
        return None, [Finding("error", "settings_refused", f"{each}; {effect}", action) for each in faults]
    if not path.exists():
        message = f"there is no {path}: every setting has its default, and nothing is protected"
        return settings, [Finding("note", "settings_missing", message, "gatewrit init writes it")]
    mode = path.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        message = (
            f"others can write {path} (mode {stat.S_IMODE(mode):o}): they can change what is protected and who signs"
        )
        return settings, [Finding("error", "writable_by_others", message, f"chmod go-w {path}, and see what it says")]
    return settings, [Finding("ok", "settings", f"{path} is read without a fault")]


def _trial() -> Trial | None:
    try:
        return attempt()
    except OSError:
        return None


def _print(told: Sequence[tuple[str, Sequence[Finding]]], to: Console) -> None:
    for title, findings in told:
        if not findings:
            continue
        table = Table.grid(padding=(0, 1))
        table.add_column(min_width=9)
        table.add_column()
        for each in findings:
            table.add_row(Text(f"  {each.severity}", _STYLES[each.severity]), Text(f"{each.code}: {each.message}"))
            if each.action is not None:
                table.add_row("", Text(f"→ {each.action}", "dim"))
        status_table.put(Text(title, "bold"), to)
        status_table.put(table, to)
    severities = [each.severity for _, found in told for each in found]
    counts = ", ".join(f"{word}s: {severities.count(word)}" for word in ("error", "warning", "note"))
    worst = "error" if "error" in severities else "warning" if "warning" in severities else "ok"
    status_table.put(Text(counts, _STYLES[worst]), to)
