"""Who may see what over HTTP.

| where it comes in | what it may |
|---|---|
| a Unix socket | everything: the file system says who may open it |
| loopback, no tokens file | everything, as every user of the host may |
| loopback with a tokens file, and beyond loopback always | what its token's role allows; without one, nothing |

`/livez` and `/readyz` need no token anywhere. Until it is known which tokens there are, nothing else is answered.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from gatewrit.api import shown, tokens, wire
from gatewrit.api.tokens import Role

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from gatewrit.api.tokens import Token
    from gatewrit.engine.snapshot import Snapshot

_REALM = 'Bearer realm="gatewrit"'
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*) *", re.ASCII)
#: A browser can't be told to send a token, but asks a person for a name and a password (RFC 7617), and then sends them
#: with all that the page asks for: the password is the token, the name may be any.
_BASIC = re.compile(r"[Bb][Aa][Ss][Ii][Cc] +([A-Za-z0-9+/]{1,1024}=*) *", re.ASCII)
_BASIC_REALM = 'Basic realm="gatewrit: any name; the token as password", charset="UTF-8"'
_PAGES = frozenset({"/", "/orders/{id}", "/lookup"})

#: What each route needs. The page and the policies show what orders say in their own words (title, text, labels),
#: in which lists of blocked addresses may stand; the rest shows counts, codes, and answers about one address.
NEEDS: Mapping[str, Role | None] = {
    "/openapi.json": None,
    "/livez": None,
    "/readyz": None,
    "/icon/{tone}.svg": None,
    **dict.fromkeys([f"/{name}" for name in shown.STATIC]),
    "/metrics": Role.STATUS,
    "/v1/status": Role.STATUS,
    "/v1/explain": Role.STATUS,
    "/v1/events": Role.STATUS,
    "/": Role.DETAIL,
    "/orders/{id}": Role.DETAIL,
    "/lookup": Role.STATUS,
    "/v1/policies": Role.DETAIL,
    "/v1/policies/{id}": Role.DETAIL,
    "/v1/policies/{id}/addresses": Role.DETAIL,
    "/v1/policies/{id}/history": Role.DETAIL,
    "/v1/history": Role.DETAIL,
}


@dataclass(frozen=True, slots=True)
class Keys:
    """What lets clients in: the tokens, None where there is no file of them, and the context for TLS."""

    tokens: tuple[Token, ...] | None = None
    context: ssl.SSLContext | None = None


class Access:
    """Decides on requests; `keys` may be exchanged at any time, None as long as they aren't known."""

    def __init__(self, keys: Keys | None) -> None:
        self.keys = keys

    def context(self) -> ssl.SSLContext | None:
        """Return what new connections from elsewhere shake hands with; None: there are none."""
        return None if self.keys is None else self.keys.context

    @web.middleware
    async def check(self, request: web.Request, handler: wire.Handler) -> web.StreamResponse:
        """Answer those who may ask this; tell the others what they lack."""
        resource = request.match_info.route.resource
        # What isn't there needs the most, so that nobody without a token learns what is.
        need = NEEDS.get(resource.canonical, Role.DETAIL) if resource else Role.DETAIL
        if need is not None:
            role = self._role(request)
            if isinstance(role, web.Response):
                if resource is not None and resource.canonical in _PAGES and role.status == 401:
                    role.headers.add(hdrs.WWW_AUTHENTICATE, _BASIC_REALM)
                return role
            if need is Role.DETAIL and role is Role.STATUS:
                detail = "This needs a token with the role detail; yours has the role status."
                return _refusal(403, "role", detail, f'{_REALM}, error="insufficient_scope"')
            connection_of(request).role = role
        return await handler(request)

    def _role(self, request: web.Request) -> Role | web.Response:
        entrance = connection_of(request).guest.entrance
        if entrance.unix:
            return Role.DETAIL
        if self.keys is None:
            detail = "It isn't known yet who may ask: the enforcing process hasn't been heard from. See /livez."
            raise wire.RequestError(503, "starting", detail)
        if self.keys.tokens is None and not entrance.beyond:
            return Role.DETAIL
        given = request.headers.getall(hdrs.AUTHORIZATION, [])
        if not given:
            return _refusal(401, "token", "This needs a token: Authorization: Bearer TOKEN.", _REALM)
        said = _said(given[0]) if len(given) == 1 else None
        token = tokens.find(self.keys.tokens or (), said) if said else None
        if token is None:
            detail = "No such token is known here; it may have been withdrawn."
            return _refusal(401, "token", detail, f'{_REALM}, error="invalid_token"')
        return token.role


def _said(authorization: str) -> str | None:
    """Return the token that a header holds, by whichever scheme; None if it holds none."""
    if match := _BEARER.fullmatch(authorization):
        return match[1]
    match = _BASIC.fullmatch(authorization)
    try:
        name, colon, password = (
            base64.b64decode(match[1], validate=True).decode().partition(":") if match else ("",) * 3
        )
    except (binascii.Error, UnicodeDecodeError):
        return None
    del name
    return password if colon and password.isascii() else None


def connection_of(request: web.Request) -> wire.Connection:
    """Return the connection over which a request came."""
    connection = request.protocol
    if not isinstance(connection, wire.Connection):  # pragma: no cover
        raise TypeError("requests come over our own connections only")
    return connection


def _refusal(status: int, code: str, detail: str, challenge: str) -> web.Response:
    response = wire.problem(status, code, detail)
    response.headers[hdrs.WWW_AUTHENTICATE] = challenge
    return response


#: What may be an address or the beginning of a prefix or range; whether it is one, `ipaddress` says.
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]*[.:][0-9A-Fa-f.:]*(?:/[0-9]{1,3})?")
HIDDEN = "[address: for role detail]"


def veiled(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot without the addresses that problems name, for who may not see lists of them."""
    problems = tuple(replace(each, message=veil(each.message), action=veil(each.action)) for each in snapshot.problems)
    return replace(snapshot, problems=problems)


def veil(text: str) -> str:
    """Return a text without the addresses in it."""
    return _ADDRESS.sub(lambda match: HIDDEN if _is_address(match[0]) else match[0], text)


def _is_address(text: str) -> bool:
    # A full stop or a colon behind an address belongs to the sentence.
    for word in (text, text.rstrip(".:")):
        try:
            ipaddress.ip_interface(word)
        except ValueError:
            continue
        return True
    return False
