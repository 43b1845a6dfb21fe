"""What all verbs share: the settings, `--json`, exit codes, and how errors are told."""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import os
import pwd
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

import gatewrit
from gatewrit.api.client import ControlError
from gatewrit.api.control import HeldError
from gatewrit.api.listen import ListenError
from gatewrit.cli.completion import NAME
from gatewrit.engine.claim import ClaimedError
from gatewrit.kernel.backend import KernelError, TableHeldError
from gatewrit.policy.faults import suggest
from gatewrit.settings import DEFAULT_FILE, SettingsError, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from gatewrit.policy.terms import Fault
    from gatewrit.settings import Settings

FINE, FAILED, REFUSED, WRONG_USAGE = 0, 1, 2, 64


def account() -> tuple[str, int]:
    """Say who calls, by name and uid; a daemon asks the kernel instead."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name, uid
    except KeyError:
        return f"uid {uid}", uid


class Quit(click.ClickException):
    """Ends a verb with a sentence on standard error and an exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code

    def show(self, file: Any = None) -> None:
        """Say it."""
        del file
        click.echo(f"gatewrit: {self.message}", err=True)


#: Which module has which verbs. Each is loaded when one of its verbs is called: that of `run` takes a second.
_MODULES = {
    "act": ("apply", "remove", "run"),
    "apart": ("serve",),
    "ask": ("reload", "status"),
    "doctor": ("doctor",),
    "explain": ("explain",),
    "hand": ("forget", "release", "resume", "suspend"),
    "importing": ("import",),
    "init": ("init",),
    "journal": ("log",),
    "look": ("check", "render"),
    "plan": ("plan",),
    "prove": ("verify",),
    "report": ("report",),
    "seal": ("manifest",),
    "takeback": ("confirm", "rollback"),
    "new": ("new",),
}
_VERBS = {name: module for module, names in _MODULES.items() for name in names}


class _Verbs(click.Group):
    """The verbs, each loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give all verbs there are."""
        del ctx
        return sorted(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a verb; loading its module adds it here."""
        if cmd_name in _VERBS:
            importlib.import_module(f"gatewrit.cli.{_VERBS[cmd_name]}")
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb that is meant; where there is none, say which one may be."""
        if args and args[0] not in _VERBS and not args[0].startswith("-"):
            raise click.UsageError(f"there is no verb {args[0]}{suggest(args[0], _VERBS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each verb on a line of its own: as much of its first sentence as fits, cut where a pause is."""
        names = self.list_commands(ctx)
        room = formatter.width - 6 - max(map(len, names))
        rows = [(name, brief(command.help or "", room)) for name in names if (command := self.get_command(ctx, name))]
        with formatter.section("Verbs"):
            formatter.write_dl(rows)


def brief(text: str, room: int) -> str:
    """Give as much of the first sentence as fits, cut where a pause is."""
    sentence = " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].removesuffix(".")
    parts = re.split(r"(?=[,;:] )", sentence)
    while len(parts) > 1 and len("".join(parts)) > room:
        parts.pop()
    return "".join(parts)


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit: 0 fine, 1 failed or a bad answer, 2 refused input or a pending change, 64 wrong usage.",
)
@click.version_option(gatewrit.__version__, prog_name="gatewrit", message="%(prog)s %(version)s")
def app() -> None:
    """Service-block orders, enforced exactly and in time on this gateway."""


def verb(
    example: str, *, prints_json: bool = True, reads_settings: bool = True, under: click.Group | None = None
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a verb: it gets the settings first, and `as_json` where it prints something.

    Without `reads_settings` it gets the path of the settings file that was named, or None. `under` is the group of
    verbs that it belongs to.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)
        def call(config: Path | None, **arguments: Any) -> int:
            # What stands behind the group's name is meant for its verbs.
            above = click.get_current_context().parent
            before = above.params if above is not None else {}
            config = config or before.get("config")
            if prints_json:
                arguments["as_json"] = arguments["as_json"] or before.get("as_json", False)
            try:
                code = function(settings(config) if reads_settings else config, **arguments)
            except (ControlError, HeldError, ClaimedError, ListenError) as error:
                raise Quit(str(error)) from None
            except KernelError as error:
                raise Quit(explain_kernel(error)) from None
            except PermissionError as error:
                # Most of what is in the state directory is for the daemon's eyes.
                raise unreadable("this user may not do that", error) from None
            return code if isinstance(code, int) else FINE

        if prints_json:
            call = _as_json(call)
        name = function.__name__.removesuffix("_").rpartition("__")[2]
        return (under or app).command(name=name, epilog=f"Example: {example}")(_config(call))

    return decorate


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_config = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help=f"Settings [{DEFAULT_FILE}].",
)


