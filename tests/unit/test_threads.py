"""No threads but those that are asked for: a host of many processors would have more than the units allow."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = "import os, gatewrit.cli, gatewrit.kernel.codec; print(len(os.listdir('/proc/self/task')))"


def test_a_program_begins_with_one_thread() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    ended = subprocess.run([sys.executable, "-c", SCRIPT], env=environ, capture_output=True, text=True, check=True)
    assert ended.stdout == "1\n"
