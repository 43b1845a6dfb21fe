"""`/v1/explain` over real sockets: what is asked, what is refused, and how often."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest

from gatewrit.api.bucket import Bucket
from gatewrit.api.documents import stated
from unit.api_samples import DEGRADED, NOW, Source
from unit.test_api_http import asking, refused

if TYPE_CHECKING:
    from logging import LogRecord

    from gatewrit.engine.answer import Answer, Question


async def test_an_answer() -> None:
    async with asking() as session, session.get("/v1/explain?address=192.0.2.9&protocol=TCP&port=443") as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        assert await response.json() == {
            "address": "192.0.2.9",
            "protocol": "tcp",
            "port": 443,
            "at": "2016-01-05T12:00:00Z",
            "blocked": False,
            "partly": False,
            "verdict": "pass",
            "policies": [],
            "sentence": "No: TCP port 443 of 192.0.2.9 is not blocked here: no order covers it.",
        }


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("", "address"),
        ("address=", "address"),
        ("address=206.51.26.0/24", "address"),
        ("address=example.com", "address"),
        ("address=::ffff:192.0.2.1", "address"),
        ("address=fe80::1%25eth0", "address"),
        ("address=192.0.2.1&protocol=gre", "protocol"),
        ("address=192.0.2.1&port=65536", "port"),
        ("address=192.0.2.1&port=-1", "port"),
        ("address=192.0.2.1&protocol=icmp&port=1", "port"),
        ("address=192.0.2.1&source=2001:db8::1", "source"),
        ("address=192.0.2.1&interface=gi*", "interface"),
        ("address=192.0.2.1&at=tomorrow", "at"),
        ("address=192.0.2.1&address=192.0.2.2", "address"),
        ("address=192.0.2.1&adress=192.0.2.2", "adress"),
    ],
)
async def test_a_bad_parameter_is_named(query: str, parameter: str) -> None:
    async with asking() as session, session.get(f"/v1/explain?{query}") as response:
        assert (await refused(response, 400, "bad_parameter"))["parameter"] == parameter


async def test_who_asks_again_is_told_if_only_the_clock_went_on() -> None:
    source = Source(DEGRADED)
    truly, seconds = source.explain, count()

    async def explain(question: Question) -> Answer:
        found = await truly(question)
        return found if question.at else replace(found, at=NOW + next(seconds))

    source.explain = explain  # type: ignore[method-assign]
    later = f"/v1/explain?address=192.0.2.1&at={stated(NOW + 60)}"
    async with asking(source) as session:
        for path, weak in (("/v1/explain?address=192.0.2.1&port=3101", True), (later, False)):
            async with session.get(path) as response:
                etag = response.headers["ETag"]
            assert etag.startswith("W/") is weak
            async with session.get(path, headers={"If-None-Match": etag}) as response:
                assert response.status == 304
            async with session.get(path.replace("192.0.2.1", "192.0.2.9"), headers={"If-None-Match": etag}) as response:
                assert response.status == 200


async def test_what_is_not_kept() -> None:
    async with asking() as session, session.get("/v1/explain?address=192.0.2.1&at=2015-01-01T00:00:00Z") as response:
        assert "the journal begins at" in (await refused(response, 404, "not_kept"))["detail"]


async def test_too_many_questions_are_put_off_and_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with asking() as session:
        for _ in range(200):
            async with session.get("/v1/explain?address=192.0.2.77") as response:
                if response.status == 429:
                    await refused(response, 429, "too_many")
                    break
        assert int(response.headers["Retry-After"]) >= 1
        async with session.get("/v1/status") as other:
            assert other.status == 200
    records: list[LogRecord] = caplog.records
    assert not any("192.0.2.77" in record.getMessage() for record in records)


def test_a_bucket_fills_up_again() -> None:
    bucket = Bucket(rate=0.5, burst=2)
    assert [bucket.take(0), bucket.take(0), bucket.take(0)] == [0, 0, 2]
    assert bucket.take(1) == 1
    assert bucket.take(2) == 0
    assert [bucket.take(1000), bucket.take(1000), bucket.take(1000)] == [0, 0, 2]
