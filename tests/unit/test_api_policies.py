"""One policy's addresses and history, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatewrit.api import face
from gatewrit.api.bucket import Bucket
from gatewrit.api.query import cursor
from gatewrit.engine.events import Event, Topic
from unit.api_samples import IN_SYNC, NOW, Source
from unit.test_api_http import asking, refused

if TYPE_CHECKING:
    from gatewrit.engine.snapshot import PastView


async def test_what_happened_newest_first() -> None:
    async with asking() as session:
        async with session.get("/v1/history") as response:
            document = await response.json()
        assert [each["id"] for each in document["items"]] == [5, 3, 2]
        assert document["next"] is None
        assert document["items"][1] == {
            "id": 3,
            "at": "2016-01-05T11:59:00Z",
            "event": "policy",
            "kind": "accepted",
            "policy": "bes-shutdown",
            "message": "revision 2 of bes-shutdown counts (before: 1)",
        }
        async with session.get("/v1/policies/bes-shutdown/history") as response:
            assert [each["id"] for each in (await response.json())["items"]] == [3]
        async with session.get("/v1/history?event=problem") as response:
            assert [each["id"] for each in (await response.json())["items"]] == [5]


async def test_pages_of_history_follow_each_other() -> None:
    source = Source(IN_SYNC)
    source.archive.rows = tuple(
        Event(number, NOW, Topic.POLICY, "state", "bes-shutdown", "x") for number in range(1, 251)
    )
    async with asking(source) as session:
        seen: list[int] = []
        query = {"limit": "100"}
        while query:
            async with session.get("/v1/policies/bes-shutdown/history", params=query) as response:
                document = await response.json()
            seen += [each["id"] for each in document["items"]]
            query = {"limit": "100", "cursor": document["next"]} if document["next"] else {}
    assert seen == list(range(250, 0, -1))


@pytest.mark.parametrize("path", ["/v1/policies/nothing/history", "/v1/policies/nothing/addresses"])
async def test_of_an_unknown_policy_there_is_nothing(path: str) -> None:
    async with asking() as session, session.get(path) as response:
        await refused(response, 404, "no_such_policy")


async def test_a_policy_that_was_never_good_names_no_addresses() -> None:
    async with asking() as session:
        async with session.get("/v1/policies/unread/addresses") as response:
            await refused(response, 404, "no_such_policy")
        async with session.get("/v1/policies/unread/history") as response:
            assert [each["kind"] for each in (await response.json())["items"]] == ["problem"]


async def test_addresses_page_by_page() -> None:
    async with asking() as session:
        async with session.get("/v1/policies/bes-shutdown/addresses?limit=1") as response:
            first = await response.json()
        assert first["total"] == 2
        assert first["items"] == [
            {
                "service": "blackberry-enterprise",
                "prefix": "206.51.26.0/24",
                "ports": ["tcp/3101"],
                "place": "policies/services/blackberry-enterprise.yaml:4",
            }
        ]
        async with session.get(f"/v1/policies/bes-shutdown/addresses?cursor={first['next']}") as response:
            second = await response.json()
        assert [each["prefix"] for each in second["items"]] == ["2607:ffc0::/32"]
        assert second["next"] is None


@pytest.mark.parametrize("after", ["1", "1.0000", "x", f"{10**30}", "-1.efef", "1.", "."])
async def test_a_cursor_of_another_list_is_refused(after: str) -> None:
    async with asking() as session, session.get(f"/v1/policies/bes-shutdown/addresses?cursor={cursor(after)}") as given:
        assert (await refused(given, 400, "bad_parameter"))["parameter"] == "cursor"


@pytest.mark.parametrize("query", ["event=nothing", "cursor=eA", "limit=0", "since=1"])
async def test_a_bad_parameter_of_history(query: str) -> None:
    async with asking() as session, session.get(f"/v1/history?{query}") as response:
        await refused(response, 400, "bad_parameter")


async def test_how_the_policies_stood() -> None:
    async with asking() as session:
        for path in ("/v1/policies", "/v1/policies?state=in_force"):
            async with session.get(path, params={"at": "2016-01-05T16:59:30+05:00"}) as response:
                (item,) = (await response.json())["items"]
            assert (item["id"], item["revision"], item["counters"], item["addresses"]) == (
                "bes-shutdown",
                1,
                None,
                None,
            )
        async with session.get("/v1/policies/bes-shutdown?at=2016-01-05T11:59:30Z") as response:
            document = await response.json()
            assert (document["revision"], document["sha256"], document["revisions"]) == (1, None, [])
        async with session.get("/v1/policies?format=csv&at=2016-01-05T11:59:30Z") as response:
            assert "bes-shutdown" in await response.text()
        async with session.get("/v1/policies/court-118?at=2016-01-05T11:59:30Z") as response:
            await refused(response, 404, "no_such_policy")


async def test_how_the_gateway_stood() -> None:
    async with asking() as session:
        async with session.get("/v1/status?at=2016-01-05T11:59:30Z") as response:
            document = await response.json()
            etag = response.headers["ETag"]
        async with session.get("/v1/status") as response:
            now = await response.json()
        assert [each for each in document if each != "running"] == [each.replace("now", "at") for each in now]
        assert document["policies"].keys() == now["policies"].keys()
        assert {name: count for name, count in document["policies"].items() if count != 0} == {
            "in_force": 1,
            "rejected": None,
        }
        assert document["at"] == "2016-01-05T11:59:30Z"
        assert document["ruleset"] == {
            "generation": 6,
            "digest": "sha256:5d41402abc4b2a76",
            "applied_at": "2016-01-05T11:00:00Z",
            "verified_at": None,
            "segments": None,
        }
        assert document["problems"] == [
            {"code": "clock_unsynchronised", "policy": None, "place": None},
            {"code": "policy_rejected", "policy": "unread", "place": "policies/unread.yaml:14:7"},
        ]
        again = {"If-None-Match": etag}
        async with session.get("/v1/status?at=2016-01-05T11:59:30Z", headers=again) as response:
            assert response.status == 304


@pytest.mark.parametrize("path", ["/v1/status", "/v1/policies", "/v1/policies/bes-shutdown"])
@pytest.mark.parametrize(
    ("at", "status", "code"),
    [
        ("2016-01-05T11:00:00Z", 404, "not_kept"),
        ("2016-01-05T12:00:01Z", 400, "bad_parameter"),
        ("yesterday", 400, "bad_parameter"),
        ("", 400, "bad_parameter"),
        ("1969-12-31T23:59:59Z", 400, "bad_parameter"),
        ("2016-01-05T11:59:30", 400, "bad_parameter"),
        ("2016-01-05T16:59:30 05:00", 400, "bad_parameter"),  # what a + is that isn't written %2B
    ],
)
async def test_what_nobody_can_say_of_another_time(path: str, at: str, status: int, code: str) -> None:
    async with asking() as session, session.get(path, params={"at": at}) as response:
        await refused(response, status, code)


async def test_the_past_may_be_asked_for_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face, "Bucket", lambda: Bucket(0.01, 2))
    async with asking() as session:
        for status in (200, 200, 429):
            async with session.get("/v1/policies?at=2016-01-05T11:59:00Z") as response:
                assert response.status == status
        assert int(response.headers["Retry-After"]) >= 1


async def test_a_past_is_asked_for_once_and_few_of_them_are_kept() -> None:
    source = Source(IN_SYNC)
    asked: list[int] = []
    truly = source.archive.stood

    async def stood(at: int) -> PastView:
        asked.append(at)
        return await truly(at)

    source.archive.stood = stood  # type: ignore[method-assign]
    async with asking(source) as session:
        for path in ("status", "policies", "policies/bes-shutdown", "policies?limit=1"):
            both = "&" if "?" in path else "?"
            async with session.get(f"/v1/{path}{both}at=2016-01-05T11:59:00Z") as response:
                assert response.status == 200
        assert asked == [NOW - 60]
        for second in (1, 2, 1, 2, 3, 1):
            async with session.get(f"/v1/status?at=2016-01-05T11:59:0{second}Z") as response:
                assert response.status == 200
    assert asked == [NOW - 60 + second for second in (0, 1, 2, 3, 1)]
