"""Set elements decoded one by one, as plainly as can be: what decoding in bulk is held to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewrit.kernel import wire
from gatewrit.kernel.codec import ELEM_DATA, ELEM_FLAGS, ELEM_KEY, ELEM_KEY_END, INTERVAL_END
from gatewrit.kernel.elements import Elements, decode_verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gatewrit.kernel.elements import Verdict

    Mark = tuple[bytes, bool, bytes, Verdict | None]


def decode(lists: Iterable[bytes], width: int, *, interval: bool, concatenated: bool) -> Elements:
    """Decode what the kernel dumped of one set."""
    marks: list[Mark] = []
    for payload in lists:
        for _, element in wire.walk(payload):
            parts = wire.attributes(element)
            key = wire.attributes(parts[ELEM_KEY])[1]
            ending = bool(wire.number(parts[ELEM_FLAGS]) & INTERVAL_END) if ELEM_FLAGS in parts else False
            last = wire.attributes(parts[ELEM_KEY_END])[1] if ELEM_KEY_END in parts else key
            verdict = decode_verdict(parts[ELEM_DATA]) if ELEM_DATA in parts else None
            marks.append((key, not ending, last, verdict))
    if not interval or concatenated:
        return Elements.of(width, ((key, last, verdict) for key, _, last, verdict in marks))
    return Elements.of(width, _pair(sorted(marks, key=lambda mark: mark[:2]), width))


def _pair(marks: list[Mark], width: int) -> Iterator[tuple[bytes, bytes, Verdict | None]]:
    opened: tuple[bytes, Verdict | None] | None = None
    for key, is_start, _, verdict in marks:
        if opened is not None:
            yield opened[0], (int.from_bytes(key, "big") - 1).to_bytes(width, "big"), opened[1]
        opened = (key, verdict) if is_start else None
    if opened is not None:
        yield opened[0], b"\xff" * width, opened[1]
