"""The verbs that change what is enforced: run, reload, apply, remove."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from gatewrit.api import client
from gatewrit.api.documents import progress_document
from gatewrit.cli import log, waiting
from gatewrit.cli.app import FAILED, FINE, REFUSED, account, print_json, run, verb
from gatewrit.cli.service import config, outcome_json, serve
from gatewrit.engine import memory
from gatewrit.engine.claim import claim
from gatewrit.engine.clock import SystemClock
from gatewrit.engine.daemon import Daemon
from gatewrit.engine.journal.database import JournalError, path_in
from gatewrit.engine.journal.rows import Entry
from gatewrit.engine.journal.writer import Journal
from gatewrit.engine.notify import Notifier
from gatewrit.kernel.host import Rtnetlink
from gatewrit.kernel.socket import NftSocket
from gatewrit.kernel.transaction import removal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.settings import Settings

#: Seconds that a look at how far a reload is may take.
_PATIENCE = 30.0


@verb("gatewrit run --config /etc/gatewrit/gatewrit.yaml", prints_json=False)
def run_(settings: Settings) -> int:
    """Run the daemon: enforce the policies until stopped. The rules outlive it."""
    log.configure(settings.log.format, settings.log.level)
    return FINE if run(serve(settings)) else FAILED


@verb("gatewrit reload && gatewrit status")
def reload(settings: Settings, *, as_json: bool) -> int:
    """Have the running daemon read everything again, and wait for the outcome."""
    return _tell(run(_ask(settings, "reload")), as_json=as_json)


@verb("gatewrit plan; gatewrit apply")
def apply(settings: Settings, *, as_json: bool) -> int:
    """Enforce the policies now: through the running daemon, or once without one."""
    return _tell(run(_apply(settings)), as_json=as_json)


async def _apply(settings: Settings) -> Mapping[str, Any]:
    try:
        return await _ask(settings, "apply")
    except client.NoDaemonError:
        log.configure("console", "error")
    with claim():
        async with NftSocket() as kernel:
            daemon = Daemon(config(settings), kernel, SystemClock(), Notifier(None), Rtnetlink())
            name, uid = account()
            daemon.chronicle.asked(uid, name)

            async def progress() -> Mapping[str, Any] | None:
                found = daemon.snapshot().progress
                return None if found is None else progress_document(found)

            return outcome_json(await waiting.shown(daemon.once(), progress))


async def _ask(settings: Settings, verb: str) -> Mapping[str, Any]:
    """Have the running daemon do it, and show how far it is."""

    async def progress() -> Mapping[str, Any] | None:
        status: Mapping[str, Any] = (await client.call(settings.runtime, "status", within=_PATIENCE))["status"]
        return status.get("progress")

    return await waiting.shown(client.call(settings.runtime, verb), progress)


def _tell(outcome: Mapping[str, Any], *, as_json: bool) -> int:
    """Print an outcome, and give its exit code."""
    if as_json:
        print_json(outcome)
    else:
        for fault in outcome["faults"]:
            place = f"{fault['file']}:{fault['line']}:{fault['column']}"
            click.echo(f"{place}: {fault['code']}: {fault['message']}", err=True)
        click.echo(outcome["sentence"])
    if not outcome["ok"]:
        return FAILED
    return REFUSED if any(fault["severity"] == "error" for fault in outcome["faults"]) else FINE


@verb("systemctl stop gatewrit && gatewrit remove")
def remove(settings: Settings, *, as_json: bool) -> int:
    """Take every block out of the kernel. Stop the daemon first.

    Works with a dead daemon and whatever has become of its state. The policies and counts are kept, and the journal
    says who did it.
    """
    removed = run(_remove())
    lost = _forget_installed(settings) if removed else None
    unwritten = _write_down(settings) if removed else None
    sentence = "every block is taken out; traffic flows again" if removed else "there is no table: nothing was blocked"
    if as_json:
        print_json({"removed": removed, "sentence": sentence, "state": lost, "journal": unwritten})
    else:
        click.echo(sentence)
        for each in filter(None, (lost, unwritten)):
            click.echo(f"gatewrit: {each}", err=True)
    return FINE


async def _remove() -> bool:
    with claim():
        async with NftSocket() as kernel:
            actual = await kernel.read()
            change = removal(actual)
            await kernel.commit(change)
            return bool(change)


def _forget_installed(settings: Settings) -> str | None:
    """Note that nothing is in force any more; say so if that can't be written."""
    try:
        record = memory.load_record(settings.state)
        memory.save_record(settings.state, memory.Record(record.generation))
    except (OSError, ValueError) as error:
        return f"the state in {settings.state} can't be updated ({error}); that does no harm"
    return None


def _write_down(settings: Settings) -> str | None:
    """Have the journal say that every block was taken out, and by whom; say so if it can't be written."""
    name, uid = account()
    now = int(time.time() * 1000)
    try:
        with closing(Journal.open(path_in(settings.state), now)) as journal:
            journal.append([Entry(now, "removed", None, {"by": {"uid": uid, "name": name}})], {})
    except JournalError as error:
        return f"the journal doesn't say that the blocks were taken out, as it can't be written: {error}"
    return None
