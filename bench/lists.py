"""The lists that are loaded: always the same ones for a seed, of any size up to a million and a bit.

Entries are first and last addresses as integers; `lines` writes them as a list file has them. What the lab needs for
itself (the subscribers, its links) is left out, and so is what isn't unicast.
"""

from __future__ import annotations

import gzip
import random
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: The real tables of Debian's python3-pyasn, both families in one file.
_TABLE = Path("/usr/lib/python3/dist-packages/data/ipasn6_20151101.dat.gz")
_HALF = (1 << 64) - 1
#: First and last numbers.
Columns: TypeAlias = tuple[np.ndarray, np.ndarray]
_SPARED = [
    ip_network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/3",
        "2001:db8::/32",
        "fe80::/10",
        "ff00::/8",
    )
]
_BOUNDS = {version: [(int(net[0]), int(net[-1])) for net in _SPARED if net.version == version] for version in (4, 6)}
#: Where the registries' IPv6 space is: 2400::/12, 2600::/12, 2800::/12, 2a00::/12.
_REGISTRIES = [0x240, 0x260, 0x280, 0x2A0]


@dataclass(frozen=True)
class Made:
    """One list: what it is in words, and its entries, as they are written (they may nest)."""

    name: str
    what: str
    family: int
    entries: list[tuple[int, int]]

    def lines(self) -> Iterator[str]:
        """Give each entry as CIDR, or as first-last where it is no prefix."""
        return (text(self.family, first, last) for first, last in self.entries)

    def head(self, size: int) -> Made:
        """Give the first so many entries."""
        return Made(self.name, self.what, self.family, self.entries[:size])

    def write(self, path: Path) -> Path:
        """Write a list file, one entry a line."""
        path.write_text("\n".join(self.lines()) + "\n", encoding="ascii")
        return path


def text(family: int, first: int, last: int) -> str:
    """Write one entry."""
    size = last - first + 1
    bits = 32 if family == 4 else 128
    start = address(family, first)
    if size & (size - 1) == 0 and first % size == 0:
        return f"{start}/{bits + 1 - size.bit_length()}"
    return f"{start}-{address(family, last)}"


def address(family: int, number: int) -> str:
    """Write an address."""
    return inet_ntop(*((AF_INET, number.to_bytes(4, "big")) if family == 4 else (AF_INET6, number.to_bytes(16, "big"))))


def spared(family: int, first: int, last: int) -> bool:
    """Tell whether anything in there is left out."""
    return any(first <= high and low <= last for low, high in _BOUNDS[family])


