"""Netlink where the kernel's answer isn't what it claims to be: the engine's own error, and no other."""

from __future__ import annotations

import errno
import struct
import sys

import pytest

from gatewrit.kernel import messages, wire
from gatewrit.kernel.backend import KernelError
from gatewrit.kernel.readback import TableReader
from gatewrit.kernel.socket import _parse

TABLE = wire.string(1, "gatewrit") + wire.be64(4, 9)


class Answering(TableReader):
    """Asks nobody: every dump gives what it was made with, the generation is always 7."""

    def __init__(self, **dumps: bytes) -> None:
        super().__init__()
        self._dumps = {getattr(messages, kind): payload for kind, payload in dumps.items()}

    async def generation(self) -> int:
        return 7

    async def _dump(self, kind: int) -> tuple[bytes, ...]:
        return (self._dumps[kind],) if kind in self._dumps else ()


@pytest.mark.parametrize("kind", ["GETTABLE", "GETSET", "GETOBJ", "GETCHAIN", "GETRULE", "GETFLOWTABLE"])
@pytest.mark.parametrize("answer", [wire.string(1, "gatewrit"), b"\xff\xff\x01\x00", b"\x00"])
async def test_a_dump_that_is_not_understood_is_a_refusal_of_the_kernel(kind: str, answer: bytes) -> None:
    with pytest.raises(KernelError) as told:
        await Answering(**{"GETTABLE": TABLE, kind: answer}).read(None, 1, owning=False)
    assert told.value.errno == errno.EBADMSG
    assert "read the" in str(told.value)


async def test_counters_that_are_not_understood_are_a_refusal_of_the_kernel() -> None:
    with pytest.raises(KernelError) as told:
        await Answering(GETOBJ=wire.string(1, "gatewrit") + wire.be32(3, 1)).counters()
    assert told.value.errno == errno.EBADMSG


@pytest.mark.parametrize(
    ("said", "meant"), [(-errno.EPERM, errno.EPERM), (-(2**31), errno.EBADMSG), (7, errno.EBADMSG)]
)
def test_an_error_number_that_no_kernel_has_is_still_one(said: int, meant: int) -> None:
    datagram = struct.pack("=IHHII", 20, 2, 0, 1, 0) + said.to_bytes(4, sys.byteorder, signed=True)
    error = _parse(datagram, 0, len(datagram))["header"]["error"]
    assert error.code == meant
    assert str(KernelError(error.code, "a test"))
