"""The netlink socket itself, apart from what is said over it: its port is what owns our table.

A table with NFT_TABLE_F_OWNER may be changed by the socket whose port made or adopted it, and by no other. The kernel
lets go of it when the last descriptor of that socket is closed (nft_rcv_nl_event() in net/netfilter/nf_tables_api.c).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path

from gatewrit.kernel import wire

_NETLINK_CAP_ACK = 10
_SO_SNDBUFFORCE = 32
_BUFFER = 1 << 20
#: Gives a descriptor of the network namespace that a socket is of (include/uapi/linux/sockios.h).
_SIOCGSKNS = 0x894C
_HERE = Path("/proc/self/ns/net")


def open_endpoint() -> socket.socket:
    """Open a socket in this network namespace, bound to a port of its own. Raises `OSError`."""
    endpoint = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, wire.NETLINK_NETFILTER)
    try:
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        # Errors then carry only the header of the message that they are about, not 60 kB of elements.
        endpoint.setsockopt(wire.SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        endpoint.bind((0, 0))
    except OSError:
        endpoint.close()
        raise
    return endpoint


def adopted(descriptor: int) -> socket.socket | None:
    """Take over a descriptor that a process before us had kept; None, and closed, if it is no such socket of here."""
    try:
        endpoint = socket.socket(fileno=descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        return None
    if (endpoint.family, endpoint.proto) == (socket.AF_NETLINK, wire.NETLINK_NETFILTER) and _is_of_here(endpoint):
        return endpoint
    endpoint.close()
    return None


def _is_of_here(endpoint: socket.socket) -> bool:
    try:
        namespace = fcntl.ioctl(endpoint, _SIOCGSKNS)
    except OSError:
        return False
    try:
        return os.path.samestat(os.fstat(namespace), _HERE.stat())
    finally:
        os.close(namespace)


def drain(endpoint: socket.socket) -> None:
    """Take what is left of answers that nobody waits for any more."""
    endpoint.setblocking(False)
    while True:
        try:
            endpoint.recv(_BUFFER)
        except BlockingIOError:
            return
        except OSError as error:
            # What was lost for want of room is said once, and then there is room.
            if error.errno != errno.ENOBUFS:
                raise


def make_room(endpoint: socket.socket, size: int) -> None:
    """Grow the send buffer so that a batch fits one `sendmsg`; outside the first user namespace as far as it goes."""
    # The kernel doubles what is asked for, and keeps 32 bytes of it to itself (net/netlink/af_netlink.c).
    if endpoint.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= size + 64:
        return
    if not may_force_room(endpoint, size):
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def may_force_room(endpoint: socket.socket, size: int) -> bool:
    """Grow the send buffer whatever net.core.wmem_max says; False without CAP_NET_ADMIN in the first user namespace."""
    try:
        endpoint.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)
    except PermissionError:
        return False
    return True
