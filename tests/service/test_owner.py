"""The table is the daemon's alone: others are refused, over restarts too, and what they can still do is put right.

Where the kernel lacks NFT_TABLE_F_PERSIST (before Linux 6.9) nobody is refused, and everything is repaired instead.
"""

from __future__ import annotations

import json
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from gatewrit.kernel.transaction import AddTable, DeleteTable, FlushChain
from lab import LabError
from support.drift import (
    TAMPERING,
    adopt,
    blocks,
    change_with_the_owners_socket,
    generation,
    listens,
    orders,
    owned,
)
from support.gateway import Gateway, until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def storing(gateway: Gateway) -> Iterator[Gateway]:
    """A daemon whose manager keeps its socket over restarts."""
    gateway.stored = {}
    orders(gateway)
    yield gateway
    if gateway.process is not None:
        gateway.end()


def test_whatever_others_try_they_are_refused_and_nothing_changes(gateway: Gateway) -> None:
    before = blocks(orders(gateway))
    able = owned(gateway)
    seen = generation(gateway)
    for what, script in TAMPERING.items():
        if able and what != "no ruleset":
            with pytest.raises(LabError, match="Operation not permitted"):
                gateway.nft(script)
    assert blocks(gateway) == before
    if able:
        assert generation(gateway) == seen
        # A flush leaves out what somebody owns.
        gateway.nft("table inet others { }\nflush ruleset\n")
    assert blocks(gateway) == before
    assert gateway.status()["enforcement"] == "in_sync"
    assert gateway.logged("drift.repaired") == []


def test_what_others_do_with_our_own_socket_is_undone(gateway: Gateway) -> None:
    """Root can take a descriptor of the daemon's (pidfd_getfd(2)), and be the owner with it."""
    before = blocks(orders(gateway))
    assert gateway.process is not None
    gateway.space.run(change_with_the_owners_socket, gateway.process.pid, FlushChain("forward"))
    until(lambda: gateway.logged("drift.repaired"))
    assert blocks(gateway) == before
    assert gateway.reload()["ok"]


def test_while_nobody_runs_it_is_anybodys_and_put_right_at_the_next_start(gateway: Gateway) -> None:
    before = blocks(orders(gateway))
    for what in ("an element deleted", "a dormant table", "another table of that name"):
        able = owned(gateway)
        gateway.end(signal.SIGKILL)
        if what == "a dormant table" and able:
            # nft can't give flags to an orphan without taking `persist` away, and that the kernel refuses.
            with pytest.raises(LabError, match="not supported"):
                gateway.nft(TAMPERING[what])
        else:
            gateway.nft(TAMPERING[what])
        gateway.start()
        assert blocks(gateway) == before, what
        assert owned(gateway) is able
        assert gateway.status()["enforcement"] == "in_sync"


def test_the_manager_keeps_it_owned_while_the_daemon_restarts(storing: Gateway) -> None:
    before, able = blocks(storing), owned(storing)
    for number in (signal.SIGKILL, signal.SIGTERM):
        seen = generation(storing)
        storing.end(number)
        assert list(storing.stored or ()) == ["gatewrit-table"]
        if able:
            with pytest.raises(LabError, match="Operation not permitted"):
                storing.nft("delete table inet gatewrit\n")
            # Nor can another gatewrit, which says who must let go.
            refused = storing.cli("remove")
            assert refused.returncode == 1
            assert "owned by another program's netlink socket" in refused.stderr
            assert "systemctl stop gatewrit" in refused.stderr
        storing.start()
        # Nothing had to be adopted or changed.
        assert (blocks(storing), owned(storing), generation(storing)) == (before, able, seen)
        assert storing.status()["enforcement"] == "in_sync"


def test_settings_that_want_it_open_let_go_of_it(storing: Gateway) -> None:
    storing.end()
    storing.set(table_owner=False)
    storing.start()
    until(lambda: storing.listen() or not storing.stored)
    assert not owned(storing)
    storing.nft(TAMPERING["an element deleted"])
    until(lambda: storing.logged("drift.repaired"))


def test_a_table_that_was_made_open_is_told_until_it_is_made_anew(gateway: Gateway) -> None:
    gateway.set(table_owner=False)
    orders(gateway)
    assert not owned(gateway)
    gateway.end()
    gateway.set()
    gateway.start()
    able = not owned(gateway) and "table_unowned" in gateway.codes()
    assert gateway.status()["enforcement"] == "in_sync"
    # A drift that has it made anew has it owned as well.
    gateway.nft(TAMPERING["no table"])
    until(lambda: owned(gateway) is able and gateway.logged("drift.undone"))
    assert "table_unowned" not in gateway.codes()


def test_a_table_that_somebody_else_owns_is_told_and_taken_over_once_they_let_go(gateway: Gateway) -> None:
    orders(gateway)
    able = owned(gateway)
    gateway.end()
    if not able:
        return
    with gateway.space.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as other:  # type: ignore[arg-type]
        adopt(other)
        gateway.order("charlie", "203.0.3.0/24", "any")
        gateway.start()
        problem = next(each for each in gateway.status()["problems"] if each["code"] == "table_held")
        assert (problem["severity"], gateway.status()["enforcement"]) == ("error", "failed")
        assert str(other.getsockname()[0]) in problem["message"]
        assert "systemctl stop gatewrit" in problem["action"]
        told = gateway.cli("status", "--json")
        assert told.returncode == 1
        assert "table_held" in {each["code"] for each in json.loads(told.stdout)["problems"]}
    until(lambda: gateway.status()["enforcement"] == "in_sync")
    assert owned(gateway)
    assert gateway.blocks("203.0.3.0/24")


def test_nobody_listens_to_nftables_while_nobody_else_can_change_the_table(gateway: Gateway) -> None:
    """Who listens slows everybody's transactions; where others can change it, what they do has to be undone at once."""
    before = blocks(orders(gateway))
    able = owned(gateway)
    assert listens(gateway) is not able
    gateway.end()
    gateway.set(table_owner=False)
    gateway.start()
    assert listens(gateway)
    gateway.end()
    gateway.set()
    gateway.nft(TAMPERING["no table"])
    gateway.start()
    assert (owned(gateway), listens(gateway)) == (able, not able)
    if not able:
        return
    # Lost: somebody with our own socket puts a table of anybody's in its place.
    assert gateway.process is not None
    gateway.space.run(change_with_the_owners_socket, gateway.process.pid, DeleteTable(), AddTable(owned=False))
    until(lambda: listens(gateway))
    assert not owned(gateway)
    until(lambda: "table_unowned" in gateway.codes())
    gateway.nft(TAMPERING["an element deleted"])
    until(lambda: gateway.logged("drift.undone")[1:])
    assert gateway.blocks("203.0.1.0/24")
    # Regained: a table that is made anew is ours again.
    gateway.nft(TAMPERING["no table"])
    until(lambda: not listens(gateway))
    assert owned(gateway)
    assert blocks(gateway) == before
