"""The units, installed as README says and booted: what each of their lines promises is seen to happen."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from systemd import orders, tree
from systemd.machine import booted, until

if TYPE_CHECKING:
    from pathlib import Path

    from systemd.machine import Machine
    from systemd.report import Report

UNIT, HTTP = "gatewrit.service", "gatewrit-http.service"
DROP_INS = f"/etc/systemd/system/{UNIT}.d"
#: `systemd-analyze security`, at most.
EXPOSURE = {UNIT: 1.4, HTTP: 0.5}
#: A mistake of ours, for the watchdog: passes that never end, while the event loop, and with it HTTP, goes on.
HANG = """
import asyncio, pathlib
from gatewrit.engine import enforcer
enforce = enforcer.Enforcer.enforce

async def hang(self, *arguments):
    if pathlib.Path("/run/gatewrit/hang").exists():
        await asyncio.Event().wait()
    return await enforce(self, *arguments)

enforcer.Enforcer.enforce = hang
"""


def install(machine: Machine) -> None:
    """Install by hand, as README says."""
    systemd = "/usr/src/gatewrit/systemd"
    machine.check("python3", "-m", "venv", "/opt/gatewrit")
    machine.check(
        "/opt/gatewrit/bin/pip", "install", "--quiet", "--no-index", "--find-links=/usr/src/wheels", "gatewrit"
    )
    machine.check("install", "-d", "/etc/gatewrit/policies/services", "/etc/systemd/system")
    for name in (UNIT, HTTP, "gatewrit-http.socket"):
        machine.check("install", "-m", "644", f"{systemd}/{name}", "/etc/systemd/system/")
    for name in ("sysusers", "tmpfiles"):
        machine.check("install", "-D", "-m", "644", f"{systemd}/{name}.conf", f"/usr/lib/{name}.d/gatewrit.conf")
        machine.check(f"systemd-{name}", *(["--create"] if name == "tmpfiles" else []), "gatewrit.conf")
    machine.check("ln", "-s", "/opt/gatewrit/bin/gatewrit", "/usr/local/bin/gatewrit")
    machine.write("/etc/gatewrit/gatewrit.yaml", orders.SETTINGS)
    machine.write("/etc/systemd/system/some-network.service", orders.NETWORK)
    machine.check("systemctl", "daemon-reload")
    machine.check("systemctl", "enable", "--now", "some-network.service", "nftables.service")
    machine.check("systemctl", "enable", "--now", UNIT, "gatewrit-http.socket", HTTP)


def provide(merged: Path, python: str) -> None:
    """Lay what README takes from a clone into the tree."""
    shutil.copytree(tree.wheels(python), merged / "usr/src/wheels")
    shutil.copytree(tree.ROOT / "systemd", merged / "usr/src/gatewrit/systemd")


def bookworm(report: Report) -> None:
    """Debian 12, with systemd 252."""
    with tree.changeable("bookworm") as merged:
        provide(merged, "3.11")
        with booted(merged) as machine:
            for part in (starts, reloads, is_confined, asks_the_clock, dies, hangs, stands_still):
                with report.goes_on(part.__name__):
                    part(machine, report)
            with report.goes_on("the end"):
                break_all(machine)
                machine.power_off()
        with booted(merged) as machine, report.goes_on("the second boot"):
            boots_with_broken_policies(machine, report)


def trixie(report: Report) -> None:
    """Debian 13, whose systemd knows notify-reload."""
    with tree.changeable("trixie") as merged:
        provide(merged, "3.13")
        with booted(merged) as machine, report.goes_on("Debian 13"):
            starts(machine, report)
            reloads_by_signal(machine, report)
            is_confined(machine, report)
            asks_the_clock(machine, report)


def starts(machine: Machine, report: Report) -> None:
    """Install and start; the first order."""
    version = machine.check("systemctl", "--version").split()[1]
    report.part(f"systemd {version}: installed as README says, and started")
    install(machine)
    report.row("the enforcer is", machine.shown(UNIT, "ActiveState"), "active")
    report.row("its type", machine.shown(UNIT, "Type"), "notify")
    report.row("nothing is blocked before there is a policy", "reject" in machine.ask("nft", "list", "ruleset"), False)
    report.row("gatewrit status, exit code", machine.run("gatewrit", "status").returncode, 0)
    orders.place(machine, "alpha", 1, 3101)
    report.row("gatewrit reload, exit code", machine.run("gatewrit", "reload").returncode, 0)
    report.row("a packet to what is ordered", orders.probe(machine, 1), "blocked")
    report.row("… to another port of it", orders.probe(machine, 1, 3102), "passes")
    report.row("… to its neighbour", orders.probe(machine, 2), "passes")
    verified = machine.run("gatewrit", "verify")
    print(f"          {verified.stdout.strip()}")
    report.row("gatewrit verify, exit code", verified.returncode, 0)


def reloads(machine: Machine, report: Report) -> None:
    """Reload what is good, and what isn't."""
    report.part("reload")
    orders.place(machine, "beta", 3, 3101)
    report.row("systemctl reload, exit code", machine.run("systemctl", "reload", UNIT).returncode, 0)
    report.row("a packet to what the new order names", orders.probe(machine, 3), "blocked")
    pid = machine.shown(UNIT, "MainPID")
    machine.write(f"{orders.POLICIES}/beta.yaml", "policy: beta\nrevision: [\n")
    report.row("systemctl reload of a broken policy fails", machine.run("systemctl", "reload", UNIT).returncode != 0)
    report.row("… the unit stays", machine.shown(UNIT, "ActiveState"), "active")
    report.row("… with the same process", machine.shown(UNIT, "MainPID"), pid)
    report.row("… and the order in force", orders.probe(machine, 3), "blocked")
    report.row("… enforcement", machine.json("gatewrit", "status", "--json")["enforcement"], "degraded")
    orders.place(machine, "beta", 3, 3101)
    report.row("mended, exit code", machine.run("systemctl", "reload", UNIT).returncode, 0)


