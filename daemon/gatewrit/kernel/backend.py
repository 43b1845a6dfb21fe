"""What the engine asks of a kernel, and how that fails: whoever enforces knows this file, and no socket."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Protocol

from gatewrit.kernel.ruleset import TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatewrit.kernel.ruleset import Set
    from gatewrit.kernel.transaction import Actual, ActualCounter, Transaction


class KernelError(Exception):
    """The kernel refused, or could not be asked. `errno` is its reason, `operation` what was tried."""

    def __init__(self, code: int, operation: str) -> None:
        self.errno = code
        self.operation = operation
        super().__init__(f"{operation}: {os.strerror(code)} ({errno.errorcode.get(code, code)})")


class TableHeldError(KernelError):
    """The table is owned by somebody else's socket, `holder` by its netlink port: only that one can change it."""

    def __init__(self, holder: int) -> None:
        super().__init__(errno.EPERM, "change the table")
        self.holder = holder

    def __str__(self) -> str:
        return held_text(self.holder)


class NoRoomError(KernelError):
    """There is too little memory for what is to be prepared, which is told before anything is: `lack` says so."""

    def __init__(self, lack: str) -> None:
        super().__init__(errno.ENOMEM, "prepare")
        self.lack = lack

    def __str__(self) -> str:
        return self.lack


def held_text(holder: int) -> str:
    """Say who owns the table instead of us, and what that means."""
    return (
        f"the table inet {TABLE} is owned by another program's netlink socket (port {holder}, usually its process id): "
        "nothing can be changed in it, and what it has stays as it is"
    )


class Kernel(Protocol):
    """What the engine asks of a kernel; the real one is `NftSocket`, the tests' fake behaves alike."""

    @property
    def room(self) -> int:
        """The most bytes that a batch should have: a bound on how long others wait for the kernel's lock."""

    @property
    def largest(self) -> int | None:
        """The most bytes that a transaction can have; None if it may be as large as it must."""

    async def read(self, known: Actual | None = None) -> Actual:
        """Read the whole table at one generation.

        The elements of sets that are in `known`, and still the same sets, are taken from there. Of those that `known`
        has as touched, it may be enough to read back what was changed.
        """

    async def read_sets(self, names: Sequence[str]) -> dict[str, tuple[Set, int]]:
        """Read some sets by themselves in this order, each with its handle, at whatever generation.

        Those may be left out, and all behind them, at which somebody changed the ruleset. Raises `KernelError`.
        """

    async def counters(self) -> Mapping[str, ActualCounter]:
        """Read only the counters."""

    async def generation(self) -> int:
        """Ask for the ruleset's generation, which grows with every transaction of anybody."""

    async def commit(self, transaction: Transaction, generation: int | None = None) -> None:
        """Carry out all of it or nothing; with `generation`, only if nobody changed anything since.

        Raises `KernelError`, with ERESTART if somebody did. With ENOBUFS, or ETIMEDOUT where no answer came, it may
        have been done all the same: read back.
        """

    @property
    def committed(self) -> int:
        """How many commits were acknowledged, each of which is one more generation."""

    async def grace(self) -> None:
        """Wait until every packet is through that met anything from before the last commit."""
