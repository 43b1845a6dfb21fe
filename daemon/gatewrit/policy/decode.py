"""From a tree of nodes to a typed model: pydantic checks, and each of its errors finds its place and plain words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from gatewrit.policy.faults import CODES, Code, all_of, fault, one_line, one_of, suggest
from gatewrit.policy.scalar import Trap
from gatewrit.policy.yaml import Mapping, Node, Scalar, Sequence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from pydantic_core import ErrorDetails

    from gatewrit.policy.terms import Fault

    Loc: TypeAlias = tuple[int | str, ...]

#: More faults than this aren't worth explaining; `faults.cap` tells fewer still.
_MANY = 1000

Model = TypeVar("Model", bound=BaseModel)

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
}


def refuse(code: Code, message: str, *, at: str | None = None, named: bool = False) -> PydanticCustomError:
    """Make the error that a validator raises for a fault of ours.

    `at` names a key below the value judged; `named` puts the value's own key before the message.
    """
    # pydantic can't carry half a surrogate pair, which is what an environment's odd bytes come as.
    return PydanticCustomError(code, "{said}", {"said": one_line(message), "at": at, "named": named})


def decode(root: Node, model: type[Model]) -> tuple[Model | None, list[Fault]]:
    """Read a whole document as `model`. Either the value or at least one fault comes back."""
    try:
        return model.model_validate(to_data(root)), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[:_MANY]
        return None, [_explain(detail, root, model) for detail in details if not _is_echo(detail, root)]


def to_data(node: Node) -> object:
    """Strip places off a tree. Traps stay what they are, and so match no type."""
    match node:
        case Scalar():
            return node.value
        case Sequence():
            return tuple(to_data(item) for item in node.items)
        case Mapping():
            return {key: to_data(value) for key, value in node.values.items()}


def _is_echo(detail: ErrorDetails, root: Node) -> bool:
    """Whether a list is called too short only because its items, already told, weren't taken."""
    node = find(root, detail["loc"])
    return detail["type"] == "too_short" and isinstance(node, Sequence) and bool(node.items)


def _explain(detail: ErrorDetails, root: Node, model: type[BaseModel]) -> Fault:  # noqa: PLR0911 - one return a kind
    kind, loc, context = detail["type"], detail["loc"], detail.get("ctx", {})
    if kind == "missing":
        return _missing(loc, root, model)
    if kind == "extra_forbidden":
        return _unknown(loc, root, model)
    node = find(root, (*loc, context["at"]) if context.get("at") else loc)
    name = path_text(loc)
    if kind in CODES:
        return fault(node.place, kind, f"{name}: {context['said']}" if context["named"] else str(context["said"]))
    value = node.value if isinstance(node, Scalar) else None
    allowed = re.findall(r"'([^']*)'", str(context["expected"])) if kind == "literal_error" else []
    expected = one_of(allowed) if allowed else _EXPECTED.get(kind)
    if isinstance(value, Trap):
        return trapped(node, value, name, expected or "text")
    if allowed and isinstance(value, str):
        message = f"{name} can't be {_show(value)}; write {expected}{suggest(value, allowed)}"
        return fault(node.place, "bad_value", message)
    if expected:
        return fault(node.place, "wrong_type", f"{name} must be {expected}, not {_advise(node, expected)}")
    if kind == "too_short":
        return fault(node.place, "list_empty", f"{name} is empty; it must name at least one")
    limit = _LIMITS.get(kind)
    return fault(node.place, "bad_value", f"{name}: {limit.format(**context) if limit else detail['msg']}")


_LIMITS = {
    "string_too_short": "the text is empty; write something or leave the key out",
    "string_too_long": "the text is too long; it may have up to {max_length} characters",
    "too_long": "too many; there may be up to {max_length}",
    "greater_than_equal": "it must be at least {ge}",
    "greater_than": "it must be more than {gt}",
    "less_than_equal": "it may be {le} at most",
}


