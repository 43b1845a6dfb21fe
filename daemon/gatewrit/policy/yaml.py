"""YAML text to a tree of nodes that know their place, and nothing that YAML would make of it by surprise.

PyYAML does the parsing, up to its events; what stands above is ours, because its own loader takes the second of two
equal keys, follows aliases until memory ends, makes objects from tags, and forgets where anything stood. Parsing needs
no recursion, so depth costs nothing but a fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import yaml

from gatewrit.policy.faults import fault
from gatewrit.policy.scalar import Plain, resolve
from gatewrit.policy.terms import Fault, Place

try:
    # libyaml is some twenty times faster; a pure PyYAML gives the same trees.
    from yaml.cyaml import CParser as Parser  # type: ignore[attr-defined]
except ImportError:  # pragma: no cover - both kinds of build are in the field
    from yaml import SafeLoader as Parser  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A policy is a page of text; a megabyte of it is a mistake. Long lists go to list files.
MAX_BYTES = 1 << 20
#: Our own files nest five deep.
MAX_DEPTH = 16
#: Values of one file, keys included. Each that is wrong costs some 2 kB while it is told, which must not add up.
MAX_VALUES = 100_000


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value; `plain` if it was written without quotes and not as a block."""

    place: Place
    text: str
    plain: bool = False

    @property
    def value(self) -> Plain:
        """What it is: text as written, unless it is plain and unmistakably a number or a truth value."""
        return resolve(self.text) if self.plain else self.text


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list of values."""

    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values in the order of the file; of two equal keys only the first."""

    place: Place
    keys: dict[str, Scalar]
    values: dict[str, Node]

    def get(self, key: str) -> Node | None:
        """Give the value of a key, None where there is no such key."""
        return self.values.get(key)


Node: TypeAlias = Scalar | Sequence | Mapping


def read_yaml(data: bytes, file: str) -> tuple[Node | None, tuple[Fault, ...]]:
    """Read one document. The tree is None where there is none to speak of; faults may stand beside a tree."""
    if len(data) > MAX_BYTES:
        return None, (oversize(file, len(data)),)
    text = decode_text(data, file)
    if isinstance(text, Fault):
        return None, (text,)
    return _Composer(file).compose(text)


def oversize(file: str, size: int) -> Fault:
    """Say that a YAML file is too large to be one of ours."""
    return fault(
        Place(file, 1, 1),
        "too_large",
        f"{size:,} bytes; a YAML file may have up to {MAX_BYTES:,}: put long lists into a file for prefixes_from",
    )


_MARKS = (
    (b"\xff\xfe", "UTF-16 or UTF-32 text"),
    (b"\xfe\xff", "UTF-16 text"),
    (b"\x00\x00\xfe\xff", "UTF-32 text"),
    (b"\x1f\x8b", "gzip-compressed"),
    (b"\xef\xbb\xbf", "UTF-8 behind a byte order mark"),
)
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")


def decode_text(data: bytes, file: str) -> str | Fault:
    """UTF-8 text without what an editor wouldn't show: control characters, and marks that reorder a line's reading."""
    for mark, what in _MARKS:
        if data.startswith(mark):
            message = f"the file is {what}; save it as plain UTF-8 without a byte order mark"
            return fault(Place(file, 1, 1), "not_text", message)
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        return fault(Place(file, line, 1), "not_text", "a NUL byte: this is a binary file; only text is read")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        message = f"byte 0x{data[error.start]:02x} isn't UTF-8 text; save the file as UTF-8"
        return fault(_place_after(before, file), "not_text", message)
    if bad := _FORBIDDEN.search(text):
        message = f"the character U+{ord(bad[0]):04X} has no place in a text file; take it out"
        return fault(_place_after(text[: bad.start()], file), "not_text", message)
    if bad := _BIDI.search(text):
        message = f"the invisible mark U+{ord(bad[0]):04X} makes a line read differently from what it says; take it out"
        return fault(_place_after(text[: bad.start()], file), "not_text", message)
    return text


def _place_after(before: str, file: str) -> Place:
    lines = re.split(r"\r\n|\n|\r", before)
    return Place(file, len(lines), len(lines[-1]) + 1)


@dataclass(slots=True)
class _Open:
    """A collection whose end hasn't come yet."""

    place: Place
    items: list[Node]
    is_mapping: bool


