from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from gatewrit.compile.render import compile_policies
from gatewrit.kernel.transaction import diff
from gatewrit.verify.proof import Asked, prove
from support.fake import FakeKernel
from support.strategies import INSTANTS, policy_sets

if TYPE_CHECKING:
    from gatewrit.compile.render import Compiled
    from gatewrit.kernel.transaction import Actual
    from gatewrit.policy.model import Policy

HOOKS = [("forward",), ("prerouting",), ("forward", "output"), ("input", "output"), ("forward", "input", "output")]


def load(compiled: Compiled) -> Actual:
    async def work() -> Actual:
        kernel = FakeKernel()
        await kernel.commit(diff(compiled.ruleset, await kernel.read()).change)
        return await kernel.read()

    return asyncio.run(work())


@settings(max_examples=200)
@given(policy_sets(), st.sampled_from(HOOKS), st.sampled_from([0, *INSTANTS]), st.integers(0, 500))
def test_what_was_rendered_is_proved_equal(made: list[Policy], hooks: tuple[str, ...], at: int, later: int) -> None:
    compiled = compile_policies(made, at, hooks, -10)  # type: ignore[arg-type]
    proof = prove(load(compiled), Asked(tuple(made), hooks, -10, ledger=compiled.counters), at + later)
    assert proof.equal, [*map(str, proof.missing), *map(str, proof.excess)]
