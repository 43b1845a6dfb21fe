"""What runs: the clock, the daemon, another one, who may command it and who answers HTTP, and systemd's units."""

from __future__ import annotations

import asyncio
import pwd
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from gatewrit.api import client, unprivileged
from gatewrit.api.listen import group_id
from gatewrit.cli import owner
from gatewrit.cli.examine.finding import Finding, guarded, problem, unseen
from gatewrit.cli.guardian import systemd_here
from gatewrit.engine import claim, trust
from gatewrit.engine.clock import SystemClock
from gatewrit.engine.status import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from gatewrit.cli.examine.finding import Subject
    from gatewrit.engine.clock import Clock
    from gatewrit.settings import Settings

    #: Gives the properties of a unit (systemctl show); raises `OSError`.
    Show = Callable[[str], Mapping[str, str]]

#: Seconds within which the daemon, and systemd, must have answered.
_PATIENCE = 10.0
_SYSUSERS = "Install systemd/sysusers.conf and run systemd-sysusers"
_UNIT = "gatewrit.service"
_FIREWALL = "nftables.service"
_PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "Result", "NRestarts", "UnitFileState", "After", "NeedDaemonReload",
)  # fmt: skip


def examine(subject: Subject) -> Iterator[Finding]:
    """Examine what runs."""
    yield from clock(SystemClock(), subject.settings.state if subject.readable else None)
    if subject.readable:
        yield from _daemon(subject.settings)
        yield from _people(subject.settings)
    if not systemd_here():
        yield Finding(
            "note",
            "no_systemd",
            "systemd doesn't run here, or not in this network namespace: whatever starts gatewrit must start it anew "
            "when it ends, and before the network at a boot",
        )
        return
    yield from guarded("systemd's units", units(_show))


def clock(here: Clock, state: Path | None) -> Iterator[Finding]:
    """Examine the clock, by which orders start and end."""
    synchronised, floor = here.synchronised(), None
    if state is not None:
        try:
            floor = trust.load_floor(state)
        except (OSError, ValueError):
            # Told with the state.
            floor = None
    if floor is not None and here.time() < floor - trust.TOLERANCE:
        message = (
            f"the clock is {int(floor - here.time())} s behind the latest instant that was seen here, which counts as "
            "now: nothing is lifted for it, and no order waits again for its start"
        )
        yield problem(Trouble("clock_untrusted", "error", message, place=str(state)))
    if not synchronised:
        why = "nothing synchronises the clock" if synchronised is False else "the kernel doesn't tell of the clock"
        yield problem(
            Trouble("clock_unsynchronised", "warning", f"{why}: orders start and end when it says so, right or wrong")
        )
    elif floor is None or here.time() >= floor - trust.TOLERANCE:
        yield Finding("ok", "clock", "the clock is synchronised, and goes on from what was seen here")


def _daemon(settings: Settings) -> Iterator[Finding]:
    """Ask the daemon, and see whether another one enforces here."""
    try:
        answer: dict[str, Any] = asyncio.run(client.call(settings.runtime, "status", within=_PATIENCE))
    except client.NoDaemonError:
        yield _nobody(settings)
        return
    except client.NotAllowedError as error:
        yield unseen("the daemon", error)
        return
    except client.ControlError as error:
        message = f"the daemon doesn't answer: {error}. What is in the kernel stays; nothing is followed meanwhile"
        yield Finding("error", "daemon_silent", message, "See its log (journalctl -u gatewrit), then restart it")
        return
    status = answer["status"]
    if status["enforcement"] == "in_sync":
        yield Finding("ok", "daemon", "the daemon runs, and everything that is ordered is enforced")
        return
    codes = ", ".join(sorted({each["code"] for each in status["problems"] if each["severity"] == "error"}))
    message = f"the daemon is {status['enforcement']} ({codes}): not everything that is ordered can be vouched for"
    yield Finding("error", "not_in_sync", message, "gatewrit status says what to do")


def _nobody(settings: Settings) -> Finding:
    holder = claim.holder(owner.of(settings))
    if holder is not None and holder.may:
        who = f"process {holder.pid}" if holder.pid else "a process that can't be seen from here"
        return Finding(
            "error",
            "other_instance",
            f"another gatewrit ({who}) enforces in this network namespace, and answers elsewhere than at "
            f"{settings.runtime}: these settings count for nothing",
            "Use its --config; or end it, then start the one that is to enforce",
        )
    return Finding(
        "warning",
        "no_daemon",
        "no daemon runs: what is in the kernel stays, and orders in it start and end by themselves, but changes aren't "
        "followed, drift isn't repaired, and nothing is loaded after a boot",
        "systemctl enable --now gatewrit; without systemd: gatewrit run",
    )


