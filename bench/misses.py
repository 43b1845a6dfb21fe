"""Addresses that aren't in a list: where packets go that match nothing."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np

from bench.lists import registered, spared

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.lists import Made


def others(lists: Iterable[Made], size: int, *, near: bool = False, seed: int = 10) -> list[int]:
    """Give random addresses that are in none of these lists, all of one family.

    They are anywhere, or `near`: in the same /24 (IPv6: /48) as an entry of the first list, but not in it.
    """
    lists = list(lists)
    family = lists[0].family
    sorted_ = [sorted(made.entries) for made in lists]
    firsts = [[first for first, _ in entries] for entries in sorted_]

    def free(number: int) -> bool:
        if spared(family, number, number):
            return False
        for entries, starts in zip(sorted_, firsts, strict=True):
            at = bisect_right(starts, number) - 1
            if at >= 0 and number <= entries[at][1]:
                return False
        return True

    dice = np.random.default_rng(seed)
    found = list[int]()
    while len(found) < size:
        found += filter(free, _near(lists[0], dice, size) if near else _anywhere(family, dice, size))
    return found[:size]


def _anywhere(family: int, dice: np.random.Generator, size: int) -> list[int]:
    if family == 4:
        return dice.integers(0, 1 << 32, size, np.uint64).tolist()
    lower = dice.integers(0, 1 << 64, size, np.uint64).tolist()
    return [(a << 64) | b for a, b in zip(registered(dice, size).tolist(), lower, strict=True)]


def _near(made: Made, dice: np.random.Generator, size: int) -> list[int]:
    """Draw addresses of which the entries' neighbourhoods have more than the entries."""
    shift = 8 if made.family == 4 else 80
    lower = _anywhere(made.family, dice, size)
    chosen = dice.integers(0, len(made.entries), size).tolist()
    mask = (1 << shift) - 1
    return [made.entries[at][0] & ~mask | low & mask for at, low in zip(chosen, lower, strict=True)]


def packed(family: int, numbers: Iterable[int]) -> np.ndarray:
    """Give addresses as rows of octets, in the order of the network."""
    width = 4 if family == 4 else 16
    data = b"".join(number.to_bytes(width, "big") for number in numbers)
    return np.frombuffer(data, np.uint8).reshape(-1, width)
