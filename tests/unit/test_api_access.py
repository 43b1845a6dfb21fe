"""Who may see what: TLS, tokens and roles over real sockets."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from gatewrit.api import certificate, door, http, listen, tokens
from gatewrit.api.access import HIDDEN, NEEDS, Access, Keys, veiled
from gatewrit.api.certificate import CertificateError
from gatewrit.api.tokens import Role
from gatewrit.api.wire import Limits
from unit.api_samples import DEGRADED, NOW, UNREAD_PROBLEM, Source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TLS = Path(__file__).parent.parent / "support" / "tls"


def pem(name: str) -> bytes:
    return (TLS / f"{name}.pem").read_bytes()


STATUS_TOKEN, STATUS_LINE = tokens.make("wall", Role.STATUS)
DETAIL_TOKEN, DETAIL_LINE = tokens.make("desk", Role.DETAIL)
TOKENS = tokens.parse(f"{STATUS_LINE}\n{DETAIL_LINE}\n".encode(), "tokens")
CONTEXT = certificate.load(pem("cert"), pem("key")).context
NAMED = replace(
    UNREAD_PROBLEM,
    message="it blocks 193.109.81.0/24, 2001:db8::1-2001:db8::9 and 192.0.2.7. Since 12:00:00, file a:14:7",
)
SNAPSHOT = replace(DEGRADED, problems=(NAMED,))


@asynccontextmanager
async def serving(access: Access, *, beyond: bool, limits: Limits | None = None) -> AsyncIterator[str]:
    """Serve on loopback; `beyond` treats it as if it could be reached from elsewhere."""
    with listen.bound(["127.0.0.1:0"], None) as bound, pytest.MonkeyPatch.context() as patch:
        ((name, sock),) = bound
        patch.setattr(http, "entrance", lambda each: door.Entrance(each, beyond=beyond))
        async with http.serve_on(Source(SNAPSHOT), [sock], access, now=lambda: NOW, limits=limits or Limits()):
            yield f"{'https' if beyond else 'http'}://{name}"


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=pem("cert").decode())


async def get(base: str, path: str, token: str | None = None, **headers: str) -> tuple[int, Any, Any]:
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(base + path, headers=headers, ssl=trusting()) as response,
    ):
        return response.status, response.headers, await response.read()


def basic(*parts: str) -> str:
    return "Basic " + base64.b64encode("".join(parts).encode()).decode()


PATHS = {
    "/": Role.DETAIL,
    "/v1/policies": Role.DETAIL,
    "/v1/policies/bes-shutdown": Role.DETAIL,
    "/nothing": Role.DETAIL,
    "/metrics": Role.STATUS,
    "/v1/status": Role.STATUS,
    "/v1/explain?address=192.0.2.9": Role.STATUS,
    "/livez": None,
    "/readyz": None,
    "/live.js": None,
    "/icon/good.svg": None,
}


@pytest.mark.parametrize("beyond", [False, True])
async def test_each_role_sees_what_it_may(*, beyond: bool) -> None:
    async with serving(Access(Keys(TOKENS, CONTEXT)), beyond=beyond) as base:
        for path, need in PATHS.items():
            found = 404 if path == "/nothing" else 200
            bare, headers, body = await get(base, path)
            if need is None:
                assert bare == 200, path
            else:
                assert bare == 401, path
                assert headers.getall("WWW-Authenticate")[0] == 'Bearer realm="gatewrit"'
                assert len(headers.getall("WWW-Authenticate")) == (2 if path == "/" else 1)
                assert headers["Content-Type"] == "application/problem+json"
                assert json.loads(body)["code"] == "token"
            assert (await get(base, path, DETAIL_TOKEN))[0] == found, path
            status, headers, body = await get(base, path, STATUS_TOKEN)
            if need is Role.DETAIL:
                assert status == 403, path
                assert 'error="insufficient_scope"' in headers["WWW-Authenticate"]
                assert json.loads(body)["code"] == "role"
            else:
                assert status == 200, path


def test_every_route_says_what_it_needs() -> None:
    app = http.make_app(Source(SNAPSHOT), lambda: NOW, Access(None))
    routes = {resource.canonical for resource in app.router.resources()}
    assert routes == set(NEEDS)


async def test_a_person_with_a_browser_gives_the_token_as_a_password() -> None:
    async with serving(Access(Keys(TOKENS, CONTEXT)), beyond=True) as base:
        for path in ("/", "/lookup?q=192.0.2.9", "/orders/bes-shutdown"):
            asked = (await get(base, path))[1].getall("WWW-Authenticate")
            assert [each.partition(" ")[0] for each in asked] == ["Bearer", "Basic"], path
        for path in ("/", "/v1/status", "/v1/policies"):
            assert (await get(base, path, Authorization=basic("noc:", DETAIL_TOKEN, "")))[0] == 200, path
        assert (await get(base, "/", Authorization=basic("noc:", STATUS_TOKEN, "")))[0] == 403
        assert (await get(base, "/", Authorization=basic("noc:", "nonsense", "")))[0] == 401


@pytest.mark.parametrize(
    "given",
    [
        "Bearer nonsense",
        "Bearer",
        "bearer ",
        f"Basic {DETAIL_TOKEN}",
        basic("", DETAIL_TOKEN, ""),
        basic("noc:", DETAIL_TOKEN, "a"),
        basic(f"{DETAIL_TOKEN}:", "", ""),
        basic("noc:", "é", ""),
        "Basic /w==",
        "Basic =",
        DETAIL_TOKEN,
        f"Bearer {DETAIL_TOKEN} {DETAIL_TOKEN}",
        f"Bearer {DETAIL_TOKEN[:-1]}",
        f"Bearer {DETAIL_TOKEN}a",
        f"Bearer {TOKENS[1].digest.hex()}",
        "Bearer é",
    ],
    # The tokens are others each time, and tests have the same names in all processes.
    ids=range(16),
)
async def test_what_is_no_token(given: str) -> None:
    async with serving(Access(Keys(TOKENS)), beyond=False) as base:
        status, headers, body = await get(base, "/v1/status", Authorization=given)
        assert status == 401
        assert 'error="invalid_token"' in headers["WWW-Authenticate"]
        assert DETAIL_TOKEN[4:-1] not in body.decode()


async def test_addresses_that_problems_name_are_for_detail() -> None:
    async with serving(Access(Keys(TOKENS)), beyond=False) as base:
        for token, shown in ((STATUS_TOKEN, False), (DETAIL_TOKEN, True), (STATUS_TOKEN, False)):
            (problem,) = json.loads((await get(base, "/v1/status", token))[2])["problems"]
            assert ("193.109.81.0" in problem["message"]) is shown
    (veiled_problem,) = veiled(SNAPSHOT).problems
    assert veiled_problem.message == (f"it blocks {HIDDEN}, {HIDDEN}-{HIDDEN} and {HIDDEN} Since 12:00:00, file a:14:7")


async def test_loopback_without_a_file_of_tokens_is_open_as_it_was() -> None:
    async with serving(Access(Keys()), beyond=False) as base:
        assert (await get(base, "/v1/policies"))[0] == 200


async def test_from_elsewhere_nobody_gets_in_without_tokens() -> None:
    for known in (None, ()):
        async with serving(Access(Keys(known, CONTEXT)), beyond=True) as base:
            assert (await get(base, "/v1/status"))[0] == 401
            assert (await get(base, "/v1/status", DETAIL_TOKEN))[0] == 401


async def test_until_it_is_known_who_may_ask_nobody_may(tmp_path: Path) -> None:
    access = Access(None)
    async with serving(access, beyond=False) as base:
        assert (await get(base, "/livez"))[0] == 200
        status, _, body = await get(base, "/v1/status", DETAIL_TOKEN)
        assert (status, json.loads(body)["code"]) == (503, "starting")
        access.keys = Keys(TOKENS)
        assert (await get(base, "/v1/status", DETAIL_TOKEN))[0] == 200
        access.keys = Keys(())
        assert (await get(base, "/v1/status", DETAIL_TOKEN))[0] == 401, "a token that is withdrawn opens nothing"


def shake(base: str, context: ssl.SSLContext | None) -> ssl.SSLSocket | socket.socket:
    host, _, port = base.partition("://")[2].rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=5)
    return sock if context is None else context.wrap_socket(sock, server_hostname=host)


async def test_tls_1_2_at_least_and_nothing_bare() -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    new = trusting()
    new.maximum_version = ssl.TLSVersion.TLSv1_2

    def try_all(base: str) -> str | None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            shake(base, old)
        bare = shake(base, None)
        bare.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            assert b"HTTP" not in bare.recv(100)
        except ConnectionError:
            pass
        finally:
            bare.close()
        with shake(base, new) as sock:
            assert isinstance(sock, ssl.SSLSocket)
            return sock.version()

    async with serving(Access(Keys(TOKENS, CONTEXT)), beyond=True) as base:
        assert await http.asyncio.to_thread(try_all, base) == "TLSv1.2"


async def test_without_a_certificate_nothing_is_said_to_who_comes_from_elsewhere() -> None:
    async with serving(Access(Keys(TOKENS)), beyond=True) as base:
        with pytest.raises(aiohttp.ClientError):
            await get(base, "/livez")


async def test_a_handshake_that_never_ends_is_ended_and_counts() -> None:
    limits = Limits(connections=1, handshake=0.3)
    async with serving(Access(Keys(TOKENS, CONTEXT)), beyond=True, limits=limits) as base:
        reader, writer = await http.asyncio.open_connection(*base.partition("://")[2].split(":"))
        await http.asyncio.sleep(0.05)
        with pytest.raises(aiohttp.ClientError):
            await get(base, "/livez")
        assert await reader.read() == b""
        writer.close()
        assert (await get(base, "/livez"))[0] == 200


@pytest.mark.parametrize(
    ("cert", "key", "message"),
    [
        ("cert", "other-key", "doesn't belong"),
        ("cert", "cert", "isn't a private key"),
        ("key", "key", "isn't PEM"),
        ("cert", "locked-key", "is encrypted"),
        ("expired", "key", "has expired"),
        ("early", "key", "isn't valid yet"),
    ],
)
def test_certificates_that_cant_be(cert: str, key: str, message: str) -> None:
    with pytest.raises(CertificateError, match=message):
        certificate.load(pem(cert), pem(key))


@pytest.mark.parametrize(
    "cert", [b"", b"\xff" * 100, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate(cert: bytes) -> None:
    with pytest.raises(CertificateError):
        certificate.load(cert, pem("key"))


def test_when_a_certificate_expires() -> None:
    assert 80 < (certificate.load(pem("cert"), pem("key")).not_after - 1.76e9) / 31557600 < 102
    certificate.make_context(pem("expired"), pem("key"))
