"""Answers questions about addresses beside enforcement: in threads, from what counts when the question comes."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING

from gatewrit.compile.rails import carved
from gatewrit.engine.explain import Facts, explain
from gatewrit.engine.past import explain_past
from gatewrit.engine.places import Index

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gatewrit.compile.rails import Rails
    from gatewrit.compile.surroundings import Surroundings
    from gatewrit.engine.answer import Answer, Question
    from gatewrit.engine.snapshot import Enforcement
    from gatewrit.engine.status import Standing
    from gatewrit.policy.model import Policy


#: Before the first reading.
NOBODY: Mapping[str, Policy] = MappingProxyType({})


class Enquiries:
    """One gateway's answers. The index over the policies is made when the first question about them comes."""

    def __init__(self, state: Path, hooks: tuple[str, ...], rails: Rails, around: Callable[[], Surroundings]) -> None:
        self._state = state
        self._hooks = hooks
        self._rails = rails
        self._around = around
        self._of: Mapping[str, Policy] | None = None
        self._indexed: asyncio.Task[tuple[Index, tuple[Policy, ...]]] | None = None

    async def answer(self, question: Question, standing: Standing, enforcement: Enforcement, now: int) -> Answer:
        """Answer from what counts now; or from the journal about the past; raises NotKeptError."""
        if question.at is not None and question.at.epoch < now:
            return await asyncio.to_thread(explain_past, self._state, question, self._hooks, self._around())
        index, policies = await asyncio.shield(self._index(standing.intake.policies if standing.intake else NOBODY))
        facts = Facts(
            standing.gateway,
            policies,
            standing.local,
            self._hooks,
            standing.counts,
            standing.installed,
            enforcement,
            self._around(),
        )
        return await asyncio.to_thread(explain, index, facts, question, now)

    def _index(self, policies: Mapping[str, Policy]) -> asyncio.Task[tuple[Index, tuple[Policy, ...]]]:
        def work() -> tuple[Index, tuple[Policy, ...]]:
            # Protected addresses are carved out, as they are of what is enforced.
            chosen = tuple(carved(policies.values(), self._rails))
            return Index(chosen), chosen

        failed = self._indexed is not None and self._indexed.done() and self._indexed.exception() is not None
        if self._indexed is None or failed or policies is not self._of:
            self._of = policies
            self._indexed = asyncio.create_task(asyncio.to_thread(work))
        return self._indexed
