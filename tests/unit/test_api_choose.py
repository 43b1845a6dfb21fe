"""Which policies a list shows: every one that was asked for, once, whatever it is put in order by."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.api.choose import Choice, choose, read_choice
from gatewrit.api.paths import SORTS
from gatewrit.api.query import cursor
from gatewrit.api.table import policy_row, table
from gatewrit.api.wire import RequestError
from unit.api_samples import DEGRADED, SCHEDULED, SHUTDOWN, UNREAD, UNREAD_PROBLEM
from unit.test_api_http import asking, refused

if TYPE_CHECKING:
    from gatewrit.engine.snapshot import PolicyView


def ids(**asked: str) -> list[str]:
    views, _ = choose(DEGRADED.policies, read_choice(asked))
    return [view.id for view in views]


ALL = ["bes-shutdown", "court-118", "unread"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ALL),
        ({"state": "in_force"}, ["bes-shutdown"]),
        ({"authority": "pakistan telecommunication AUTHORITY"}, ["bes-shutdown"]),
        ({"authority": "Pakistan"}, []),
        ({"service": "casino-b"}, ["court-118"]),
        ({"service": "casino"}, []),
        ({"label": "ticket-queue"}, ["bes-shutdown"]),
        ({"label": "ticket-queue=regulatory"}, ["bes-shutdown"]),
        ({"label": "ticket-queue="}, []),
        ({"label": "ticket-queue=other"}, []),
        ({"problem": "any"}, ["unread"]),
        ({"problem": "none"}, ["bes-shutdown", "court-118"]),
        ({"problem": "policy_rejected"}, ["unread"]),
        ({"problem": "policy_missing"}, []),
        ({"q": "BLACKBERRY reg-7"}, ["bes-shutdown"]),
        ({"q": "عدالتی"}, ["court-118"]),
        ({"q": "118"}, ["court-118"]),
        ({"q": "regulatory"}, ["bes-shutdown"]),
        ({"q": "blackberry casino"}, []),
        ({"q": "unread"}, ["unread"]),
        ({"sort": "-id"}, ALL[::-1]),
        ({"sort": "packets"}, ["court-118", "unread", "bes-shutdown"]),
        ({"sort": "-packets"}, ["bes-shutdown", "unread", "court-118"]),
        ({"sort": "until"}, ["bes-shutdown", "court-118", "unread"]),
        ({"sort": "from"}, ["bes-shutdown", "court-118", "unread"]),
        ({"sort": "state"}, ["bes-shutdown", "unread", "court-118"]),
    ],
)
def test_what_is_asked_for_is_found(asked: dict[str, str], found: list[str]) -> None:
    assert ids(**asked) == found


VIEWS = st.lists(
    st.builds(
        lambda number, packets, title, other: replace(
            (SHUTDOWN, SCHEDULED, UNREAD)[other], id=f"p{number:03}", packets=packets, title=title
        ),
        st.integers(0, 999),
        st.integers(0, 3),
        st.sampled_from([None, "", "a", "b", "ب"]),
        st.integers(0, 2),
    ),
    unique_by=lambda view: view.id,
    max_size=20,
).map(lambda views: sorted(views, key=lambda view: view.id))


@given(VIEWS, st.sampled_from(SORTS), st.booleans(), st.integers(1, 5), st.data())
def test_pages_tell_everything_once_though_policies_go(
    views: list[PolicyView],
    sort: str,
    down: bool,  # noqa: FBT001 - hypothesis gives it
    limit: int,
    data: st.DataObject,
) -> None:
    whole, _ = choose(views, Choice(sort=sort, down=down, limit=1000))
    assert sorted(view.id for view in whole) == [view.id for view in views]
    seen: list[str] = []
    gone: set[str] = set()
    after = None
    while True:
        there = [view for view in views if view.id not in gone]
        page, after = choose(there, Choice(sort=sort, down=down, limit=limit, after=after))
        seen += [view.id for view in page]
        if after is None:
            break
        gone |= data.draw(st.sets(st.sampled_from([view.id for view in views]), max_size=1))
    expected = [view.id for view in whole]
    assert seen == [name for name in expected if name in seen], "in order, each once"
    assert set(expected) - set(seen) <= gone


@pytest.mark.parametrize(
    ("asked", "parameter"),
    [
        ({"sort": "--id"}, "sort"),
        ({"sort": "text"}, "sort"),
        ({"q": " "}, "q"),
        ({"authority": ""}, "authority"),
        ({"sort": "packets", "cursor": cursor("bes-shutdown")}, "cursor"),
        ({"sort": "packets", "cursor": cursor('["bytes", false, 1, "x"]')}, "cursor"),
        ({"sort": "packets", "cursor": cursor('["packets", false, "1", "x"]')}, "cursor"),
        ({"sort": "packets", "cursor": cursor('["packets", false, true, "x"]')}, "cursor"),
        ({"sort": "title", "cursor": cursor('["title", false, 1, "x"]')}, "cursor"),
        ({"sort": "title", "cursor": cursor('["title", true, 1, "x"]')}, "cursor"),
        ({"sort": "title", "cursor": cursor("[" * 3000)}, "cursor"),
    ],
)
def test_what_nobody_can_ask_for(asked: dict[str, str], parameter: str) -> None:
    with pytest.raises(RequestError) as refusal:
        read_choice(asked)
    assert (refusal.value.status, refusal.value.more) == (400, {"parameter": parameter})


def rows(body: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(body.decode(), newline="")))


async def test_lists_as_csv() -> None:
    async with asking() as session:
        async with session.get("/v1/policies?limit=2&format=csv") as response:
            assert response.content_type == "text/csv"
            first, second = rows(await response.read())
            following = response.links["next"]["url"]
            assert response.headers["Vary"] == "Accept"
        assert (first["id"], first["from"], first["packets"], first["labels"]) == (
            "bes-shutdown",
            "2015-12-30T19:00:00Z",
            "120433",
            "ticket-queue=regulatory",
        )
        assert (second["title"], second["services"], second["until"]) == ("عدالتی حکم", "casino-a casino-b", "")
        async with session.get(following, headers={"Accept": "text/csv"}) as response:
            assert [(each["id"], each["problem"]) for each in rows(await response.read())] == [
                ("unread", UNREAD_PROBLEM.code)
            ]
        for path, ids_ in (("/v1/history", ["5", "3", "2"]), ("/v1/policies/bes-shutdown/history", ["3"])):
            async with session.get(path, headers={"Accept": "text/csv, application/json;q=0.5"}) as response:
                assert [each["id"] for each in rows(await response.read())] == ids_
        async with session.get("/v1/policies/bes-shutdown/addresses?format=csv") as response:
            assert [each["prefix"] for each in rows(await response.read())] == ["206.51.26.0/24", "2607:ffc0::/32"]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("text/csv", "text/csv"),
        ("text/csv;q=0.5, application/json", "application/json"),
        ("text/csv;q=x", "application/json"),
        ("TEXT/CSV; q=1.0, application/json;q=0.9", "text/csv"),
    ],
)
async def test_the_format_that_is_accepted(accept: str, kind: str) -> None:
    async with asking() as session:
        async with session.get("/v1/policies", headers={"Accept": accept}) as response:
            assert response.content_type == kind
        async with session.get("/v1/policies?format=json", headers={"Accept": accept}) as response:
            assert response.content_type == "application/json"
        async with session.get("/v1/policies?format=xml", headers={"Accept": accept}) as response:
            await refused(response, 400, "bad_parameter")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert table(("a",), [{"a": text}]).decode().split("\r\n", 1)[1].lstrip('"').startswith("'")
    item = policy_row({"labels": {}, "order": None, "effective": None, "counters": None, "addresses": None,
                       "problem": None, "title": text})  # type: ignore[typeddict-item]  # fmt: skip
    assert item["title"] == text


@pytest.mark.parametrize(
    "path",
    [
        "/v1/status",
        "/v1/policies",
        "/v1/policies?format=csv",
        "/v1/policies/bes-shutdown",
        "/v1/policies/bes-shutdown/addresses",
        "/v1/policies/bes-shutdown/history",
        "/v1/history",
        "/openapi.json",
        "/v1/explain?address=192.0.2.1",
    ],
)
async def test_what_hasnt_changed_isnt_sent_again(path: str) -> None:
    async with asking() as session:
        async with session.get(path) as response:
            etag = response.headers["ETag"]
            assert response.status == 200
        for given, status in ((etag, 304), (f'"x", {etag}', 304), ("*", 304), ('"x"', 200), (f"W/{etag}"[-200:], 304)):
            async with session.get(path, headers={"If-None-Match": given.replace("W/W/", "W/")}) as response:
                assert response.status == status
                assert response.headers["ETag"] == etag
                assert response.headers["Cache-Control"] == "no-store"
                assert bool(await response.read()) == (status == 200)
