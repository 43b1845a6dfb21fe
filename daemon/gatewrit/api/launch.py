"""How the process that speaks HTTP is started. Here, and not beside it, so that who starts it doesn't load it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def command(
    sockets: list[int], feed: int | Path, gateway: str, who: tuple[int, int] | None, log_: tuple[str, str]
) -> list[str]:
    """Return how to start it, with these file descriptors inherited; a feed that is a path is connected to."""
    words = [sys.executable, "-P", "-m", "gatewrit.api", f"--gateway={gateway}"]
    words += [f"--listen={fd}" for fd in sockets]
    words.append(f"--feed={feed}" if isinstance(feed, int) else f"--feed-path={feed}")
    words += [f"--log-format={log_[0]}", f"--log-level={log_[1]}"]
    if who is not None:
        words += [f"--uid={who[0]}", f"--gid={who[1]}"]
    return words


def environment() -> dict[str, str]:
    """Return what of our environment it needs: no settings, and nothing of the service manager's but the journal.

    And what keeps it small: one heap for all threads, as what each has freed isn't given back; no search through all
    that is installed for what hooks into pydantic; none of the host's certificate authorities, which aiohttp loads for
    clients, and there is none.
    """
    needed = ("LANG", "NO_COLOR", "JOURNAL_STREAM", "PATH", "PYTHONPATH", "TERM", "TZ")
    lean = {"MALLOC_ARENA_MAX": "1", "PYDANTIC_DISABLE_PLUGINS": "__all__"}
    lean |= {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
    return {name: os.environ[name] for name in needed if name in os.environ} | lean
