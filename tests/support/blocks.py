"""Tables for many prefixes, made straight from them: blocks of addresses, in each a hash set for every prefix length.

The compiler isn't asked, so that the proof can be tried on tables of any size, and on wrong ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.kernel import expressions as nf
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.ruleset import IPV4, IPV6, PORT, PROTOCOL, Hook, Set, SetSpec
from gatewrit.kernel.transaction import Actual, ActualChain, ActualCounter, ActualRule
from gatewrit.policy.model import IPV4_DTYPE, IPV6_DTYPE, Ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from gatewrit.kernel.ruleset import KeyType
    from gatewrit.policy.terms import Family

    Words = NDArray[np.uint64]

#: By family: the type of its addresses, the bits of the word that a prefix stands in here, where a packet has its
#: destination, the number of the protocol, and the length of the guard's prefixes.
_IPV4 = (IPV4, 32, nf.Payload(nf.NETWORK_HEADER, 16, 4), nf.NFPROTO_IPV4, 24)
_IPV6 = (IPV6, 64, nf.Payload(nf.NETWORK_HEADER, 24, 16), nf.NFPROTO_IPV6, 48)
_OF = {4: _IPV4, 6: _IPV6}


@dataclass(frozen=True)
class Prefixes:
    """Disjoint prefixes in order: the first address of each (its first 64 bits if it is IPv6), and its length."""

    family: Family
    first: Words
    length: NDArray[np.int64]

    @property
    def last(self) -> Words:
        """The last address of each (its first 64 bits)."""
        rest = (_OF[self.family][1] - self.length).astype(np.uint64)
        return self.first + ((np.uint64(1) << rest) - np.uint64(1))

    def ranges(self) -> Ranges:
        """Give them as a policy names them."""
        first, last = self.first, self.last
        if self.family == 4:
            ends = first.astype(IPV4_DTYPE), last.astype(IPV4_DTYPE)
        else:
            ends = np.zeros(len(first), IPV6_DTYPE), np.zeros(len(first), IPV6_DTYPE)
            ends[0]["hi"], ends[1]["hi"] = first, last
            ends[1]["lo"] = np.uint64(2**64 - 1)
        return Ranges(self.family, *ends, np.arange(len(first), dtype=np.int32), "policies/services/made-up.txt")

    def part(self, chosen: slice | NDArray[np.bool_]) -> Prefixes:
        """Give some of them."""
        return Prefixes(self.family, self.first[chosen], self.length[chosen])


def many(family: Family, number: int, lengths: Sequence[int], seed: int = 1) -> Prefixes:
    """Make up prefixes, each in a place of its own that is as large as the shortest of them."""
    random = np.random.default_rng(seed)
    bits, start = _OF[family][1], {4: 1 << 24, 6: 0x2001 << 48}[family]
    room = bits - min(lengths)
    places = np.sort(random.choice(13 * 2**20, number, replace=False)).astype(np.uint64)
    length = random.choice(np.array(lengths), number)
    inner = random.integers(0, 1 << 62, number, np.uint64) & ((np.uint64(1) << np.uint64(room)) - np.uint64(1))
    rest = (bits - length).astype(np.uint64)
    return Prefixes(family, (np.uint64(start) + (places << np.uint64(room)) + inner) >> rest << rest, length)


def load(family: Family, mask: int | None = None) -> tuple[nf.Expression, ...]:
    """Load the destination, its first `mask` bits only if that is given."""
    of, _, place, number, _ = _OF[family]
    loaded = (nf.Meta(nf.META_NFPROTO), nf.Cmp(nf.CMP_EQ, bytes([number])), place)
    if mask is None:
        return loaded
    width = 8 * of.length
    return (*loaded, nf.Bitwise(((1 << width) - (1 << width - mask)).to_bytes(of.length, "big"), bytes(of.length)))


def look_up(family: Family, name: str, mask: int | None = None, *, inverted: bool = False) -> tuple[nf.Expression, ...]:
    """Ask whether the destination is in a set."""
    return (*load(family, mask), nf.Lookup(name, flags=int(inverted)))


def by_map(family: Family, name: str, mask: int | None = None) -> tuple[nf.Expression, ...]:
    """Take what a map holds for the destination."""
    return (*load(family, mask), nf.Lookup(name, verdict=True))


def port_is(first: int, last: int, protocol: int = 6) -> tuple[nf.Expression, ...]:
    """Ask for a protocol (TCP) and for a port of it, or some."""
    low, high = (port.to_bytes(2, "big") for port in (first, last))
    asked = (nf.Cmp(nf.CMP_EQ, low),) if first == last else (nf.Cmp(nf.CMP_GTE, low), nf.Cmp(nf.CMP_LTE, high))
    of = (nf.Meta(nf.META_L4PROTO), nf.Cmp(nf.CMP_EQ, bytes([protocol])))
    return (*of, nf.Payload(nf.TRANSPORT_HEADER, 2, 2), *asked)


def keys(values: Words, width: int, rest: int = 0) -> NDArray[np.bytes_]:
    """Give words as the kernel's keys; `rest` fills up an IPv6 address."""
    raw = np.full((len(values), width), rest, np.uint8)
    raw[:, : min(8, width)] = values.astype(">u8").view(np.uint8).reshape(-1, 8)[:, max(0, 8 - width) :]
    return raw.view(f"S{width}").ravel()


