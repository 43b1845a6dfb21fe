"""All settings as people read them: the reference page, and a settings file that says every key with its default.

Both are made from the types (`gatewrit.settings`), by way of their JSON Schema, so that neither can say something else.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gatewrit.policy.schema import json_schema
from gatewrit.settings import PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Words that YAML takes for themselves as they stand; anything else is quoted.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._-]*")
_KEYWORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}

_PAGE = """\
# Settings

Every key of `/etc/gatewrit/gatewrit.yaml`, made from the types by `make reference`. Each has a default, so that the
file may be short, or not be there at all; `gatewrit init` writes one with all of them.

What the environment says counts before the file, and that before the default. Variables are named in the last column;
lists and mappings are given in them as JSON. A relative path in the file starts at the file's own folder. Unknown keys
and variables are refused, by every verb. The daemon reads settings when it starts: `systemctl restart gatewrit`.

| key | what it is | what may stand there | default | variable |
|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key, `path` from the top; `group`: others are below it. `default` is None where there is none.

    `whole`: of the group that it is, or is in, some keys must stand there if any does.
    """

    path: tuple[str, ...]
    what: str
    kind: str
    default: object | None
    group: bool
    whole: bool

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + "__".join(self.path).upper()


def outline() -> list[Setting]:
    """Give every setting in the order of the types, groups before what is in them."""
    schema = json_schema(Settings, "")
    return list(_walk(schema, schema["$defs"], ()))


def _walk(holder: Mapping[str, Any], kinds: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[Setting]:
    for key, node in holder["properties"].items():
        inner = _group(node, kinds)
        path, whole = (*above, key), "required" in (inner or holder)
        kind = "" if inner else _kind(node, kinds)
        yield Setting(path, node["description"], kind, node.get("default"), inner is not None, whole)
        if inner is not None:
            yield from _walk(inner, kinds, path)


def _group(node: Mapping[str, Any], kinds: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = kinds[node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else None
    return found


def _kind(node: Mapping[str, Any], kinds: Mapping[str, Any]) -> str:
    """Say in words what a JSON Schema takes."""
    if (inner := _group(node, kinds)) is not None:
        return f"{{{', '.join(inner['properties'])}}}"
    if "enum" in node:
        return ", ".join(node["enum"])
    match node["type"]:
        case "array":
            return f"a list of: {_kind(node['items'], kinds)}"
        case "integer":
            return f"a whole number from {node['minimum']} to {node['maximum']}"
        case "number":
            return f"a number over {node['exclusiveMinimum']}, up to {node['maximum']}"
    return {"boolean": "true, false"}.get(node["type"], "text")


def reference() -> str:
    """Give docs/settings.md."""
    rows = []
    for each in outline():
        default = "" if each.group or each.default is None else f"`{_value(each.default)}`"
        cells = (f"`{'.'.join(each.path)}`", each.what, each.kind, default, f"`{each.variable}`")
        rows.append(f"| {' | '.join(cells)} |\n")
    return _PAGE + "".join(rows)


def settings_file(given: Mapping[tuple[str, ...], object]) -> str:
    """Write a settings file with every key: as `given` (by path), else its default, else commented out."""
    lines = [
        "# The settings of gatewrit on this gateway, as `gatewrit init` wrote them. Every key is here; those that are",
        "# commented out have no value of their own. After a change: systemctl restart gatewrit",
    ]
    for each in outline():
        indent = "  " * (len(each.path) - 1)
        value = given.get(each.path, each.default)
        mark = "# " if each.whole or (value is None and not each.group) else ""
        if len(each.path) == 1:
            lines.append("")
        lines.append(f"{indent}# {each.what}{f' ({each.kind})' if each.kind else ''}")
        lines += [f"{indent}{mark}{line}" for line in _entry(each.path[-1], value, group=each.group)]
    return "\n".join(lines) + "\n"


def _entry(key: str, value: object, *, group: bool) -> list[str]:
    if group:
        return [f"{key}:"]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [f"{key}:", *(f"  - {_value(each)}" for each in value)]
    return [f"{key}: {'' if value is None else _value(value)}".rstrip()]


def _value(value: object) -> str:
    """Write a value in one line of YAML."""
    match value:
        case dict():
            return f"{{{', '.join(f'{key}: {_value(each)}' for key, each in value.items())}}}"
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case str() if _PLAIN.fullmatch(value) and value.lower() not in _KEYWORDS:
            return value
    # JSON is YAML.
    return json.dumps(value, ensure_ascii=False)
