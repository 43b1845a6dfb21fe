"""What of a file counts: digests that are equal for files that say the same, whatever their layout and order."""

from __future__ import annotations

import json
from dataclasses import fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from gatewrit.policy.canonical import entries_digest
from gatewrit.policy.ranges import FAMILIES
from gatewrit.policy.terms import Instant

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatewrit.policy.model import Endpoint, Exceptions, Ranges, Scope


def meaning_of(said: list[object]) -> str:
    """Give the digest of what a policy says: dataclasses, plain values and lists of them, in a fixed order."""
    return sha256(_canonical(said)).hexdigest()


def service_digest(name: str, title: str, endpoints: Iterable[Endpoint]) -> str:
    """Give the digest of a service; the order of its endpoints doesn't count."""
    digest = sha256(_canonical([name, title]))
    for part in sorted(_endpoint_digest(endpoint) for endpoint in endpoints):
        digest.update(part)
    return digest.hexdigest()


def _endpoint_digest(endpoint: Endpoint) -> bytes:
    transports = sorted({(part.protocol or 0, part.first or 0, part.last or 0) for part in endpoint.transports})
    return sha256(_canonical(transports) + _ranges_digest(endpoint.ranges)).digest()


def _ranges_digest(ranges: tuple[Ranges, ...]) -> bytes:
    digest = sha256()
    for family in FAMILIES:
        own = [part for part in ranges if part.family == family]
        known = own[0].digest if len(own) == 1 else b""
        digest.update(known or entries_digest(own, family))
    return digest.digest()


def exceptions_said(exceptions: Exceptions) -> object:
    """Give what of a policy's exceptions counts."""
    return [_ranges_digest(exceptions.prefixes).hex(), _ranges_digest(exceptions.sources).hex()]


def scope_said(scope: Scope) -> object:
    """Give what of a policy's scope counts."""
    sources = None if scope.sources is None else _ranges_digest(scope.sources).hex()
    return [scope.gateways and sorted(scope.gateways), scope.interfaces and sorted(scope.interfaces), sources]


def _canonical(value: object) -> bytes:
    return json.dumps(value, default=_plain, sort_keys=True, separators=(",", ":")).encode()


def _plain(value: Any) -> object:
    """Equal instants are equal, whatever offset they are told in; their zone counts, as its rules may change."""
    if isinstance(value, Instant):
        return [value.epoch, value.zone]
    return {field.name: part for field in fields(value) if (part := getattr(value, field.name)) is not None}
