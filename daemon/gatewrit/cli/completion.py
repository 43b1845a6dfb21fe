"""What the Tab key offers: the ids of policies, from what is kept and what lies in the directory.

A key press must be quick, and never answered by an error: what can't be read is left out.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from gatewrit.settings import SettingsError, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import click

_ID = re.compile(rb"^policy:[ \t]*['\"]?([a-z0-9][a-z0-9-]{0,47})\b", re.MULTILINE)
#: The id stands near the beginning of a file.
_READ = 4096


def policies(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Give the ids of policies that begin like this."""
    try:
        settings = load_settings(context.params.get("config"), os.environ)
    except (SettingsError, OSError, ValueError):
        return []
    found = {*_kept(settings.state / "policies"), *_ordered(settings.policies)}
    return sorted(name for name in found if name.startswith(incomplete))


def _kept(folder: Path) -> Iterator[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        yield from (each.name.removesuffix(".json") for each in entries if each.name.endswith(".json"))


def _ordered(folder: Path) -> Iterator[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        for each in entries:
            if each.name.startswith(".") or not each.name.endswith(".yaml"):
                continue
            # A pipe that somebody put there would be waited for.
            with suppress(OSError):
                if each.is_file():
                    with open(each.path, "rb") as file:  # noqa: PTH123 - scandir's entry, not a path of ours
                        yield from (name.decode() for name in _ID.findall(file.read(_READ)))
