"""What the enforcing process and the one that serves HTTP say to each other, as bytes.

A message is a letter, a length of four octets in network order, and that many octets of JSON:

| letter | from | what |
|---|---|---|
| S | enforcer | the whole snapshot, whenever it has changed |
| T | enforcer | every two seconds: whether its loops turn |
| K | enforcer | the keys: certificate, its key, the text of the tokens file |
| E | enforcer | what happened, as the journal has it, after what was told before |
| A | enforcer | the answer to the question of that number |
| Q | server | a question with a number: about an address, a policy, or what happened |

The server can ask nothing else, and nothing that changes anything.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from gatewrit.engine import answer as answers
from gatewrit.engine import events as happenings
from gatewrit.engine import particulars as details
from gatewrit.engine import snapshot as snapshots
from gatewrit.policy import terms

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = struct.Struct("!cI")
#: The longest question: six parameters of a look-up, with room.
LARGEST_QUESTION = 4096
#: The longest message from the enforcer. 10,000 policies make 12 MB.
LARGEST = 128 * 2**20
SNAPSHOT, TICK, KEYS, EVENTS, ANSWER, QUESTION = b"S", b"T", b"K", b"E", b"A", b"Q"
#: Seconds between two ticks.
TICK_EVERY = 2.0


class MessageError(Exception):
    """What came isn't a message of this protocol."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some entries of what a policy names, from the `start`th on."""

    policy: str
    start: int
    limit: int


@dataclass(frozen=True, slots=True)
class Ask:
    """A question as the server puts it: the parameters of `/v1/explain`, a policy, a part of its list, or events.

    `at`, a past instant in epoch seconds, is of the policy, or by itself asks how the gateway stood.
    """

    number: int
    parameters: dict[str, str] | None = None
    policy: str | None = None
    at: int | None = None
    stretch: Stretch | None = None
    turn: happenings.Turn | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What came of a question: an answer, or why there is none (`not_kept` is of NotKeptError)."""

    number: int
    answer: answers.Answer | None = None
    particulars: details.Particulars | None = None
    listing: details.Listing | None = None
    page: happenings.Page | None = None
    past: snapshots.PastView | None = None
    not_kept: str | None = None
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Happened:
    """All events after the id `after`, in order."""

    after: int
    events: tuple[happenings.Event, ...]


@dataclass(frozen=True, slots=True)
class Material:
    """What the operator's files hold, base64: a PEM certificate and its key, and the tokens. None: no such file."""

    cert: str | None = None
    key: str | None = None
    tokens: str | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """Whether the enforcer's loops turn."""

    alive: bool


def pack(data: bytes | None) -> str | None:
    """Return bytes as they stand in Material."""
    return None if data is None else base64.b64encode(data).decode()


def unpack(text: str | None) -> bytes | None:
    """Return the bytes of a part of Material; raises MessageError."""
    try:
        return None if text is None else base64.b64decode(text, validate=True)
    except ValueError:
        raise MessageError("keys aren't base64") from None


#: Which type each letter stands for.
_TYPES: Mapping[bytes, type] = {
    SNAPSHOT: snapshots.Snapshot,
    TICK: Tick,
    KEYS: Material,
    EVENTS: Happened,
    ANSWER: Told,
    QUESTION: Ask,
}


@cache
def _adapter(kind: bytes) -> TypeAdapter[object]:
    """Make what reads and writes a type. Our values name what others import for type checks only: here it is needed."""
    adapter: TypeAdapter[object] = TypeAdapter(_TYPES[kind])
    names = {**vars(terms), **vars(snapshots), **vars(answers), **vars(happenings), **vars(details), "Mapping": Mapping}
    adapter.rebuild(force=True, _types_namespace=names)
    return adapter


def warm() -> None:
    """Make everything that reads and writes, which takes a moment."""
    for kind in _TYPES:
        _adapter(kind)


def encode(kind: bytes, value: object) -> bytes:
    """Return a message; raises MessageError for one that is too long for the other end."""
    try:
        body = _adapter(kind).dump_json(value)
    except PydanticSerializationError:
        # A file name needn't be text: what UTF-8 can't say becomes a question mark, as in our documents.
        plain = _adapter(kind).dump_python(value, mode="json")
        body = json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace")
    if len(body) > LARGEST:
        raise MessageError(f"{len(body)} octets are too much for one message")
    return _HEAD.pack(kind, len(body)) + body


def decode(kind: bytes, body: bytes) -> object:
    """Return the value of a message; raises MessageError."""
    try:
        return _adapter(kind).validate_json(body)
    except (ValidationError, RecursionError):
        raise MessageError(f"a message {kind!r} that can't be read") from None


class Splitter:
    """Puts messages together from whatever pieces they arrive in; holds one message at most."""

    def __init__(self, kinds: bytes, largest: int) -> None:
        self._kinds = kinds
        self._largest = largest
        self._held = bytearray()

    def feed(self, data: bytes) -> None:
        """Take in what has arrived."""
        self._held += data

    def messages(self) -> Iterator[tuple[bytes, bytes]]:
        """Give each message that is whole; raises MessageError at the first octet that can't be one's."""
        while len(self._held) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._held)
            if kind not in self._kinds or length > self._largest:
                raise MessageError("what arrives isn't of this protocol")
            end = _HEAD.size + length
            if len(self._held) < end:
                return
            body = bytes(memoryview(self._held)[_HEAD.size : end])
            del self._held[:end]
            yield kind, body
