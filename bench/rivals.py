"""The tools that operators use today, each loading the same list: nft, ipset, firewalld.

Each gets its list as it likes it best: one interval set in a table of its own by `nft -f`, a hash:net by
`ipset restore`, and for firewalld an ipset of its own filled from a file, over a private D-Bus. All run inside a
namespace of the bench.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.lists import text
from bench.measure import Failed, Ran, Watch, find, timed

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from bench.lists import Made
    from lab import Namespace

_BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>custom</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
"""
_LIMIT = 300.0


# -- nft ------------------------------------------------------------------------------------------------------------


def write_nft(made: Made, path: Path) -> Path:
    """Write a script: a table with one interval set, and a rule that drops what is in it."""
    kind, field = ("ipv4_addr", "ip daddr") if made.family == 4 else ("ipv6_addr", "ip6 daddr")
    with path.open("w", encoding="ascii") as file:
        file.write(f"table inet rival {{\n  set s {{\n    type {kind}\n    flags interval\n    elements = {{\n")
        file.write(",\n".join(made.lines()))
        file.write(
            "\n    }\n  }\n  chain forward {\n    type filter hook forward priority -10; policy accept;\n"
            f"    {field} @s drop\n  }}\n}}\n"
        )
    return path


def nft(space: Namespace, script: Path, limit: float = _LIMIT) -> Ran:
    """Load a script."""
    return timed(space, [find("nft"), "-f", str(script)], limit=limit)


def nft_add(space: Namespace, entry: str, limit: float) -> Ran:
    """Add one element to the set that is loaded."""
    return timed(space, [find("nft"), "add", "element", "inet", "rival", "s", f"{{ {entry} }}"], limit=limit)


def nft_list(space: Namespace, limit: float) -> Ran:
    """Read the set back."""
    return timed(space, [find("nft"), "list", "set", "inet", "rival", "s"], limit=limit)


# -- ipset ----------------------------------------------------------------------------------------------------------


def write_ipset(made: Made, path: Path) -> Path:
    """Write what `ipset restore` reads: a hash:net that has room for all."""
    family = "inet" if made.family == 4 else "inet6"
    with path.open("w", encoding="ascii") as file:
        file.write(f"create s hash:net family {family} maxelem {max(65536, 2 * len(made.entries))}\n")
        file.writelines(f"add s {line}\n" for line in made.lines())
    return path


def ipset(space: Namespace, script: Path, limit: float = _LIMIT) -> Ran:
    """Load it."""
    return timed(space, [find("ipset"), "restore"], stdin=script, limit=limit)


def ipset_add(space: Namespace, entry: str) -> Ran:
    """Add one element to the set that is loaded."""
    return timed(space, [find("ipset"), "add", "s", entry])


def ipset_rule(space: Namespace, family: int) -> None:
    """Have forwarded packets looked up in it, by Debian's iptables."""
    program = find("iptables" if family == 4 else "ip6tables")
    match = ["-m", "set", "--match-set", "s", "dst", "-j", "DROP"]
    timed(space, [program, "-A", "FORWARD", *match], env=dict(os.environ, XTABLES_LOCKFILE="/dev/null"))


# -- firewalld ------------------------------------------------------------------------------------------------------


def firewalld(space: Namespace, made: Made, folder: Path) -> Ran:
    """Add a list to an ipset of a running firewalld: `--add-entries-from-file`; memory is the daemon's."""
    system = folder / "firewalld"
    system.mkdir()
    stock = next((each for each in _stocks() if each.exists()), None)
    if stock is not None:
        shutil.copy(stock, system)
    bus = folder / "bus"
    (folder / "bus.conf").write_text(_BUS.format(path=bus), encoding="ascii")
    entries = folder / "entries.txt"
    entries.write_text("\n".join(text(made.family, *each) for each in made.entries) + "\n", encoding="ascii")
    env = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={bus}"}
    where = ["--system-config", str(system)]
    family = "inet" if made.family == 4 else "inet6"
    options = ["--type=hash:net", f"--option=family={family}", f"--option=maxelem={2 * len(made.entries)}"]
    timed(space, [find("firewall-offline-cmd"), *where, "--new-ipset=bench", *options], env=env)
    daemons = [
        [find("dbus-daemon"), f"--config-file={folder / 'bus.conf'}", "--nofork", "--nopidfile"],
        [
            find("firewalld"),
            "--nofork",
            "--nopid",
            *where,
            "--log-target",
            "file",
            "--log-file",
            str(folder / "fw.log"),
        ],
    ]
    with contextlib.ExitStack() as stack:
        for command in daemons:
            daemon = stack.enter_context(_running(space, command, env, folder))
            ask = [find("firewall-cmd"), "--state"] if "firewalld" in command[0] else None
            _until_up(space, ask, bus, env)
        with Watch(daemon.pid) as seen:
            # The client gives up after D-Bus's 25 seconds, which 50,000 entries take: a list has to be small.
            command = [find("firewall-cmd"), "--ipset=bench", f"--add-entries-from-file={entries}"]
            ran = timed(space, command, env=env)
        listed = timed(space, [find("nft"), "list", "set", "inet", "firewalld", "bench"])
        last = text(made.family, *made.entries[-1]).removesuffix("/32")
        if last not in listed.output:
            raise Failed("firewalld's answer came, but the list isn't in the kernel")
    return Ran(ran.seconds, seen.peak, None, ran.code, ran.output)


def _stocks() -> Iterator[Path]:
    for folder in ("/etc/firewalld", "/usr/share/firewalld"):
        yield Path(folder, "firewalld.conf")


@contextlib.contextmanager
def _running(
    space: Namespace, command: list[str], env: dict[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "daemons.log").open("ab") as log:
        process = space.popen(command, env=env, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except Exception:  # noqa: BLE001 - then harder
            process.kill()
            process.wait()


def _until_up(space: Namespace, ask: list[str] | None, bus: Path, env: dict[str, str]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if ask is None:
            if bus.exists():
                return
        elif timed(space, ask, env=env, may_fail=True).code == 0:
            return
        time.sleep(0.1)
    raise Failed("firewalld doesn't come up here without systemd")
