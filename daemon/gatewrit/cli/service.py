"""The daemon put together: kernel, engine, control socket and HTTP, from start to stop.

Enforcement comes first and depends on none of the others: if the HTTP address is taken, the orders are enforced all the
same, and the address is tried again. HTTP itself is spoken by another process (`web`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click
import structlog

import gatewrit
from gatewrit import log as logging_
from gatewrit.api import client, control, documents, words
from gatewrit.api.answer import answer_document, lines
from gatewrit.api.question import PARAMETERS, QuestionError, read_question
from gatewrit.cli import desk, owner
from gatewrit.cli.app import fault_json
from gatewrit.cli.web import Web
from gatewrit.compile.rails import Protected, Rails
from gatewrit.engine import byhand, heap
from gatewrit.engine.answer import NotKeptError
from gatewrit.engine.claim import claim, claim_patiently
from gatewrit.engine.clock import SystemClock
from gatewrit.engine.config import Config
from gatewrit.engine.daemon import Daemon
from gatewrit.engine.journal.writer import Keeping
from gatewrit.engine.notify import Notifier, passed
from gatewrit.engine.sealing import Signing
from gatewrit.engine.takeback import Expecting
from gatewrit.kernel import beside, endpoint
from gatewrit.kernel.host import Rtnetlink
from gatewrit.kernel.notices import Notices
from gatewrit.kernel.socket import NftSocket
from gatewrit.kernel.spare import spare
from gatewrit.policy.ranges import to_ranges
from gatewrit.signing.keys import read_key

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence

    from gatewrit.api.control import Caller
    from gatewrit.engine.byhand import Request
    from gatewrit.engine.snapshot import Outcome
    from gatewrit.engine.takeback import Taking
    from gatewrit.policy.model import Ranges
    from gatewrit.settings import Settings

log = structlog.get_logger()

#: What the socket that owns the table is called in systemd's store of descriptors.
_TABLE = "gatewrit-table"
#: Seconds that a daemon waits at its start for a command that is just changing the table.
_PATIENCE = 5.0
#: Seconds after which somebody who orders something by hand is told that the daemon may hang.
_LONG = 10.0
_UNANSWERED = (
    "gatewrit: the daemon hasn't answered yet: it may be busy, or hang; still waiting. If this can't wait: Ctrl-C, "
    "then systemctl kill -s KILL gatewrit; systemctl stop gatewrit, and the same command again: it needs no daemon"
)


def rails(settings: Settings) -> Rails:
    """Give what the settings forbid every policy."""
    limits = settings.limits
    protected = tuple(Protected(each.prefix, each.why) for each in settings.protected)
    return Rails(protected, limits.widest_ipv4, limits.widest_ipv6, limits.total_share, nat64(settings))


def config(settings: Settings) -> Config:
    """Give what the engine needs of the settings."""
    return Config(
        settings.gateway.name,
        settings.policies,
        settings.state,
        settings.hooks,
        settings.priority,
        settings.gateway.tags,
        settings.limits.change_share,
        rails(settings),
        nat64(settings),
        Keeping(settings.journal.keep_days, settings.journal.max_mb * 1_000_000),
        signing(settings),
    )


def signing(settings: Settings) -> Signing:
    """Give who may sign policies, and how many must."""
    return Signing(settings.signatures.required, tuple(map(read_key, settings.signatures.keys)))


def nat64(settings: Settings) -> tuple[Ranges, ...]:
    """Give the NAT64 prefixes of the settings."""
    return to_ranges(((prefix, 0) for prefix in settings.nat64), "settings")


@asynccontextmanager
async def without_daemon(settings: Settings) -> AsyncIterator[Daemon]:
    """Enforce once in this process, where no daemon runs; raises `ClaimedError`."""
    logging_.configure("console", "error")
    with claim(owner.of(settings)):
        async with NftSocket(owning=settings.table_owner) as kernel:
            yield Daemon(config(settings), kernel, SystemClock(), Notifier(None), Rtnetlink(), spare=spare)


async def have_done(settings: Settings, asked: Request | Taking, **arguments: Any) -> dict[str, Any]:
    """Have the running daemon do what somebody orders by hand, by these arguments, or do it once without one."""
    try:
        return await _answered(client.call(settings.runtime, asked.verb, **arguments))
    except client.NoDaemonError:
        pass
    async with without_daemon(settings) as daemon:
        return desk.done_json(await daemon.once_by_hand(asked))


async def _answered(asking: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Wait for the daemon's answer, and say what can be done meanwhile if it lets somebody in a hurry wait."""
    task = asyncio.ensure_future(asking)
    try:
        done, _ = await asyncio.wait({task}, timeout=_LONG)
        if not done:
            click.echo(_UNANSWERED, err=True)
        return await task
    finally:
        task.cancel()


