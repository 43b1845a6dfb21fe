"""One heap for all threads: what the allocator itself says of it, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_ALLOCATING = """
import ctypes, sys, threading
from gatewrit.engine import heap
if sys.argv[1] == "shared":
    heap.share()
ready = threading.Barrier(5)
def work():
    held = [bytearray(50_000) for _ in range(20)]
    ready.wait()
    ready.wait()
    del held
threads = [threading.Thread(target=work) for _ in range(4)]
for each in threads:
    each.start()
ready.wait()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
ready.wait()
"""


@pytest.mark.parametrize("how", ["shared", "apart"])
def test_threads_share_one_heap(tmp_path: Path, how: str) -> None:
    told = tmp_path / "told"
    subprocess.run([sys.executable, "-c", _ALLOCATING, how, str(told)], check=True, timeout=60)
    assert (told.read_text().count("<heap nr=") == 1) is (how == "shared")
