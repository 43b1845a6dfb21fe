from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from gatewrit.compile.render import compile_policies
from gatewrit.compile.surroundings import Surroundings
from gatewrit.verify.orders import Gateway
from gatewrit.verify.proof import Asked, prove
from support.loaded import load
from support.strategies import INSTANTS, MASTERS, policy_sets, ranges, ranges_of

if TYPE_CHECKING:
    from gatewrit.kernel.ruleset import HookName
    from gatewrit.policy.model import Policy

HOOKS: list[tuple[HookName, ...]] = [
    ("forward",),
    ("prerouting",),
    ("forward", "output"),
    ("input", "output"),
    ("forward", "input", "output"),
]
#: 2607:ffc0::/32, which overlaps with what policies name as IPv6, 2001:db8:c00::/56, 2001:db8:d00:1::/64, 64:ff9b::/96.
NAT64 = [(0x2607FFC0, 32), (0x20010DB80C0000, 56), (0x20010DB80D000001, 64), (0x64FF9B << 64, 96)]


def prefix(value: int, length: int) -> tuple[int, int]:
    return value << 128 - length, (value + 1 << 128 - length) - 1


surroundings = st.builds(
    Surroundings,
    st.just(()) | st.sampled_from(NAT64).map(lambda each: (ranges_of(6, [prefix(*each)]),)),
    st.sampled_from([{}, MASTERS]),
    st.just(()) | st.tuples(ranges(4), ranges(6)),
)


@settings(max_examples=100)
@given(policy_sets(), st.sampled_from(HOOKS), st.sampled_from([0, *INSTANTS]), st.integers(0, 500), surroundings)
def test_what_was_rendered_is_proved_equal(
    made: list[Policy], hooks: tuple[HookName, ...], at: int, later: int, around: Surroundings
) -> None:
    compiled = compile_policies(made, at, hooks, -10, around)
    gateway = Gateway(nat64=around.nat64, masters=around.masters, spared=around.spared)
    proof = prove(load(compiled.ruleset), Asked(tuple(made), hooks, -10, gateway, compiled.counters), at + later)
    assert proof.equal, [*map(str, proof.missing), *map(str, proof.excess)]
