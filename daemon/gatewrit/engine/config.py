"""What the engine needs of the settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import gatewrit
from gatewrit.compile.rails import Rails
from gatewrit.engine.journal.writer import USUALLY_KEPT, Keeping
from gatewrit.engine.sealing import Signing

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from gatewrit.kernel.ruleset import HookName
    from gatewrit.policy.model import Ranges


@dataclass(frozen=True, slots=True)
class Config:
    """One gateway as its settings have it."""

    gateway: str
    policies: Path
    state: Path
    hooks: tuple[HookName, ...] = ("forward",)
    priority: int = -10
    tags: tuple[str, ...] = ()
    change_share: float = 0.5
    rails: Rails = field(default_factory=Rails)
    nat64: tuple[Ranges, ...] = ()
    keeping: Keeping = USUALLY_KEPT
    signing: Signing = field(default_factory=Signing)

    def about(self) -> dict[str, Any]:
        """Give what the journal says of a gateway at each start."""
        said = {"name": self.gateway, "tags": list(self.tags), "hooks": list(self.hooks)}
        return {**said, "version": gatewrit.__version__, "policies": str(self.policies)}
