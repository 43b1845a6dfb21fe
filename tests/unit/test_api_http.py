"""Each route and each error of the HTTP face, over real sockets."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from gatewrit.api import http
from gatewrit.api.wire import Limits
from gatewrit.engine.snapshot import Enforcement, Snapshot
from unit.api_samples import DEGRADED, IN_SYNC, NOW, SHUTDOWN, STARTING, Source
from unit.test_api_documents import SHUTDOWN_ITEM, STATUS, UNREAD_ITEM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from gatewrit.api.source import SnapshotSource


@asynccontextmanager
async def serving(source: SnapshotSource, limits: Limits | None = None) -> AsyncIterator[str]:
    async with http.serve(source, ["127.0.0.1:0"], now=lambda: NOW, limits=limits or Limits()) as (base,):
        yield base


@asynccontextmanager
async def asking(source: SnapshotSource | Snapshot = DEGRADED) -> AsyncIterator[aiohttp.ClientSession]:
    if isinstance(source, Snapshot):
        source = Source(source)
    async with serving(source) as base, aiohttp.ClientSession(base) as session:
        yield session


async def raw(base: str, request: bytes) -> bytes:
    """Send bytes and return all that comes back until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


async def refused(response: aiohttp.ClientResponse, status: int, code: str) -> dict[str, Any]:
    """Assert that an answer is problem+json of that status and code, and return it."""
    assert response.status == status
    assert response.headers["Content-Type"].split(";")[0] == "application/problem+json"
    problem: dict[str, Any] = json.loads(await response.read())
    assert problem["type"] == "about:blank"
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["title"]
    assert problem["detail"].endswith(".")
    return problem


async def test_status() -> None:
    async with asking() as session, session.get("/v1/status") as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        assert json.dumps(await response.json()) == json.dumps(STATUS)


async def test_policies() -> None:
    async with asking() as session, session.get("/v1/policies") as response:
        document = await response.json()
        assert document["next"] is None
        assert document["items"][0] == SHUTDOWN_ITEM
        assert document["items"][2] == UNREAD_ITEM


CLOSELY = {
    "place": "policies/bes-shutdown.yaml:1:1",
    "sha256": "ab" * 32,
    "endpoints": [
        {
            "service": "blackberry-enterprise",
            "title": "BlackBerry Enterprise Service (SRP)",
            "digest": "cd" * 32,
            "file": "policies/services/blackberry-enterprise.yaml",
            "endpoints": [
                {
                    "prefixes": {
                        "entries": 2,
                        "first": ["206.51.26.0/24", "2607:ffc0::/32"],
                        "addresses": {"ipv4": "256", "ipv6": str(2**96)},
                    },
                    "ports": ["tcp/3101"],
                }
            ],
        }
    ],
    "except": {
        "prefixes": {"entries": 1, "first": ["206.51.26.33"], "addresses": {"ipv4": "1", "ipv6": "0"}},
        "sources": {"ipv4": "256", "ipv6": "0"},
    },
    "must_continue": [],
    "scope": {"gateways": ["core-*"], "interfaces": None, "sources": None},
    "allow_wide": None,
    "suspended_until": None,
    "revisions": [{"id": 3, "revision": 2, "accepted_at": "2016-01-05T11:59:00Z", "says": "active"}],
}


async def test_one_policy() -> None:
    async with asking() as session, session.get("/v1/policies/bes-shutdown") as response:
        document = await response.json()
    assert json.dumps({name: document[name] for name in SHUTDOWN_ITEM}) == json.dumps(SHUTDOWN_ITEM)
    assert json.dumps({name: document[name] for name in document if name not in SHUTDOWN_ITEM}) == json.dumps(CLOSELY)


async def test_a_policy_that_was_never_good_has_no_particulars() -> None:
    async with asking() as session, session.get("/v1/policies/unread") as response:
        assert await response.json() == UNREAD_ITEM | dict.fromkeys(CLOSELY)


async def test_pages_are_followed_by_their_cursor() -> None:
    views = tuple(replace(SHUTDOWN, id=f"p{number:03}") for number in range(250))
    async with asking(replace(DEGRADED, policies=views)) as session:
        seen: list[str] = []
        query: dict[str, str] | None = {}
        while query is not None:
            async with session.get("/v1/policies", params=query) as response:
                document = await response.json()
            assert len(document["items"]) <= 100
            seen += [item["id"] for item in document["items"]]
            query = {"cursor": document["next"]} if document["next"] else None
        assert seen == [view.id for view in views]


