"""The Debian package, on Debian 12 and 13: README's first steps word for word, an upgrade under traffic, its end."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from systemd import orders, readme, road, tree
from systemd.machine import booted, until
from systemd.units import UNIT

if TYPE_CHECKING:
    from systemd.machine import Machine
    from systemd.report import Report

_APT = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "--yes", "--no-install-recommends")
#: What `gatewrit init` asks, and is told.
_ANSWERS = (
    ("name [", "core-1"),
    ("Emergency call", "192.0.2.112"),
    ("Public warning", ""),
    ("DNS resolvers", "192.0.2.53"),
    ("Time servers", ""),
    ("Management", "192.0.2.128/25"),
)
#: README's commands end with 0, but for what says that it would change something.
_EXITS = {"gatewrit plan draft --live": 2}
_POLICY = "bes-shutdown"
_LINK = re.compile(r"\]\(([^)#:]+)[^):]*\)")


def on_12(report: Report) -> None:
    """Debian 12, which takes no package that is for 13."""
    with tree.changeable("bookworm") as merged:
        other = build(merged, "3.13", "1", "/usr/src")
        _life(report, "Debian 12", merged, "3.11", other)


def on_13(report: Report) -> None:
    """Debian 13, which takes no package that is for 12."""
    with tree.changeable("trixie") as merged:
        other = build(merged, "3.11", "1", "/usr/src")
        _life(report, "Debian 13", merged, "3.13", other)


def _life(report: Report, name: str, merged: Path, python: str, other: Path) -> None:
    # README has one there, and so has root's home; what else is tried lies elsewhere.
    first = build(merged, python, "1", "/root")
    second = build(merged, python, "2", "/usr/src")
    report.part(f"{name}: the package")
    lintian(first, report)
    with booted(merged) as machine, report.goes_on(name):
        refuses(machine, report, inside(merged, other))
        installs(machine, report)
        documents(machine, report)
        upgrades(machine, report, inside(merged, second))
        tries(machine, report)
        is_removed(machine, report)
        is_purged(machine, report, inside(merged, second))


def build(merged: Path, python: str, revision: str, folder: str) -> Path:
    """Build the package, and lay it into a folder of the tree."""
    words = [sys.executable, tree.ROOT / "systemd/debian/build.py", "--python", python, "--revision", revision]
    built = subprocess.run(
        [*words, "--wheels", tree.wheels(python)], check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    target = merged / folder.lstrip("/")
    target.mkdir(exist_ok=True)
    return Path(shutil.copy(built, target))


def inside(merged: Path, file: Path) -> str:
    """Give a file's path as the machine has it."""
    return f"/{file.relative_to(merged)}"


def lintian(file: Path, report: Report) -> None:
    """Hold the package to Debian's rules."""
    ended = subprocess.run(["lintian", "--fail-on=error", file], check=False, capture_output=True, text=True)
    for each in sorted({line for line in ended.stdout.splitlines() if line.startswith(("E:", "W:"))}):
        print(f"          {each}")
    report.row("lintian, exit code", ended.returncode, 0)


def refuses(machine: Machine, report: Report, file: str) -> None:
    """See that a package for another Python can't be installed by mistake."""
    ended = machine.run(*_APT, "install", file)
    print(f"          {next((line for line in ended.stdout.splitlines() if 'Depends:' in line), '').strip()}")
    report.row("another Debian's package is refused", ended.returncode != 0)
    report.row("… for its Python", "gatewrit : Depends: python3 " in ended.stdout)


