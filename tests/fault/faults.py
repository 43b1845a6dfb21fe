"""The faults: each strikes a scene once. What a fault breaks it mends again before it returns.

One that waited itself until all was well again gives the seconds that this took.
"""

from __future__ import annotations

import contextlib
import errno
import re
import resource
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fault import clocks
from gatewrit.api.client import ControlError
from support.deaf import deafen_process
from support.gateway import NFT, program, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fault.scene import Scene

#: Seconds that one strike may take, with what comes after it, however busy the machine is.
LONGEST = 300.0
#: Changes that make it a fight.
_MANY = 20


@dataclass(frozen=True)
class Fault:
    """One fault, how often it strikes in `make chaos`, and whether it does in the short form: some take long.

    `owner`: the table is the daemon's own, as it is by default; who is to change it can't then.
    """

    strike: Callable[[Scene], float | None]
    often: int
    short: bool = True
    owner: bool = True

    @property
    def name(self) -> str:
        return self.strike.__name__


def killed_in_a_reload(scene: Scene) -> None:
    """SIGKILL at a random instant while something little is changed."""
    scene.change()
    scene.gateway.send(signal.SIGHUP)
    time.sleep(scene.dice.uniform(0, 0.25))
    scene.kill()


def killed_in_a_switch(scene: Scene) -> None:
    """SIGKILL at a random instant while all of a list is exchanged: parsed, prepared, switched, cleared."""
    scene.write_list(scene.dice.getrandbits(32))
    scene.change()
    scene.gateway.send(signal.SIGHUP)
    time.sleep(scene.dice.uniform(0, 0.6))
    scene.kill()


def killed_in_a_sweep(scene: Scene) -> None:
    """SIGKILL at a random instant while an order is rescinded: its counter is read and deleted, the journal written."""
    name = f"short-{scene.number}"
    scene.gateway.order(name, "81.2.90.1", "udp/3101", action="drop")
    scene.gateway.reload()
    scene.gateway.policy(name, action="drop", state="rescinded", revision=2)
    scene.change()
    scene.gateway.send(signal.SIGHUP)
    time.sleep(scene.dice.uniform(0, 0.25))
    scene.kill()
    scene.gateway.reload()
    (scene.gateway.policies / f"{name}.yaml").unlink()


_APPENDED = re.compile(r'"head": "([0-9a-f]{64})".*"journal\.appended"')
_JOURNAL_CALLS = "pwrite64,fdatasync,fsync,ftruncate,unlink"


def killed_in_a_journal_write(scene: Scene) -> None:
    """SIGKILL at a random system call of SQLite's: before a page of its log is written, before one is synced.

    Of what was said to be written nothing is lost, the chain is whole, and the next daemon goes on with it.
    """
    gateway, process = scene.gateway, scene.gateway.process
    assert process is not None
    paths = [word for name in ("journal.db", "journal.db-wal") for word in ("-P", str(gateway.state / name))]
    with _injected(scene, f"{_JOURNAL_CALLS}:signal=KILL:when={scene.dice.randrange(1, 60)}", *paths):
        ends = scene.dice.random() < 0.2
        while process.poll() is None:
            scene.change()
            # Its end has SQLite write its log back into the file.
            gateway.send(signal.SIGTERM if ends else signal.SIGHUP)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(scene.dice.uniform(0.05, 0.3))
    assert gateway.end() == -signal.SIGKILL or ends
    said = _APPENDED.findall(gateway.log.read_text())[-1]
    for _ in range(2):
        verified = gateway.cli("log", "verify", "--head", said)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        if gateway.process is None:
            gateway.start()
    found = set(gateway.codes())
    assert not found & {"journal_damaged", "journal_broken"}, found


def killed_while_starting(scene: Scene) -> None:
    """SIGKILL at a random instant of the start itself, three times on end."""
    scene.change()
    for _ in range(3):
        scene.gateway.end(signal.SIGKILL)
        scene.gateway.start(ready=False)
        time.sleep(scene.dice.uniform(0, 0.8))


