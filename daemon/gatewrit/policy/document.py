"""One file's bytes to one document: a policy or a service as its own file says it, or what is wrong with it.

Nothing here opens a file: a service's lists come through a function, so that the daemon can parse what it kept.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from pydantic import BaseModel

from gatewrit.policy import parts
from gatewrit.policy.decode import decode, trapped
from gatewrit.policy.faults import cap, fault
from gatewrit.policy.files import RefusedFile
from gatewrit.policy.lists import read_list
from gatewrit.policy.meaning import exceptions_said, meaning_of, scope_said
from gatewrit.policy.model import EVERYWHERE, NOTHING_EXCEPTED, Block, Exceptions, Scope, Service
from gatewrit.policy.parts import node_at
from gatewrit.policy.ranges import covers_everything
from gatewrit.policy.scalar import Trap
from gatewrit.policy.schema import PolicyModel, ServiceModel
from gatewrit.policy.terms import Action, Direction, Effective, Order, Place, State
from gatewrit.policy.values import NAME, leads_out
from gatewrit.policy.yaml import Mapping as MappingNode
from gatewrit.policy.yaml import Node, Scalar, read_yaml
from gatewrit.policy.yaml import Sequence as SequenceNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gatewrit.policy.lists import Shelf
    from gatewrit.policy.ranges import AddressList
    from gatewrit.policy.terms import Fault

    #: Gives the list that a `prefixes_from` names; raises RefusedFile.
    Fetch: TypeAlias = Callable[[str], AddressList]

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes that a value was read from, and their digest."""

    file: str
    data: bytes
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class PolicyDocument:
    """A policy as its own file says it: its services are names still.

    `references` are the places of the services that it names: those that it blocks, then those that must continue.
    """

    id: str
    title: str
    revision: int
    order: Order
    effective: Effective
    state: State
    block: Block
    labels: Mapping[str, str]
    meaning: str
    place: Place
    references: tuple[Place, ...]
    source: Source
    warnings: tuple[Fault, ...] = ()
    exceptions: Exceptions = NOTHING_EXCEPTED
    scope: Scope = EVERYWHERE
    must_continue: tuple[str, ...] = ()
    allow_wide: str | None = None

    @property
    def handle(self) -> str:
        """What it is called everywhere."""
        return self.id

    @property
    def named(self) -> tuple[tuple[str, Place], ...]:
        """Every service that it names, with the place of the first time."""
        pairs = zip((*self.block.services, *self.must_continue), self.references, strict=True)
        return tuple({name: (name, place) for name, place in reversed(list(pairs))}.values())[::-1]


