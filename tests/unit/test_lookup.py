# ruff: noqa: S311 - the same addresses every time
"""The look-up of an address in every shape that it takes, against plain bisection."""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, summarize_address_range
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewrit.compile.cells import DEFAULT_SIZES, Sizes
from gatewrit.compile.prefixes import WIDTHS, ends_of, prefixes, starts_of
from gatewrit.compile.render import compile_policies
from gatewrit.compile.spans import merge
from gatewrit.kernel.ruleset import ByMap, InSet, Masked
from gatewrit.kernel.shortcuts import without_shortcuts
from gatewrit.policy.model import Transport
from support.loaded import load
from support.paper import Packet, by_rules, rules_met
from support.strategies import SIZES, TOPS, policy, ranges_of, services_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatewrit.compile.render import Compiled
    from gatewrit.policy.terms import Family

    Pairs = list[tuple[int, int]]

FAMILIES: tuple[Family, Family] = (4, 6)
NETWORKS = {4: IPv4Network, 6: IPv6Network}


def mixed(dice: random.Random, family: Family, count: int, lengths: tuple[int, int], stem: int = 0) -> Pairs:
    """Make prefixes of all these lengths below one of length `stem`, whose bits are ones and zeros in turn."""
    width = WIDTHS[family]
    top = int("10" * 64, 2) >> (128 - stem) << (width - stem) if stem else 0
    found = []
    for _ in range(count):
        host = width - dice.randint(*lengths)
        first = (top | dice.getrandbits(width - stem)) >> host << host
        found.append((first, first + (1 << host) - 1))
    return found


def holes(dice: random.Random, family: Family, count: int) -> Pairs:
    """Make what a wide prefix leaves between single addresses."""
    host = WIDTHS[family] - 8
    gone = sorted({(10 << host) + dice.getrandbits(host) for _ in range(count)})
    edges = [(10 << host) - 1, *gone, 11 << host]
    return [(low + 1, high - 1) for low, high in pairwise(edges) if high - low > 1]