def reloads_by_signal(machine: Machine, report: Report) -> None:
    """Reload with the drop-in that 253 and newer can take."""
    report.part("Type=notify-reload, examples/notify-reload.conf")
    machine.check(
        "install", "-D", "-m", "644", "/usr/src/gatewrit/systemd/examples/notify-reload.conf", f"{DROP_INS}/r.conf"
    )
    machine.check("systemctl", "daemon-reload")
    machine.check("systemctl", "restart", UNIT)
    report.row("its type", machine.shown(UNIT, "Type"), "notify-reload")
    orders.place(machine, "beta", 3, 3101)
    report.row("systemctl reload, exit code", machine.run("systemctl", "reload", UNIT).returncode, 0)
    report.row("when it returns, a packet to what the new order names", orders.probe(machine, 3), "blocked")


def is_confined(machine: Machine, report: Report) -> None:
    """What the two processes may still do, and what HTTP says."""
    report.part("confinement and HTTP")
    for unit, most in EXPOSURE.items():
        said = machine.ask("systemd-analyze", "security", "--no-pager", unit).splitlines()[-1]
        print(f"          {said}")
        found = re.search(r": ([0-9.]+) ", said)
        report.row(f"{unit}, exposure at most {most}", found is not None and float(found[1]) <= most)
    status = machine.check("cat", f"/proc/{machine.shown(UNIT, 'MainPID')}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    report.row("the enforcer's user is gatewrit", fields["Uid"].split()[1], machine.ask("id", "-u", "gatewrit"))
    report.row("its capabilities: CAP_NET_ADMIN alone", int(fields["CapEff"], 16), 1 << 12)
    report.row("its bounding set alike", int(fields["CapBnd"], 16), 1 << 12)
    report.row(
        "control socket", machine.ask("stat", "-c", "%U:%G %a", "/run/gatewrit/control.sock"), "gatewrit:gatewrit 660"
    )
    feed = machine.ask("stat", "-c", "%U:%G %a", "/run/gatewrit/http/feed.sock")
    report.row("the server's socket", feed, "gatewrit:gatewrit-http 660")
    report.row("HTTP through its socket unit, /readyz", orders.ready(machine), 200)
    machine.check("systemctl", "kill", "--kill-whom=main", "--signal=KILL", HTTP)
    report.row("… with the server just killed", orders.ready(machine), 200)
    codes = [each["code"] for each in machine.json("gatewrit", "status", "--json")["problems"]]
    report.row("nothing is wrong, but nobody vouches for the clock", codes, ["clock_unsynchronised"])


def asks_the_clock(machine: Machine, report: Report) -> None:
    """Whether the clock is right: by systemd-timesyncd's mark, or by the kernel with the drop-in."""

    def problems() -> list[str]:
        return [each["message"] for each in machine.json("gatewrit", "status", "--json")["problems"]]

    report.part("the clock")
    report.row("the kernel may not be asked", any("ProtectClock=" in each for each in problems()))
    machine.check("install", "-D", "/dev/null", "/run/systemd/timesync/synchronized")
    until(lambda: not problems(), "systemd-timesyncd's mark is believed")
    report.row("systemd-timesyncd's mark is believed: nothing is wrong", problems(), [])
    machine.check("rm", "/run/systemd/timesync/synchronized")
    example = "/usr/src/gatewrit/systemd/examples/other-time-daemon.conf"
    machine.check("install", "-D", "-m", "644", example, f"{DROP_INS}/clock.conf")
    machine.check("systemctl", "daemon-reload")
    machine.check("systemctl", "restart", UNIT)
    report.row("with other-time-daemon.conf it may be", any("ProtectClock=" in each for each in problems()), False)
    machine.check("rm", f"{DROP_INS}/clock.conf")
    machine.check("systemctl", "daemon-reload")
    machine.check("systemctl", "restart", UNIT)


def dies(machine: Machine, report: Report) -> None:
    """Killed, and started anew by systemd."""
    report.part("kill -9")
    handle, restarts = orders.table(machine), int(machine.shown(UNIT, "NRestarts"))
    machine.check("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    if orders.owned(machine):
        # systemd keeps the socket that owns it.
        deleted = machine.run("nft", "delete", "table", "inet", "gatewrit").returncode
        report.row("dead or not, nft is to delete the table: exit code", deleted, 1)
    report.row("dead or not, a packet to what is ordered", orders.probe(machine, 1), "blocked")
    until(lambda: int(machine.shown(UNIT, "NRestarts")) > restarts, "systemd starts it anew")
    until(lambda: machine.shown(UNIT, "ActiveState") == "active", "it is ready again")
    report.row("started anew: once", int(machine.shown(UNIT, "NRestarts")) - restarts, 1)
    report.row("the table is the same", orders.table(machine), handle)
    report.row("gatewrit verify, exit code", machine.run("gatewrit", "verify").returncode, 0)
    machine.check("systemctl", "restart", "nftables.service")
    until(lambda: orders.probe(machine, 1) == "blocked", "what nftables.service flushed is put back")
    report.row("nftables.service flushes everything: put back", orders.probe(machine, 3), "blocked")


def hangs(machine: Machine, report: Report) -> None:
    """A pass that never ends."""
    report.part("watchdog (5 s here)")
    machine.write("/usr/src/hang/sitecustomize.py", HANG)
    machine.write(f"{DROP_INS}/hang.conf", "[Service]\nWatchdogSec=5\nEnvironment=PYTHONPATH=/usr/src/hang\n")
    machine.check("systemctl", "daemon-reload")
    machine.check("systemctl", "restart", UNIT)
    handle = orders.table(machine)
    machine.check("touch", "/run/gatewrit/hang")
    machine.run("nft", "add", "chain", "inet", "gatewrit", "foreign")
    until(lambda: machine.shown(UNIT, "Result") == "watchdog", "the watchdog finds that no pass ends")
    report.row("a pass that hangs: the unit's result", machine.shown(UNIT, "Result"), "watchdog")
    report.row("meanwhile a packet to what is ordered", orders.probe(machine, 1), "blocked")
    machine.check("rm", "/run/gatewrit/hang")
    until(lambda: machine.run("gatewrit", "status").returncode == 0, "it enforces again")
    report.row("started anew, and in sync", machine.shown(UNIT, "ActiveState"), "active")
    report.row("the table is the same", orders.table(machine), handle)
    log = machine.ask("journalctl", "--unit", UNIT, "--no-pager", "--output=cat")
    report.row("the log says where it hung", "Current thread" in log or "most recent call first" in log)
    machine.check("rm", f"{DROP_INS}/hang.conf")
    machine.check("systemctl", "daemon-reload")
    machine.check("systemctl", "restart", UNIT)


def stands_still(machine: Machine, report: Report) -> None:
    """Stopped, and what root does meanwhile."""
    report.part("stop; root without a daemon")
    handle = orders.table(machine)
    machine.check("systemctl", "stop", UNIT)
    report.row("stopped: the table is the same", orders.table(machine), handle)
    report.row("a packet to what is ordered", orders.probe(machine, 1), "blocked")
    suspend = machine.run("gatewrit", "suspend", "alpha", "--until", "1h", "--reason", "a test")
    report.row("gatewrit suspend, exit code", suspend.returncode, 0)
    report.row("a packet to what was suspended", orders.probe(machine, 1), "passes")
    report.row("gatewrit resume, exit code", machine.run("gatewrit", "resume", "alpha").returncode, 0)
    machine.check("systemd-run", "--quiet", "--unit=by-hand", "gatewrit", "run")
    until(lambda: machine.run("gatewrit", "status").returncode == 0, "`gatewrit run`, started by root, is in sync")
    report.row("root's own `gatewrit run`, in sync: the table is the same", orders.table(machine), handle)
    sockets = machine.ask("stat", "-c", "%U:%G %a", "/run/gatewrit/control.sock")
    report.row("… its control socket", sockets, "gatewrit:gatewrit 660")
    machine.check("systemctl", "stop", "by-hand")
    foreign = machine.ask("find", "/var/lib/gatewrit", "!", "-user", "gatewrit")
    report.row("files in the state that aren't the daemon's", foreign, "")
    machine.check("systemctl", "start", UNIT)
    codes = [each["code"] for each in machine.json("gatewrit", "status", "--json")["problems"]]
    report.row("started: nothing is wrong with the state", codes, ["clock_unsynchronised"])
    report.row("a packet to what is ordered", orders.probe(machine, 1), "blocked")


def break_all(machine: Machine) -> None:
    """Leave nothing that could be read at the next boot."""
    machine.write(f"{orders.POLICIES}/alpha.yaml", "policy: alpha\n\trevision\n")
    machine.check("rm", f"{orders.POLICIES}/services/beta.yaml")


def boots_with_broken_policies(machine: Machine, report: Report) -> None:
    """A boot: what was last good is in force before the network is."""
    report.part("boot, with both policies broken")
    seen = machine.ask("cat", "/run/ruleset-when-the-network-starts")
    report.row(
        "when the network starts, what is ordered is in the kernel", "203.0.113.1" in seen and "203.0.113.3" in seen
    )
    for octet in (1, 3):
        report.row(f"a packet to 203.0.113.{octet}, which an order names", orders.probe(machine, octet), "blocked")
    status = machine.json("gatewrit", "status", "--json")
    report.row("enforcement", status["enforcement"], "degraded")
    report.row("orders in force", status["policies"]["in_force"], 2)
    report.row(
        "no ordering cycle was broken up", "ordering cycle" in machine.ask("journalctl", "-b", "--no-pager"), False
    )
    at = {
        each: int(machine.shown(each, "ActiveEnterTimestampMonotonic"))
        for each in (UNIT, "network-pre.target", "nftables.service")
    }
    report.row(
        "nftables.service, then ready, then network-pre.target",
        sorted(at, key=at.__getitem__),
        ["nftables.service", UNIT, "network-pre.target"],
    )
    began = int(machine.shown(UNIT, "ExecMainStartTimestampMonotonic"))
    print(f"          ready {(at[UNIT] - began) / 1e6:.1f} s after its process began")