async def serve(settings: Settings, *, apart: bool) -> bool:
    """Be the daemon until SIGTERM or SIGINT; False if it ended by a mistake of ours. `apart`: HTTP is another's."""
    heap.share()
    notifier = Notifier.from_environment()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("daemon.started", version=gatewrit.__version__, pid=os.getpid(), policies=str(settings.policies))
    kept = [each for each in map(endpoint.adopted, passed(os.environ, _TABLE)) if each is not None]
    # A suspension without a daemon, or a change that is just taken back, mustn't keep the daemon from starting.
    async with (
        claim_patiently(owner.of(settings), _PATIENCE),
        NftSocket(owning=settings.table_owner, held=_one(kept, owning=settings.table_owner)) as kernel,
    ):
        if settings.table_owner:
            notifier.keep(_TABLE, kernel.held.fileno())
        else:
            notifier.drop(_TABLE)
        daemon = Daemon(
            config(settings),
            kernel,
            SystemClock(),
            notifier,
            Rtnetlink(),
            notices=Notices,
            beside=beside.read,
            spare=spare,
        )
        web = Web(daemon, settings, apart=apart)

        def reload() -> None:
            web.reload()
            daemon.want_reload(ordered=True)

        loop.add_signal_handler(signal.SIGHUP, reload)
        held = control.serve(
            settings.runtime, _verbs(daemon, web), group=settings.control.group, owner=owner.of(settings)
        )
        async with held:
            fine = await _live(daemon, web, stop, notifier)
        await daemon.save()
    log.info("daemon.stopped", table="stays in force")
    return fine


def _one(kept: Sequence[socket.socket], *, owning: bool) -> socket.socket | None:
    """Give the socket to go on with of those that were kept, and close the others."""
    for each in kept[1 if owning else 0 :]:
        each.close()
    return kept[0] if kept and owning else None


async def _live(daemon: Daemon, web: Web, stop: asyncio.Event, notifier: Notifier) -> bool:
    """Run all tasks until told to stop, or until one fails; they end together."""
    tasks = [
        asyncio.create_task(daemon.run(), name="enforce"),
        asyncio.create_task(daemon.watch(), name="watch"),
        asyncio.create_task(web.run(), name="http"),
    ]
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
    notifier.stopping()
    for task in (*tasks, stopping):
        task.cancel()
    await asyncio.gather(*tasks, stopping, return_exceptions=True)
    failed = [task for task in done if task is not stopping]
    for task in failed:
        log.critical("daemon.failed", task=task.get_name(), table="stays in force", exc_info=task.exception())
    return not failed


def _verbs(daemon: Daemon, web: Web) -> dict[str, control.Verb]:
    """Give what the control socket can ask for."""

    async def status(_arguments: Mapping[str, Any], _caller: Caller) -> dict[str, Any]:
        snapshot = daemon.snapshot()
        return {
            "status": documents.status_document(snapshot, int(time.time())),
            "policies": [documents.policy_item(view) for view in snapshot.policies],
            # For people only: the documents are the contract's, and say UTC.
            "clocks": {view.id: words.own_clocks(view.effective) for view in snapshot.policies},
        }

    async def reload(arguments: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        log.info("reload.asked", by=caller.name, uid=caller.uid)
        daemon.chronicle.asked(caller.uid, caller.name)
        web.reload()
        within = arguments.get("confirm_within")
        try:
            expecting = None if within is None else Expecting(within, caller.name, caller.uid)
            return outcome_json(await daemon.reload(expecting))
        except byhand.RefusedError as refusal:
            raise control.VerbError(refusal.code, str(refusal)) from None

    async def explain(arguments: Mapping[str, Any], _caller: Caller) -> dict[str, Any]:
        # Neither the question nor who asks is logged: it may tie a person to a destination.
        try:
            answer = await daemon.explain(read_question(arguments))
        except QuestionError as error:
            raise control.VerbError("bad_parameter", str(error)) from None
        except NotKeptError as error:
            raise control.VerbError("not_kept", str(error)) from None
        return {"answer": answer_document(answer), "lines": lines(answer)}

    known = {
        "explain": control.Verb(explain, dict.fromkeys(PARAMETERS, str)),
        "status": control.Verb(status),
        "reload": control.Verb(reload, {"confirm_within": int}),
        "apply": control.Verb(reload, {"confirm_within": int}),
    }
    return {**known, **desk.verbs(daemon)}


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """Give an outcome as JSON."""
    return {
        "ok": outcome.ok,
        "generation": outcome.generation,
        "changed": outcome.changed,
        "sentence": outcome.sentence,
        **fault_json(outcome.faults),
    }
