"""The verbs that enforce and lift by themselves: run, apply, remove."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from gatewrit import log
from gatewrit.api import client
from gatewrit.api.documents import progress_document
from gatewrit.cli import owner, waiting
from gatewrit.cli.app import FAILED, FINE, REFUSED, Quit, account, print_json, run, verb
from gatewrit.cli.ask import ask, confirm_within, guard, tell
from gatewrit.cli.credentials import LackingError, refuse_open
from gatewrit.cli.service import outcome_json, serve, without_daemon
from gatewrit.engine import memory
from gatewrit.engine.byhand import RefusedError
from gatewrit.engine.claim import claim
from gatewrit.engine.journal.database import JournalError, path_in
from gatewrit.engine.journal.rows import Entry
from gatewrit.engine.journal.writer import Journal
from gatewrit.engine.takeback import Expecting
from gatewrit.kernel.socket import NftSocket
from gatewrit.kernel.transaction import removal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.settings import Settings


@verb("gatewrit run --config /etc/gatewrit/gatewrit.yaml", prints_json=False)
@click.option("--without-http", is_flag=True, help="HTTP is answered by `gatewrit serve`, started apart.")
def run_(settings: Settings, *, without_http: bool) -> int:
    """Run the daemon: enforce the policies until stopped. The rules outlive it.

    HTTP is answered by a child without privileges.
    """
    try:
        refuse_open(settings)
    except LackingError as error:
        raise Quit(str(error), REFUSED) from None
    log.configure(settings.log.format, settings.log.level)
    owner.stand_in(settings)
    return FINE if run(serve(settings, apart=without_http)) else FAILED


@verb("gatewrit plan; gatewrit apply --confirm-within 5m")
@confirm_within
def apply(settings: Settings, *, confirm_within: int | None, as_json: bool) -> int:
    """Enforce the policies now: through the running daemon, or once without one."""
    owner.stand_in(settings)
    guard(settings, confirm_within)
    try:
        return tell(run(_apply(settings, confirm_within)), as_json=as_json)
    except RefusedError as refusal:
        raise Quit(str(refusal), REFUSED) from None


async def _apply(settings: Settings, confirm_within: int | None) -> Mapping[str, Any]:
    try:
        return await ask(settings, "apply", confirm_within)
    except client.NoDaemonError:
        pass
    async with without_daemon(settings) as daemon:
        name, uid = account()
        daemon.chronicle.asked(uid, name)

        async def progress() -> Mapping[str, Any] | None:
            found = daemon.snapshot().progress
            return None if found is None else progress_document(found)

        expecting = None if confirm_within is None else Expecting(confirm_within, name, uid)
        return outcome_json(await waiting.shown(daemon.once(expecting), progress))


@verb("systemctl stop gatewrit && gatewrit remove")
def remove(settings: Settings, *, as_json: bool) -> int:
    """Take every block out of the kernel. Stop the daemon first.

    Works with a dead daemon and whatever has become of its state. The policies and counts are kept, and the journal
    says who did it.
    """
    log.configure("console", "error")
    owner.stand_in(settings)
    removed = run(_remove(owner.of(settings)))
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


async def _remove(user: int | None) -> bool:
    with claim(user):
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
