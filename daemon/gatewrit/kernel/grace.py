"""Wait until no packet is on its way any more that was when the waiting began."""

from __future__ import annotations

import asyncio
import ctypes
import os

#: membarrier(2) by machine (the kernel's arch/*/kernel/syscalls); the C library has no function for it.
_NUMBERS = {
    "x86_64": 324,
    "aarch64": 283,
    "riscv64": 283,
    "loongarch64": 283,
    "ppc64le": 365,
    "s390x": 356,
    "armv7l": 389,
    "i686": 375,
}
#: MEMBARRIER_CMD_GLOBAL (include/uapi/linux/membarrier.h).
_GLOBAL = 1
#: Seconds to wait where the kernel can't say: a packet takes some microseconds, a virtual CPU may be halted for longer.
_SAFE = 0.1


def _membarrier() -> bool:
    number = _NUMBERS.get(os.uname().machine)
    return number is not None and ctypes.CDLL(None).syscall(number, _GLOBAL, 0, 0) == 0


async def grace() -> None:
    """Wait for an RCU grace period: packets run through netfilter's hooks within one (`nf_hook()`).

    `membarrier(MEMBARRIER_CMD_GLOBAL)` is one (`synchronize_rcu()` in kernel/sched/membarrier.c), some 6 to 15 ms;
    where it can't be had (`nohz_full`, a filter of system calls) it is waited for longer than any packet takes.
    """
    if not await asyncio.to_thread(_membarrier):
        await asyncio.sleep(_SAFE)
