"""What sees to it that a change which nobody confirms is taken back, should the daemon be gone by then.

A running daemon takes it back itself. This is started before the change is made, outlives the terminal, and waits: as
a transient timer of systemd where that runs, else as a process of its own. At the deadline it asks the daemon, or
does it itself where there is none.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatewrit.api.launch import environment
from gatewrit.settings import PREFIX

if TYPE_CHECKING:
    from gatewrit.settings import Settings

#: Seconds within which systemd must have taken the timer.
_PATIENCE = 10.0


def start(settings: Settings, seconds: int) -> bool:
    """Have somebody take back, in so many seconds, what isn't confirmed by then; False if this user may not."""
    settings.state.mkdir(mode=0o750, parents=True, exist_ok=True)
    if not os.access(settings.state, os.R_OK | os.W_OK | os.X_OK):
        return False
    config = click.get_current_context().params["config"]
    words = [sys.executable, "-P", "-m", "gatewrit", "rollback"]
    words += [] if config is None else ["--config", str(Path(config).absolute())]
    given = {name: each for name, each in os.environ.items() if name.startswith(PREFIX)}
    if _by_systemd([*words, "--unless-confirmed", "0"], given, seconds):
        return True
    subprocess.Popen(  # noqa: S603 - our own words
        [*words, "--unless-confirmed", str(seconds)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={**environment(), **given},
        start_new_session=True,
    )
    return True


def _by_systemd(words: list[str], given: dict[str, str], seconds: int) -> bool:
    """Set a timer of the host's systemd; False where there is none, or it lives in another network namespace."""
    program = shutil.which("systemd-run")
    if program is None or not systemd_here():
        return False
    told = [f"--setenv={name}={each}" for name, each in {**environment(), **given}.items()]
    timer = ["--timer-property=AccuracySec=100ms", f"--on-active={seconds}s", *told]
    unit = f"--unit=gatewrit-undo-{secrets.token_hex(4)}"
    try:
        ended = subprocess.run(  # noqa: S603 - our own words
            [program, "--quiet", "--collect", unit, *timer, "--", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0


def systemd_here() -> bool:
    """Whether systemd runs on this host, and its services are in this network namespace."""
    try:
        return Path("/run/systemd/system").is_dir() and Path("/proc/self/ns/net").samefile("/proc/1/ns/net")
    except OSError:
        return False
