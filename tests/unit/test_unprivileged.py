"""Privileges are given up for good, and who the server becomes can't command the daemon."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys

import pytest

from gatewrit.api import unprivileged

SCRIPT = """
import os, sys
from gatewrit.api import unprivileged
unprivileged.drop({who})
print(os.getresuid(), os.getresgid(), os.getgroups(), unprivileged._left())
try:
    os.setuid(0)
except OSError:
    print("no way back")
"""


def dropped(who: tuple[int, int] | None, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(who=who)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environ},
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_root_becomes_somebody_who_can_do_nothing() -> None:
    told = dropped((4711, 4712))
    assert told.stdout == "(4711, 4711, 4711) (4712, 4712, 4712) [] []\nno way back\n", told.stderr


def test_where_nobody_else_can_be_become_it_is_told() -> None:
    told = dropped(None)
    assert "[]\n" in told.stdout, told.stderr
    if os.geteuid() == 0:
        assert "http.same_user" in told.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="privileges to be left take root")
def test_a_thread_that_keeps_its_privileges_is_found() -> None:
    script = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()" + SCRIPT
    told = subprocess.run([sys.executable, "-c", script.format(who=None)], capture_output=True, text=True, check=False)
    assert "PrivilegeError: privileges are left" in told.stderr


def entry(name: str, uid: int, gid: int) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, gid, "", "/", "/bin/false"))


@pytest.mark.parametrize(
    ("users", "control", "who"),
    [
        ([("gatewrit-http", 900, 901), ("nobody", 65534, 65534)], 950, (900, 901)),
        ([("nobody", 65534, 65534)], None, (65534, 65534)),
        ([("gatewrit-http", 900, 950), ("nobody", 65534, 65534)], 950, (65534, 65534)),
        ([("gatewrit-http", 0, 901)], None, None),
        ([], None, None),
    ],
)
def test_who_it_becomes(
    users: list[tuple[str, int, int]],
    control: int | None,
    who: tuple[int, int] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {name: entry(name, uid, gid) for name, uid, gid in users}
    monkeypatch.setattr(unprivileged.pwd, "getpwnam", lambda name: known[name])
    assert unprivileged.account(control) == who
