"""The Debian package, from `apt-get install` to a block in force, an upgrade under it, and its end."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from systemd import orders, tree
from systemd.machine import booted
from systemd.units import UNIT

if TYPE_CHECKING:
    from pathlib import Path

    from systemd.machine import Machine
    from systemd.report import Report

_APT = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "--yes", "--no-install-recommends")


def package(report: Report) -> None:
    """Debian 12: install, upgrade, remove, purge."""
    with tree.changeable("bookworm") as merged:
        (merged / "usr/src").mkdir(exist_ok=True)
        first, second = (build(merged, revision) for revision in ("1", "2"))
        report.part("the package")
        lintian(first, report)
        with booted(merged) as machine, report.goes_on("the package"):
            machine.write("/etc/systemd/system/some-network.service", orders.NETWORK)
            machine.check("systemctl", "enable", "--now", "some-network.service")
            installs(machine, report, f"/usr/src/{first.name}")
            upgrades(machine, report, f"/usr/src/{second.name}")
            ends(machine, report)


def build(merged: Path, revision: str) -> Path:
    """Build the package, and lay it into the tree."""
    words = [sys.executable, tree.ROOT / "systemd/debian/build.py", "--revision", revision]
    built = subprocess.run(
        [*words, "--wheels", tree.wheels("3.11")], check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    return shutil.copy(built, merged / "usr/src" / f"gatewrit_{revision}.deb")


def lintian(file: Path, report: Report) -> None:
    """Hold the package to Debian's rules."""
    ended = subprocess.run(["lintian", "--fail-on=error", file], check=False, capture_output=True, text=True)
    errors = [line for line in ended.stdout.splitlines() if line.startswith("E:")]
    for each in errors:
        print(f"          {each}")
    report.row("lintian, exit code", ended.returncode, 0)


def installs(machine: Machine, report: Report, file: str) -> None:
    """Install, and place a policy."""
    machine.check(*_APT, "install", file)
    for path in ("man/man1/gatewrit.1.gz", "man/man5/gatewrit.yaml.5.gz", "bash-completion/completions/gatewrit"):
        machine.check("test", "-s", f"/usr/share/{path}")
    report.row("installed: the enforcer is", machine.shown(UNIT, "ActiveState"), "active")
    report.row("… and starts at boot", machine.shown(UNIT, "UnitFileState"), "enabled")
    report.row("nothing is enforced before there is a policy", "reject" in machine.ask("nft", "list", "ruleset"), False)
    report.row("gatewrit status, exit code", machine.run("gatewrit", "status").returncode, 0)
    # Where the operator's own settings stand, as on a gateway.
    machine.write("/etc/gatewrit/gatewrit.yaml", orders.SETTINGS)
    machine.check("systemctl", "restart", UNIT)
    orders.place(machine, "alpha", 1, 3101)
    report.row("gatewrit reload, exit code", machine.run("gatewrit", "reload").returncode, 0)
    report.row("a packet to what is ordered", orders.probe(machine, 1), "blocked")
    report.row("… to another port of it", orders.probe(machine, 1, 3102), "passes")
    report.row("gatewrit verify, exit code", machine.run("gatewrit", "verify").returncode, 0)


def upgrades(machine: Machine, report: Report, file: str) -> None:
    """Upgrade with a block in force."""
    handle, pid, before = orders.table(machine), machine.shown(UNIT, "MainPID"), orders.packets(machine, "alpha")
    machine.check(*_APT, "install", "-o", "Dpkg::Options::=--force-confold", file)
    report.row("upgraded: another process", machine.shown(UNIT, "MainPID") != pid)
    report.row("… the same table", orders.table(machine), handle)
    report.row("… the operator's settings", machine.ask("cat", "/etc/gatewrit/gatewrit.yaml"), orders.SETTINGS.strip())
    report.row("a packet to what is ordered", orders.probe(machine, 1), "blocked")
    report.row("packets were counted before the upgrade", before > 0)
    report.row(f"counted now, no fewer than the {before} then", orders.packets(machine, "alpha") >= before)
    report.row("gatewrit verify, exit code", machine.run("gatewrit", "verify").returncode, 0)


def ends(machine: Machine, report: Report) -> None:
    """Remove, which lifts nothing; install again; purge, which asks."""
    handle = orders.table(machine)
    machine.check(*_APT, "remove", "gatewrit")
    report.row("removed: the same table", orders.table(machine), handle)
    report.row("a packet to what is ordered", orders.probe(machine, 1), "blocked")
    report.row("the journal is kept", machine.run("test", "-e", "/var/lib/gatewrit/journal.db").returncode, 0)
    report.row(
        "nothing else is left in /usr/lib/gatewrit", machine.run("test", "-e", "/usr/lib/gatewrit").returncode, 1
    )
    for question in ("lift", "forget"):
        machine.check("debconf-set-selections", stdin=f"gatewrit gatewrit/{question} boolean true\n")
    machine.check(*_APT, "purge", "gatewrit")
    report.row("purged, having answered yes: the table", orders.table(machine), "none")
    report.row("a packet to what was ordered", orders.probe(machine, 1), "passes")
    report.row("the state is gone", machine.run("test", "-e", "/var/lib/gatewrit").returncode, 1)
