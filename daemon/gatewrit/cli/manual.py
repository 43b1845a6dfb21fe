"""The man pages and the scripts for completion, made from what `--help` and the settings say themselves.

    python -m gatewrit.cli.manual DIR

writes `man/man1/gatewrit.1`, `man/man5/gatewrit.yaml.5` and a script for bash, zsh and fish below DIR, each where it
belongs below /usr/share.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import get_completion_class

import gatewrit
from gatewrit.cli.app import app, brief
from gatewrit.cli.completion import COMPLETE, NAME, Known
from gatewrit.policy.schema import json_schema
from gatewrit.settings import DEFAULT_FILE, PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Where each shell looks for its script.
_SCRIPTS = {
    "bash": f"bash-completion/completions/{NAME}",
    "zsh": f"zsh/site-functions/_{NAME}",
    "fish": f"fish/vendor_completions.d/{NAME}.fish",
}
_EXITS = (
    ("0", "fine"),
    ("1", "failed, or the answer is bad"),
    ("2", "refused input, or a pending or held change"),
    ("64", "wrong usage"),
)
_FILES = (
    ("/etc/gatewrit/gatewrit.yaml", "the settings, gatewrit.yaml(5)"),
    ("/etc/gatewrit/policies/", "policies, and services below it"),
    ("/var/lib/gatewrit/", "what must outlive a reboot: last good policies, counts, the journal"),
    ("/run/gatewrit/", "the control socket"),
)


def pages() -> dict[str, str]:
    """Give every file by where it belongs below /usr/share."""
    made = {"man/man1/gatewrit.1": _commands(), "man/man5/gatewrit.yaml.5": _settings()}
    for shell, path in _SCRIPTS.items():
        kind = get_completion_class(shell)
        assert kind is not None  # noqa: S101 - click knows all three
        # Not `source()`: bash's would start bash to see how old it is.
        completion = kind(app, {}, NAME, COMPLETE)
        script = completion.source_template % completion.source_vars()
        # Only the first call of an autoloaded function is in that context: the second Tab of a session did nothing.
        made[path] = script.replace("$zsh_eval_context[-1] == loadautofunc", f"$funcstack[1] == _{NAME}")
    return made


def verbs() -> Iterator[tuple[str, click.Command]]:
    """Yield every verb by its name, those in a group by both: `new policy`."""
    yield from _verbs(app, click.Context(app), "")


def _verbs(group: click.Group, context: click.Context, above: str) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _verbs(command, context, f"{above}{name} ")
        elif command is not None and not command.hidden:
            yield f"{above}{name}", command


# -- verbs.json, for the Tab key ---------------------------------------------------------------------------------------


def verbs_json() -> str:
    """Give what completion must know of the command line and the settings, so that it needs to load neither."""
    folders = {"settings": str(DEFAULT_FILE)}
    folders |= {name: str(Settings.model_fields[name].default) for name in ("policies", "state")}
    told = {"folders": folders, "verbs": _outline(app, click.Context(app, **app.context_settings))}
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def _outline(command: click.Command, context: click.Context) -> dict[str, Any]:
    shown = [each for each in command.params if not (isinstance(each, click.Option) and each.hidden)]
    told: dict[str, Any] = {
        "help": brief(command.help or "", 60),
        "options": [
            {"names": each.opts, "help": each.help, "multiple": each.multiple, "takes": _takes(each)}
            for each in shown
            if isinstance(each, click.Option)
        ],
        "arguments": [{"name": each.name, "takes": _takes(each)} for each in shown if isinstance(each, click.Argument)],
    }
    if isinstance(command, click.Group):
        below = {name: command.get_command(context, name) for name in command.list_commands(context)}
        told["verbs"] = {name: _outline(verb, context) for name, verb in below.items() if verb and not verb.hidden}
    return told


def _takes(parameter: click.Parameter) -> str | list[str]:
    """Say what stands behind an option, or as an argument: nothing, a file, one of these words, what is known, text."""
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return "nothing"
    match parameter.type:
        case click.Choice(choices=choices):
            return list(choices)
        case click.Path():
            return "file"
        case Known(what=what):
            return what
    return "text"


# -- gatewrit(1) -------------------------------------------------------------------------------------------------------


def _commands() -> str:
    context = click.Context(app, info_name=NAME, **app.context_settings)
    lines = [
        f'.TH GATEWRIT 1 "" "gatewrit {gatewrit.__version__}" "User Commands"',
        ".SH NAME",
        r"gatewrit \- network policy enforcement: service\-block orders as nftables rules",
        ".SH SYNOPSIS",
        rf".B {NAME}",
        r".I VERB",
        "[options] [arguments]",
        ".SH DESCRIPTION",
        _text(app.help or ""),
        ".SH VERBS",
    ]
    for name, command in verbs():
        lines += _verb(command, click.Context(command, parent=context, info_name=name))
    lines += [".SH EXIT STATUS", *_list(_EXITS), ".SH FILES", *_list(_FILES)]
    lines += [".SH ENVIRONMENT", *_list(_ENVIRONMENT), ".SH SEE ALSO", ".BR gatewrit.yaml (5),", ".BR nft (8)"]
    return "\n".join(lines) + "\n"


_ENVIRONMENT = (
    (f"{PREFIX}KEY", "a setting, e.g. GATEWRIT_LIMITS__WIDEST_IPV4=20; gatewrit.yaml(5) names all"),
    ("NO_COLOR", "if set, nothing is coloured; neither is what goes into a pipe or a file"),
)


def _verb(command: click.Command, context: click.Context) -> Iterator[str]:
    arguments = [each.make_metavar(context) for each in command.get_params(context) if isinstance(each, click.Argument)]
    yield f".SS {_escaped(' '.join([context.info_name or '', '[options]', *arguments]))}"
    yield _text(command.help or "")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            yield from _item(*record)
    if command.epilog:
        yield ".PP"
        yield _escaped(command.epilog.split(":")[0]) + ":"
        yield ".PP"
        yield ".nf"
        yield ".RS"
        yield _escaped(command.epilog.split(":", 1)[1].strip())
        yield ".RE"
        yield ".fi"


# -- gatewrit.yaml(5) --------------------------------------------------------------------------------------------------


def _settings() -> str:
    schema = json_schema(Settings, "")
    lines = [
        f'.TH GATEWRIT.YAML 5 "" "gatewrit {gatewrit.__version__}" "File Formats"',
        ".SH NAME",
        r"gatewrit.yaml \- settings of gatewrit",
        ".SH DESCRIPTION",
        _text(
            f"{Settings.__doc__ or ''}\n\nThe file is YAML, /etc/gatewrit/gatewrit.yaml unless --config names another. "
            "A key that isn't below is a fault. The environment goes before the file: each key is named with the "
            "variable that sets it, lists and mappings as JSON. Relative paths start at the file's folder."
        ),
        ".SH KEYS",
        *(line for key, node in _keys(schema, schema, "") for line in _key(key, node)),
        ".SH SEE ALSO",
        ".BR gatewrit (1)",
    ]
    return "\n".join(lines) + "\n"


def _keys(schema: Mapping[str, Any], node: Mapping[str, Any], above: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, described in node.get("properties", {}).items():
        name = f"{above}{key}"
        yield name, described
        yield from _keys(schema, _meant(schema, described), f"{name}.")
        if "items" in described:
            yield from _keys(schema, _meant(schema, described["items"]), f"{name}[].")


def _meant(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference to where a mapping is described; of alternatives the one that is a mapping."""
    for each in (node, *node.get("anyOf", ())):
        if "$ref" in each:
            found: Mapping[str, Any] = schema["$defs"][each["$ref"].rsplit("/", 1)[-1]]
            return found
    return node