def installs(machine: Machine, report: Report) -> None:
    """Do what README says, line by line, as somebody at a terminal would."""
    road.lay(machine)
    report.row("a packet to what will be ordered", road.probe(machine, road.BLOCKED), "passes")
    began = time.monotonic()
    for line in readme.commands("### The package"):
        code, said = machine.typed(line, _ANSWERS if "init" in line else ())
        if not report.row(readme.spoken(line), f"exit {code}", "exit 0"):
            print(said)
    report.row("nothing is blocked before there is a policy", road.probe(machine, road.BLOCKED), "passes")
    for line in readme.commands("### The first order"):
        code, said = machine.typed(line)
        what = readme.spoken(line)
        if not report.row(what, f"exit {code}", f"exit {_EXITS.get(what, 0)}"):
            print(said)
        if "reload" in what:
            report.row("a packet to what is ordered", road.probe(machine, road.BLOCKED), "blocked")
            report.seen("from `apt install` to a packet blocked", f"{time.monotonic() - began:.1f} s")
        if "explain" in what:
            report.row("… says so", "Yes: TCP port 3101 of 206.51.26.33 is blocked" in said)
    report.row("a packet to mail on the same address", road.probe(machine, road.MAIL), "passes")
    report.row("what was answered is protected", machine.ask("cat", "/etc/gatewrit/gatewrit.yaml").count("why:") >= 3)
    report.row("the enforcer is", machine.shown(UNIT, "ActiveState"), "active")
    report.row("… and starts at boot", machine.shown(UNIT, "UnitFileState"), "enabled")


def documents(machine: Machine, report: Report) -> None:
    """Look at what was laid down to be read."""
    share = machine.tree / "usr/share"
    for path in (
        "man/man1/gatewrit.1.gz",
        "man/man5/gatewrit.yaml.5.gz",
        "bash-completion/completions/gatewrit",
        "zsh/vendor-completions/_gatewrit",
        "fish/vendor_completions.d/gatewrit.fish",
    ):
        machine.check("test", "-s", f"/usr/share/{path}")
    home = share / "doc/gatewrit"
    dead = [
        f"{page.relative_to(home)}: {link}"
        for page in home.rglob("*.md")
        for link in _LINK.findall(page.read_text())
        if not (page.parent / link).exists()
    ]
    report.row("links in its documents that lead nowhere", dead, [])
    tab = (
        ". /usr/share/bash-completion/completions/gatewrit; complete -p gatewrit;"
        f"COMP_WORDS=(gatewrit suspend {_POLICY[0]}) COMP_CWORD=2; _gatewrit_completion gatewrit; echo $COMPREPLY"
    )
    report.row("in bash, Tab gives the policy's name", machine.ask("bash", "-c", tab).split()[-1], _POLICY)


def upgrades(machine: Machine, report: Report, file: str) -> None:
    """Upgrade with a block in force, under traffic."""
    report.part("upgrade, under traffic")
    handle, pid = orders.table(machine), machine.shown(UNIT, "MainPID")
    settings = machine.ask("cat", "/etc/gatewrit/gatewrit.yaml")
    before = orders.packets(machine, _POLICY)
    road.begin(machine)
    until(lambda: orders.packets(machine, _POLICY) > before, "packets are counted")
    machine.check(*_APT, "install", file)
    report.row("upgraded: another process", machine.shown(UNIT, "MainPID") != pid)
    orders.ready(machine)
    seen = road.end(machine)
    blocked, mail = seen[str(road.BLOCKED)], seen[str(road.MAIL)]
    sent = blocked.get("blocked", 0)
    report.seen("tried on either port while it was upgraded", sum(blocked.values()))
    report.row("… to what is ordered: all blocked", list(blocked), ["blocked"])
    report.row("… to mail on the same address: all pass", list(mail), ["passes"])
    report.row("the same table", orders.table(machine), handle)
    report.row("the operator's settings", machine.ask("cat", "/etc/gatewrit/gatewrit.yaml") == settings)
    until(lambda: orders.packets(machine, _POLICY) >= before + sent, "all of them are counted")
    report.row("counted: each of them, once", orders.packets(machine, _POLICY) - before, sent)
    report.row("gatewrit verify, exit code", machine.run("gatewrit", "verify").returncode, 0)
    report.row("gatewrit log verify, exit code", machine.run("gatewrit", "log", "verify").returncode, 0)


