"""One heap for all threads: what the allocator itself says of it, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_ALLOCATING = """
import ctypes, re, sys, threading
from gatewrit.engine import heap
if sys.argv[1] == "shared":
    heap.share()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
def count(pattern):
    file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    return re.findall(pattern, open(sys.argv[2]).read())
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
heaps = len(count("<heap nr="))
ready.wait()
apart = 'type="mmap" count="([0-9]+)"'
large = bytearray(8 << 20)
del large
(before,) = count(apart)
smaller = bytearray(4 << 20)
(after,) = count(apart)
print(heaps, int(after) - int(before))
"""


@pytest.mark.parametrize("how", ["shared", "apart"])
def test_threads_share_one_heap_and_large_arrays_have_none(tmp_path: Path, how: str) -> None:
    args = [sys.executable, "-c", _ALLOCATING, how, str(tmp_path / "told")]
    heaps, apart = subprocess.run(args, check=True, timeout=60, stdout=subprocess.PIPE).stdout.split()
    assert ((int(heaps), int(apart)) == (1, 1)) is (how == "shared")
    assert (int(heaps) > 1, int(apart) == 0) == (how == "apart",) * 2