async def test_limit_and_state_are_obeyed() -> None:
    async with asking() as session:
        async with session.get("/v1/policies?limit=1") as response:
            assert [item["id"] for item in (await response.json())["items"]] == ["bes-shutdown"]
        async with session.get("/v1/policies?state=scheduled") as response:
            assert [item["id"] for item in (await response.json())["items"]] == ["court-118"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=٣", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=bes-shutdown!", "cursor"),
        ("cursor=YmVz=", "cursor"),
        ("state=in-force", "state"),
        ("stat=in_force", "stat"),
    ],
)
async def test_a_bad_parameter_is_named(query: str, parameter: str) -> None:
    async with asking() as session, session.get(f"/v1/policies?{query}") as response:
        assert (await refused(response, 400, "bad_parameter"))["parameter"] == parameter


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/v1/status", "/v1/policies/bes-shutdown", "/live.js"])
async def test_an_unknown_parameter_is_refused_everywhere(path: str) -> None:
    async with asking() as session, session.get(f"{path}?verbose=1") as response:
        assert (await refused(response, 400, "bad_parameter"))["parameter"] == "verbose"


@pytest.mark.parametrize("name", ["nothing", "BES-SHUTDOWN", "bes-shutdown%2F..", "%3Cscript%3E", "%00"])
async def test_an_unknown_policy(name: str) -> None:
    async with asking() as session, session.get(f"/v1/policies/{name}") as response:
        assert "<script>" not in json.dumps(await refused(response, 404, "no_such_policy"))


@pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/", "/v1/status/", "/icon/pink.svg", "/templates/page.html"])
async def test_an_unknown_route(path: str) -> None:
    async with asking() as session, session.get(path) as response:
        await refused(response, 404, "not_found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/", "/v1/status", "/v1/policies/bes-shutdown", "/metrics"])
async def test_everything_is_read_only(method: str, path: str) -> None:
    async with asking() as session, session.request(method, path) as response:
        await refused(response, 405, "method")
        assert response.headers["Allow"] == "GET, HEAD"


PATHS = ["/", "/live.js", "/icon/good.svg", "/livez", "/readyz", "/metrics", "/v1/status", "/v1/policies"]


@pytest.mark.parametrize("path", PATHS)
async def test_head_is_get_without_the_body(path: str) -> None:
    async with asking() as session:
        async with session.get(path) as response:
            got, body = response.headers, await response.read()
        async with session.head(path) as response:
            assert response.status == 200
            assert await response.read() == b""
            assert response.headers["Content-Length"] == str(len(body))
            assert response.headers["Content-Type"] == got["Content-Type"]


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/v1/policies?limit=x"])
async def test_every_answer_is_guarded_and_says_nothing_of_what_runs(path: str) -> None:
    async with asking() as session, session.get(path) as response:
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Server"] == "gatewrit"
        assert "Access-Control-Allow-Origin" not in response.headers
        if not path.startswith(("/live", "/icon")):
            assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("enforcement", "status"),
    [("starting", 503), ("failed", 503), ("in_sync", 200), ("degraded", 200), ("drifted", 200)],
)
async def test_ready_says_whether_it_is_enforced(enforcement: str, status: int) -> None:
    snapshot = replace(IN_SYNC, enforcement=Enforcement(enforcement))
    async with asking(snapshot) as session, session.get("/readyz") as response:
        if status == 200:
            assert await response.json() == {"ready": True, "enforcement": enforcement}
        else:
            assert (await refused(response, 503, "not_ready"))["enforcement"] == enforcement


async def test_alive_is_about_the_loops_only() -> None:
    source = Source(replace(IN_SYNC, enforcement=Enforcement.FAILED))
    async with asking(source) as session:
        async with session.get("/livez") as response:
            assert response.status == 200
        source.living = False
        async with session.get("/livez") as response:
            assert "systemctl status gatewrit" in (await refused(response, 503, "not_alive"))["detail"]


#: What Prometheus 3 sends.
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;"
    "q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


async def test_metrics_in_the_format_that_is_asked_for() -> None:
    async with asking() as session:
        async with session.get("/metrics") as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert 'gatewrit_enforcement{state="degraded"} 1\n' in await response.text()
        for accept in ("application/openmetrics-text;version=1.0.0", PROMETHEUS):
            async with session.get("/metrics", headers={"Accept": accept}) as response:
                assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
                assert (await response.text()).endswith("# EOF\n")
        preferring = {"Accept": "application/openmetrics-text;q=0.1,text/plain"}
        async with session.get("/metrics", headers=preferring) as response:
            assert response.content_type == "text/plain"