def tries(machine: Machine, report: Report) -> None:
    """Put a change on trial, and kill whoever did it, and the daemon."""
    report.part("apply --confirm-within 3s, its terminal and the daemon killed")
    words = "--authority A --reference 1 --from 2020-01-01T00:00:00Z --review-by 2100-01-01 --active"
    machine.check("sh", "-c", f"gatewrit new policy trial {words} --prefix {road.SERVER} --port tcp/{road.MAIL}")
    unit = ("systemd-run", "--quiet", "--unit=terminal", "--property=KillSignal=SIGKILL", "script", "-qec")
    machine.check(*unit, "gatewrit apply --confirm-within 3s; sleep infinity", "/dev/null")
    until(lambda: road.probe(machine, road.MAIL) == "blocked", "what is tried is in force")
    began = time.monotonic()
    machine.check("systemctl", "stop", "terminal")
    machine.check("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    machine.check("systemctl", "stop", UNIT)
    until(lambda: road.probe(machine, road.MAIL) == "passes", "what nobody confirmed is taken back")
    report.seen("from a packet blocked by it to one that passes again", f"{time.monotonic() - began:.1f} s")
    report.row("nobody confirmed it: a packet to what it blocked", road.probe(machine, road.MAIL), "passes")
    report.row("… to what was ordered before", road.probe(machine, road.BLOCKED), "blocked")
    machine.check("systemctl", "start", UNIT)
    codes = {each["code"] for each in machine.json("gatewrit", "status", "--json")["problems"]}
    report.row("the daemon, started again, says so", "rolled_back" in codes)
    machine.check("rm", "/etc/gatewrit/policies/trial.yaml", "/etc/gatewrit/policies/services/trial.yaml")
    report.row("without its file, gatewrit reload, exit code", machine.run("gatewrit", "reload").returncode, 0)
    report.row("gatewrit status, exit code", machine.run("gatewrit", "status").returncode, 0)


def is_removed(machine: Machine, report: Report) -> None:
    """Remove it, which lifts nothing."""
    report.part("remove, purge")
    handle = orders.table(machine)
    machine.check(*_APT, "remove", "gatewrit")
    report.row("removed: the same table", orders.table(machine), handle)
    _stays(machine, report, "removed")
    report.row("nothing is left in /usr/lib/gatewrit", there(machine, "/usr/lib/gatewrit"), False)


def is_purged(machine: Machine, report: Report, file: str) -> None:
    """Purge it with nobody to ask, with each answer given on a terminal, and with both given beforehand."""
    handle = orders.table(machine)
    machine.check(*_APT, "purge", "gatewrit")
    report.row("purged, nobody there to ask: the same table", orders.table(machine), handle)
    _stays(machine, report, "purged")
    report.row("… the settings are gone", there(machine, "/etc/gatewrit/gatewrit.yaml"), False)
    report.row("… the policies, which are the operator's, stay", there(machine, "/etc/gatewrit/policies"), True)
    for lift, forget in (("yes", "no"), ("no", "yes")):
        machine.check(*_APT, "install", file)
        report.row("installed anew: a packet to what is ordered", _found(machine), "blocked")
        answers = (("Lift every block", lift), ("Delete gatewrit's journal", forget))
        code, said = machine.typed("apt-get --quiet --yes purge gatewrit", answers)
        report.row(f"purged, lift: {lift}, forget: {forget}: asked both", all(each in said for each, _ in answers))
        report.row("… exit code", code, 0)
        report.row("… the table", orders.table(machine) == "none", lift == "yes")
        report.row("… the state", there(machine, "/var/lib/gatewrit"), forget == "no")
    machine.check(*_APT, "install", file)
    for question in ("lift", "forget"):
        machine.check("debconf-set-selections", stdin=f"gatewrit gatewrit/{question} boolean true\n")
    machine.check(*_APT, "purge", "gatewrit")
    report.row("purged, yes answered beforehand: the table", orders.table(machine), "none")
    report.row("a packet to what was ordered", road.probe(machine, road.BLOCKED), "passes")
    report.row("the state is gone", there(machine, "/var/lib/gatewrit"), False)


def _found(machine: Machine) -> str:
    machine.check("gatewrit", "reload")
    return road.probe(machine, road.BLOCKED)


def _stays(machine: Machine, report: Report, what: str) -> None:
    report.row(f"{what}: a packet to what is ordered", road.probe(machine, road.BLOCKED), "blocked")
    report.row("… the journal", there(machine, "/var/lib/gatewrit/journal.db"))


def there(machine: Machine, path: str) -> bool:
    """Whether a file is there."""
    return machine.run("test", "-e", path).returncode == 0
