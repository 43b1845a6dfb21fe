"""What a rule does with a packet, step by step: the words into which the kernel's expressions are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatewrit.kernel.elements import Verdict

#: How a set of addresses is asked: about which end of a packet, the set's name, and the bits that are looked up.
Asking = tuple[int, str, int | None]


@dataclass(frozen=True, slots=True)
class Keep:
    """Go on only where the value is in `mask`: of a dimension that is held value by value."""

    dimension: int
    mask: int


@dataclass(frozen=True, slots=True)
class Names:
    """Go on only where a name is from `first` to `last`, or with `inverted` where it isn't."""

    dimension: int
    first: bytes
    last: bytes
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class During:
    """Go on only from one instant (nanoseconds; None: ever) until before another."""

    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True)
class Find:
    """Look the packet up in a set; `verdict`: take what it holds there. Without a hit the rule is over.

    `inverted`: with a hit it is. `mask` says which bits of an address are looked up, the others being zeroed.
    """

    name: str
    dimensions: tuple[int, ...]
    shifts: tuple[int, ...]
    verdict: bool
    inverted: bool = False
    mask: int | None = None

    @property
    def layer(self) -> Asking:
        """How a set of addresses is asked."""
        return self.dimensions[0], self.name, self.mask


@dataclass(frozen=True, slots=True)
class CountOn:
    """Count on a counter."""

    name: str


@dataclass(frozen=True, slots=True)
class Say:
    """Give a verdict."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer and drop."""

    answer: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """What can't be proved, and why."""

    reason: str


Step = Keep | Names | During | Find | CountOn | Say | Refuse | Unclear
