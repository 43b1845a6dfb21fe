"""The examples in docs/http.md are what the real server answers."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from unit.test_api_http import asking

PAGE = Path(__file__).parents[2] / "docs/http.md"
EXAMPLES = re.findall(r"^```http\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def fields(lines: list[str]) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in lines)


def within(shown: Any, true: Any) -> None:
    """Assert that what is shown is true, as far as it goes."""
    if isinstance(shown, dict):
        assert isinstance(true, dict)
        assert shown.keys() <= true.keys()
        for name, value in shown.items():
            within(value, true[name])
    elif isinstance(shown, list):
        assert isinstance(true, list)
        assert len(shown) == len(true)
        for one, other in zip(shown, true, strict=True):
            within(one, other)
    else:
        assert shown == true


def blocks(text: str) -> list[tuple[dict[str, str], Any]]:
    """Give a stream's blocks: what stands beside the data, and the data."""
    found = []
    for block in text.strip().split("\n\n"):
        named = fields(block.split("\n"))
        data = named.pop("data", None)
        found.append((named, None if data is None else json.loads(data)))
    return found


async def read(response: Any, size: int) -> str:
    async with asyncio.timeout(60):
        return (await response.content.readexactly(size) if size else await response.read()).decode()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6
    assert {example.split("\n")[0].split("?")[0] for example in EXAMPLES} >= {
        "GET /v1/events",
        "GET /v1/policies",
        "GET /v1/status",
    }


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.split("\n")[0])
async def test_an_example_is_true(example: str) -> None:
    asked, answered, body = example.split("\n\n", 2)
    request, *headers = asked.split("\n")
    method, path = request.split(" ")
    status, *expected = answered.split("\n")
    async with asking() as session, session.request(method, path, headers=fields(headers)) as response:
        assert f"HTTP/1.1 {response.status} {response.reason}" == status
        wanted = fields(expected)
        assert response.content_type == wanted.pop("Content-Type")
        for name, value in wanted.items():
            assert response.headers[name] == value
        if response.content_type == "text/event-stream":
            told = await read(response, len(body.strip()) + 2)
            assert blocks(told) == blocks(body)
        elif response.content_type == "text/csv":
            assert (await read(response, 0)).replace("\r\n", "\n") == body
        else:
            within(json.loads(body), json.loads(await read(response, 0)))


def test_an_example_that_isn_t_true_is_found_out() -> None:
    for shown, true in (({"a": 1}, {"a": 2}), ({"b": 1}, {"a": 1}), ([1], [1, 2]), ({"a": []}, {"a": {}})):
        with pytest.raises(AssertionError):
            within(shown, true)