@dataclass(frozen=True, slots=True, eq=False)
class ServiceDocument:
    """A service with the bytes it was read from; `lists` by what `prefixes_from` calls them."""

    service: Service
    source: Source
    lists: Mapping[str, Source]

    @property
    def handle(self) -> str:
        """What it is called everywhere."""
        return self.service.name

    @property
    def place(self) -> Place:
        """Where its name stands."""
        return self.service.place


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that can't be used: what it would have been, and why. `guessed`: only the file's name tells.

    `references` are the services that a policy names all the same, so that a name nobody knows is told at once.
    """

    handle: str
    faults: tuple[Fault, ...]
    place: Place
    guessed: bool = False
    references: tuple[tuple[str, Place], ...] = ()


def parse_policy(data: bytes, file: str) -> PolicyDocument | Broken:
    """Read the bytes of a policy file; `file` is what messages call it."""
    root, found = read_yaml(data, file)
    model, more = _decode(root, PolicyModel, "policy") if root else (None, [])
    faults = [*found, *more]
    if isinstance(root, MappingNode):
        faults += _label_keys(root.get("labels"))
        faults += _endless(root.get("effective"))
        faults += _twice(root)
    place = _handle_place(root, "policy", file)
    if model is None or faults:
        broken = _broken(root, data, "policy", file, cap(sorted(faults)))
        return replace(broken, references=tuple(_references(root)))
    assert isinstance(root, MappingNode)  # noqa: S101 - else there would be no model
    direction = Direction(model.block.direction)
    warnings = _from_warning(model, node_at(root, "block", "direction").place) if direction is not Direction.TO else ()
    exceptions, scope = parts.exceptions(model, root), parts.scope(model, root)
    warnings += parts.one_family(scope, node_at(root, "scope", "sources").place)
    order = Order(**{**dict(model.order), "issued": model.order.issued.isoformat()})
    effective = Effective(model.effective.start, model.effective.until, model.effective.review())
    block = Block(model.block.services, Action(model.block.action), direction)
    labels = dict(model.labels or {})
    unordered = Block(tuple(sorted(block.services)), block.action, block.direction)
    said = [model.policy, model.title, model.revision, order, effective, model.state, unordered, labels]
    said += [exceptions_said(exceptions), scope_said(scope), sorted(model.must_continue or ()), model.allow_wide]
    return PolicyDocument(
        id=model.policy,
        title=model.title,
        revision=model.revision,
        order=order,
        effective=effective,
        state=State(model.state),
        block=block,
        labels=MappingProxyType(labels),
        meaning=meaning_of(said),
        place=place,
        references=tuple(item.place for item in (*_services(root), *_continuing(root))),
        source=_source(file, data),
        warnings=warnings,
        exceptions=exceptions,
        scope=scope,
        must_continue=model.must_continue or (),
        allow_wide=model.allow_wide,
    )


def parse_service(
    data: bytes, file: str, lists: Mapping[str, bytes], shelf: Shelf | None = None
) -> ServiceDocument | Broken:
    """Read the bytes of a service file whose lists are at hand, by what `prefixes_from` calls them."""

    def fetch(name: str) -> AddressList:
        if name not in lists:
            raise RefusedFile("not_found", "there is no such file")
        return read_list(lists[name], list_file(file, name), shelf)

    return compose_service(data, file, fetch)


def compose_service(data: bytes, file: str, fetch: Fetch) -> ServiceDocument | Broken:
    """Read the bytes of a service file, and its lists through `fetch`, whatever else is wrong with it."""
    root, found = read_yaml(data, file)
    model, more = _decode(root, ServiceModel, "service") if root else (None, [])
    faults = [*found, *more]
    if isinstance(root, MappingNode):
        faults += _unlimited(root.get("endpoints"))
    lists: dict[str, AddressList] = {}
    for name, place in list_names(root):
        try:
            lists[name] = lists.get(name) or fetch(name)
        except RefusedFile as refused:
            faults.append(fault(place, refused.code, f"{name}: {refused.message}"))
    of_lists = [found for part in lists.values() for found in part.faults]
    place = _handle_place(root, "service", file)
    if model is not None and not faults and not of_lists:
        service = parts.service(model, node_at(root, "endpoints"), lists, place)
        if not covers_everything(service.ranges):
            sources = {name: Source(part.file, part.data, part.sha256) for name, part in lists.items()}
            return ServiceDocument(service, _source(file, data), MappingProxyType(sources))
        message = "these entries together match every IPv4 address; name what the service uses"
        faults.append(fault(node_at(root, "endpoints").place, "too_wide", message))
    return _broken(root, data, "service", file, (*cap(sorted(faults)), *of_lists))


def list_names(root: Node | None) -> Iterator[tuple[str, Place]]:
    """Give each `prefixes_from` of a service file that can be made out, however broken the rest is."""
    endpoints = root.get("endpoints") if isinstance(root, MappingNode) else None
    for endpoint in endpoints.items if isinstance(endpoints, SequenceNode) else ():
        named = endpoint.get("prefixes_from") if isinstance(endpoint, MappingNode) else None
        if isinstance(named, Scalar) and isinstance(named.value, str) and not leads_out(named.text):
            yield named.text, named.place


def list_file(file: str, name: str) -> str:
    """Give what messages call a list that the service file `file` names."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(file), name))


def _decode(root: Node, model: type[Model], key: str) -> tuple[Model | None, list[Fault]]:
    if not isinstance(root, MappingNode):
        message = f"a {key} file is a mapping that begins with `{key}: NAME`; this is {_kind(root)}"
        return None, [fault(root.place, "wrong_type", message)]
    other, home = ("service", "policies/services/") if key == "policy" else ("policy", "policies/")
    if key not in root.keys and other in root.keys:
        place = root.keys[other].place
        return None, [fault(place, "wrong_folder", f"this describes a {other}; move the file to {home}")]
    return decode(root, model)