def _key(name: str, node: Mapping[str, Any]) -> Iterator[str]:
    said = [str(node.get("description", ""))]
    if "default" in node and node["default"] is not None and not isinstance(node["default"], dict):
        said.append(f"Default: {json.dumps(node['default'], ensure_ascii=False)}.")
    if "enum" in node:
        said.append(f"One of {', '.join(map(str, node['enum']))}.")
    bounds = [f"{word} {node[key]}" for key, word in _BOUNDS if key in node]
    said += [f"{' and '.join(bounds).capitalize()}."] if bounds else []
    if "[]" not in name:
        # What is in a list has no variable of its own.
        said.append(f"Variable: {PREFIX}{name.upper().replace('.', '__')}.")
    yield from _item(name, " ".join([f"{said[0].rstrip('.')}.", *said[1:]]))


_BOUNDS = (("minimum", "at least"), ("exclusiveMinimum", "more than"), ("maximum", "at most"))


# -- roff --------------------------------------------------------------------------------------------------------------


def _list(items: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for term, text in items:
        yield from _item(term, text)


def _item(term: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield rf"\fB{_escaped(term)}\fR"
    yield _text(text)


def _text(text: str) -> str:
    """Write paragraphs, filled by roff."""
    paragraphs = [" ".join(each.split()) for each in re.split(r"\n\s*\n", text.strip())]
    return "\n.PP\n".join(map(_escaped, paragraphs))


def _escaped(text: str) -> str:
    """Have roff print just this: backslashes, hyphens that are to be copied, and what would begin a request."""
    plain = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")
    return rf"\&{plain}" if plain.startswith(".") else plain


def main() -> None:
    """Write them below a folder."""
    if len(sys.argv) != 2:
        sys.exit("gatewrit: name one folder: python -m gatewrit.cli.manual DIR")
    for path, text in pages().items():
        target = Path(sys.argv[1]) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


if __name__ == "__main__":
    main()
