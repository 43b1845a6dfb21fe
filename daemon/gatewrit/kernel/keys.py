"""Keys in bulk: fixed-width big-endian bytes (NumPy `S` arrays), compared, sorted and counted without a loop.

Big-endian bytes are both the kernel's own layout and a sort order, whatever the key: IPv4, IPv6, protocol and port.
NumPy drops trailing NULs of single `S` values, but never of whole arrays: here everything is done with those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Keys = NDArray[np.bytes_]
    Octets = NDArray[np.uint8]
    #: What puts rows in order; a slice where that is all it takes.
    Order = NDArray[np.intp] | slice

AS_THEY_ARE, BACKWARDS = slice(None), slice(None, None, -1)
#: Widths whose keys are one number each, the largest first: its type as the kernel has it, and as this machine does.
_NUMBERS = {size: (np.dtype(f">u{size}"), np.dtype(f"=u{size}")) for size in (8, 4, 2, 1)}


def matrix(keys: Keys, width: int) -> Octets:
    """View keys as bytes of shape (n, width)."""
    return np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), width)


def of_matrix(octets: Octets) -> Keys:
    """View bytes of shape (n, width) as keys."""
    return np.ascontiguousarray(octets).view(f"S{octets.shape[1]}").ravel()


def numbers(octets: Octets) -> list[NDArray[Any]]:
    """Give the keys as unsigned numbers that sort alike: one array for each 8, 4, 2 or 1 bytes, the highest first."""
    width, at, columns = octets.shape[1], 0, []
    while at < width:
        size = next(each for each in _NUMBERS if each <= width - at)
        theirs, ours = _NUMBERS[size]
        columns.append(octets[:, at : at + size].view(theirs)[:, 0].astype(ours))
        at += size
    return columns


def comparable(keys: Keys, width: int) -> NDArray[Any]:
    """Give the keys as what sorts alike and is compared fastest: as numbers, if one is enough for each."""
    if width not in _NUMBERS:
        return keys
    theirs, ours = _NUMBERS[width]
    return np.ascontiguousarray(keys).view(theirs).astype(ours)


def same(one: Keys, two: Keys, width: int) -> bool:
    """Whether two arrays hold the same keys in the same order."""
    return one is two or np.array_equal(matrix(one, width), matrix(two, width))


def disjoint(first: Keys, last: Keys, width: int) -> bool:
    """Whether ranges end where they begin or later, and each ends before the next one begins."""
    begin = comparable(first, width)
    if first is last:
        return bool((begin[:-1] < begin[1:]).all())
    end = comparable(last, width)
    return bool((begin <= end).all() and (end[:-1] < begin[1:]).all())


def order(octets: Octets) -> Order:
    """Give what sorts keys of shape (n, width); equal ones may end up either way round.

    What is in order already, or in the opposite one, is seen at a glance: interval sets are dumped like that.
    """
    if len(octets) < 2:
        return AS_THEY_ARE
    # Columns that are the same everywhere decide nothing: the other half of a /64, padding.
    telling = [column for column in numbers(octets) if bool(np.any(column != column[0]))]
    keys = telling[0] if len(telling) == 1 else of_matrix(octets)
    if bool(np.all(keys[:-1] <= keys[1:])):
        return AS_THEY_ARE
    if bool(np.all(keys[:-1] >= keys[1:])):
        return BACKWARDS
    if len(telling) == 1 and telling[0].itemsize <= 4 and len(octets) < 1 << 32:
        places = np.arange(len(octets), dtype=np.uint64)
        return (np.sort(telling[0].astype(np.uint64) << np.uint64(32) | places) & np.uint64(0xFFFFFFFF)).astype(np.intp)
    return _order(telling)


def _order(columns: list[NDArray[Any]]) -> NDArray[np.intp]:
    """Sort by the first column, and by the others only where that leaves ties."""
    found = np.argsort(columns[0])
    if len(columns) == 1:
        return found
    ahead = columns[0][found]
    tied = np.zeros(len(found) + 1, np.bool_)
    tied[1:-1] = ahead[1:] == ahead[:-1]
    within = np.flatnonzero(tied[1:] | tied[:-1])
    rows = found[within]
    found[within] = rows[np.lexsort([column[rows] for column in reversed(columns)])]
    return found


def increment(octets: Octets) -> Octets:
    """Add one to each big-endian key of shape (n, width); the caller makes sure that none is all ones."""
    return _carry(octets, 1, 0)


def decrement(octets: Octets) -> Octets:
    """Take one from each big-endian key of shape (n, width); the caller makes sure that none is zero."""
    return _carry(octets, 0xFF, 0xFF)


def _carry(octets: Octets, step: int, over: int) -> Octets:
    """Add `step` (255: minus one) to the last octet, and to the one before wherever that came to be `over`."""
    result = octets.copy()
    rows: NDArray[np.intp] | slice = slice(None)
    for column in range(octets.shape[1] - 1, -1, -1):
        result[rows, column] += np.uint8(step)
        carried = np.flatnonzero(result[rows, column] == over)
        if not len(carried):
            break
        rows = carried if isinstance(rows, slice) else rows[carried]
    return result