def odd(dice: random.Random, family: Family, count: int) -> Pairs:
    """Make ranges that are no prefixes."""
    step = TOPS[family] // (count + 1)
    found = []
    for at in range(count):
        first = at * step + dice.randrange(step // 2)
        found.append((first, first + dice.randrange(step // 2)))
    return found


KINDS: dict[str, Callable[[random.Random, Family, int], Pairs]] = {
    "hosts": lambda dice, family, count: mixed(dice, family, count, (WIDTHS[family], WIDTHS[family])),
    "mixed": lambda dice, family, count: mixed(dice, family, count, (WIDTHS[family] - 8, WIDTHS[family] - 2)),
    "one-eighth": lambda dice, family, count: mixed(dice, family, count, (24, 30), stem=8),
    "neighbours": lambda _dice, _family, count: [(5000 + 2 * at, 5000 + 2 * at) for at in range(count)],
    "holes": holes,
    "odd": odd,
    "a few wide ones": lambda dice, family, count: [
        *mixed(dice, family, count, (WIDTHS[family], WIDTHS[family])),
        *mixed(dice, family, count // 400 + 3, (WIDTHS[family] // 2 - 4, WIDTHS[family] // 2)),
    ],
    "all lengths": lambda dice, family, count: mixed(dice, family, count, (14, WIDTHS[family])),
}


def compiled_of(family: Family, pairs: Pairs, sizes: Sizes) -> Compiled:
    other: Family = 6 if family == 4 else 4
    made = policy("a", services_of("s", [ranges_of(family, pairs), ranges_of(other, [])], [Transport(None)]))
    return compile_policies([made], 1500, ("forward",), -10, sizes=sizes)


def check(family: Family, pairs: Pairs, compiled: Compiled, asked: list[int]) -> None:
    spans = merge(family, [ranges_of(family, pairs)])
    rows = list(zip(spans.first.tolist(), spans.last.tolist(), strict=True))
    if family == 6:
        rows = [((low[0] << 64) + low[1], (high[0] << 64) + high[1]) for low, high in rows]
    starts = [low for low, _ in rows]
    actual = load(compiled.ruleset)
    for address in asked:
        at = bisect_right(starts, address) - 1
        wanted = at >= 0 and address <= rows[at][1]
        packet = Packet(family, 1, address, 6, 4000, 80)
        found = by_rules(actual, compiled.counters, packet, "forward", 2000)
        assert (found.verdict == "drop") == wanted, (address, packet)
        assert found.counts == ({"a": 1} if wanted else {})


def near(pairs: Pairs, family: Family, dice: random.Random, count: int) -> list[int]:
    some = dice.sample(pairs, min(count, len(pairs)))
    found = {edge + by for pair in some for edge in pair for by in (-1, 0, 1)}
    found |= {0, TOPS[family], *(dice.randint(0, TOPS[family]) for _ in range(count))}
    return sorted(each for each in found if 0 <= each <= TOPS[family])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_distribution_is_exact_at_the_sizes_that_gateways_use(family: Family, kind: str) -> None:
    dice = random.Random(f"{kind} {family}")
    pairs = KINDS[kind](dice, family, 40_000)
    compiled = compiled_of(family, pairs, DEFAULT_SIZES)
    assert any(name.startswith(f"to{family}.any-port.") for name in compiled.ruleset.chains)  # it is in blocks
    check(family, pairs, compiled, near(pairs, family, dice, 150))


@settings(max_examples=150)
@given(st.sampled_from(FAMILIES), st.sampled_from(list(KINDS)), st.integers(1, 40), st.sampled_from(SIZES), st.data())
def test_every_shape_is_exact(family: Family, kind: str, count: int, sizes: Sizes, data: st.DataObject) -> None:
    dice = random.Random(data.draw(st.integers(0, 2**32)))
    pairs = KINDS[kind](dice, family, count)
    compiled, asked = compiled_of(family, pairs, sizes), near(pairs, family, dice, 10)
    check(family, pairs, compiled, asked)
    # While shortcuts are still to come, too.
    check(family, pairs, replace(compiled, ruleset=without_shortcuts(compiled.ruleset, {}, 0)), asked)


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_ranges_are_cut_into_the_prefixes_that_python_cuts_them_into(family: Family, data: st.DataObject) -> None:
    top = TOPS[family]
    size = st.integers(0, WIDTHS[family]).flatmap(lambda bits: st.integers(0, (1 << bits) - 1))
    drawn = data.draw(st.lists(st.tuples(st.integers(0, top) | size, size), min_size=1, max_size=20))
    pairs = [(first, min(top, first + more)) for first, more in drawn]
    part = ranges_of(family, pairs)
    most = data.draw(st.sampled_from([1, 3, 300]))
    cut, ragged = prefixes(starts_of(family, part.first), ends_of(family, part.last), most)
    found: dict[int, set[str]] = {}
    for at, length, index in zip(range(len(cut)), cut.length.tolist(), cut.index.tolist(), strict=True):
        start = (int(cut.start.high[at]) << 64 | int(cut.start.low[at])) >> (128 - WIDTHS[family])
        found.setdefault(index, set()).add(str(NETWORKS[family]((start, length))))
    for index, (first, last) in enumerate(pairs):
        wanted = {str(each) for each in summarized(family, first, last)}
        assert bool(ragged[index]) == (len(wanted) > most)
        assert found.get(index, set()) == (set() if ragged[index] else wanted)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("length", [0, 1, 24, 31, 32, 63, 64, 65, 127, 128])
def test_a_prefix_of_every_length_is_one_prefix(family: Family, length: int) -> None:
    width = WIDTHS[family]
    if length <= width:
        host = width - length
        part = ranges_of(family, [((1 << length) - 1 << host, (1 << width) - 1)])
        cut, ragged = prefixes(starts_of(family, part.first), ends_of(family, part.last), 4)
        assert (cut.length.tolist(), cut.index.tolist(), ragged.tolist()) == ([length], [0], [False])


def summarized(family: Family, first: int, last: int) -> Pairs:

    address = IPv4Address if family == 4 else IPv6Address
    return list(summarize_address_range(address(first), address(last)))  # type: ignore[arg-type, type-var]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_million_hosts_are_one_hash_behind_one_map(family: Family) -> None:
    pairs = KINDS["hosts"](random.Random(1), family, 40_000)
    compiled = compiled_of(family, pairs, DEFAULT_SIZES)
    block = next(chain for name, chain in compiled.ruleset.chains.items() if name.startswith(f"to{family}.any-port."))
    assert len(block.rules) == 1
    (asked,) = [part for part in block.rules[0].statements if isinstance(part, InSet)]
    assert not isinstance(asked.key[0], Masked)
    (entry,) = [part for part in compiled.ruleset.chains["forward"].rules[0].statements if isinstance(part, ByMap)]
    assert isinstance(entry.key[0], Masked)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_meets_nothing_meets_the_guard_and_no_more(family: Family) -> None:
    pairs = KINDS["mixed"](random.Random(2), family, 40_000)
    compiled = compiled_of(family, pairs, DEFAULT_SIZES)
    actual = load(compiled.ruleset)
    dice = random.Random(3)
    packets = [Packet(family, 1, dice.randint(0, TOPS[family]), 6, 4000, 80) for _ in range(400)]
    met = sorted(rules_met(actual, packet, "forward", 2000) for packet in packets)
    # All but a few: the parts that a guard tells apart are small.
    assert met[390] <= 4


def test_a_prefix_more_is_felt_in_its_own_block_alone() -> None:
    pairs = KINDS["mixed"](random.Random(4), 4, 40_000)
    before, after = (
        compiled_of(4, some, DEFAULT_SIZES).ruleset for some in (pairs, [*pairs, (77 << 24, (77 << 24) + 15)])
    )
    assert before.sets.keys() == after.sets.keys()
    changed = [
        name
        for name, each in after.sets.items()
        if len(each.elements.minus(before.sets[name].elements)) or len(before.sets[name].elements.minus(each.elements))
    ]
    assert len(changed) <= 2
