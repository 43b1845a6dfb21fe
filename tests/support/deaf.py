"""What the kernel says to transactions, lost: a filter on a netlink socket, as an eBPF tool could put there."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from pathlib import Path

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
    """Do that to each socket by which a process speaks to nftables, through descriptors of ours (pidfd_getfd(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if str(entry.readlink()).startswith("socket:"):
            with socket.socket(fileno=libc.syscall(_PIDFD_GETFD, process, int(entry.name), 0)) as found:
                if (found.family, found.proto) == (socket.AF_NETLINK, _NETLINK_NETFILTER):
                    deafen(found)
    os.close(process)