def _people(settings: Settings) -> Iterator[Finding]:
    group = group_id(settings.control.group)
    if group is None:
        yield Finding(
            "note",
            "no_control_group",
            f"this host has no group {settings.control.group} (`control.group`): only root and the daemon's own user "
            "may command it",
            f"{_SYSUSERS}, or name a group that exists",
        )
    who = unprivileged.account(group)
    if who is None:
        yield Finding(
            "warning",
            "no_http_user",
            f"this host has none of the users {', '.join(unprivileged.USERS)}: HTTP would be answered by the daemon's "
            "own user",
            _SYSUSERS,
        )
    elif pwd.getpwuid(who[0]).pw_name != unprivileged.USERS[0]:
        yield Finding(
            "note",
            "no_http_user",
            f"this host has no user {unprivileged.USERS[0]}: HTTP is answered by {pwd.getpwuid(who[0]).pw_name}, as "
            "whom other programs may run too",
            _SYSUSERS,
        )


# -- systemd ----------------------------------------------------------------------------------------------------------


def units(show: Show) -> Iterator[Finding]:
    """Examine systemd's units; raises `OSError`."""
    ours = show(_UNIT)
    if ours.get("LoadState") != "loaded":
        yield Finding(
            "warning",
            "unit_missing",
            f"systemd has no {_UNIT}: nobody starts gatewrit at a boot, and until somebody does nothing is blocked",
            "Install the units (README, Install on a gateway), then: systemctl enable --now gatewrit",
        )
        return
    if ours.get("UnitFileState") not in {"enabled", "enabled-runtime", "static"}:
        yield Finding(
            "warning",
            "unit_disabled",
            f"{_UNIT} isn't enabled: after a boot nothing is blocked until somebody starts it",
            "systemctl enable gatewrit",
        )
    if ours.get("NeedDaemonReload") == "yes":
        message = f"{_UNIT} was changed on the disk, and systemd goes by what it had read before"
        yield Finding("warning", "unit_changed", message, "systemctl daemon-reload && systemctl restart gatewrit")
    yield from _failing(ours)
    flusher = show(_FIREWALL)
    enabled = flusher.get("LoadState") == "loaded" and str(flusher.get("UnitFileState")).startswith("enabled")
    if enabled and _FIREWALL not in ours.get("After", "").split():
        yield Finding(
            "error",
            "unit_order",
            f"{_FIREWALL} is enabled, and {_UNIT} isn't ordered after it: at a boot it may flush what was just loaded",
            f"Add After={_FIREWALL} to {_UNIT}, as in the unit that comes with gatewrit; then: systemctl daemon-reload",
        )
    else:
        yield Finding("ok", "units", f"systemd knows {_UNIT} ({ours.get('ActiveState')}), in the right order")


def _failing(ours: Mapping[str, str]) -> Iterator[Finding]:
    """See whether systemd starts it in vain: between two tries it is in any state but active."""
    tried = ours.get("SubState") == "auto-restart" or ours.get("NRestarts", "0") != "0"
    if ours.get("ActiveState") == "failed" or (tried and ours.get("ActiveState") != "active"):
        yield Finding(
            "error",
            "unit_failing",
            f"systemd starts {_UNIT}, and it ends again ({ours.get('Result')}): what is in the kernel stays, and "
            "nothing is followed",
            "journalctl -u gatewrit says why; then: systemctl restart gatewrit",
        )


def _show(unit: str) -> Mapping[str, str]:
    program = shutil.which("systemctl", path="/usr/bin:/bin")
    if program is None:
        raise OSError(0, "there is no systemctl")
    words = [program, "show", "--no-pager", f"--property={','.join(_PROPERTIES)}", "--", unit]
    try:
        ended = subprocess.run(  # noqa: S603 - our own words
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(0, f"systemctl doesn't answer within {_PATIENCE:g} s") from error
    if ended.returncode:
        raise OSError(0, " ".join(ended.stderr.split()) or f"systemctl ended with {ended.returncode}")
    return dict(line.split("=", 1) for line in ended.stdout.splitlines() if "=" in line)
