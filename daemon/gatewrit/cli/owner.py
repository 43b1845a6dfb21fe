"""Root beside a daemon that is another user's: what root writes into the state must be as if that user had written it.

Under systemd the enforcer is the user `gatewrit`, whose state is. Where root runs a verb itself, as `sudo gatewrit
suspend` with no daemon at hand, it accesses files as that user (setfsuid(2)): nothing is left behind that the daemon
couldn't read later, and a link that this user might have laid leads root nowhere. What else root may do, it still may.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from gatewrit.cli.app import Quit

if TYPE_CHECKING:
    from gatewrit.settings import Settings


def of(settings: Settings) -> int | None:
    """Give the uid of the user whose state it is, None while there is none."""
    try:
        return settings.state.stat().st_uid
    except OSError:
        return None


def stand_in(settings: Settings) -> None:
    """If we are root and the state is another user's, access files as that user from now on, in all threads to come."""
    user = of(settings)
    if os.geteuid() != 0 or not user:
        return
    group = settings.state.stat().st_gid
    if not settings.runtime.exists():
        settings.runtime.mkdir(mode=0o755)
        os.chown(settings.runtime, user, group)
    libc = ctypes.CDLL(None)
    libc.setfsgid(group)
    libc.setfsuid(user)
    # Neither call tells whether it did anything; another one tells what holds.
    if libc.setfsuid(-1) != user:
        raise Quit(f"{settings.state} is user {user}'s, and files can't be accessed as that user; nothing was done")
