"""Answers questions about addresses beside enforcement: in threads, from what counts when the question comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gatewrit.compile.surroundings import ALONE
from gatewrit.engine.answer import NotKeptError
from gatewrit.engine.explain import Facts, explain
from gatewrit.engine.places import Index

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.compile.surroundings import Surroundings
    from gatewrit.engine.answer import Answer, Question
    from gatewrit.engine.snapshot import Enforcement
    from gatewrit.engine.status import Standing
    from gatewrit.policy.model import Policy


class Enquiries:
    """One gateway's answers. The index over the policies is made when the first question about them comes."""

    def __init__(self, hooks: tuple[str, ...]) -> None:
        self._hooks = hooks
        self._of: Mapping[str, Policy] | None = None
        self._index: asyncio.Task[Index] | None = None

    async def answer(
        self, question: Question, standing: Standing, enforcement: Enforcement, now: int, around: Surroundings = ALONE
    ) -> Answer:
        """Answer from what counts now; raises NotKeptError about the past."""
        refuse_past(question, now)
        policies = standing.intake.policies if standing.intake else {}
        index = await asyncio.shield(self._indexed(policies))
        facts = Facts(
            standing.gateway,
            tuple(policies.values()),
            standing.local,
            self._hooks,
            standing.counts,
            standing.installed,
            enforcement,
            around,
        )
        return await asyncio.to_thread(explain, index, facts, question, now)

    def _indexed(self, policies: Mapping[str, Policy]) -> asyncio.Task[Index]:
        if self._index is None or policies is not self._of:
            self._of = policies
            self._index = asyncio.create_task(asyncio.to_thread(Index, tuple(policies.values())))
        return self._index


def refuse_past(question: Question, now: int) -> None:
    """Raise NotKeptError for an instant of which only a journal could tell."""
    if question.at is not None and question.at.epoch < now:
        raise NotKeptError(
            f"{question.at.text} is past, and what counted then isn't kept where explain could read it; "
            "now and any instant to come can be asked about"
        )
