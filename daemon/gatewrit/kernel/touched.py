"""Reading back a few elements of a large hash: those that were added have to be there, those removed must not.

Of each element that it is asked for the kernel gives what it has, in a message of its own, and it goes no further than
the first that it hasn't (nf_tables_getsetelem()): so added ones are asked for together, removed ones one by one. Only
hashes are asked like that; a range is told by two elements, and by what lies between them.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gatewrit.kernel import codec, keys, messages, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gatewrit.kernel.elements import Elements
    from gatewrit.kernel.messages import Message
    from gatewrit.kernel.transaction import Touch

    Ask = Callable[[Sequence[Message]], list[tuple[int, list[bytes]]]]

#: So many answers at once surely fit a socket's buffer: each takes a kilobyte of it at most.
_AT_ONCE = 32
#: An element that is asked for takes as long as so many that are dumped.
_DEARER = 32


class _Question(NamedTuple):
    """What is asked about a touched set: elements that are to be there, or one that isn't."""

    touch: Touch
    elements: Elements
    there: bool
    message: Message


def worth_asking(touch: Touch) -> bool:
    """Whether asking for what was changed is possible, and takes less time than reading the set."""
    return not touch.now.spec.interval and (
        (len(touch.added) + len(touch.removed)) * _DEARER <= len(touch.now.elements)
    )


def as_said(touches: Iterable[Touch], ask: Ask) -> set[str]:
    """Ask for what was changed; gives the names of the sets of which every element is as it is to be.

    `ask` is `Asking.each`; what it raises is passed on.
    """
    wrong, names = set[str](), set[str]()
    asked, room = list[_Question](), _AT_ONCE
    for touch in touches:
        names.add(touch.now.spec.name)
        for question in _questions(touch):
            if len(question.elements) > room:
                wrong |= _wrong(asked, ask)
                asked, room = [], _AT_ONCE
            asked.append(question)
            room -= len(question.elements)
    return names - wrong - _wrong(asked, ask)


def _questions(touch: Touch) -> Iterator[_Question]:
    for elements, there in ((touch.added, True), (touch.removed, False)):
        together = _AT_ONCE if there else 1
        for at in range(0, len(elements), together):
            part = elements.take(slice(at, at + together))
            yield _Question(touch, part, there, messages.element_request(touch.now.spec, part))


def _wrong(questions: Sequence[_Question], ask: Ask) -> set[str]:
    """Give the names of the sets in which something isn't as it is to be."""
    wrong, found = set[str](), dict[int, list[tuple[_Question, list[bytes]]]]()
    for question, (code, answers) in zip(questions, ask([each.message for each in questions]), strict=True):
        if code != (0 if question.there else errno.ENOENT) or len(answers) != len(question.elements) * question.there:
            wrong.add(question.touch.now.spec.name)
        elif question.there:
            found.setdefault(question.elements.width, []).append((question, answers))
    for width, mine in found.items():
        wrong |= _different(width, mine)
    return wrong


def _different(width: int, answered: Sequence[tuple[_Question, list[bytes]]]) -> set[str]:
    """Compare what came with what was to come, all of it at once; the answers come in the order of the questions."""
    names = [name for question, _ in answered for name in [question.touch.now.spec.name] * len(question.elements)]
    try:
        found, said = codec.decode_in_turn(
            b"".join(map(_element, (each for _, some in answered for each in some))), width
        )
    except wire.WireError:
        return set(names)
    wanted = np.concatenate([keys.matrix(question.elements.first, width) for question, _ in answered])
    verdicts = [verdict for question, _ in answered for _, _, verdict in question.elements.rows()]
    if found.shape != wanted.shape:
        return set(names)
    same = (found == wanted).all(axis=1).tolist()
    return {
        name for name, alike, one, other in zip(names, same, said, verdicts, strict=True) if not alike or one != other
    }


def _element(answer: bytes) -> bytes:
    """Give the one element of an answer, header included."""
    return b"".join(payload for kind, payload in wire.walk(answer) if kind == messages.ELEMENT_LIST)
