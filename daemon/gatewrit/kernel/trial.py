"""Whether this kernel takes what orders become: tried in a network namespace that is made for it, and gone afterwards.

Nothing of the host is touched. A thread may have a network namespace of its own (unshare(2)), and those that it starts
are in it too; the namespace ends with the last of them. It needs CAP_SYS_ADMIN.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gatewrit.kernel import expressions as nf
from gatewrit.kernel.backend import KernelError
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.plan import diff
from gatewrit.kernel.ruleset import (
    IFNAME,
    IP6_DADDR,
    IP_DADDR,
    IPV4,
    IPV6,
    SDIFNAME,
    Before,
    ByMap,
    Chain,
    Count,
    Counter,
    Hook,
    InSet,
    LaterFragment,
    Masked,
    Reject,
    Rule,
    Ruleset,
    Set,
    SetSpec,
    Statement,
    Unfragmented,
)
from gatewrit.kernel.socket import NftSocket
from gatewrit.kernel.transaction import Tenure

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_DROP = Verdict("drop")


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it: what the kernel refuses, with its reason, and whether a table can be ours alone (Linux 6.9)."""

    refused: tuple[tuple[str, str], ...]
    owning: bool


def attempt() -> Trial:
    """Try everything; blocks for a moment. Raises `OSError` where no namespace can be made, or nothing can be asked."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(_attempt).result()


def _attempt() -> Trial:
    if _LIBC.unshare(_CLONE_NEWNET) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"make a network namespace: {os.strerror(number)}")
    return asyncio.run(_try_all())


async def _try_all() -> Trial:
    refused = []
    async with NftSocket(owning=True) as kernel:
        for what, ruleset in PARTS.items():
            try:
                # Each takes the place of the one before.
                await kernel.commit(diff(ruleset, await kernel.read()).whole)
            except KernelError as error:
                refused.append((what, str(error)))
        try:
            owning = (await kernel.read()).tenure is Tenure.OURS
        except KernelError as error:
            raise OSError(error.errno, str(error)) from error
    return Trial(tuple(refused), owning)


def _ruleset(*statements: Statement, sets: tuple[Set, ...] = ()) -> Ruleset:
    """Give a ruleset with one rule on the hook."""
    chain = Chain("trial", (Rule((*statements, Count("trial"), _DROP)),), Hook("forward", -10))
    named = {each.spec.name: each for each in sets}
    return Ruleset({"trial": chain}, named, {"trial": Counter("trial")})


def _with_set(spec: SetSpec, first: bytes, last: bytes, *, key: tuple[Masked] | None = None) -> Ruleset:
    made = Set(spec, Elements.of(spec.key[0].length, [(first, last, _DROP if spec.verdicts else None)]))
    fields = key or ({IPV4: IP_DADDR, IPV6: IP6_DADDR, IFNAME: SDIFNAME}[spec.key[0]],)
    asked = ByMap(fields, spec.name) if spec.verdicts else InSet(fields, spec.name)
    if not spec.verdicts:
        return _ruleset(asked, sets=(made,))
    chain = Chain("trial", (Rule((asked,)),), Hook("forward", -10))
    return Ruleset({"trial": chain}, {spec.name: made})


def _rejecting() -> Ruleset:
    hooked = Chain("trial", (Rule((Verdict("goto", "refuse"),)),), Hook("forward", -10))
    refuse = Chain("refuse", (Rule((Reject(reset=False),)),))
    return Ruleset({"trial": hooked, "refuse": refuse})


#: What is tried, by what people call it: at least one of everything that a ruleset of ours can hold.
PARTS = {
    "rules and counters in the family inet": _ruleset(),
    "maps of IPv4 ranges to verdicts": _with_set(
        SetSpec("trial", (IPV4,), interval=True, verdicts=True), b"\xcb\0\x71\x01", b"\xcb\0\x71\x09"
    ),
    "sets of IPv6 addresses under a mask": _with_set(
        SetSpec("trial", (IPV6,), interval=False, verdicts=False, size=4),
        b"\x20\x01\x0d\xb8" + bytes(12),
        b"\x20\x01\x0d\xb8" + bytes(12),
        key=(Masked(IP6_DADDR, 48),),
    ),
    "guards by the wall clock (meta time)": _ruleset(Before(1_448_841_600)),
    "answers to the refused (reject)": _rejecting(),
    "fragments told apart (exthdr)": _ruleset(LaterFragment(nf.NFPROTO_IPV6), Unfragmented()),
    "interfaces in a VRF (meta sdifname)": _with_set(
        SetSpec("trial", (IFNAME,), interval=False, verdicts=True), b"gi0".ljust(16, b"\0"), b"gi0".ljust(16, b"\0")
    ),
}