def _disjoint(size: int, draw: Callable[[int], Columns], allowed: Callable[[Columns], np.ndarray]) -> Columns:
    """Draw until there are enough that don't overlap; in the order in which they were drawn."""
    first, last = np.empty(0, np.uint64), np.empty(0, np.uint64)
    while len(first) < size:
        new = draw((size - len(first)) * 9 // 8 + 8)
        first, last = np.concatenate([first, new[0]]), np.concatenate([last, new[1]])
        fine = allowed((first, last))
        first, last = first[fine], last[fine]
        order = np.lexsort((last, first))
        ends = np.maximum.accumulate(last[order])
        free = np.ones(len(order), bool)
        free[1:] = first[order][1:] > ends[:-1]
        kept = np.sort(order[free])
        first, last = first[kept], last[kept]
    return first[:size], last[:size]


def _prefixes(dice: np.random.Generator, numbers: np.ndarray, bits: int, shortest: int, longest: int) -> Columns:
    """Make prefixes of these lengths, each as often, of numbers of this many bits."""
    host = (bits - dice.integers(shortest, longest + 1, len(numbers))).astype(np.uint64)
    first = numbers >> host << host
    return first, first + (np.uint64(1) << host) - np.uint64(1)


def _outside(family: int) -> Callable[[Columns], np.ndarray]:
    """Tell which rows touch nothing that is left out; of IPv6 addresses, by their upper halves."""
    shift = 0 if family == 4 else 64

    def fine(rows: Columns) -> np.ndarray:
        free = np.ones(len(rows[0]), bool)
        for low, high in _BOUNDS[family]:
            free &= (rows[0] > np.uint64(high >> shift)) | (rows[1] < np.uint64(low >> shift))
        return free

    return fine


def _rows(columns: Columns) -> list[tuple[int, int]]:
    return list(zip(columns[0].tolist(), columns[1].tolist(), strict=True))


# -- IPv4 -----------------------------------------------------------------------------------------------------------


def mixed(size: int, seed: int = 1) -> Made:
    """Prefixes from /24 to /30, each length as often, anywhere."""
    return Made("mixed", "/24 to /30, anywhere", 4, _anywhere4(size, seed, 24, 30))


def hosts(size: int, seed: int = 2) -> Made:
    """Single addresses, anywhere."""
    return Made("hosts", "/32, anywhere", 4, _anywhere4(size, seed, 32, 32))


def _anywhere4(size: int, seed: int, shortest: int, longest: int) -> list[tuple[int, int]]:
    dice = np.random.default_rng(seed)

    def draw(count: int) -> Columns:
        return _prefixes(dice, dice.integers(0, 1 << 32, count, np.uint64), 32, shortest, longest)

    return _rows(_disjoint(size, draw, _outside(4)))


def one_eight(size: int, seed: int = 3) -> Made:
    """Everything in one /8: a prefix from /28 to /32 in each of its /28s."""
    dice = np.random.default_rng(seed)
    slots = dice.permutation(np.arange(1 << 20, dtype=np.uint64))[:size] * np.uint64(16)
    numbers = slots + dice.integers(0, 16, len(slots), np.uint64) + np.uint64(45 << 24)
    return Made("one /8", "/28 to /32, all in 45.0.0.0/8", 4, _rows(_prefixes(dice, numbers, 32, 28, 32)))


def holes(size: int, seed: int = 4) -> Made:
    """Four /8 with single addresses left out: few wide ones with many holes, as ranges from hole to hole."""
    dice = random.Random(seed)  # noqa: S311
    made = list[tuple[int, int]]()
    for octet in (52, 80, 130, 200):
        base = octet << 24
        out = sorted(dice.sample(range(1, (1 << 24) - 1), size // 4))
        starts = [base, *(base + each + 1 for each in out)]
        ends = [*(base + each - 1 for each in out), base + (1 << 24) - 1]
        made += [(first, last) for first, last in zip(starts, ends, strict=True) if first <= last]
    return Made("holes", f"four /8 with {size:,} single holes", 4, made)


def gaps(size: int, seed: int = 5) -> Made:
    """Dense ranges of one to six addresses with one address between them."""
    dice = random.Random(seed)  # noqa: S311
    made, at = list[tuple[int, int]](), 60 << 24
    for _ in range(size):
        length = dice.randint(1, 6)
        made.append((at, at + length - 1))
        at += length + 1
    return Made("gaps of one", "ranges of 1 to 6 addresses, one address apart", 4, made)


def touching(size: int, seed: int = 6) -> Made:
    """Dense ranges that touch in runs: every eighth one leaves a gap, so that they collapse to an eighth."""
    dice = random.Random(seed)  # noqa: S311
    made, at = list[tuple[int, int]](), 60 << 24
    for number in range(size):
        length = dice.randint(1, 6)
        made.append((at, at + length - 1))
        at += length + (number % 8 == 7)
    dice.shuffle(made)
    return Made("touching", "ranges of 1 to 6 addresses, eight touch; shuffled", 4, made)


# -- IPv6 -----------------------------------------------------------------------------------------------------------


def registered(dice: np.random.Generator, count: int) -> np.ndarray:
    """Draw upper halves of addresses."""
    top = np.array(_REGISTRIES, np.uint64)[dice.integers(0, len(_REGISTRIES), count)]
    return (top << np.uint64(52)) + dice.integers(0, 1 << 52, count, np.uint64)


def mixed6(size: int, seed: int = 7) -> Made:
    """Prefixes from /48 to /64, each length as often, in what the registries give out."""
    dice = np.random.default_rng(seed)
    halves = _disjoint(size, lambda count: _prefixes(dice, registered(dice, count), 64, 48, 64), _outside(6))
    made = [(first << 64, (last << 64) | _HALF) for first, last in _rows(halves)]
    return Made("mixed6", "/48 to /64, anywhere", 6, made)


def hosts6(size: int, seed: int = 8) -> Made:
    """Single addresses, anywhere."""
    dice = np.random.default_rng(seed)
    halves = _disjoint(size, lambda count: _prefixes(dice, registered(dice, count), 64, 64, 64), _outside(6))
    lower = dice.integers(0, 1 << 64, size, np.uint64).tolist()
    made = [(upper << 64) | low for (upper, _), low in zip(_rows(halves), lower, strict=True)]
    return Made("hosts6", "/128, anywhere", 6, [(each, each) for each in made])


def neighbours6(size: int, seed: int = 9) -> Made:
    """Single addresses close together: in 16 /64s, one to three addresses apart."""
    dice = random.Random(seed)  # noqa: S311
    made = list[tuple[int, int]]()
    for number in range(16):
        at = (0x2A00 << 112) + (number << 64) + (0xFFFF << 16 if number % 2 else 1)
        for _ in range((size + 15) // 16):
            made.append((at, at))
            at += dice.randint(1, 3)
    return Made("neighbours6", "/128, one to three apart", 6, made[:size])


# -- real tables ----------------------------------------------------------------------------------------------------


def bgp(family: int) -> Made | None:
    """Give the whole table of the internet as announced then, nested as it is; None where python3-pyasn is missing."""
    if not _TABLE.exists():
        return None
    bits = 32 if family == 4 else 128
    made = list[tuple[int, int]]()
    with gzip.open(_TABLE, "rt", encoding="ascii") as file:
        for line in file:
            start, _, length = line.split("\t")[0].strip().partition("/")
            if (":" in start) != (family == 6) or not length.isdigit() or length == "0":
                continue
            first = int.from_bytes(inet_pton(AF_INET if family == 4 else AF_INET6, start), "big")
            entry = first, first + (1 << (bits - int(length))) - 1
            if not spared(family, *entry):
                made.append(entry)
    return Made(f"BGP IPv{family}", "the internet's table of 2015-11-01, nested", family, made)


def everything(size: int) -> Iterable[Callable[[], Made | None]]:
    """Give a maker for each distribution."""
    for make in (mixed, hosts, one_eight, holes, gaps, touching, mixed6, hosts6, neighbours6):
        yield lambda make=make: make(size)
    yield lambda: bgp(4)
    yield lambda: bgp(6)