def set_of(name: str, of: KeyType, first: Words, last: Words | None = None, verdicts: Sequence[Verdict] = ()) -> Set:
    """Make a set of addresses: hashed, or of intervals if `last` is given; with a verdict for each: a map."""
    low = keys(first, of.length)
    high = low if last is None else keys(last, of.length, 0xFF)
    said = tuple(sorted(set(verdicts)))
    number = np.array([said.index(each) for each in verdicts] or np.zeros(len(first)), np.int32)
    spec = SetSpec(name, (of,), last is not None, bool(verdicts))
    return Set(spec, Elements(of.length, low, high, number, said))


def chain(name: str, *rules: tuple[nf.Expression, ...], hook: Hook | None = None) -> ActualChain:
    """Make a chain of rules."""
    return ActualChain(name, tuple(ActualRule(at, each, None) for at, each in enumerate(rules, 1)), hook, None)


def goto(name: str) -> nf.Immediate:
    """Go on elsewhere."""
    return nf.Immediate(Verdict("goto", name))


RETURN = nf.Immediate(Verdict("return"))


def blocked(prefixes: Prefixes, blocks: int, order: str, ports: tuple[int, int] = (3101, 3101)) -> Actual:
    """Make the table in which one order drops what goes to its prefixes and ports, by TCP."""
    family = prefixes.family
    of, _, _, _, guard = _OF[family]
    dispatch = f"to{family}.dispatch"
    chains = [
        chain("to.ports", (*later(family), RETURN), by_map(family, f"to{family}")),
        chain(dispatch, (*port_is(*ports), goto("to.by.it"))),
    ]
    sets = []
    bounds = np.linspace(0, len(prefixes.first), blocks + 1).astype(int)
    for at, (low, high) in enumerate(pairwise(bounds)):
        here = prefixes.part(slice(low, high))
        name = f"to{family}.{at}"
        rules = [(*look_up(family, f"{name}.guard", guard, inverted=True), RETURN)]
        sets.append(set_of(f"{name}.guard", of, _guards(here, guard)))
        for length in np.unique(here.length).tolist():
            mask = None if length == 8 * of.length else length
            rules.append((*look_up(family, f"{name}.{length}", mask), goto(dispatch)))
            sets.append(set_of(f"{name}.{length}", of, here.part(here.length == length).first))
        chains.append(chain(name, *rules))
    starts, ends = prefixes.first[bounds[:-1]], prefixes.last[bounds[1:] - 1]
    leads = [Verdict("goto", f"to{family}.{at}") for at in range(blocks)]
    sets.append(set_of(f"to{family}", of, starts, ends, leads))
    return table(chains, sets, [(6, *ports)], order)


def table(chains: Iterable[ActualChain], sets: Iterable[Set], ports: Sequence[tuple[int, int, int]], it: str) -> Actual:
    """Make a table of chains from `to.ports` on, of which one leads to `to.by.it`, where order `it` drops.

    `ports` are what gets there: protocols, each with the first and the last port.
    """
    frame = (
        chain("forward", (nf.Immediate(Verdict("jump", "judge-to")),), hook=Hook("forward", -10)),
        chain("judge-to", (*_gate(), goto("to.ports"))),
        chain("to.by.it", (nf.CounterRef(f"by.{it}"), nf.Immediate(Verdict("drop")))),
    )
    gate = Elements.of(8, [(_port(protocol, low), _port(protocol, high), None) for protocol, low, high in ports])
    gates = Set(SetSpec("to.ports", (PROTOCOL, PORT), interval=True, verdicts=False), gate)
    return Actual(
        1,
        1,
        {each.name: each for each in (*frame, *chains)},
        {each.spec.name: each for each in (gates, *sets)},
        {f"by.{it}": ActualCounter(f"by.{it}", 1, 0, 0, it)},
    )


def _guards(prefixes: Prefixes, length: int) -> Words:
    rest = np.uint64(_OF[prefixes.family][1] - length)
    return np.unique(prefixes.first >> rest) << rest


def _port(protocol: int, number: int) -> bytes:
    return bytes([protocol, 0, 0, 0]) + number.to_bytes(2, "big") + bytes(2)


def _gate() -> tuple[nf.Expression, ...]:
    return (
        nf.Meta(nf.META_L4PROTO),
        nf.Payload(nf.TRANSPORT_HEADER, 2, 2, nf.next_register(nf.FIRST_REGISTER, 4)),
        nf.Lookup("to.ports"),
    )


def later(family: Family) -> tuple[nf.Expression, ...]:
    """Ask for fragments after the first."""
    of = (nf.Meta(nf.META_NFPROTO), nf.Cmp(nf.CMP_EQ, bytes([_OF[family][3]])))
    if family == 4:
        return (*of, nf.Payload(nf.NETWORK_HEADER, 6, 2), nf.Bitwise(b"\x1f\xff", bytes(2)), nf.Cmp(1, bytes(2)))
    fragment = nf.ExtensionHeader(nf.IPPROTO_FRAGMENT, 2, 2)
    return (*of, fragment, nf.Bitwise(b"\xff\xf8", bytes(2)), nf.Cmp(1, bytes(2)))
