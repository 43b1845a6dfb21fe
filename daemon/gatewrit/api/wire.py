"""HTTP as we speak it on the wire: RFC 9457 for every error, headers on every answer, time and size limits.

aiohttp answers what isn't HTTP as plain text, logs the client's address with it and waits without end for slow
requests; `Connection` and the middlewares here replace just that.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import hdrs, web

from gatewrit.api import shown
from gatewrit.api.door import close_at_once

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp.web_request import BaseRequest

    from gatewrit.api.door import Door, Guest
    from gatewrit.api.tokens import Role

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take: connections, requests, and seconds for each thing it does.

    `connections` at once in all, `per_client` of one from elsewhere; `rate` requests a second and `burst` at once, for
    all of this host `rate_here` and `burst_here`; `requests` over one connection. `handshake` is TLS's, `head` is how
    long a request may take to arrive, `request` until it is answered and the answer taken, `idle` until the next one
    has arrived. At the end what is under way gets `grace`. `streams` of events may be open in all, and of one client
    from elsewhere `streams_per_client`; each is a connection too.

    A NOC behind one address has some tens of people and programs, each asking every few seconds. This host's programs
    share one limit that only a mistake or malice reaches; below it, the processor is theirs.
    """

    connections: int = 512
    per_client: int = 32
    rate: float = 20.0
    burst: float = 100.0
    rate_here: float = 1000.0
    burst_here: float = 5000.0
    requests: int = 1000
    handshake: float = 10.0
    head: float = 10.0
    request: float = 60.0
    idle: float = 75.0
    grace: float = 3.0
    streams: int = 256
    streams_per_client: int = 16


#: What the longest look-up needs, with room. A request has no body.
_FIELDS = 64
_SIZES: Mapping[str, Any] = {
    "max_line_size": 4096,
    "max_field_size": 4096,
    "max_headers": _FIELDS,
    "lingering_time": 1.0,
    # What is thrown away isn't unpacked first, nor is it logged as a mistake of ours that it can't be.
    "auto_decompress": False,
}
#: Bytes that a client may send until the next of its requests is begun: aiohttp 3.11, which Debian 13 has, bounds
#: neither the number of fields nor that of requests sent ahead.
_AHEAD = 65536

#: Sent with every answer. What is shown changes within seconds, so nothing may be stored without being asked for again.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self'; connect-src 'self'; style-src {shown.style_source()}; img-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_BEGUN = "the answer has begun: no other can follow"
_LOOPBACK_NAMES = {"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"}
_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{1,5})?", re.ASCII)


class RequestError(Exception):
    """A request that can't be answered as asked; becomes problem+json. `code` is for programs, `detail` for people."""

    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.more = more


class TooOftenError(Exception):
    """A question that may be asked again in `wait` seconds."""

    def __init__(self, wait: int) -> None:
        super().__init__(wait)
        self.wait = wait


def problem(status: int, code: str, detail: str, **more: Any) -> web.Response:
    """Return an error as RFC 9457 has it. `about:blank` says that the title is the status code's own."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
    return web.Response(status=status, body=body, content_type="application/problem+json")


async def add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Put our headers on an answer that is about to be sent."""
    del request
    put_headers(response)


def put_headers(response: web.StreamResponse) -> None:
    """Put our headers on an answer, one of them in place of aiohttp's version banner."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers[hdrs.SERVER] = "gatewrit"


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into problem+json, without telling the inside of a fault to the client."""
    connection = request.protocol
    try:
        if isinstance(connection, Connection) and (wait := connection.begin()):
            return too_many(wait)
        return await handler(request)
    except TooOftenError as error:
        return too_many(error.wait)
    except RequestError as error:
        return problem(error.status, error.code, error.detail, **error.more)
    except web.HTTPException as error:
        return from_exception(error)
    except Exception:
        # Neither the query, which may hold a look-up, nor who asked: only which route failed.
        resource = request.match_info.route.resource
        log.exception("http.failed", route=resource.canonical if resource else None)
        if request.writer.output_size > 0:
            # Half a page mustn't pass for a whole one: hanging up tells the client that the end is missing.
            raise ConnectionError(_BEGUN) from None
        return problem(500, "internal", "The daemon made a mistake answering this; its log says more.")


