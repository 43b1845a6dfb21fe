"""Tables of many sets, one for each prefix length: each fault in them is found, and what does the same is equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewrit.kernel import expressions as nf
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.ruleset import IPV4, IPV6, PORT, PROTOCOL, Set, SetSpec
from gatewrit.policy.model import Endpoint, Service, Transport
from gatewrit.verify import sweep
from gatewrit.verify.addresses import Layer
from gatewrit.verify.proof import Asked, prove
from support import blocks
from support.blocks import RETURN, by_map, chain, goto, load, look_up, port_is
from support.paper import Packet, by_rules
from support.strategies import ANCHORS, PLACE, TOPS, policy, ranges_of, simple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatewrit.kernel.transaction import Actual, ActualChain
    from gatewrit.policy.model import Policy, Ranges
    from gatewrit.policy.terms import Family

NOW = 2000
PORTS = [(6, 3101, 3110), (17, 53, 53)]
#: Two blocks with sets of their own, 10.0.0.0/8 and 11.0.0.0/8 (where the rest is one dispatch), and 12.0.0.0/8 whole.
BLOCKED = [
    "10.0.1.0-10.0.1.127",
    "10.0.2.128-10.0.2.255",
    "10.0.3.16-10.0.3.31",
    "10.0.4.7",
    "10.0.5.3-10.0.5.9",
    "11.1.0.0-11.1.6.255",
    "11.1.7.1-11.1.255.255",
    "12.0.0.0-12.255.255.255",
]
GUARDED = ["10.0.1.0", "10.0.2.0", "10.0.3.0", "10.0.4.0", "10.0.5.0"]

NOWHERE = str(IPv4Address(0))

Change = Callable[["Actual"], "Actual"]


def key(address: str) -> bytes:
    return IPv4Address(address).packed


def sets_of(name: str, *entries: str, interval: bool = False, leads: str | None = None) -> Set:
    """Make a set of addresses, or a map in which all lead to one chain; an entry may end in ` : CHAIN` of its own."""
    rows = []
    for entry in entries:
        addresses, _, own = entry.partition(" : ")
        first, _, last = addresses.partition("-")
        to = own or leads
        rows.append((key(first), key(last or first), Verdict("goto", to) if to else None))
    verdicts = any(verdict for _, _, verdict in rows)
    return Set(SetSpec(name, (IPV4,), interval, verdicts), Elements.of(4, rows))


def order() -> Policy:
    return simple("it", BLOCKED, [Transport(*each) for each in PORTS])


def whole() -> Actual:
    """Give the table that does what is ordered."""
    chains = [
        chain("to.ports", (*blocks.later(4), RETURN), by_map(4, "to4", 8)),
        chain(
            "to4.10",
            (*look_up(4, "to4.10.guard", 24, inverted=True), RETURN),
            (*look_up(4, "to4.10.25", 25), goto("to4.it")),
            by_map(4, "to4.10.28", 28),
            (*look_up(4, "to4.10.32"), goto("to4.it")),
            by_map(4, "to4.10.rest"),
        ),
        chain(
            "to4.11",
            (*look_up(4, "to4.11.guard", 16, inverted=True), RETURN),
            (*look_up(4, "to4.11.holes"), RETURN),
            (goto("to4.it"),),
        ),
        chain("to4.it", *((*port_is(low, high, protocol), goto("to.by.it")) for protocol, low, high in PORTS)),
    ]
    sets = [
        sets_of("to4", "10.0.0.0 : to4.10", "11.0.0.0 : to4.11", "12.0.0.0 : to4.it"),
        sets_of("to4.10.guard", *GUARDED),
        sets_of("to4.10.25", "10.0.1.0", "10.0.2.128"),
        sets_of("to4.10.28", "10.0.3.16", leads="to4.it"),
        sets_of("to4.10.32", "10.0.4.7"),
        sets_of("to4.10.rest", "10.0.5.3-10.0.5.9", interval=True, leads="to4.it"),
        sets_of("to4.11.guard", "11.1.0.0"),
        sets_of("to4.11.holes", "11.1.7.0"),
    ]
    return blocks.table(chains, sets, PORTS, "it")


def holds(name: str, *entries: str, **how: bool | str) -> Change:
    """Have a set hold something else."""
    return lambda actual: replace(actual, sets={**actual.sets, name: sets_of(name, *entries, **how)})


def rule(name: str, at: int, *expressions: nf.Expression | tuple[nf.Expression, ...]) -> Change:
    """Have one rule of a chain be another; none if there are no expressions."""
    flat = tuple(part for each in expressions for part in (each if isinstance(each, tuple) else (each,)))

    def change(actual: Actual) -> Actual:
        rules = list(actual.chains[name].rules)
        rules[at : at + 1] = [replace(rules[at], expressions=flat)] if flat else []
        return replace(actual, chains={**actual.chains, name: replace(actual.chains[name], rules=tuple(rules))})

    return change


def with_chain(added: ActualChain) -> Change:
    """Have one chain more."""
    return lambda actual: replace(actual, chains={**actual.chains, added.name: added})


def masked(mask: str, xor: str = NOWHERE) -> tuple[nf.Expression, ...]:
    """Load the destination under any mask at all."""
    return (*load(4), nf.Bitwise(key(mask), key(xor)))


def proof(*changes: Change) -> tuple[set[str | None], set[str | None], list[str]]:
    """Change the table and prove it: give whose orders lack something, whose do too much, and both in words."""
    actual = whole()
    for change in changes:
        actual = change(actual)
    found = prove(actual, Asked((order(),), ("forward",), -10), NOW)
    told = [str(each) for each in (*found.missing, *found.excess)]
    return {each.policy for each in found.missing}, {each.policy for each in found.excess}, told


SAME: dict[str, list[Change]] = {
    "as it is": [],
    "one too many in the guard": [holds("to4.10.guard", *GUARDED, "10.0.9.0")],
    "a guard that leads on": [
        holds("to4", "10.0.0.0 : to4.10", "11.0.0.0 : to4.11", "12.0.0.0 : to4.12"),
        holds("to4.12.guard", "12.0.7.0"),
        holds("to4.12.rest", "12.0.7.0-12.0.7.255", interval=True, leads="to4.it"),
        with_chain(
            chain(
                "to4.12",
                (*look_up(4, "to4.12.guard", 24, inverted=True), goto("to4.it")),
                by_map(4, "to4.12.rest"),
            )
        ),
    ],
    "no guard": [rule("to4.10", 0)],
    "a key with low bits set": [holds("to4.10.25", "10.0.1.0", "10.0.2.128", "10.0.9.1")],
    "ranges under a mask": [holds("to4.10.25", "10.0.1.0-10.0.1.127", "10.0.2.1-10.0.2.254", interval=True)],
    "a range under a mask that none is in": [holds("to4.10.28", "10.0.3.16 : to4.it", "10.0.7.1-10.0.7.15 : to4.it")],
    "a mask of nothing": [
        rule("to4.11", 0, masked(NOWHERE), nf.Lookup("to4.11.all", flags=1), RETURN),
        holds("to4.11.all", NOWHERE),
        holds("to4.11.holes", "11.0.0.0-11.0.255.255", "11.1.7.0", "11.2.0.0-11.255.255.255", interval=True),
    ],
    "ports one by one": [
        rule("to4.it", 0, port_is(3101, 3105), goto("to.by.it")),
        rule("to4.it", 1, nf.Meta(nf.META_L4PROTO), nf.Lookup("others"), goto("to4.others")),
        lambda actual: replace(actual, sets={**actual.sets, "others": _protocols("others", 6, 17)}),
        with_chain(
            chain(
                "to4.others",
                (*port_is(3106, 3110), goto("to.by.it")),
                (*port_is(53, 53, 17), goto("to.by.it")),
            )
        ),
    ],
}


def _protocols(name: str, *numbers: int) -> Set:
    rows = [(bytes([number]), bytes([number]), None) for number in numbers]
    return Set(SetSpec(name, (PROTOCOL,), interval=False, verdicts=False), Elements.of(1, rows))


MISSING: dict[str, list[Change]] = {
    "a prefix missing": [holds("to4.10.25", "10.0.1.0")],
    "a single address missing": [holds("to4.10.32")],
    "one missing in the guard": [holds("to4.10.guard", *GUARDED[1:])],
    "a block missing": [holds("to4", "10.0.0.0 : to4.10", "11.0.0.0 : to4.11")],
    "a block under a key with low bits": [
        holds("to4", "10.0.0.0 : to4.10", "11.0.0.0 : to4.11", "12.0.0.1 : to4.it"),
    ],
    "a prefix with low bits": [holds("to4.10.25", "10.0.1.0", "10.0.2.129")],
    "a mask longer by one": [rule("to4.10", 1, look_up(4, "to4.10.25", 26), goto("to4.it"))],
    "no mask": [rule("to4.10", 1, look_up(4, "to4.10.25"), goto("to4.it"))],
    "an inverted guard that isn't any more": [rule("to4.10", 0, look_up(4, "to4.10.guard", 24), RETURN)],
    "a hole too many": [holds("to4.11.holes", "11.1.7.0", "11.1.7.1")],
    "the rest missing": [rule("to4.10", 4)],
    "a range of ports that ends too soon": [rule("to4.it", 0, port_is(3101, 3109), goto("to.by.it"))],
    "a range of ports that begins too late": [rule("to4.it", 0, port_is(3102, 3110), goto("to.by.it"))],
    "ports of another protocol": [rule("to4.it", 1, port_is(53, 53, 6), goto("to.by.it"))],
}
EXCESS: dict[str, list[Change]] = {
    "a prefix too many": [holds("to4.10.25", "10.0.1.0", "10.0.2.128", "10.0.1.128")],
    "a mask shorter by one": [
        rule("to4.10", 1, look_up(4, "to4.10.24", 24), goto("to4.it")),
        holds("to4.10.24", "10.0.1.0", "10.0.2.0"),
    ],
    "a mask of a map shorter by one": [
        rule("to4.10", 2, by_map(4, "to4.10.28", 27)),
        holds("to4.10.28", "10.0.3.0 : to4.it"),
    ],
    "a lookup inverted": [rule("to4.10", 1, look_up(4, "to4.10.25", 25, inverted=True), goto("to4.it"))],
    "a hole lost": [holds("to4.11.holes", "11.1.7.9")],
    "no guard where the rest is one dispatch": [rule("to4.11", 0)],
    "a mask of the guard shorter by one": [
        rule("to4.11", 0, look_up(4, "to4.11.guard", 15, inverted=True), RETURN),
        holds("to4.11.guard", "11.0.0.0"),
    ],
    "ranges under a mask by one too wide": [
        holds("to4.10.25", "10.0.1.0-10.0.1.128", "10.0.2.1-10.0.2.254", interval=True),
    ],
    "a range of ports that isn't limited above": [
        rule("to4.it", 0, *port_is(3101, 3110)[:4], goto("to.by.it")),
        lambda actual: replace(actual, sets={**actual.sets, "to.ports": _every_port()}),
    ],
}


def _every_port() -> Set:
    rows = [(bytes([number, *bytes(7)]), bytes([number, 0, 0, 0, 255, 255, 0, 0]), None) for number in (6, 17)]
    return Set(SetSpec("to.ports", (PROTOCOL, PORT), interval=True, verdicts=False), Elements.of(8, rows))


UNCLEAR: dict[str, list[Change]] = {
    "a mask that isn't a prefix": [rule("to4.10", 1, masked("255.0.255.128"), nf.Lookup("to4.10.25"), goto("to4.it"))],
    "a mask that flips bits": [
        rule("to4.10", 1, masked("255.255.255.128", "0.0.0.1"), nf.Lookup("to4.10.25"), goto("to4.it")),
    ],
    "a mask over a mask": [
        rule("to4.10", 1, masked("255.255.255.128"), *masked("255.255.0.0")[-1:], nf.Lookup("to4.10.25"), RETURN),
    ],
    "a mask too short": [
        rule("to4.10", 1, *load(4), nf.Bitwise(b"\xff\xff", bytes(2)), nf.Lookup("to4.10.25"), goto("to4.it")),
    ],
    "an address compared": [rule("to4.10", 1, *load(4), nf.Cmp(nf.CMP_EQ, key("10.0.1.0")), goto("to4.it"))],
    "an inverted look-up in a map": [rule("to4.10", 2, *load(4), nf.Lookup("to4.10.28", verdict=True, flags=1))],
    "chains in a circle": [rule("to4.it", 1, goto("to4.10"))],
}


@pytest.mark.parametrize("changes", SAME.values(), ids=SAME)
def test_what_does_the_same_is_equal(changes: list[Change]) -> None:
    assert proof(*changes)[2] == []


@pytest.mark.parametrize("changes", MISSING.values(), ids=MISSING)
def test_what_is_missing_is_found(changes: list[Change]) -> None:
    assert "it" in proof(*changes)[0]


@pytest.mark.parametrize("changes", EXCESS.values(), ids=EXCESS)
def test_what_is_too_much_is_found(changes: list[Change]) -> None:
    missing, excess, told = proof(*changes)
    assert excess, (missing, told)


@pytest.mark.parametrize("changes", UNCLEAR.values(), ids=UNCLEAR)
def test_what_is_not_understood_is_never_equal(changes: list[Change]) -> None:
    assert any("can't be proved" in each for each in proof(*changes)[2])


@dataclass(frozen=True)
class Question:
    """One rule: a set of ranges, asked for the first `length` bits of an address, and what it says then.

    If it is `mapped` each range has a verdict of its own.
    """

    length: int
    ranges: tuple[tuple[int, int], ...]
    hashed: bool
    inverted: bool
    mapped: bool
    said: tuple[Verdict, ...]

    def edges(self, width: int) -> Iterator[int]:
        """Yield all addresses from which on the answer may be another."""
        step = 1 << width - self.length
        yield from (each // step * step + more for ends in self.ranges for each in ends for more in (0, step))


@st.composite
def questions(draw: st.DrawFn, family: Family) -> Question:
    """Ask near the anchors, most often so that the mask changes little; keys under a mask have low bits set or not."""
    width = {4: 32, 6: 128}[family]
    length = draw(st.sampled_from([width, width, *range(width - 5, width), 24, 1]))
    near = st.builds(
        lambda at, more: min(at + more, TOPS[family]), st.sampled_from(ANCHORS[family]), st.integers(0, 15)
    )
    keys = draw(st.lists(near, min_size=1, max_size=6))
    if draw(st.booleans()):
        keys = [each >> width - length << width - length for each in keys]
    keys = sorted(set(keys))
    hashed = draw(st.booleans())
    ranges = [(each, each) for each in keys] if hashed else list(zip(keys[::2], keys[1::2], strict=False))
    verdicts = st.sampled_from([Verdict("goto", "to4.it"), Verdict("return"), Verdict("goto", "to4.none")])
    mapped = draw(st.booleans())
    said = draw(st.tuples(*(verdicts for _ in (ranges if mapped else [0]))))
    return Question(length, tuple(ranges), hashed, not mapped and draw(st.booleans()), mapped, said)


def asked(family: Family, asking: list[Question]) -> Actual:
    """Make the table that asks one question after the other."""
    of = {4: IPV4, 6: IPV6}[family]
    rules, sets = [(*blocks.later(family), RETURN)], []
    for at, each in enumerate(asking):
        mask = None if each.length == 8 * of.length else each.length
        verdicts = each.said if each.mapped else [None] * len(each.ranges)
        rows = [
            (first.to_bytes(of.length, "big"), last.to_bytes(of.length, "big"), verdict)
            for (first, last), verdict in zip(each.ranges, verdicts, strict=True)
        ]
        name = f"set-{at}"
        sets.append(Set(SetSpec(name, (of,), not each.hashed, each.mapped), Elements.of(of.length, rows)))
        if each.mapped:
            rules.append(by_map(family, name, mask))
        else:
            rules.append((*look_up(family, name, mask, inverted=each.inverted), nf.Immediate(each.said[0])))
    it = chain("to4.it", (*port_is(3101, 3101), goto("to.by.it")))
    return blocks.table([chain("to.ports", *rules), it, chain("to4.none")], sets, [(6, 3101, 3101)], "it")


@pytest.mark.parametrize("family", [4, 6])
def test_an_address_of_which_a_part_is_overwritten_is_not_looked_up(family: Family) -> None:
    made, prefixes = many(family)
    where = nf.next_register(nf.FIRST_REGISTER, 8) if family == 6 else nf.FIRST_REGISTER
    overwritten = (*load(family), nf.Meta(nf.META_L4PROTO, where), nf.Lookup(f"to{family}", verdict=True))
    spoilt = rule("to.ports", 1, overwritten)(blocks.blocked(prefixes, 7, "it"))
    assert any("can't be proved" in str(each) for each in prove(spoilt, Asked((made,), ("forward",), -10), NOW).excess)


@pytest.mark.parametrize("width", [4, 16])
def test_a_key_with_low_bits_set_at_the_end_of_all_addresses_leads_nowhere(width: int) -> None:
    end = b"\xff" * width
    mask = int.from_bytes(end, "big") - 1
    assert len(Layer.of_set(Elements.of(width, [(end, end, None)]), mask).stretches) == 0
    assert len(Layer.of_set(Elements.of(width, [(bytes(width), end, None)]), mask).stretches) == 1


@pytest.mark.parametrize("family", [4, 6])
def test_one_prefix_among_many_is_found(family: Family) -> None:
    made, prefixes = many(family)
    asked = Asked((made,), ("forward",), -10)
    whole = blocks.blocked(prefixes, 7, "it")
    assert prove(whole, asked, NOW).equal
    name = f"to{family}.3.{24 if family == 4 else 48}"
    elements = whole.sets[name].elements
    for at in (0, len(elements) // 2, len(elements) - 1):
        left = elements.take(np.arange(len(elements)) != at)
        lost = replace(whole, sets={**whole.sets, name: Set(whole.sets[name].spec, left)})
        assert [each.policy for each in prove(lost, asked, NOW).missing] == ["it", "it"]


def many(family: Family) -> tuple[Policy, blocks.Prefixes]:
    """Give an order over more prefixes than the sweep looks at together, and these."""
    prefixes = blocks.many(family, 20_000, range(24, 31) if family == 4 else range(48, 65))
    return over(prefixes.ranges()), prefixes


def over(ranges: Ranges) -> Policy:
    """Give an order over these addresses."""
    return policy("it", Service("s", "s", (Endpoint((ranges,), (Transport(6, 3101, 3101),), PLACE),), "s", PLACE))


@settings(max_examples=150)
@given(data=st.data(), family=st.sampled_from([4, 6]), piece=st.sampled_from([1, 2, 3, 1000]), off=st.booleans())
def test_the_proof_agrees_with_single_packets(*, data: st.DataObject, family: Family, piece: int, off: bool) -> None:
    asking = data.draw(st.lists(questions(family), min_size=1, max_size=4))
    actual, top = asked(family, asking), TOPS[family]
    edges = sorted({0, *(edge for each in asking for edge in each.edges(top.bit_length()) if edge <= top)})
    stretches = list(zip(edges, [*(edge - 1 for edge in edges[1:]), top], strict=True))
    dropped = [ends for ends in stretches if _drops(actual, family, ends[0])]
    if off:
        # One address more or less is an order that the table doesn't carry out.
        at = data.draw(st.sampled_from([address for ends in stretches for address in ends]))
        cut = [(low, high) for low, high in dropped if not low <= at <= high]
        whole = [(low, high) for low, high in dropped if low <= at <= high]
        cut += [ends for low, high in whole for ends in ((low, at - 1), (at + 1, high)) if ends[0] <= ends[1]]
        dropped = cut if whole else [*dropped, (at, at)]
    with patch.object(sweep, "_PIECE", piece):
        proof = prove(actual, Asked((over(ranges_of(family, dropped)),), ("forward",), -10), NOW)
    assert proof.equal is not off, [*map(str, proof.missing), *map(str, proof.excess)]


def _drops(actual: Actual, family: Family, address: int) -> bool:
    return by_rules(actual, {"by.it": ["it"]}, Packet(family, 1, address, 6, 1, 3101), "forward", NOW).verdict == "drop"
