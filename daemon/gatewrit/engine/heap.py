"""The process's memory: what a reload needed for a moment and the allocator still has goes back to the system.

Arrays of a million rows come and go by the dozen while a list is read and compiled. The C library keeps what is freed
in case it is needed again, which is about as much as everything that stays.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

_LIBC = ctypes.CDLL(None)


def trim() -> None:
    """Give free memory back; nothing where the C library can't (musl)."""
    with suppress(AttributeError):
        _LIBC.malloc_trim(0)
