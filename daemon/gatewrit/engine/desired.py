"""What the kernel is to hold for the policies that count: who acts here, carved, and rendered to a ruleset."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gatewrit.compile.acting import acting
from gatewrit.compile.conflicts import Conflict, conflicts
from gatewrit.compile.memo import Memo
from gatewrit.compile.rails import Carver
from gatewrit.compile.render import compile_policies
from gatewrit.kernel import text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gatewrit.compile.acting import Local
    from gatewrit.compile.render import Compiled
    from gatewrit.engine.around import Around
    from gatewrit.engine.config import Config
    from gatewrit.engine.intake import Intake
    from gatewrit.engine.recall import Recall
    from gatewrit.policy.model import Policy
    from gatewrit.policy.terms import Family


class Desired(NamedTuple):
    """A ruleset with what is told of it.

    `digest` is that of the ruleset as text; `against` are the orders that contradict each other; `starts` says when
    each policy that acts begins, in epoch seconds; `addresses` how many distinct ones each policy names.
    """

    compiled: Compiled
    digest: str
    against: list[Conflict]
    starts: Mapping[str, int]
    addresses: Mapping[str, Mapping[Family, int]]


class Renderer:
    """Remembers what it worked out, so that what hasn't changed isn't worked out again. Blocks: it is for threads."""

    def __init__(self, config: Config, around: Around, recall: Recall) -> None:
        self._hooks, self._priority = config.hooks, config.priority
        self._around = around
        self._recall = recall
        self._carver, self._memo = Carver(config.rails), Memo()

    def rendered(self, intake: Intake, local: Local, now: int) -> tuple[Sequence[Policy], Compiled]:
        """Give the policies that act, and what the kernel is to hold for them."""
        chosen = self._carver.carved(acting(intake.policies.values(), local, now).values())
        return chosen, compile_policies(chosen, now, self._hooks, self._priority, self._around.now, memo=self._memo)

    def desired(self, intake: Intake, local: Local, now: int) -> Desired:
        """Give what the kernel is to hold, and all that is told of it; `around` learns what is spared."""
        chosen, compiled = self.rendered(intake, local, now)
        self._around.compare(chosen, self._memo)
        starts = {each.id: each.effective.start.epoch for each in chosen}
        addresses = self._recall.addresses(intake.policies, compiled.addresses)
        return Desired(compiled, text.digest(compiled.ruleset), conflicts(chosen, now, self._memo), starts, addresses)