def no_memory(scene: Scene) -> None:
    """Memory is refused to the daemon while all of a list is exchanged."""
    process = scene.gateway.process
    assert process is not None
    used = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(process.pid, resource.RLIMIT_AS, (used + (scene.dice.randrange(4) << 20), resource.RLIM_INFINITY))
    scene.write_list(scene.dice.getrandbits(32))
    scene.change()
    scene.gateway.send(signal.SIGHUP)
    time.sleep(0.5)
    if process.poll() is None:
        resource.prlimit(process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def power_lost(scene: Scene) -> None:
    """The machine comes up again with the state directory as it was at a random instant, and no table.

    That instant is in a reload, or while all of a list is exchanged; a panic that restarts the machine is the same.
    """
    if scene.dice.random() < 0.5:
        scene.write_list(scene.dice.getrandbits(32))
    scene.change()
    scene.gateway.send(signal.SIGHUP)
    time.sleep(scene.dice.uniform(0, 0.4))
    copy = scene.gateway.root / "state-then"
    with contextlib.suppress(shutil.Error):
        # What is renamed while it is copied is missing, as it may be after a loss of power.
        shutil.copytree(scene.gateway.state, copy)
    scene.gateway.end(signal.SIGKILL)
    with scene.rebooting():
        for path in scene.gateway.state.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(copy, scene.gateway.state, dirs_exist_ok=True)
        shutil.rmtree(copy)
        scene.gateway.start()


def policies_broken_at_boot(scene: Scene) -> None:
    """The machine comes up again, and every policy file is garbage: the last good ones are enforced."""
    scene.change()
    scene.gateway.reload()
    scene.gateway.end()
    whole = {path: path.read_bytes() for path in scene.gateway.policies.rglob("*") if path.is_file()}
    with scene.rebooting():
        for path in whole:
            path.write_bytes(scene.dice.randbytes(200))
        scene.gateway.start()
    assert scene.gateway.status()["enforcement"] == "degraded"
    for path, data in whole.items():
        path.write_bytes(data)


def state_corrupt(scene: Scene) -> None:
    """Bytes of every file in the state directory are others than were written, or missing."""
    scene.change()
    scene.gateway.end(signal.SIGKILL)
    for path in sorted(each for each in scene.gateway.state.rglob("*") if each.is_file()):
        data = bytearray(path.read_bytes())
        if not data:
            continue
        if scene.dice.random() < 0.3:
            del data[scene.dice.randrange(len(data)) :]
        for _ in range(scene.dice.randrange(1, 40)):
            if data:
                data[scene.dice.randrange(len(data))] = scene.dice.randrange(256)
        path.write_bytes(data)
    scene.gateway.start()


def state_from_a_newer_version(scene: Scene) -> None:
    """Whoever wrote the state directory was a version that we don't know."""
    scene.change()
    scene.gateway.end()
    for path in scene.gateway.state.rglob("*.json"):
        path.write_bytes(
            path.read_bytes().replace(b'"version": 1', b'"version": 99').replace(b'"version":1', b'"version":99')
        )
    scene.gateway.start()


def disk_full(scene: Scene) -> None:
    """The state directory's file system takes nothing more."""
    filler = scene.gateway.state / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))
    scene.change()
    with contextlib.suppress(OSError, EOFError, ControlError):
        scene.gateway.reload()
    until(lambda: scene.gateway.blocks(scene.newest))
    if scene.dice.random() < 0.5:
        scene.kill()
        assert scene.gateway.blocks(scene.newest)
    filler.unlink()


def state_read_only(scene: Scene) -> None:
    """Nothing can be written in the state directory, from the start."""
    scene.gateway.end()
    state = str(scene.gateway.state)
    subprocess.run(["mount", "-o", "remount,ro", state], check=True)
    scene.change()
    try:
        scene.gateway.start()
        assert scene.gateway.blocks(scene.newest)
        scene.gateway.end()
    finally:
        subprocess.run(["mount", "-o", "remount,rw", state], check=True)


@contextlib.contextmanager
def _injected(scene: Scene, what: str, *only: str) -> Iterator[Callable[[], bool]]:
    """Have system calls of the running daemon fail, by strace(1); gives what says whether one has."""
    process = scene.gateway.process
    assert process is not None
    call = what.partition(":")[0]
    account = scene.gateway.root / "strace"
    words = ["strace", "-f", "-qqq", "-o", str(account), "-e", f"trace={call}", "-e", f"inject={what}", *only]
    status = Path(f"/proc/{process.pid}/status")
    with subprocess.Popen([*words, "-p", str(process.pid)], stdin=subprocess.DEVNULL) as tracer:
        try:
            until(lambda: "TracerPid:\t0\n" not in status.read_text())
            yield lambda: any(word in account.read_text() for word in ("INJECTED", "DELAYED"))
        finally:
            tracer.send_signal(signal.SIGINT)


