"""What the kernel says to transactions, lost: a filter on a netlink socket, as an eBPF tool could put there."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: linux/unistd.h, linux/netlink.h, asm/socket.h, linux/bpf_common.h
_PIDFD_GETFD, _NETLINK_NETFILTER, _NLMSG_ERROR, _SO_ATTACH_FILTER = 438, 12, 2, 26
_LOAD_HALF, _JUMP_EQUAL, _RETURN = 0x28, 0x15, 0x06


def deafen(endpoint: socket.socket) -> None:
    """Have acknowledgements and errors (NLMSG_ERROR) dropped on their way to a netlink socket; dumps arrive."""
    # Classic BPF loads as if it were the network's byte order.
    error = int.from_bytes(_NLMSG_ERROR.to_bytes(2, sys.byteorder), "big")
    steps = ((_LOAD_HALF, 0, 0, 4), (_JUMP_EQUAL, 0, 1, error), (_RETURN, 0, 0, 0), (_RETURN, 0, 0, 0xFFFFFFFF))
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    endpoint.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(steps), ctypes.addressof(program)))


def deafen_process(pid: int) -> None:
    """Do that to each socket by which a process speaks to nftables."""
    for descriptor in sockets_of(pid):
        with socket.socket(fileno=descriptor) as found:
            if (found.family, found.proto) == (socket.AF_NETLINK, _NETLINK_NETFILTER):
                deafen(found)


def sockets_of(pid: int) -> Iterator[int]:
    """Give descriptors of ours of all sockets of a process (pidfd_getfd(2)); they are for who asks to close."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if str(entry.readlink()).startswith("socket:"):
                taken = libc.syscall(_PIDFD_GETFD, process, int(entry.name), 0)
                if taken < 0:
                    raise OSError(ctypes.get_errno(), "pidfd_getfd")
                yield taken
    finally:
        os.close(process)
