"""How much is measured: everything, or a quick part of it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Asked:
    """Sizes and numbers of rounds."""

    quick: bool
    size: int
    """Entries of the large lists."""
    sizes: tuple[int, ...]
    """Of the curve of cost against size."""
    rounds: int
    """Of loads and changes; those of packets are thrice as many."""
    policies: int
    firewalld: int
    idle: float
    limit: float
    """Seconds after which nft is given up where it takes minutes."""
    only: tuple[str, ...] = ()

    def wants(self, part: str) -> bool:
        """Whether this part is to be measured."""
        return not self.only or part in self.only

    def sized(self, size: int | None, rounds: int | None, only: str | None) -> Asked:
        """Take what the command line says otherwise."""
        asked = self
        if size is not None:
            asked = replace(asked, size=size, sizes=(*(each for each in asked.sizes if each < size), size))
        if rounds is not None:
            asked = replace(asked, rounds=rounds)
        return replace(asked, only=tuple(only.split(","))) if only else asked


FULL = Asked(
    quick=False,
    size=1_000_000,
    sizes=(1_000, 10_000, 100_000, 1_000_000),
    rounds=5,
    policies=10_000,
    firewalld=20_000,
    idle=30.0,
    limit=120.0,
)
QUICK = Asked(
    quick=True,
    size=50_000,
    sizes=(1_000, 10_000, 50_000),
    rounds=2,
    policies=500,
    firewalld=2_000,
    idle=5.0,
    limit=20.0,
)
