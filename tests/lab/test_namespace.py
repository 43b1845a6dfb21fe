from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import Lab, LabError, Namespace, Verdict, process

TESTS = Path(__file__).parents[1]


def test_a_function_runs_inside_and_its_result_comes_back(namespace: Namespace) -> None:
    here = Path("/proc/self/ns/net")

    assert namespace.run(lambda: here.stat().st_ino) == namespace.inode != here.stat().st_ino
    assert namespace.run(lambda *args, **kwargs: (args, kwargs), 1, b=2) == ((1,), {"b": 2})
    assert len(namespace.run(lambda: bytes(3 << 20))) == 3 << 20


def test_what_it_raises_is_raised_here_and_says_where(namespace: Namespace) -> None:
    def fails() -> None:
        raise KeyError("this one")

    with pytest.raises(KeyError, match="this one") as caught:
        namespace.run(fails)
    assert "in fails" in caught.value.__notes__[0]


def test_an_exception_that_cannot_travel_comes_as_text(namespace: Namespace) -> None:
    class Local(Exception):  # noqa: N818
        pass

    def fails() -> None:
        raise Local("this one")

    with pytest.raises(LabError, match="this one"):
        namespace.run(fails)


def test_a_child_that_dies_or_hangs_is_told_apart(namespace: Namespace) -> None:
    with pytest.raises(LabError, match="ended without an answer"):
        namespace.run(os._exit, 3)
    hanging = namespace.start(time.sleep, 60)
    with pytest.raises(LabError, match="no answer within"):
        hanging.result(timeout=0.05)
    assert not Path(f"/proc/{hanging.pid}").exists()


def test_programs_run_inside_and_end_with_the_namespace() -> None:
    with Namespace() as space:
        assert space.check([sys.executable, "-c", "import socket; print(socket.if_nameindex())"]) == "[(1, 'lo')]\n"
        program = space.popen(["sleep", "60"])
        task = space.start(time.sleep, 60)
        assert program.poll() is None
    assert program.returncode == -9
    assert not task.alive()


def test_nft_loads_lists_and_complains(namespace: Namespace) -> None:
    namespace.nft("table inet t { }")

    assert "table inet t" in namespace.nft("list ruleset")
    with pytest.raises(LabError, match="syntax error"):
        namespace.nft("table inet {")


def test_root_can_try_what_an_ordinary_user_gets() -> None:
    with Lab(rootless=True) as lab:
        lab.listen()
        lab.gateway.nft("""
            table inet t {
                chain forward { type filter hook forward priority 0
                    tcp dport 3101 drop
                }
            }
        """)

        assert lab.try_one("206.51.26.7", "tcp/3101") is Verdict.SILENT
        assert lab.try_one("2607:ffc0::7", "tcp/443") is Verdict.REACHED
        assert lab.gateway.run(os.geteuid) == 0


def test_where_no_namespace_can_be_made_it_says_why() -> None:
    def in_a_user_namespace_of_its_own_that_allows_no_other() -> None:
        # The limit counts those made within the caller's own user namespace: the machine's stays as it is.
        Path("/proc/sys/user/max_user_namespaces").write_text("0", encoding="ascii")
        Lab(rootless=True)

    with Namespace(rootless=True) as space, pytest.raises(LabError, match=r"user\.max_user_namespaces=10000"):
        space.run(in_a_user_namespace_of_its_own_that_allows_no_other)


def test_a_held_connection_can_be_watched(lab: Lab) -> None:
    lab.listen()
    with lab.subscriber.socket() as held:
        held.settimeout(process.PATIENCE)
        held.connect(("206.51.26.7", 3101))
        assert held.recv(100) == b"206.51.26.7 3101\n"
        held.send(b"hello\n")
        assert held.recv(100) == b"hello\n"


CRASHING = """
import os, sys, time
from lab import Lab
lab = Lab()
lab.listen()
assert lab.try_one("206.51.26.7", "tcp/3101") == "reached"
program = lab.gateway.popen(["sleep", "600"])
tasks = [task.pid for space in (lab.subscriber, lab.gateway, lab.internet) for task in space._tasks if task.alive()]
print(*[program.pid, *tasks], flush=True)
print(*[space.inode for space in (lab.subscriber, lab.gateway, lab.internet)], flush=True)
time.sleep(600)
"""


def test_nothing_is_left_behind_when_the_lab_is_killed() -> None:
    crashing = subprocess.Popen(
        [sys.executable, "-c", CRASHING],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert crashing.stdout is not None
    pids = [int(pid) for pid in crashing.stdout.readline().split()]
    inodes = crashing.stdout.readline().split()
    assert len(pids) == 3  # the program, the listeners, the courier
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    assert len(holders(inodes)) >= 4

    crashing.kill()
    crashing.wait()
    crashing.stdout.close()

    deadline = time.monotonic() + process.PATIENCE
    while holders(inodes) or any(running(pid) for pid in pids):
        assert time.monotonic() < deadline, (holders(inodes), pids)
        time.sleep(0.01)


def running(pid: int) -> bool:
    """Dead ones stay visible where nobody reaps orphans, as in some containers."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def holders(inodes: list[str]) -> set[str]:
    """Processes that are in one of these network namespaces, or hold a descriptor of one."""
    names = {f"net:[{inode}]" for inode in inodes}
    found = set()
    for process_dir in Path("/proc").glob("[0-9]*"):
        try:
            links = [process_dir / "ns/net", *(process_dir / "fd").iterdir()]
        except (FileNotFoundError, PermissionError):
            continue
        for link in links:
            try:
                if str(link.readlink()) in names:
                    found.add(process_dir.name)
            except (FileNotFoundError, PermissionError):
                continue
    return found