def _failing(code: int, call: str = "sendto") -> Callable[[Scene], None]:
    name = errno.errorcode[code]

    def strike(scene: Scene) -> None:
        which = f"{scene.dice.randrange(1, 12)}+{scene.dice.randrange(2, 6)}"
        with _injected(scene, f"{call}:error={name}:when={which}") as struck:

            def change() -> bool:
                scene.change()
                scene.gateway.send(signal.SIGHUP)
                time.sleep(0.15)
                return struck()

            for _ in range(2):
                change()
            until(change)

    strike.__name__ = f"{call}_{name}"
    return strike


def acknowledgement_lost(scene: Scene) -> None:
    """The kernel does what it is told, but what it says to that never arrives: the daemon settles it by reading."""
    process = scene.gateway.process
    assert process is not None
    deafen_process(process.pid)
    scene.change()
    scene.gateway.send(signal.SIGHUP)
    until(lambda: scene.gateway.blocks(scene.newest))


def _rewrite(seconds: float) -> int:
    """Take our table out, change it and put something else into it, as fast as nft can; gives how often."""
    ended, times = time.monotonic() + seconds, 0
    chain = "add table inet gatewrit; add chain inet gatewrit mine { type filter hook forward priority 0; }"
    scripts = ("delete table inet gatewrit", f"{chain}; add rule inet gatewrit mine accept", "flush ruleset")
    while time.monotonic() < ended:
        # What isn't there can't be deleted: then it was faster than we are.
        subprocess.run([NFT, scripts[times % 3]], stderr=subprocess.DEVNULL, check=False)
        times += 1
    return times


def rival_rewrites_the_table(scene: Scene) -> float:
    """Somebody deletes, flushes and changes our table without end. What passes is theirs; nothing else is touched."""
    gateway = scene.gateway
    gateway.reload()
    with scene.excusing():
        rival = gateway.space.start(_rewrite, 5.0)
        until(lambda: ("table_contested", None) in gateway.problems())
        scene.change()
        gateway.send(signal.SIGHUP)
        assert rival.result() > _MANY
        return scene.converge()


def kernel_hangs(scene: Scene) -> None:
    """Each message to the kernel takes 0.3 seconds."""
    with _injected(scene, "sendto:delay_enter=300000") as struck:
        scene.change()
        scene.gateway.send(signal.SIGHUP)
        until(struck)
        time.sleep(1)


def reload_bomb(scene: Scene) -> None:
    """Twenty programs ask for a reload at once, three hundred signals do, and two hundred callers say nothing."""
    scene.change()
    callers = []
    for _ in range(200):
        with contextlib.suppress(OSError):
            callers.append(scene.gateway.connect())
    programs = [
        scene.gateway.space.popen(
            [*program(), "reload", "--config", str(scene.gateway.config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(20)
    ]
    for _ in range(300):
        scene.gateway.send(signal.SIGHUP)
    for caller in callers:
        caller.close()
    for each in programs:
        each.wait(LONGEST)


FAULTS = [
    Fault(killed_in_a_reload, 250),
    Fault(killed_in_a_switch, 150),
    Fault(killed_in_a_sweep, 100),
    Fault(killed_in_a_journal_write, 100),
    Fault(killed_while_starting, 20),
    Fault(no_memory, 20),
    Fault(power_lost, 40),
    Fault(policies_broken_at_boot, 5),
    Fault(state_corrupt, 100),
    Fault(state_from_a_newer_version, 2),
    Fault(disk_full, 20),
    Fault(state_read_only, 3),
    *(Fault(_failing(code), 20) for code in (errno.ENOBUFS, errno.EINTR, errno.ENOMEM, errno.EPERM)),
    *(Fault(_failing(code, "recvfrom"), 20) for code in (errno.ENOBUFS, errno.EINTR, errno.ENOMEM)),
    Fault(acknowledgement_lost, 5, short=False),
    Fault(rival_rewrites_the_table, 5, short=False, owner=False),
    Fault(kernel_hangs, 3),
    Fault(reload_bomb, 3),
    Fault(clocks.clock_leaps_a_day_and_back, 5),
    Fault(clocks.clock_leaps_beyond_belief, 5, short=False),
    Fault(clocks.clock_falls_back_by_years, 5),
    Fault(clocks.clock_steps_in_a_reload, 5, short=False),
]
