"""A ruleset as a kernel would return it, without a kernel."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gatewrit.kernel.plan import diff
from support.fake import FakeKernel

if TYPE_CHECKING:
    from gatewrit.kernel.ruleset import Ruleset
    from gatewrit.kernel.transaction import Actual


def load(desired: Ruleset) -> Actual:
    """Load a ruleset into a kernel in memory and read it back."""

    async def work() -> Actual:
        kernel = FakeKernel()
        await kernel.commit(diff(desired, await kernel.read()).whole)
        return await kernel.read()

    return asyncio.run(work())