def group(function: Callable[..., None]) -> click.Group:
    """Make a function, which does nothing, a group of verbs; `--config` and `--json` may stand before the verb too."""
    return app.group(name=function.__name__)(_config(_as_json(function)))


def settings(config: Path | None) -> Settings:
    """Read the settings, or end with every fault in them."""
    try:
        return load_settings(config, os.environ)
    except SettingsError as error:
        click.echo(str(error), err=True)
        raise Quit("the settings can't be used; nothing was done. Correct what is named above", REFUSED) from None


def explain_kernel(error: KernelError) -> str:
    """Say what a kernel error means for whoever called."""
    if isinstance(error, TableHeldError):
        return f"{error}. If it is a gatewrit that systemd keeps: systemctl stop gatewrit lets go of it"
    if isinstance(error.__cause__, PermissionError) or error.errno in {1, 13}:
        return f"the kernel refused: {error}. This needs root, or CAP_NET_ADMIN over this network namespace"
    return f"the kernel refused: {error}. What was in force before still is"


def unreadable(what: str, error: Exception) -> Quit:
    """Say that something in the state directory can't be read, what that keeps us from, and what to do."""
    if isinstance(error, PermissionError):
        return Quit(f"{what}: {error}; run this as root, or as the user that the daemon runs as")
    return Quit(
        f"{what}: {error}; `gatewrit status` says what the daemon makes of it, and `gatewrit reload` has it written "
        "anew; enforcement goes on"
    )


def main() -> None:
    """Run the command line; ends the process."""
    try:
        code = app.main(prog_name=NAME, standalone_mode=False, color=_colours())
    except click.exceptions.Abort:
        sys.exit(1)
    except click.UsageError as error:
        error.show()
        sys.exit(WRONG_USAGE)
    except Quit as error:
        error.show()
        sys.exit(error.code)
    sys.exit(code if isinstance(code, int) else 0)


def _colours() -> bool | None:
    """Whether to colour: not where somebody asks not to (no-color.org); None: on a terminal only."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a verb's asynchronous part."""
    return asyncio.run(work)


def print_json(value: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def fault_json(faults: Iterable[Fault]) -> dict[str, list[dict[str, object]]]:
    """Give faults in the shape that `check --json` prints."""
    return {
        "faults": [
            {
                "file": fault.place.file,
                "line": fault.place.line,
                "column": fault.place.column,
                "code": fault.code,
                "message": fault.message,
                "severity": fault.severity,
            }
            for fault in faults
        ]
    }


def print_faults(faults: Iterable[Fault]) -> None:
    """Print each fault on a line of its own, errors in red, on standard error."""
    for fault in faults:
        colour = "red" if fault.severity == "error" else "yellow"
        click.echo(f"{fault.place}: {click.style(fault.code, fg=colour)}: {fault.message}", err=True)


def refuse(faults: Iterable[Fault], *, as_json: bool, meaning: str) -> NoReturn:
    """End because of what is wrong in the input."""
    if as_json:
        print_json(fault_json(faults))
    else:
        print_faults(faults)
    raise Quit(meaning, REFUSED)
