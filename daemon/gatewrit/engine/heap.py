"""The process's memory: what a reload needed for a moment and the allocator still has goes back to the system.

Arrays of a million rows come and go by the dozen while a list is read and compiled. The C library keeps what is freed
in case it is needed again, which is about as much as everything that stays; and it keeps it for each thread apart.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

_LIBC = ctypes.CDLL(None)
#: <malloc.h>
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
#: From so many bytes on an array has pages of its own, and goes back to the system when it is freed.
_OWN_PAGES = 1 << 20


def share() -> None:
    """Have all threads take memory from one heap, and large arrays from none: before there are any threads.

    What one frees is what the next one needs; only one of them runs Python at a time, so that they are never in each
    other's way for long. By itself the C library raises the size from which on arrays have pages of their own with each
    that is freed, and the heap ends up with holes of their size.
    """
    with suppress(AttributeError):
        _LIBC.mallopt(_M_ARENA_MAX, 1)
        _LIBC.mallopt(_M_MMAP_THRESHOLD, _OWN_PAGES)


def trim() -> None:
    """Give free memory back; nothing where the C library can't (musl)."""
    with suppress(AttributeError):
        _LIBC.malloc_trim(0)
