"""What the Tab key offers: verbs, options, and what an operator names: policies, services, generations.

A key press must be quick, so nothing of the program is loaded for it: verbs and options stand in `verbs.json`, which
`make reference` writes from them. And it is never answered by an error: what can't be read is left out.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class, shell_complete

from gatewrit.policy.yaml import MAX_BYTES, Mapping, Scalar, read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping as MappingOf

    from click.shell_completion import ShellComplete

#: What the program is called, and the variable by which a shell asks it for completions.
NAME, COMPLETE = "gatewrit", "_GATEWRIT_COMPLETE"
#: All verbs with their parameters, and where settings, policies and state are unless somebody says otherwise.
VERBS = Path(__file__).with_name("verbs.json")
_HANDLE = re.compile(rb"^(policy|service):[ \t]*['\"]?([a-z0-9][a-z0-9-]{0,47})\b", re.MULTILINE)
#: The id stands near the beginning of a file.
_READ = 4096


class Known(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on only
    """A word or a number that names something known here: one of `policies`, `services` or `generations`."""

    name = "text"

    def __init__(self, what: str, kind: click.ParamType[Any] = click.STRING) -> None:
        self.what = what
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Take what its kind takes: whether there is such a thing is for the verb to say."""
        return self._kind.convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Give those that begin like this."""
        del param
        above = ctx.parent.params if ctx.parent is not None else {}
        found = set(_known(self.what, _folders(ctx.params.get("config") or above.get("config"))))
        # Numbers by size, the newest generation first.
        order = sorted(found, key=int, reverse=True) if self.what == "generations" else sorted(found)
        return [CompletionItem(name) for name in order if name.startswith(incomplete)]


def answer(instruction: str) -> int:
    """Answer a shell that asks: `bash_complete`, `zsh_source` and their kin. Gives the exit code."""
    shell, _, asked = instruction.partition("_")
    kind = get_completion_class(shell)
    if kind is None or asked != "complete":
        return shell_complete(line(), {}, NAME, COMPLETE, instruction)
    asking = kind(line(), {}, NAME, COMPLETE)
    for item, prefix in _offered(asking, shell):
        item.value = f"{prefix}{item.value}" if item.type == "plain" else item.value
        click.echo(asking.format_completion(item))
    return 0


def _offered(asking: ShellComplete, shell: str) -> Iterator[tuple[CompletionItem, str]]:
    """Yield what is offered, each with what stands before it in the word that it completes."""
    try:
        args, incomplete = asking.get_completion_args()
    except (KeyError, ValueError):
        # Not a shell that asks.
        return
    prefix = ""
    if shell == "bash":
        # bash takes --policy=x for three words.
        args = [word for at, word in enumerate(args) if word != "=" or not at or not args[at - 1].startswith("--")]
        incomplete = "" if incomplete == "=" else incomplete
    elif incomplete.startswith("--") and "=" in incomplete:
        prefix = incomplete[: incomplete.index("=") + 1]
    for item in asking.get_completions(args, incomplete):
        yield item, prefix


# -- the command line -------------------------------------------------------------------------------------------------


def line() -> click.Group:
    """Give the command line as `verbs.json` has it: all verbs and parameters, and nothing behind them."""
    app = _built(NAME, json.loads(VERBS.read_text())["verbs"])
    assert isinstance(app, click.Group)  # noqa: S101 - it has verbs
    return app


def _built(name: str, told: MappingOf[str, Any]) -> click.Command:
    params: list[click.Parameter] = [
        click.Argument([each["name"]], required=False, type=_type(each["takes"])) for each in told["arguments"]
    ]
    params += [
        click.Option(
            each["names"],
            help=each["help"],
            multiple=each["multiple"],
            **({"is_flag": True} if each["takes"] == "nothing" else {"type": _type(each["takes"])}),
        )
        for each in told["options"]
    ]
    settings = {"help_option_names": ["-h", "--help"]}
    if "verbs" not in told:
        return click.Command(name, params=params, help=told["help"], context_settings=settings)
    verbs = {verb: _built(verb, below) for verb, below in told["verbs"].items()}
    return click.Group(name, verbs, params=params, help=told["help"], context_settings=settings)


def _type(takes: str | list[str]) -> click.ParamType[Any]:
    if isinstance(takes, list):
        return click.Choice(takes)
    if takes == "file":
        return click.Path()
    return click.STRING if takes == "text" else Known(takes)


# -- what is known here -----------------------------------------------------------------------------------------------


def _folders(config: str | os.PathLike[str] | None) -> dict[str, Path]:
    """Give where policies and state are, as the environment, the settings file or else the program says."""
    usual = json.loads(VERBS.read_text())["folders"]
    file = Path(config or usual["settings"])
    found = {name: Path(usual[name]) for name in ("policies", "state")}
    with suppress(OSError), file.open("rb") as opened:
        root, _ = read_yaml(opened.read(MAX_BYTES), str(file))
        values = root.values if isinstance(root, Mapping) else {}
        found |= {key: file.parent / node.text for key in found if isinstance(node := values.get(key), Scalar)}
    given = {key: os.environ.get(f"GATEWRIT_{key.upper()}") for key in found}
    return found | {key: Path(value) for key, value in given.items() if value}


def _known(what: str, folders: MappingOf[str, Path]) -> Iterator[str]:
    if what == "generations":
        yield from (name for name in _documents(folders["state"] / what) if name.isdecimal())
    elif what == "policies":
        yield from _documents(folders["state"] / what)
        yield from _handles(folders["policies"], b"policy")
    else:
        yield from _handles(folders["policies"] / "services", b"service")


def _documents(folder: Path) -> Iterator[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        yield from (each.name.removesuffix(".json") for each in entries if each.name.endswith(".json"))


def _handles(folder: Path, kind: bytes) -> Iterator[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        for each in entries:
            if each.name.startswith(".") or not each.name.endswith(".yaml"):
                continue
            # A pipe that somebody put there would be waited for.
            with suppress(OSError):
                if each.is_file():
                    with open(each.path, "rb") as file:  # noqa: PTH123 - scandir's entry, not a path of ours
                        yield from (name.decode() for found, name in _HANDLE.findall(file.read(_READ)) if found == kind)
