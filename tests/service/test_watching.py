"""`status --watch` in a real terminal beside a real daemon: it follows, and says when the daemon is gone."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import termios
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from support.gateway import PATIENCE, clean_environment, program, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from support.gateway import Gateway

_STEERING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A terminal with a program in it; `seen` is what was printed since `forget`, without what moves the cursor."""

    def __init__(self, gateway: Gateway, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self._bytes = bytearray()
        env = {**clean_environment(), "TERM": "xterm-256color"}
        self.process = gateway.space.popen([*program(), *words], stdin=theirs, stdout=theirs, stderr=theirs, env=env)
        os.close(theirs)
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        try:
            while part := os.read(self._ours, 65536):
                self._bytes += part
        except OSError:
            # EIO: nobody has the terminal open any more.
            return

    @property
    def raw(self) -> str:
        return self._bytes.decode(errors="replace")

    def says(self, text: str) -> None:
        until(lambda: text in " ".join(_STEERING.sub("", self.raw).split()))

    def forget(self) -> None:
        self._bytes.clear()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reading.join()
        os.close(self._ours)


@contextmanager
def watching(gateway: Gateway) -> Iterator[Terminal]:
    terminal = Terminal(gateway, "status", "--watch", "--interval", "0.3", "--config", str(gateway.config))
    try:
        yield terminal
    finally:
        terminal.close()


def test_it_follows_says_when_the_daemon_is_gone_and_ends_with_ctrl_c(gateway: Gateway) -> None:
    gateway.order("alpha", "203.0.113.0/24", "tcp/3101")
    gateway.start()
    with watching(gateway) as terminal:
        terminal.says("in force alpha r1")
        gateway.policy("alpha", revision=2)
        gateway.reload()
        terminal.says("in force alpha r2")
        gateway.end()
        terminal.says("no daemon is running here")
        terminal.says("What follows is OLD")
        gateway.start()
        terminal.forget()
        terminal.says("Enforced exactly as ordered")
        terminal.says("As of")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(PATIENCE) == 0
        # The alternate screen is left and the cursor is there again, and no traceback is in sight.
        until(lambda: "\x1b[?1049l" in terminal.raw and "\x1b[?25h" in terminal.raw)
        assert "Traceback" not in terminal.raw


def test_what_monitoring_asks(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gateway.cli("status", "--check").returncode == 2
    gateway.order("alpha", "203.0.113.0/24", "tcp/3101")
    gateway.start()
    gateway.reload()
    answer = gateway.cli("status", "--check", "-w", "100", "-c", "200")
    # A machine whose clock nothing synchronises is worth a warning, and nothing else is.
    warned = "clock_unsynchronised" in answer.stdout
    assert answer.returncode == (1 if warned else 0), answer.stdout
    assert f"GATEWRIT {'WARNING' if warned else 'OK'} - Enforced exactly as ordered; verified " in answer.stdout
    assert "verified_age=" in answer.stdout
    assert ";100;200;0 in_force=1;" in answer.stdout
    assert not answer.stderr
    monkeypatch.setattr("gatewrit.cli.ask._HURRY", 0.3)
    gateway.send(signal.SIGSTOP)
    hung = gateway.cli("status", "--check")
    gateway.send(signal.SIGCONT)
    assert (hung.returncode, hung.stdout.count("\n")) == (2, 1)
    assert "it may hang" in hung.stdout
