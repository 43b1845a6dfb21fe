from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from gatewrit.compile.render import compile_policies
from gatewrit.verify.proof import Asked, prove
from support.loaded import load
from support.strategies import INSTANTS, policy_sets

if TYPE_CHECKING:
    from gatewrit.policy.model import Policy

HOOKS = [("forward",), ("prerouting",), ("forward", "output"), ("input", "output"), ("forward", "input", "output")]


@settings(max_examples=200)
@given(policy_sets(), st.sampled_from(HOOKS), st.sampled_from([0, *INSTANTS]), st.integers(0, 500))
def test_what_was_rendered_is_proved_equal(made: list[Policy], hooks: tuple[str, ...], at: int, later: int) -> None:
    compiled = compile_policies(made, at, hooks, -10)  # type: ignore[arg-type]
    proof = prove(load(compiled.ruleset), Asked(tuple(made), hooks, -10, ledger=compiled.counters), at + later)
    assert proof.equal, [*map(str, proof.missing), *map(str, proof.excess)]
