"""What of the gateway itself, besides the policies, decides how they are rendered."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.policy.model import Ranges


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """What the settings and the host say of this gateway.

    `nat64` are IPv6 prefixes (RFC 6052) in which IPv4 endpoints match too. `masters` gives the members of each VRF
    device by its name. `spared` are the gateway's own addresses, next hops and resolvers: its own traffic with them is
    never judged (hooks input and output only).
    """

    nat64: tuple[Ranges, ...] = ()
    masters: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    spared: tuple[Ranges, ...] = ()


ALONE = Surroundings()
