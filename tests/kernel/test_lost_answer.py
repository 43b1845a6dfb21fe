"""What the kernel says to a transaction doesn't arrive: it is settled by reading."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gatewrit.engine.reconcile import reconcile
from gatewrit.kernel import socket
from gatewrit.kernel.ruleset import Chain, Ruleset
from gatewrit.kernel.socket import NftSocket
from support.deaf import deafen
from support.gateway import PATIENCE

if TYPE_CHECKING:
    import pytest

    from lab import Namespace


async def _bring_up(*names: str) -> list[list[str]]:
    """Bring the kernel to a table of one chain after the other, deaf to what it says; gives what was then read."""
    found = []
    async with NftSocket() as kernel, asyncio.timeout(PATIENCE):
        deafen(kernel.held)
        first = kernel._netlink
        for name in names:
            done = await reconcile(kernel, Ruleset({name: Chain(name, ())}))
            found.append(sorted(done.actual.chains))
        assert kernel._netlink is not first, "pyroute2 waits for that answer for ever"
    return found


def test_a_lost_acknowledgement_is_settled_by_reading(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "_PATIENCE", 0.2)
    assert namespace.run(lambda: asyncio.run(_bring_up("a", "b"))) == [["a"], ["b"]]
