"""One policy for who looks at it closely: its services with their endpoints, exceptions, scope, and its lists."""

from __future__ import annotations

from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING

from gatewrit.compile.overlap import transport_text
from gatewrit.compile.spans import merge
from gatewrit.engine.particulars import (
    SHOWN,
    EndpointView,
    Entries,
    Listed,
    Listing,
    Particulars,
    ServiceView,
    Sources,
)
from gatewrit.engine.places import number
from gatewrit.policy.ranges import Span, span_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gatewrit.engine.particulars import Revision
    from gatewrit.policy.model import Policy, Ranges, Service, Transport


def portray(
    policy: Policy, digest: str | None, suspended_until: int | None, revisions: tuple[Revision, ...]
) -> Particulars:
    """Give what is shown of a policy; `digest` is of its file, if known. Takes a moment where lists are long."""
    scope, exceptions = policy.scope, policy.exceptions
    return Particulars(
        id=policy.id,
        revision=policy.revision,
        place=str(policy.place),
        sha256=digest,
        services=tuple(map(_service, policy.services.values())),
        must_continue=tuple(map(_service, policy.must_continue.values())),
        except_prefixes=_entries(exceptions.prefixes),
        except_sources=_sources(exceptions.sources),
        scope_gateways=scope.gateways,
        scope_interfaces=scope.interfaces,
        scope_sources=None if scope.sources is None else _sources(scope.sources),
        allow_wide=policy.allow_wide,
        suspended_until=suspended_until,
        revisions=revisions,
    )


def listing(policy: Policy, start: int, limit: int) -> Listing:
    """Give some of the entries that a policy names, in the order of its services and their files."""
    parts = [
        (service, part, ports_text(endpoint.transports))
        for service in policy.services.values()
        for endpoint in service.endpoints
        for part in endpoint.ranges
    ]
    found: list[Listed] = []
    before = 0
    for service, part, ports in parts:
        low, high = max(0, start - before), min(len(part), start + limit - before)
        found += [
            Listed(service.name, _text(part, row), ports, f"{part.file}:{int(part.line[row])}")
            for row in range(low, high)
        ]
        before += len(part)
    content = sha256("\n".join(each.digest for each in policy.services.values()).encode()).hexdigest()
    return Listing(tuple(found), before, content)


def ports_text(transports: Iterable[Transport]) -> tuple[str, ...]:
    """Write transports as a service file has them."""
    return tuple(map(transport_text, transports))


def _service(service: Service) -> ServiceView:
    return ServiceView(
        name=service.name,
        title=service.title,
        digest=service.digest,
        file=service.place.file,
        endpoints=tuple(EndpointView(_entries(each.ranges), ports_text(each.transports)) for each in service.endpoints),
    )


def _entries(parts: Sequence[Ranges]) -> Entries:
    shown = tuple(islice(_texts(parts), SHOWN))
    return Entries(shown, sum(map(len, parts)), merge(4, parts).addresses, merge(6, parts).addresses)


def _texts(parts: Iterable[Ranges]) -> Iterator[str]:
    return (_text(part, row) for part in parts for row in range(len(part)))


def _text(part: Ranges, row: int) -> str:
    return span_text(Span(part.family, number(part.first[row], part.family), number(part.last[row], part.family)))


def _sources(parts: Sequence[Ranges]) -> Sources:
    return Sources(merge(4, parts).addresses, merge(6, parts).addresses)