def trapped(node: Node, trap: Trap, name: str, expected: str) -> Fault:
    """Say what a plain scalar was taken for, in the words it was written in."""
    if trap.taken_for is None:
        written = f" ({trap.text} without quotes is none)" if trap.text else ""
        message = f"{name} has no value{written}; write one, or leave the key out where it isn't needed"
        return fault(node.place, "yaml_trap", message)
    advice = ""
    if expected == "text":
        advice = f'; write it in quotes: "{trap.text}"'
    elif "number" in expected and trap.number:
        advice = f"; write {trap.number}"
    message = f"{name} must be {expected}; {trap.text} without quotes is {trap.taken_for} to YAML readers{advice}"
    return fault(node.place, "yaml_trap", message)


def _advise(node: Node, expected: str) -> str:
    match node:
        case Sequence():
            return "a list"
        case Mapping():
            return "a mapping (key: value); is a dash or a space too few?" if expected == "a list" else "a mapping"
    value = node.value
    if expected == "text":
        what = "the truth value" if isinstance(value, bool) else "the number"
        return f'{what} {node.text}; if it is meant as it stands, write it in quotes: "{node.text}"'
    if expected == "a list":
        return f"the single value {_show(node.text)}; write [{_show(node.text)}]"
    if isinstance(value, str) and not node.plain and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return f'the text "{value}"; write it without quotes'
    return f"{'the number ' if isinstance(value, float) else ''}{_show(node.text)}"


def _show(text: str) -> str:
    return one_line(text, 60)


def _missing(loc: Loc, root: Node, model: type[BaseModel]) -> Fault:
    *parents, key = loc
    owner = model_at(model, tuple(parents))
    field = next((field for known, field in _fields(owner) if known == key), None)
    what = f": {field.description}" if field and field.description else ""
    return fault(find(root, tuple(parents)).place, "missing_key", f"{path_text(loc)} is missing{what}")


def _unknown(loc: Loc, root: Node, model: type[BaseModel]) -> Fault:
    *parents, key = loc
    where = find(root, tuple(parents))
    place = where.keys[str(key)].place if isinstance(where, Mapping) and key in where.keys else where.place
    known = [name for name, _ in _fields(model_at(model, tuple(parents)))]
    home = _home(str(key), model)
    hint = f"; it belongs {home}" if home else suggest(str(key), known) or f"; known are {all_of(known)}"
    message = f"{_show(str(key))} isn't a key here{hint}"
    return fault(place, "unknown_key", message)


def _home(key: str, model: type[BaseModel], path: str = "") -> str | None:
    """Where else in the document a key is known."""
    for name, field in _fields(model):
        here = f"{path}.{name}" if path else name
        for inner in _models(field.annotation):
            if any(key == known for known, _ in _fields(inner)):
                return f"under {here}"
            if deeper := _home(key, inner, here):
                return deeper
    if path and any(key == known for known, _ in _fields(model)):
        return f"under {path}"
    return None


def find(root: Node, loc: Loc) -> Node:
    """Walk down to the node that a location means, or to the last one on the way that exists."""
    node = root
    for index, part in enumerate(loc):
        match node:
            case Mapping() if part in node.values:
                of_key = loc[index + 1 : index + 2] == ("[key]",)
                node = node.keys[str(part)] if of_key else node.values[str(part)]
            case Sequence() if isinstance(part, int) and part < len(node.items):
                node = node.items[part]
            case _:
                break
    return node


def model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel]:
    """Give the model that describes the mapping at a location."""
    for part in loc:
        if isinstance(part, str):
            inner = [found for name, field in _fields(model) if name == part for found in _models(field.annotation)]
            model = inner[0] if inner else model
    return model


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        yield field.alias or name, field


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def path_text(loc: Loc) -> str:
    """Name a location the way people do: `effective.from`. Which item of a list is meant, the place says."""
    return ".".join(part for part in loc if isinstance(part, str) and part != "[key]")