@web.middleware
async def check_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what asks for another host, which DNS rebinding does, and what brings a body."""
    hosts = request.headers.getall(hdrs.HOST, [])
    if len(hosts) > 1 or (not hosts and request.version >= (1, 1)):
        raise RequestError(400, "host", "An HTTP/1.1 request has one Host header.")
    if hosts and _may_be_rebound(request) and not _is_ours(hosts[0]):
        raise RequestError(
            421, "wrong_host", "This gateway answers to loopback names and addresses only, not to this Host header."
        )
    if len(request.headers) > _FIELDS:
        raise RequestError(431, "head", f"A request has at most {_FIELDS} header fields.")
    if request.can_read_body:
        response = problem(400, "body", "A request has no body here: everything is read-only.")
        response.force_close()
        return response
    return await handler(request)


def too_many(wait: int) -> web.Response:
    """Return the answer for who asks too often; `wait` is in seconds."""
    refusal = problem(429, "too_many", "Too many questions at once; ask again in a moment.")
    refusal.headers["Retry-After"] = str(wait)
    return refusal


def unasked(status: int, code: str, detail: str) -> bytes:
    """Return an error as it is written on a connection on which no request has been read."""
    response = problem(status, code, detail)
    put_headers(response)
    response.headers["Connection"] = "close"
    body = response.body if isinstance(response.body, bytes) else b""
    response.headers["Content-Length"] = str(len(body))
    fields = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{fields}\r\n".encode() + body


#: For a client with too many connections already.
CROWDED = unasked(429, "too_many", "This address has too many connections open; close some, or use them again.")
_TOO_SLOW = unasked(408, "too_slow", "The request didn't arrive in time.")


def from_exception(error: web.HTTPException) -> web.Response:
    """Return aiohttp's own errors (no such route, no such method, …) as problem+json, their headers kept."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        response = problem(405, "method", f"Read-only: {allowed} will do. Changes go through the command line.")
        response.headers[hdrs.ALLOW] = allowed
        return response
    if isinstance(error, web.HTTPNotFound):
        return problem(404, "not_found", "There is nothing here. Start at / or /v1/status.")
    return problem(error.status, "http", HTTPStatus(error.status).description or "The request was refused.")


class Connection(web.RequestHandler):
    """One client's connection, with a deadline for whatever it is doing."""

    def __init__(
        self,
        server: web.Server,
        door: Door,
        limits: Limits,
        guest: Guest,
    ) -> None:
        loop = asyncio.get_running_loop()
        # The access log would hold addresses and query strings (contract, section 6): there is none.
        options = {**_SIZES, "keepalive_timeout": limits.idle, "access_log": None}
        super().__init__(server, loop=loop, **options)
        self.limits = limits
        self.guest = guest
        #: What the request that is being answered may see.
        self.role: Role | None = None
        #: Called when the client has gone, for an answer that would wait for something to say.
        self.when_lost: Callable[[], None] = lambda: None
        self._door = door
        self._clock = loop
        self._deadline: asyncio.TimerHandle | None = None
        self._ahead = 0
        self._served = 0
        self._answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        super().connection_made(transport)
        self.patience(self.limits.head)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection and its deadline."""
        self.guest.leave()
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)
        self.when_lost()

    def data_received(self, data: bytes) -> None:
        """Take what arrives, unless it is more than anybody has to say."""
        self._ahead += len(data)
        if self._ahead > _AHEAD:
            self._hang_up()
        else:
            super().data_received(data)

    def begin(self) -> int:
        """Note that a request is whole and about to be answered; give the seconds to wait if it is one too many."""
        self._ahead = 0
        self._served += 1
        self._answering = True
        self.patience(self.limits.request)
        return self._door.take(self.guest.client, self._clock.time())

    def patience(self, seconds: float) -> None:
        """From now on, wait this long for the client before hanging up."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._clock.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        """Hang up on who doesn't take an answer or says nothing; tell who began a request that it was too slow."""
        transport = self.transport
        if self._answering or not self._ahead or not isinstance(transport, asyncio.Transport):
            self._hang_up()
        else:
            transport.write(_TOO_SLOW)
            transport.close()
            self._deadline = self._clock.call_later(1.0, transport.abort)

    def _hang_up(self) -> None:
        transport = self.transport
        if isinstance(transport, asyncio.Transport):
            # Else the kernel goes on delivering what it has of the answers, megabytes maybe, at the client's leisure.
            close_at_once(transport.get_extra_info("socket"))
            transport.abort()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what couldn't be read as HTTP. The parser's message quotes the request, so it isn't repeated."""
        del message
        if request.writer.output_size > 0:
            raise ConnectionError(_BEGUN)
        if isinstance(exc, UnicodeError):
            # What our own code raises never comes here: aiohttp quoted octets of the request that nobody can encode.
            status = HTTPStatus.BAD_REQUEST
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("http.failed", route=None, exc_info=exc)
            response = problem(status, "internal", "The daemon made a mistake answering this; its log says more.")
        else:
            response = problem(status, "not_http", "This isn't a valid HTTP request, or its head is too large.")
        response.force_close()
        put_headers(response)  # it was never routed, so that the application's own signal doesn't reach it
        return response

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; from then on the next request may take its time."""
        if isinstance(resp, web.HTTPException):  # raised before the middlewares: an Expect that can't be met
            resp = from_exception(resp)
            resp.force_close()
        if self._served >= self.limits.requests:  # so that whoever stays is counted, and let in, anew
            resp.force_close()
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._answering = False
            if self.transport is not None:
                self.patience(self.limits.idle)


def _may_be_rebound(request: web.Request) -> bool:
    """Whether a browser can be led here by a false name: not to a Unix socket, nor where a token is always required."""
    connection = request.protocol
    return not (
        isinstance(connection, Connection) and (connection.guest.entrance.unix or connection.guest.entrance.beyond)
    )


def _is_ours(host: str) -> bool:
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = (match["v6"] or match["name"]).lower().removesuffix(".")
    if name in _LOOPBACK_NAMES or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
