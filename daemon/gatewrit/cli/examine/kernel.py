"""The kernel: rights over nftables, what it takes, and how much at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from gatewrit.cli.examine.finding import Finding, unseen
from gatewrit.kernel.backend import KernelError
from gatewrit.kernel.socket import NftSocket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatewrit.cli.examine.finding import Subject

#: linux/capability.h.
_CAP_NET_ADMIN = 12
_MIB = 1 << 20
#: About the bytes of netlink that a thousand elements take.
_THOUSAND = 64_000


def examine(subject: Subject) -> Iterator[Finding]:
    """Examine the kernel."""
    if may_write():
        yield Finding("ok", "capability", "CAP_NET_ADMIN is there: the ruleset can be read and written")
        yield from _room()
    else:
        yield Finding(
            "note",
            "no_capability",
            "this user lacks CAP_NET_ADMIN over the network namespace, so that other tables, the send buffer and what "
            "the kernel takes weren't looked at; enforcement isn't concerned, the daemon has rights of its own",
            "Run gatewrit doctor as root",
        )
    yield from _features(subject)


def may_write() -> bool:
    """Whether this process has CAP_NET_ADMIN; raises `OSError`."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    effective = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> _CAP_NET_ADMIN & 1)


def _features(subject: Subject) -> Iterator[Finding]:
    trial = subject.trial
    if trial is None:
        yield Finding(
            "note",
            "kernel_untried",
            "what this kernel takes couldn't be tried, as no network namespace can be made for it here; a kernel from "
            "5.10 on is known to do",
            "Run gatewrit doctor as root, outside of a container",
        )
        return
    for what, reason in trial.refused:
        yield Finding(
            "error",
            "kernel_lacks",
            f"the kernel refuses {what}: {reason}. Orders that need this can't be enforced on this gateway",
            "Load the module (nf_tables, nft_reject_inet, nft_counter), or boot a kernel from 5.10 on that has it",
        )
    if not trial.refused:
        yield Finding("ok", "kernel_fit", "the kernel takes everything that orders become, tried in a namespace apart")
    yield from _ownership(owning=trial.owning, wanted=subject.settings.table_owner)


def _ownership(*, owning: bool, wanted: bool) -> Iterator[Finding]:
    if wanted and owning:
        yield Finding("ok", "table_owned", "no other program can change the table while the daemon has it")
    elif wanted:
        yield Finding(
            "note",
            "table_open",
            "this kernel can't keep other programs out of the table (owner and persist, Linux 6.9): what they change "
            "is put right by the daemon, and passes until then",
            "Keep `flush ruleset` out of what is loaded on this host; or boot a kernel from 6.9 on",
        )
    else:
        yield Finding(
            "note",
            "table_open",
            "`table_owner: false` leaves the table open to other programs: what they change is put right by the "
            "daemon, and passes until then",
        )


def _room() -> Iterator[Finding]:
    """Look at how much one transaction can have (NETLINK's send buffer)."""
    try:
        largest = asyncio.run(_largest())
    except (KernelError, OSError) as error:
        yield unseen("the send buffer to the kernel", error)
        return
    if largest is None:
        yield Finding("ok", "send_buffer", "transactions to the kernel may have any size")
        return
    about = max(1, largest // _THOUSAND) * 1000
    yield Finding(
        "note" if largest >= _MIB else "warning",
        "send_buffer",
        f"a transaction may have {largest} bytes here, some {about} addresses (net.core.wmem_max, as this user may not "
        "exceed it): larger changes go step by step, and one that can't be parted is refused",
        "sysctl -w net.core.wmem_max=33554432 on the host, or run the daemon in the first user namespace",
    )


async def _largest() -> int | None:
    async with NftSocket() as kernel:
        return kernel.largest
