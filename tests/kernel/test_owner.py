"""Whose the table is: made and adopted by the socket that writes, refused to everybody else, kept when that falters.

On a kernel without NFT_TABLE_F_PERSIST (before 6.9) a table is as open as it always was, and that is what is seen then.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest

from gatewrit.engine.reconcile import reconcile
from gatewrit.kernel import endpoint, messages, wire
from gatewrit.kernel.backend import KernelError, TableHeldError
from gatewrit.kernel.ruleset import Chain, Hook, Ruleset
from gatewrit.kernel.socket import NftSocket
from gatewrit.kernel.transaction import AdoptTable, Tenure, Transaction, removal
from lab import Namespace
from support.gateway import NFT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

RULESET = Ruleset(chains={"forward": Chain("forward", (), Hook("forward", -10))})


def on(space: Namespace, work: Callable[[NftSocket], Awaitable[None]]) -> None:
    async def opened() -> None:
        async with NftSocket(owning=True) as kernel:
            await work(kernel)

    space.run(lambda: asyncio.run(opened()))


async def owns(kernel: NftSocket) -> bool:
    """Whether this kernel can do it at all."""
    return (await kernel.read()).tenure is not Tenure.OPEN


def test_nobody_else_changes_what_one_socket_owns(namespace: Namespace) -> None:
    async def work(kernel: NftSocket) -> None:
        able = await owns(kernel)
        await reconcile(kernel, RULESET)
        mine = kernel.held.getsockname()[0]
        async with NftSocket(owning=True) as other:
            seen = await other.read()
            assert (seen.tenure, seen.holder) == ((Tenure.HELD, mine) if able else (Tenure.PLAIN, None))
            if able:
                with pytest.raises(TableHeldError, match=f"port {mine}"):
                    await other.commit(removal(seen))
                with pytest.raises(TableHeldError):
                    await reconcile(other, Ruleset())
        assert (await kernel.read()).handle == seen.handle
        # What it wants to change itself it can.
        await kernel.commit(removal(seen))
        assert (await kernel.read()).handle is None

    on(namespace, work)


def test_whoever_writes_next_adopts_an_orphan_and_whoever_reads_does_not(namespace: Namespace) -> None:
    able: list[bool] = []

    async def make(kernel: NftSocket) -> None:
        able.append(await owns(kernel))
        await reconcile(kernel, RULESET)

    async def look() -> None:
        async with NftSocket() as kernel:
            seen = await kernel.read()
            assert (seen.tenure, seen.handle is None) == (Tenure.OPEN, False)

    async def write(kernel: NftSocket) -> None:
        seen = await kernel.read()
        if await owns(kernel) and seen.tenure is Tenure.ORPHANED:
            done = await reconcile(kernel, RULESET)
            assert (done.actual.tenure, done.actual.handle, done.changed) == (Tenure.OURS, seen.handle, 0)
            # One transaction, and none without need.
            assert done.actual.generation == seen.generation + 1
            assert (await reconcile(kernel, RULESET)).actual.generation == done.actual.generation

    async def all_of_it() -> None:
        async with NftSocket(owning=True) as kernel:
            await make(kernel)
        await look()
        async with NftSocket(owning=True) as kernel:
            await write(kernel)
        await look()

    namespace.run(lambda: asyncio.run(all_of_it()))
    namespace.nft("delete table inet gatewrit\n")


def test_a_socket_that_falters_goes_on_owning(namespace: Namespace) -> None:
    """The library gives up what has failed once; the kernel's socket, and so the table, stays the same one."""

    async def work(kernel: NftSocket) -> None:
        await reconcile(kernel, RULESET)
        before = await kernel.read()
        port = kernel.held.getsockname()
        kernel._netlink.protocol.error_received(OSError(errno.ENOBUFS, "no room"))
        await asyncio.sleep(0)
        after = await kernel.read()
        assert (after.tenure, after.generation, kernel.held.getsockname()) == (before.tenure, before.generation, port)
        await kernel.commit(removal(after))

    on(namespace, work)


def test_a_socket_that_falters_again_while_it_is_put_right_is_a_refusal(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked tries again, and so does the daemon: it isn't to end of that."""

    def failing(_endpoint: socket.socket) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    async def work(kernel: NftSocket) -> None:
        await reconcile(kernel, RULESET)
        kernel._netlink.protocol.error_received(OSError(errno.ENOBUFS, "no room"))
        await asyncio.sleep(0)
        with monkeypatch.context() as patched:
            patched.setattr(endpoint, "drain", failing)
            for _ in range(2):
                with pytest.raises(KernelError) as refused:
                    await kernel.commit(removal(await kernel.read()))
                assert refused.value.errno == errno.ENOMEM
        await kernel.commit(removal(await kernel.read()))
        assert (await kernel.read()).handle is None

    on(namespace, work)


def test_a_socket_that_was_kept_owns_still(namespace: Namespace) -> None:
    async def work() -> None:
        async with NftSocket(owning=True) as kernel:
            await reconcile(kernel, RULESET)
            before = await kernel.read()
            kept = endpoint.adopted(os.dup(kernel.held.fileno()))
        assert kept is not None
        # As a daemon may leave it: a question of which nobody has taken the answer.
        kept.send(wire.NLMSGHDR.pack(20, messages.SUBSYSTEM << 8 | messages.GETGEN, 1, 1, 0) + bytes(4))
        async with NftSocket(owning=True, held=kept) as kernel:
            after = await kernel.read()
            assert (after.tenure, after.generation) == (before.tenure, before.generation)
            await kernel.commit(removal(after))

    namespace.run(lambda: asyncio.run(work()))


def test_what_is_no_socket_of_this_network_is_not_taken_over(namespace: Namespace) -> None:
    def strangers() -> None:
        pipe, other = os.pipe()
        os.close(other)
        assert endpoint.adopted(pipe) is None
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(pipe)
        route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        assert endpoint.adopted(route.detach()) is None
        mine = endpoint.adopted(endpoint.open_endpoint().detach())
        assert mine is not None
        mine.close()

    namespace.run(strangers)
    with Namespace() as other, other.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as abroad:  # type: ignore[arg-type]
        assert namespace.run(lambda: endpoint.adopted(os.dup(abroad.fileno()))) is None


@pytest.mark.parametrize("rootless", [False, True])
def test_in_any_user_namespace_and_whatever_others_flush(*, rootless: bool) -> None:
    with Namespace(rootless=rootless) as space:

        async def work(kernel: NftSocket) -> None:
            able = await owns(kernel)
            await reconcile(kernel, RULESET)
            before = await kernel.read()
            flushing = await asyncio.create_subprocess_exec(NFT, "flush", "ruleset")
            assert await flushing.wait() == 0
            assert ((await kernel.read()).handle == before.handle) is able

        on(space, work)


def test_a_table_of_an_older_version_stays_as_open_as_it_is(namespace: Namespace) -> None:
    """The kernel can't give it an owner, and to make it anew would let packets pass that are under way."""
    namespace.nft("table inet gatewrit { chain forward { type filter hook forward priority -10; }\n}\n")

    async def work(kernel: NftSocket) -> None:
        seen = await kernel.read()
        done = await reconcile(kernel, RULESET)
        assert (done.actual.tenure, done.actual.generation) == (seen.tenure, seen.generation)
        if seen.tenure is Tenure.PLAIN:
            with pytest.raises(KernelError) as refused:
                await kernel.commit(Transaction((AdoptTable(),)))
            assert refused.value.errno == errno.EOPNOTSUPP

    on(namespace, work)
