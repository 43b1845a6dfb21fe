"""`/openapi.json` is true: every route is in it, every answer is as it says, and nothing that it allows breaks us."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import schemathesis
from hypothesis import settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from gatewrit.api import http, openapi
from gatewrit.api.access import NEEDS, Access
from gatewrit.api.paths import JSON, PATHS
from gatewrit.api.wire import Limits
from gatewrit.engine.snapshot import Accepted, Progress
from unit.api_samples import DEGRADED, IN_SYNC, NOW, STARTING, Source
from unit.test_api_http import asking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemathesis import Case

DOCUMENT = openapi.document()
SIGNED = replace(
    DEGRADED, manifest=Accepted(8, "sha256:x", NOW, ("alice",), NOW), progress=Progress("reading", 1, 2, NOW)
)
PLACES = {
    "/v1/status": ["/v1/status", "/v1/status?at=2016-01-05T11:59:30Z"],
    "/v1/policies/{id}": ["/v1/policies/bes-shutdown", "/v1/policies/unread", "/v1/policies/court-118"],
    "/v1/policies/{id}/addresses": ["/v1/policies/bes-shutdown/addresses?limit=1"],
    "/v1/policies/{id}/history": ["/v1/policies/bes-shutdown/history"],
    "/v1/explain": ["/v1/explain?address=192.0.2.1", "/v1/explain?address=192.0.2.1&protocol=tcp&port=3101"],
}


def closed(value: Any) -> Any:
    """Give a schema that allows nothing but what it names, so that no field stays undescribed."""
    if isinstance(value, list):
        return [closed(each) for each in value]
    if not isinstance(value, dict):
        return value
    more = {"additionalProperties": False} if "properties" in value else {}
    return {name: closed(each) for name, each in value.items()} | more


def schema_of(path: str, status: int = 200, kind: str = JSON) -> dict[str, Any]:
    schema = DOCUMENT["paths"][path]["get"]["responses"][str(status)]["content"][kind]["schema"]
    return {**copy.deepcopy(closed(schema)), "components": closed(DOCUMENT["components"])}


def test_every_route_for_programs_is_described_and_nothing_else() -> None:
    app = http.make_app(Source(IN_SYNC), lambda: NOW, Access(None))
    routes = {route.resource.canonical for route in app.router.routes() if route.resource is not None}
    assert routes >= PATHS.keys()
    assert {each for each in routes if each.startswith("/v1")} <= PATHS.keys()
    assert routes == NEEDS.keys()


def test_a_shape_that_lacks_something_is_found_out() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"alive": True, "more": 1}, schema_of("/livez"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, schema_of("/livez"))


@pytest.mark.parametrize("snapshot", [DEGRADED, IN_SYNC, STARTING, SIGNED])
async def test_every_answer_is_as_it_is_described(snapshot: Any) -> None:
    async with asking(snapshot) as session:
        for path, described in PATHS.items():
            if described.shape is None:
                continue
            for place in PLACES.get(path, [path]):
                async with session.get(place) as response:
                    document = json.loads(await response.read())
                schema = schema_of(path, response.status, response.content_type)
                jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)
                if document.get("next"):
                    assert response.links["next"]["url"]


def test_it_is_openapi() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    identifiers = [each["get"]["operationId"] for each in DOCUMENT["paths"].values()]
    assert len(set(identifiers)) == len(identifiers)
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["description"], "a type without a word on what it is"


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """A server in a thread of its own, to be asked by a client that waits."""
    found: list[str] = []
    up = threading.Event()
    stop: list[Any] = []

    async def serve() -> None:
        ended = asyncio.Event()
        stop[:] = [asyncio.get_running_loop(), ended]
        limits = Limits(rate_here=1e6, burst_here=1e6, connections=64)
        async with http.serve(Source(DEGRADED), ["127.0.0.1:0"], now=lambda: NOW, limits=limits) as (address,):
            found.append(address)
            up.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert up.wait(60)
    yield found[0]
    stop[0].call_soon_threadsafe(stop[1].set)
    thread.join()


# A stream has no end to wait for: tests of its own are about it.
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT).exclude(path="/v1/events")
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


@SCHEMA.parametrize()
@settings(max_examples=8)
def test_whatever_it_allows_is_answered_as_it_says(case: Case, base: str) -> None:
    case.call_and_validate(base_url=base, checks=CHECKS)
