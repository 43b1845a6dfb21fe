"""Nothing is ever sent outside the lab: each sender calls `require_lab` first, and stops where it is refused.

Each of these alone would keep packets in, and all must hold: the process is not in the network namespace that it was
started in, nor in that of the machine's first process; the loopback carries the mark of this very lab; every other
interface is one end of a link that this lab laid; and no link leads back to the network that we were started in.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from lab.process import LabError

_HOME = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
"""The network that we were started in: the host's, as far as we are concerned."""


class Refused(LabError):  # noqa: N818 it is what happened
    """A sender found itself outside of the lab, and sent nothing."""


def mark_of(token: str) -> str:
    """The interface alias that tells a lab's links from all others."""
    return f"gatewrit-lab {token}"


def require_lab(token: str) -> None:
    """Raise Refused unless the calling process is in a namespace that the lab with this token made."""
    here = Path("/proc/self/ns/net").stat().st_ino
    if here == os.fstat(_HOME).st_ino:
        raise Refused("this is the network the lab was started from: nothing is sent here")
    with contextlib.suppress(PermissionError):  # only the powerful may ask; then the other conditions stand alone
        if here == Path("/proc/1/ns/net").stat().st_ino:
            raise Refused("this is the machine's own network: nothing is sent here")
    mark = mark_of(token)
    with IPRoute() as netlink:
        links = list(netlink.get_links())
        home = netlink.get_netnsid(fd=_HOME)["nsid"]  # -1, as long as no link has ever led there
    if not token or not any(link["index"] == 1 and link.get("IFLA_IFALIAS") == mark for link in links):
        raise Refused("the loopback here does not carry this lab's mark: nothing is sent")
    for link in links:
        if link["index"] != 1 and not _is_ours(link, mark):
            raise Refused(f"{link.get('IFLA_IFNAME')} is no link of this lab: nothing is sent")
        if home >= 0 and link.get("IFLA_LINK_NETNSID") == home:
            raise Refused(f"{link.get('IFLA_IFNAME')} leads to the network the lab was started from: nothing is sent")


def _is_ours(link: Any, mark: str) -> bool:
    veth: bool = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "veth"
    return veth and link.get("IFLA_IFALIAS") == mark
