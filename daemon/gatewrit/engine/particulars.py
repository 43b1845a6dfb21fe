"""What is shown of one policy beyond what stands in the list of all of them, as values."""

from __future__ import annotations

from dataclasses import dataclass

#: Entries of a list that stand in the answer about a policy; all of them are a list of their own.
SHOWN = 100


class UnknownPolicyError(Exception):
    """No good revision of that policy is known."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision as it was accepted: `id` is the journal's row, `at` in epoch seconds; `says` is its file's state."""

    id: int
    revision: int
    at: int
    says: str


@dataclass(frozen=True, slots=True)
class Entries:
    """A list of addresses: the first `SHOWN` entries as text, and how many entries and distinct addresses it has."""

    shown: tuple[str, ...]
    entries: int
    addresses_ipv4: int
    addresses_ipv6: int


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint of a service: `ports` as a service file writes them."""

    prefixes: Entries
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServiceView:
    """A service as it counts for the policy: `digest` is over what it means, lists included."""

    name: str
    title: str
    digest: str
    file: str
    endpoints: tuple[EndpointView, ...]


@dataclass(frozen=True, slots=True)
class Sources:
    """Subscribers that a policy names: counted, never listed (contract, section 6)."""

    addresses_ipv4: int
    addresses_ipv6: int


@dataclass(frozen=True, slots=True)
class Particulars:
    """All of one policy's good revision that is fit to be shown. None in a scope means everywhere."""

    id: str
    revision: int
    place: str
    sha256: str | None
    services: tuple[ServiceView, ...]
    must_continue: tuple[ServiceView, ...]
    except_prefixes: Entries
    except_sources: Sources
    scope_gateways: tuple[str, ...] | None
    scope_interfaces: tuple[str, ...] | None
    scope_sources: Sources | None
    allow_wide: str | None
    suspended_until: int | None
    revisions: tuple[Revision, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of what a policy blocks: which service's, where it stands (`file:line`), and the ports there."""

    service: str
    prefix: str
    ports: tuple[str, ...]
    place: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Some entries of what a policy names; `total` is how many there are of them, `digest` is over all."""

    entries: tuple[Listed, ...]
    total: int
    digest: str
