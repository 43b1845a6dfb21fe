"""`/openapi.json`: OpenAPI 3.1, from the paths and from the types that the answers are made of."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from gatewrit import __version__  # at once: later we may see no file
from gatewrit.api import shapes
from gatewrit.api.access import NEEDS
from gatewrit.api.paths import CSV, JSON, PARAMETERS, PATHS, SSE, Path

_PROBLEM = "application/problem+json"
_ERRORS = {
    400: "The request isn't as it must be",
    401: "A token is needed, and this is none",
    403: "The token's role may not see this",
    404: "There is no such thing here, or nobody remembers",
    421: "The Host header names another host",
    429: "Too many questions at once; `Retry-After` says when to come back",
    503: "Not now: the enforcing process isn't heard from, or isn't ready",
}
#: What every path may answer.
_EVERYWHERE = (400, 421, 429)
_ABOUT = (
    "What a gateway blocks, by whose order, since when and until when. Read-only: whatever changes something goes "
    "through the command line."
)
_CONDITIONAL = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag of an answer that is still there: 304 if it hasn't changed",
    "schema": {"type": "string"},
}
_LAST = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The last event that came: those after it follow first, or one that says that they can't be told",
    "schema": {"type": "string", "pattern": "^[0-9]{1,19}$"},
}


@cache
def description() -> bytes:
    """Return the description as JSON."""
    return json.dumps(document(), ensure_ascii=False, indent=1).encode()


def document() -> dict[str, Any]:
    """Return the description."""
    kinds = {name: path.shape for name, path in PATHS.items() if path.shape is not None}
    adapters: list[tuple[str, Any, TypeAdapter[Any]]] = [
        (name, "serialization", TypeAdapter(shape)) for name, shape in (kinds | {"": shapes.Error}).items()
    ]
    template = "#/components/schemas/{model}"
    made, definitions = TypeAdapter.json_schemas(adapters, ref_template=template)
    return {
        "openapi": "3.1.0",
        "info": {"title": "gatewrit", "version": __version__, "description": _ABOUT},
        "paths": {
            name: {"get": _operation(name, path, made.get((name, "serialization")), made["", "serialization"])}
            for name, path in PATHS.items()
        },
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Needed beyond loopback, and on loopback where there is a file of tokens",
                }
            },
        },
    }


def _operation(name: str, path: Path, schema: Any, error: Any) -> dict[str, Any]:
    need = NEEDS[name]
    errors = sorted({*_EVERYWHERE, *path.errors, *((401, 403, 503) if need else ())})
    good: dict[str, Any] = {
        "description": path.about,
        "content": {
            media: {"schema": schema if media == JSON else {"type": "string"}} if media != SSE else {}
            for media in path.media
        },
    }
    answers: dict[str, Any] = {"200": good}
    if _conditional(name, path):
        good["headers"] = {"ETag": {"schema": {"type": "string"}}}
        answers["304"] = {"description": "It is as it was"}
    for status in errors:
        answers[str(status)] = {"description": _ERRORS[status], "content": {_PROBLEM: {"schema": error}}}
    parameters = [
        {"name": each, "in": "path", "required": True, "schema": {"type": "string"}}
        for each in re.findall(r"\{(\w+)\}", name)
    ]
    parameters += [
        {
            "name": each,
            "in": "query",
            "required": PARAMETERS[each].required,
            "description": PARAMETERS[each].about,
            "schema": dict(PARAMETERS[each].schema),
        }
        for each in path.takes
    ]
    parameters += [_CONDITIONAL] if _conditional(name, path) else []
    parameters += [_LAST] if SSE in path.media else []
    return {
        "operationId": _identifier(name),
        "summary": path.about,
        "parameters": parameters,
        "responses": answers,
        **({"security": [{}, {"token": []}]} if need else {}),
    }


def _conditional(name: str, path: Path) -> bool:
    return (name.startswith("/v1/") or name == "/openapi.json") and bool({JSON, CSV} & {*path.media})


def _identifier(name: str) -> str:
    """Give a path's name for programs that make functions of the description."""
    return "_".join(re.findall(r"\w+", name)) or "page"