def _kind(node: Node) -> str:
    return "a list" if isinstance(node, SequenceNode) else "a single value"


def _label_keys(labels: Node | None) -> Iterator[Fault]:
    for key in labels.keys.values() if isinstance(labels, MappingNode) else ():
        if isinstance(key.value, Trap):
            yield trapped(key, key.value, "a label's name", "text")
        elif not isinstance(key.value, str):
            yield fault(key.place, "wrong_type", f'a label\'s name is text; write {key.text} in quotes: "{key.text}"')


def _services(root: Node | None) -> Iterator[Scalar]:
    block = root.get("block") if isinstance(root, MappingNode) else None
    services = block.get("services") if isinstance(block, MappingNode) else None
    for item in services.items if isinstance(services, SequenceNode) else ():
        if isinstance(item, Scalar):
            yield item


def _continuing(root: Node | None) -> Iterator[Scalar]:
    named = root.get("must_continue") if isinstance(root, MappingNode) else None
    for item in named.items if isinstance(named, SequenceNode) else ():
        if isinstance(item, Scalar):
            yield item


def _references(root: Node | None) -> Iterator[tuple[str, Place]]:
    for item in (*_services(root), *_continuing(root)):
        if re.fullmatch(NAME, item.text):
            yield item.text, item.place


# What concerns several keys is judged on the tree, so that a fault in one of them doesn't hide it.


def _endless(effective: Node | None) -> Iterator[Fault]:
    if isinstance(effective, MappingNode) and not {"until", "review_by"} & effective.keys.keys():
        message = "an order without an end is forgotten; add until, or review_by if it has none"
        yield fault(effective.place, "missing_key", message)


def _unlimited(endpoints: Node | None) -> Iterator[Fault]:
    for endpoint in endpoints.items if isinstance(endpoints, SequenceNode) else ():
        if isinstance(endpoint, MappingNode) and not {"prefixes", "prefixes_from"} & endpoint.keys.keys():
            message = "this endpoint names no addresses and would match all of them; add prefixes or prefixes_from"
            yield fault(endpoint.place, "missing_key", message)


def _twice(root: Node) -> Iterator[Fault]:
    for items in (_services(root), _continuing(root)):
        seen: set[str] = set()
        for item in items:
            if item.text in seen:
                yield fault(item.place, "bad_value", f"{item.text} is named twice; once is enough")
            seen.add(item.text)


def _from_warning(model: PolicyModel, place: Place) -> tuple[Fault, ...]:
    message = (
        f"direction {model.block.direction} also hits connections that the services' hosts open themselves from the "
        "ports named; use `to` if that isn't ordered"
    )
    return (fault(place, "from_hits_more", message, "warning"),)


def _source(file: str, data: bytes) -> Source:
    return Source(file, data, sha256(data).hexdigest())


def _broken(root: Node | None, data: bytes, key: str, file: str, faults: tuple[Fault, ...]) -> Broken:
    """Say what a broken file claims to be: read from the tree, or from a line of it, else its name has to do."""
    place = _handle_place(root, key, file)
    named = root.get(key) if isinstance(root, MappingNode) else None
    if isinstance(named, Scalar) and re.fullmatch(NAME, named.text):
        return Broken(named.text, faults, place)
    line = None
    if root is None:
        pattern = rf"^{key}:[ \t]*[\"']?({NAME})[\"']?[ \t]*(?:#.*)?\r?$".encode()
        line = re.search(pattern, data, re.MULTILINE)
    if line:
        return Broken(line[1].decode("ascii"), faults, Place(file, data.count(b"\n", 0, line.start(1)) + 1, 1))
    return Broken(posixpath.basename(file).removesuffix(".yaml"), faults, place, guessed=True)


def _handle_place(root: Node | None, key: str, file: str) -> Place:
    named = root.get(key) if isinstance(root, MappingNode) else None
    return named.place if named else Place(file, 1, 1)