async def test_a_new_snapshot_is_seen_at_once() -> None:
    source = Source(STARTING)
    async with asking(source) as session:
        for snapshot in (STARTING, DEGRADED, IN_SYNC, DEGRADED):
            source.held = snapshot
            async with session.get("/v1/status") as response:
                assert (await response.json())["enforcement"] == snapshot.enforcement
            async with session.get("/metrics") as response:
                assert f'gatewrit_enforcement{{state="{snapshot.enforcement}"}} 1\n' in await response.text()


async def test_a_snapshot_is_rendered_once_however_many_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    truly = http.metrics.exposition

    def counted(snapshot: Snapshot, *, openmetrics: bool) -> bytes:
        nonlocal calls
        calls += 1
        return truly(snapshot, openmetrics=openmetrics)

    monkeypatch.setattr(http.metrics, "exposition", counted)
    views = tuple(replace(SHUTDOWN, id=f"p{number:04}") for number in range(1000))
    async with asking(replace(DEGRADED, policies=views)) as session:

        async def scrape() -> int:
            async with session.get("/metrics") as response:
                return len(await response.read())

        sizes = await asyncio.gather(*(scrape() for _ in range(20)))
    assert len(set(sizes)) == 1
    assert calls == 1


async def test_a_fault_of_ours_tells_the_client_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    source = Source(DEGRADED)
    async with asking(source) as session:

        def broken() -> Snapshot:
            raise RuntimeError("the inside: 206.51.26.33")

        source.snapshot = broken  # type: ignore[method-assign]
        async with session.get("/v1/status") as response:
            problem = await refused(response, 500, "internal")
        assert "206.51.26.33" not in json.dumps(problem)
        async with session.get("/livez") as response:
            assert response.status == 200, "one fault doesn't end the connection's use"
    logged = capsys.readouterr().out
    assert "http.failed" in logged
    assert "/v1/status" in logged


async def test_neither_clients_nor_look_ups_are_logged(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    async with serving(Source(DEGRADED)) as base:
        # Which client asked is told apart by an address that nothing else has.
        connector = aiohttp.TCPConnector(local_addr=("127.77.77.77", 0))
        async with aiohttp.ClientSession(base, connector=connector) as session:
            for path in ("/v1/status?address=203.0.113.9", "/nothing?address=203.0.113.9", "/v1/policies"):
                async with session.get(path) as response:
                    await response.read()
        await raw(base, b"203.0.113.9 nonsense\r\n\r\n")
        await raw(base, b"GET / HTTP/1.1\r\nHost: 203.0.113.9\r\nConnection: close\r\n\r\n")
    out, err = capfd.readouterr()
    for text in (out, err, caplog.text):
        assert "127.77.77.77" not in text
        assert "203.0.113.9" not in text


async def test_it_is_served_on_every_address_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    addresses = ["127.0.0.1:0", "[::1]:0", f"unix:{path}"]
    async with http.serve(Source(DEGRADED), addresses, now=lambda: NOW) as names:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", names[0])
        assert re.fullmatch(r"http://\[::1\]:\d+", names[1])
        assert names[2] == f"unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o660
        for base in names[:2]:
            async with aiohttp.ClientSession() as session, session.get(f"{base}/v1/status") as response:
                assert await response.json() == STATUS
        # Over a Unix socket the Host header means nothing: whoever may open it is let in.
        connector = aiohttp.UnixConnector(str(path))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://anything.example/v1/status") as response,
        ):
            assert await response.json() == STATUS
    assert not path.exists()


async def test_if_one_address_is_taken_nothing_is_served(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(http.listen.ListenError, match=f"^{busy}: another process listens there$"):
            async with http.serve(Source(DEGRADED), [f"unix:{path}", busy]):
                pass
    assert not path.exists()


async def test_stopping_is_bounded_by_the_grace() -> None:
    loop = asyncio.get_running_loop()
    async with serving(Source(DEGRADED), Limits(grace=0.2)) as base:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")  # and no end of it
        await writer.drain()
        began = loop.time()
    assert loop.time() - began < 2
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("path", ["/", "/v1/status", "/nothing/here"])
async def test_an_expectation_that_nobody_can_spell_is_no_mistake_of_ours(path: str) -> None:
    request = b"GET %b HTTP/1.1\r\nHost: localhost\r\nExpect: \xff\r\n\r\n" % path.encode()
    with capture_logs() as logged:
        async with serving(Source(IN_SYNC)) as base:
            answer = await raw(base, request)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "not_http"
    assert not logged


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"Content-Encoding: deflate\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n",
    ],
)
async def test_a_body_that_isnt_what_it_says_is_no_mistake_of_ours(
    body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logged:
        async with serving(Source(IN_SYNC)) as base:
            answer = await raw(base, b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n" + body)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] in {"body", "not_http"}
    assert not logged
    assert not [each for each in caplog.records if each.levelname in {"ERROR", "WARNING"}]
