"""Entries in the one order that is the same for all lists that mean the same, and digests over that.

A million entries are sorted as few 64-bit words each: an IPv4 entry is one (first and last side by side), an IPv6 entry
is four, of which the first nearly always decides. Sorting by the others is done only for what is still tied.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from gatewrit.policy.model import Ranges
    from gatewrit.policy.terms import Family

_HALF = np.uint64(32)


def canonical(ranges: Iterable[Ranges], family: Family) -> NDArray[np.uint64]:
    """All entries of one family as rows of 64-bit words, sorted, each once: equal for lists that mean the same."""
    columns = list(_columns(ranges, family))
    if family == 4:
        columns = [columns[0] >> _HALF, columns[0] & np.uint64(0xFFFFFFFF)]
    return np.stack(columns, axis=1)


def entries_digest(ranges: Iterable[Ranges], family: Family) -> bytes:
    """Give a digest of all entries of one family that is equal exactly for lists that mean the same."""
    digest = sha256()
    for column in _columns(ranges, family):
        digest.update(np.ascontiguousarray(column, "<u8").data)
    return digest.digest()


def _columns(ranges: Iterable[Ranges], family: Family) -> Iterator[NDArray[np.uint64]]:
    """Give the words of all entries column by column, so that not all need be in memory at a time."""
    own = [part for part in ranges if part.family == family]
    if family == 4:
        words = [(part.first.astype(np.uint64) << _HALF) | part.last.astype(np.uint64) for part in own]
        word = np.sort(_joined(words))
        new = np.ones(len(word), np.bool_)
        new[1:] = word[1:] != word[:-1]
        yield word[new]
        return
    ends: list[list[NDArray[Any]]] = [[part.first for part in own], [part.last for part in own]]
    columns = [_joined([part[half] for part in end]) for end in ends for half in ("hi", "lo")]
    order, new = _order(columns)
    order = order[new]
    for column in columns:
        yield column[order]


def _joined(columns: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return columns[0] if len(columns) == 1 else np.concatenate(columns or [np.empty(0, np.uint64)])


def _order(columns: list[NDArray[np.uint64]]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Give the order of rows by their columns, and which of them, in this order, differ from the one before."""
    order = np.argsort(columns[0])
    new = np.ones(len(order), np.bool_)
    sorted_ = columns[0][order]
    new[1:] = sorted_[1:] != sorted_[:-1]
    for column in columns[1:]:
        tied = ~new
        tied[:-1] |= ~new[1:]
        at = np.flatnonzero(tied)
        if not len(at):
            break
        rows = order[at]
        rows = rows[np.lexsort((column[rows], np.cumsum(new)[at]))]
        order[at] = rows
        new[at[1:]] |= column[rows[1:]] != column[rows[:-1]]
    return order, new
