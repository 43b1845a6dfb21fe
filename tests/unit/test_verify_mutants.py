"""Mutants of rulesets: whatever a machine for single packets sees go wrong, the proof over all packets must see."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from gatewrit.compile.render import compile_policies
from gatewrit.kernel import expressions as nf
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.verify.proof import Asked, prove
from support.loaded import load
from support.paper import Packet, by_policies, by_rules
from support.strategies import ANCHORS, INSTANTS, TOPS, policies

if TYPE_CHECKING:
    from gatewrit.kernel.ruleset import HookName, Set
    from gatewrit.kernel.transaction import Actual, ActualChain
    from gatewrit.policy.model import Policy
    from gatewrit.policy.terms import Family

FAMILIES: tuple[Family, Family] = (4, 6)
HOOKS: list[tuple[HookName, ...]] = [("forward",), ("prerouting",), ("input", "output")]
PORTS = [0, 1, 2, 3, 9, 2999, 3000, 3101, 3102, 3150, 3201, 5060, 65535]


def change_set(draw: st.DrawFn, found: Set) -> Set:
    """Lose an element, move one of its ends, or have it lead elsewhere."""
    rows = list(found.elements.rows())
    at = draw(st.integers(0, len(rows) - 1))
    first, last, verdict = rows[at]
    width = found.elements.width
    kind = draw(st.sampled_from(["lose", "begin", "end", "lead"]))
    if kind == "lose":
        rows.pop(at)
    elif kind == "begin":
        rows[at] = (_moved(first, 1 << 8 * (width // 8 * 2 if width == 8 else 0)), max(first, last), verdict)
    elif kind == "end":
        rows[at] = (first, _moved(last, -(1 << 8 * (width // 8 * 2 if width == 8 else 0))), verdict)
    else:
        others = sorted({row[2] for row in rows if row[2] != verdict}, key=str)
        assume(others)
        rows[at] = (first, last, draw(st.sampled_from(others)))
    assume(all(low <= high for low, high, _ in rows))
    return replace(found, elements=Elements.of(width, rows))


def _moved(key: bytes, by: int) -> bytes:
    """Give the next key: where it is a protocol and a port, the next port."""
    number = int.from_bytes(key, "big") + by
    assume(0 <= number < 1 << 8 * len(key))
    return number.to_bytes(len(key), "big")


def change_chain(draw: st.DrawFn, chain: ActualChain, actual: Actual) -> ActualChain:
    """Lose or swap rules, or change one expression."""
    rules = list(chain.rules)
    at = draw(st.integers(0, len(rules) - 1))
    kind = draw(st.sampled_from(["lose", "swap", "expression", "expression", "expression"]))
    if kind == "lose":
        rules.pop(at)
    elif kind == "swap":
        assume(len(rules) > 1)
        other = draw(st.sampled_from([index for index in range(len(rules)) if index != at]))
        rules[at], rules[other] = rules[other], rules[at]
    else:
        parts = list(rules[at].expressions)
        where = draw(st.integers(0, len(parts) - 1))
        parts[where] = change_expression(draw, parts[where], actual)
        rules[at] = replace(rules[at], expressions=tuple(parts))
    return replace(chain, rules=tuple(rules))


def change_expression(  # noqa: PLR0911 - one return for each expression
    draw: st.DrawFn, part: nf.Expression, actual: Actual
) -> nf.Expression:
    """Have an expression ask or say something else."""
    match part:
        case nf.Cmp(nf.CMP_LT, data):
            by = draw(st.sampled_from([-1, 1])) * 1_000_000_000
            return replace(part, data=(int.from_bytes(data, "big") + by).to_bytes(len(data), "big"))
        case nf.Cmp(op, data):
            flipped = nf.CMP_NEQ if op == nf.CMP_EQ else nf.CMP_EQ
            return draw(st.sampled_from([replace(part, op=flipped), replace(part, data=data[:-1] + b"\x3a")]))
        case nf.CounterRef(name):
            others = sorted(set(actual.counters) - {name})
            assume(others)
            return nf.CounterRef(draw(st.sampled_from(others)))
        case nf.Immediate(verdict):
            plain = [Verdict("return"), Verdict("drop"), Verdict("accept")]
            return nf.Immediate(draw(st.sampled_from([each for each in plain if each != verdict])))
        case nf.Reject():
            swapped = nf.Reject(nf.REJECT_ICMPX, nf.ICMPX_ADMIN_PROHIBITED)
            return nf.Reject(nf.REJECT_TCP_RST, 0) if part == swapped else swapped
        case nf.Payload(nf.TRANSPORT_HEADER, offset, 2):
            return replace(part, offset=2 - offset)
        case nf.Bitwise(mask) if len(mask) == 2:
            return replace(part, mask=b"\x00\x00")
        case nf.Bitwise(mask):
            # A prefix longer or shorter by one bit.
            number, width = int.from_bytes(mask, "big"), 8 * len(mask)
            other = draw(st.sampled_from([number >> 1 | 1 << width - 1, number << 1 & (1 << width) - 1]))
            return replace(part, mask=other.to_bytes(len(mask), "big"))
        case nf.Lookup(verdict=False, flags=flags):
            return replace(part, flags=flags ^ nf.LOOKUP_INVERTED)
    assume(False)
    return part


def mutant_of(draw: st.DrawFn, actual: Actual) -> Actual:
    """Change one thing in a set or a chain."""
    sets = sorted(name for name, each in actual.sets.items() if len(each.elements))
    chains = sorted(name for name, each in actual.chains.items() if each.rules)
    if sets and draw(st.booleans()):
        name = draw(st.sampled_from(sets))
        return replace(actual, sets={**actual.sets, name: change_set(draw, actual.sets[name])})
    name = draw(st.sampled_from(chains))
    return replace(actual, chains={**actual.chains, name: change_chain(draw, actual.chains[name], actual)})


def packet(random: Random) -> Packet:
    """Make a packet up, near to where something changes."""
    family = random.choice(FAMILIES)
    protocol = random.choice([6, 6, 17, 1, 58, 132, 47])
    near = [min(TOPS[family], anchor + random.randrange(16)) for anchor in random.choices(ANCHORS[family], k=2)]
    if random.randrange(6) == 0:
        return Packet(family, near[0], near[1], protocol, litter=random.choice([0, 3101, 135]))
    kind = random.choice([128, 132, 133, 137, 138]) if protocol == 58 else 0
    return Packet(family, near[0], near[1], protocol, random.choice(PORTS), random.choice(PORTS), kind)


made_up = st.integers(1, 3).flatmap(lambda size: st.tuples(*(policies(f"order-{name}") for name in "abc"[:size])))


@settings(max_examples=40)
@given(st.data(), made_up, st.sampled_from(HOOKS), st.sampled_from([0, *INSTANTS]), st.integers(0, 2**32))
def test_whatever_goes_wrong_for_one_packet_is_found(
    data: st.DataObject, made: tuple[Policy, ...], hooks: tuple[HookName, ...], at: int, seed: int
) -> None:
    compiled = compile_policies(made, at, hooks, -10)
    actual = load(compiled.ruleset)
    assume(any(chain.rules for chain in actual.chains.values()))
    mutant = mutant_of(data.draw, actual)
    if prove(mutant, Asked(made, hooks, -10, ledger=compiled.counters), at).equal:
        random = Random(seed)  # noqa: S311 - packets, no secrets
        for _ in range(60):
            sent, hook, now = packet(random), random.choice(hooks), max(at, random.randrange(4500))
            assert by_rules(mutant, compiled.counters, sent, hook, now) == by_policies(made, sent, hook, now), sent
    else:
        event("unequal")