class _Composer:
    """Turns parser events into nodes, and collects what is wrong on the way."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []
        self.refused: set[str] = set()

    def compose(self, text: str) -> tuple[Node | None, tuple[Fault, ...]]:
        root: Node | None = None
        try:
            root = self._tree(self._events(text))
        except yaml.YAMLError as error:
            self.faults.append(_explain(error, text, self.file))
        except _GiveUp:
            pass
        else:
            if root is None or (isinstance(root, Scalar) and root.plain and not root.text):
                root = None
                if not self.faults:
                    message = "there is nothing in this file; remove it, or write what it is to say"
                    self.faults.append(fault(Place(self.file, 1, 1), "empty_file", message))
        return root, tuple(self.faults)

    def _events(self, text: str) -> Iterator[yaml.Event]:
        parser = Parser(text)
        while (event := parser.get_event()) is not None and not isinstance(event, yaml.StreamEndEvent):
            yield event

    def _place(self, event: yaml.Event) -> Place:
        mark = event.start_mark
        assert mark is not None  # noqa: S101 - only events that a program made up have none
        return Place(self.file, mark.line + 1, mark.column + 1)

    def _tree(self, events: Iterator[yaml.Event]) -> Node | None:
        stack: list[_Open] = []
        roots: list[Node] = []
        values = 0
        for event in events:
            values += isinstance(event, yaml.NodeEvent)
            if values > MAX_VALUES:
                message = f"more than {MAX_VALUES:,} values in one file: put long lists into a file for prefixes_from"
                self.faults.append(fault(self._place(event), "too_large", message))
                raise _GiveUp
            match event:
                case yaml.DocumentStartEvent():
                    if roots:
                        message = "a second document begins here; a file holds one: put it into a file of its own"
                        self.faults.append(fault(self._place(event), "many_documents", message))
                        raise _GiveUp
                    continue
                case yaml.AliasEvent():
                    self._refuse_alias(event, f"*{event.anchor}")
                    node: Node = Scalar(self._place(event), f"*{event.anchor}")
                case yaml.ScalarEvent():
                    self._check(event)
                    node = Scalar(self._place(event), event.value, plain=not event.style)
                case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                    self._check(event)
                    place = self._place(event)
                    if len(stack) == MAX_DEPTH:
                        message = f"nested more than {MAX_DEPTH} deep; no key of ours needs that"
                        self.faults.append(fault(place, "too_deep", message))
                        raise _GiveUp
                    stack.append(_Open(place, [], isinstance(event, yaml.MappingStartEvent)))
                    continue
                case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                    node = self._close(stack.pop())
                case _:
                    continue
            (stack[-1].items if stack else roots).append(node)
        return roots[0] if roots else None

    def _check(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.anchor is not None:
            self._refuse_alias(event, f"&{event.anchor}")
        if event.tag is not None:
            message = f"the tag {event.tag} has no meaning here; write the value without it"
            self.faults.append(fault(self._place(event), "tag_refused", message))

    def _refuse_alias(self, event: yaml.Event, written: str) -> None:
        if written in self.refused:
            return
        self.refused.add(written)
        message = f"{written}: anchors, aliases and merge keys aren't read; write the value out where it is needed"
        self.faults.append(fault(self._place(event), "alias_refused", message))

    def _close(self, done: _Open) -> Node:
        if not done.is_mapping:
            return Sequence(done.place, tuple(done.items))
        keys: dict[str, Scalar] = {}
        values: dict[str, Node] = {}
        for key, value in zip(done.items[::2], done.items[1::2], strict=True):
            if not isinstance(key, Scalar):
                message = "a key must be a word, not a list or a mapping"
                self.faults.append(fault(key.place, "wrong_type", message))
            elif key.plain and key.text == "<<":
                message = "<<: anchors, aliases and merge keys aren't read; write the value out where it is needed"
                self.faults.append(fault(key.place, "alias_refused", message))
            elif key.text in keys:
                message = f"{key.text} stands here already, in line {keys[key.text].place.line}; keep one of the two"
                self.faults.append(fault(key.place, "duplicate_key", message))
            else:
                keys[key.text], values[key.text] = key, value
        return Mapping(done.place, keys, values)


class _GiveUp(Exception):  # noqa: N818 - not an error: the fault is already noted
    """Nothing that follows in this file can be read sensibly."""


#: What PyYAML and libyaml say (in their own words each), and what it means for somebody who edits a policy.
_EXPLANATIONS = {
    r"mapping values are not allowed": "this colon can't stand here: check the indentation of this line and the one "
    "above, and put text that holds a colon and a space into quotes",
    r"could not find expected ':'": "a key without its colon (`key: value`), or a dash without a space behind it",
    r"unexpected end of stream": "the quoted text that begins here isn't closed: a quote is missing",
    r"expected ',' or '\]'": "a comma or `]` is missing, or there is a bracket too many",
    r"expected ',' or '}'": "a comma or `}` is missing, or there is a bracket too many",
    r"expected key|block end>|expected '-'|document start>": "this line doesn't line up with the ones above; check its "
    "indentation, and that brackets and quotes are closed",
    r"expected (the )?node content": "a value is missing here, or there is a comma too many",
    r"cannot start any token": "a plain value can't begin with this character; put the value into quotes",
    r"unknown escape": r"a backslash in double quotes begins an escape; write \\ or use single quotes",
}
#: Noticed only behind what isn't closed; as at the end of the file, the place to mend is where it begins.
_NOTICED_LATE = re.compile(r"could not find expected ':'|unexpected end of stream")


def _explain(error: yaml.YAMLError, text: str, file: str) -> Fault:
    """One syntax error, in our words where we know it, at the place to look at first."""
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    noticed = getattr(error, "problem_mark", None)
    begun = getattr(error, "context_mark", None) or noticed
    lines = re.split(r"\r\n|\n|\r", text.rstrip("\r\n"))
    late = noticed is not None and noticed.line >= len(lines)
    mark = begun if late or _NOTICED_LATE.search(problem) else noticed or begun
    place = Place(file, min(mark.line, len(lines) - 1) + 1, mark.column + 1) if mark else Place(file, 1, 1)
    line = lines[place.line - 1]
    if "\t" in line[: len(line) - len(line.lstrip())]:
        place = Place(file, place.line, line.index("\t") + 1)
        return fault(place, "yaml_syntax", "a tab stands where YAML wants spaces; indent with spaces")
    if re.search(r"\d[Tt]\d\d:\d\d:\d\d[^\s,}\"']*\[", line) and "expected ','" in problem:
        message = "between braces, an instant with its zone in brackets stands in quotes"
        return fault(place, "yaml_syntax", message)
    if line.startswith("%"):
        message = "a line that begins with % is a YAML directive; take it out"
        return fault(Place(file, place.line, 1), "yaml_syntax", message)
    message = next((ours for theirs, ours in _EXPLANATIONS.items() if re.search(theirs, problem)), problem)
    if begun and begun.line + 1 < place.line:
        message += f" (opened in line {begun.line + 1})"
    return fault(place, "yaml_syntax", message)
