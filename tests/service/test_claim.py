"""One gatewrit for each network namespace, and no other user can keep it from enforcing by taking its name."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from support.drift import SERVICE
from support.gateway import until
from support.users import can_be

if TYPE_CHECKING:
    from support.gateway import Gateway

STRANGER = 4711


def take_the_name(*, answering: bool) -> None:
    """Hold the name as a user without any right, until this process is stopped."""
    os.setgroups([])
    os.setgid(STRANGER)
    os.setuid(STRANGER)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as held:
        held.bind("\0gatewrit/table")
        if answering:
            held.listen()
        signal.pause()


def taken(gateway: Gateway) -> bool:
    return "@gatewrit/table" in gateway.space.check(["cat", "/proc/net/unix"])


@pytest.mark.skipif(not can_be(STRANGER), reason="being another user takes root")
@pytest.mark.parametrize("answering", [True, False])
def test_a_user_who_may_not_enforce_keeps_nobody_from_it(gateway: Gateway, *, answering: bool) -> None:
    stranger = gateway.space.start(take_the_name, answering=answering)
    until(lambda: taken(gateway))
    gateway.order("alpha", SERVICE, "tcp/3101")
    assert gateway.cli("apply").returncode == 0
    assert gateway.blocks(SERVICE)
    removed = gateway.cli("remove")
    assert (removed.returncode, removed.stdout) == (0, "every block is taken out; traffic flows again\n")
    assert stranger.alive()


def test_one_gatewrit_keeps_out_another(gateway: Gateway) -> None:
    gateway.order("alpha", SERVICE, "tcp/3101")
    gateway.start()
    gateway.set(runtime=str(gateway.runtime.with_name("other")))
    refused = gateway.cli("remove")
    assert refused.returncode == 1
    assert gateway.process is not None
    assert f"a gatewrit (pid {gateway.process.pid}) is enforcing" in refused.stderr
    assert gateway.blocks(SERVICE)
