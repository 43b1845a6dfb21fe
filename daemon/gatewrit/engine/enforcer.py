"""Keeping the kernel at the desired ruleset: passes, further tries, and the record of what was enforced when."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from gatewrit.engine import memory, status
from gatewrit.engine.reconcile import NotConvergedError, reconcile
from gatewrit.engine.timing import RARENESS
from gatewrit.kernel.socket import KernelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.compile.render import Compiled
    from gatewrit.engine.clock import Clock
    from gatewrit.engine.reconcile import Pass
    from gatewrit.engine.scribe import Scribe
    from gatewrit.engine.timing import Agenda
    from gatewrit.kernel.socket import Kernel

log = structlog.get_logger()

#: Seconds between two looks at the whole table, while all is well.
LOOK_EVERY = 10.0
#: Seconds until a failed pass is tried again: doubled each time, up to the last.
_RETRY_FIRST, _RETRY_LAST = 0.5, 30.0


class Enforcer:
    """What is wanted of the kernel, and what came of it.

    `record` is how enforcement last stood; `failure` is what the kernel said when it didn't take the ruleset, and None
    while all is well.
    """

    def __init__(self, kernel: Kernel, clock: Clock, agenda: Agenda, scribe: Scribe) -> None:
        self._kernel = kernel
        self._clock = clock
        self._agenda = agenda
        self._scribe = scribe
        self._compiled: Compiled | None = None
        self._digest = ""
        self._retry = 0.0
        self.record = memory.Record()
        self.failure: status.Trouble | None = None

    @property
    def ready(self) -> bool:
        """Whether it is known what the kernel should hold."""
        return self._compiled is not None

    @property
    def compiled(self) -> Compiled:
        """What the kernel should hold; only once `ready`."""
        assert self._compiled is not None  # noqa: S101 - said above
        return self._compiled

    def load(self) -> None:
        """Remember how enforcement last stood; raises `ValueError` or `OSError`."""
        self.record = memory.load_record(self._scribe.state)

    def want(self, compiled: Compiled, digest: str) -> None:
        """Say what the kernel should hold from now on."""
        self._compiled, self._digest = compiled, digest

    async def enforce(self, cause: str) -> Pass | None:
        """Make one pass over the kernel; None if it failed, which is then tried again, ever later."""
        if self._compiled is None:
            return None
        began = self._clock.monotonic()
        try:
            done = await reconcile(self._kernel, self._compiled.ruleset)
        except (KernelError, NotConvergedError) as error:
            self._fail(error)
            return None
        took = self._clock.monotonic() - began
        self.failure, self._retry = None, 0.0
        self._agenda.drop("retry")
        self._agenda.plan("look", max(LOOK_EVERY, took * RARENESS))
        if done.changed:
            drifted = cause == "look"
            event, name = (log.warning, "drift.repaired") if drifted else (log.info, "reconcile.applied")
            event(name, cause=cause, changed=done.changed, took_s=round(took, 4), first=done.first.excerpt())
        return done

    def _fail(self, error: KernelError | NotConvergedError) -> None:
        self._retry = min(max(_RETRY_FIRST, self._retry * 2), _RETRY_LAST)
        self._agenda.plan("retry", self._retry)
        self._agenda.plan("look", LOOK_EVERY)
        hint = ""
        if isinstance(error, KernelError) and error.errno in {errno.EPERM, errno.EACCES}:
            hint = "; this needs root, or CAP_NET_ADMIN over this network namespace"
        self.failure = status.Trouble("kernel_refused", "error", f"the kernel doesn't take the ruleset: {error}{hint}")
        log.error("reconcile.failed", reason=str(error), again_in_s=self._retry)

    async def bring_up(self, done: Pass, now: int, resumed: Mapping[str, int]) -> None:
        """Begin a new generation if another ruleset is enforced than before, and note whose rules came when.

        `resumed` says when the kernel itself resumed a policy after a suspension by hand.
        """
        installed = self.record.installed
        record = replace(
            self.record,
            installed={name: max(installed.get(name, now), resumed.get(name, 0)) for name in self.compiled.addresses},
        )
        if self._digest != record.digest or done.changed:
            grown = record.generation + (self._digest != record.digest)
            record = replace(record, generation=grown, digest=self._digest, applied_at=now)
        if record != self.record:
            self.record = record
            await self._scribe.write("record", lambda: memory.save_record(self._scribe.state, record))
