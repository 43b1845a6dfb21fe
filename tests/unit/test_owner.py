"""Root, beside a daemon that is another user's, accesses files as that user would."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gatewrit.cli import owner
from gatewrit.settings import Settings
from support.users import can_be

USER, GROUP = 4711, 4712
SCRIPT = """
import asyncio, os, sys
from pathlib import Path
from gatewrit.cli import owner
from gatewrit.engine import durable
from gatewrit.settings import Settings

root = Path(sys.argv[1])
asyncio.run(asyncio.to_thread(int))  # loads what it takes, from where that user may not be able to read
owner.stand_in(Settings(state=root / "state", runtime=root / "run"))
asyncio.run(asyncio.to_thread(durable.write, root / "state" / "file", b"text"))
(root / "run" / "socket").touch()
try:
    (root / "secret").read_bytes()
except PermissionError:
    print("refused", os.geteuid())
"""


@pytest.mark.skipif(not can_be(USER), reason="standing in for another user takes root")
def test_what_root_writes_is_the_user_s_whose_state_it_is() -> None:
    with tempfile.TemporaryDirectory(prefix="gw-") as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "state").mkdir()
        os.chown(root / "state", USER, GROUP)
        (root / "secret").touch(mode=0o600)
        ended = subprocess.run([sys.executable, "-c", SCRIPT, name], capture_output=True, text=True, check=False)
        assert (ended.stdout, ended.stderr) == ("refused 0\n", "")
        for each in ("state/file", "run", "run/socket"):
            found = (root / each).stat()
            assert (found.st_uid, found.st_gid) == (USER, GROUP), each


def test_one_s_own_state_changes_nothing(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path, runtime=tmp_path / "run")
    assert owner.of(settings) == os.geteuid()
    owner.stand_in(settings)
    assert not settings.runtime.exists()
    assert owner.of(Settings(state=tmp_path / "none")) is None


ANOTHER = """
import importlib, os, sys
from support.inplace import invoke

for name in ("plan", "journal", "report", "takeback"):
    importlib.import_module(f"gatewrit.cli.{name}")  # from where that user may not be able to read
os.setgroups([])
os.setgid(4712)
os.setuid(4711)
for words in (["plan"], ["log"], ["report"], ["rollback", "--list"]):
    code, out, complaint = invoke(*words, "--config", sys.argv[1])
    print(words[0], code, out, complaint)
"""


@pytest.mark.skipif(not can_be(USER), reason="becoming another user takes root")
def test_who_may_not_read_the_state_is_told_so_and_who_may() -> None:
    with tempfile.TemporaryDirectory(prefix="gw-") as name:
        root = Path(name)
        root.chmod(0o755)
        for folder in ("policies", "state"):
            (root / folder).mkdir(mode=0o700 if folder == "state" else 0o755)
        (root / "gatewrit.yaml").write_text("policies: policies\nstate: state\n")
        words = [sys.executable, "-c", ANOTHER, str(root / "gatewrit.yaml")]
        path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
        environ = {**os.environ, "PYTHONPATH": path}
        ended = subprocess.run(words, capture_output=True, text=True, check=False, env=environ)
        told = ended.stdout.splitlines()
        assert [line.split()[:2] for line in told] == [[verb, "1"] for verb in ("plan", "log", "report", "rollback")]
        for line in told:
            assert f"Permission denied: '{root}/state" in line
            assert "run this as root, or as the user that the daemon runs as" in line
