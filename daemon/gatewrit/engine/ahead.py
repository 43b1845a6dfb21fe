"""Reading sets back while others are still being filled: the kernel does both at once, and there is the time for it.

Only sets that are made anew are read ahead, each once all of it is there. Whether somebody else changed them since is
for the caller to tell, by the ruleset's generation.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from gatewrit.kernel.backend import KernelError
from gatewrit.kernel.transaction import AddElements, AddSet, DeleteElements, DeleteSet

if TYPE_CHECKING:
    from gatewrit.kernel.backend import Kernel
    from gatewrit.kernel.ruleset import Set
    from gatewrit.kernel.transaction import Transaction


class Ahead:
    """Follows a transaction that is carried out in batches. `found` has the sets that were read, with their handles."""

    def __init__(self, kernel: Kernel, whole: Transaction) -> None:
        self._kernel = kernel
        self._left: Counter[str] = Counter()
        made, spoilt = set[str](), set[str]()
        for each in whole.operations:
            match each:
                case AddSet(spec):
                    made.add(spec.name)
                case AddElements(spec, elements):
                    self._left[spec.name] += len(elements)
                case DeleteElements(spec):
                    spoilt.add(spec.name)
                case DeleteSet(name):
                    spoilt.add(name)
        self._chosen = made - spoilt
        self._waiting: list[str] = []
        self._reading: asyncio.Task[None] | None = None
        self.found: dict[str, tuple[Set, int]] = {}

    def taken(self, batch: Transaction) -> None:
        """Note what the kernel has taken in, and read what is whole now, beside whatever comes next."""
        for each in batch.operations:
            if isinstance(each, AddElements):
                name = each.spec.name
                self._left[name] -= len(each.elements)
                if not self._left[name] and name in self._chosen:
                    self._waiting.append(name)
        if self._waiting and (self._reading is None or self._reading.done()):
            names, self._waiting = self._waiting, []
            self._reading = asyncio.create_task(self._read(names))

    async def _read(self, names: list[str]) -> None:
        try:
            found = await self._kernel.read_sets(names)
        except KernelError:
            # What is wrong will be said when everything else is read.
            return
        self.found |= found
        # The first that is lacking was overtaken by a batch, and is given up; those behind it weren't come to.
        self._waiting += [name for name in names if name not in found][1:]

    async def end(self) -> None:
        """Wait for what is being read."""
        if self._reading is not None:
            await self._reading
