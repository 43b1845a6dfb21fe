"""Parts of a policy or service from their models and the nodes they stand at: whatever takes an entry and its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewrit.policy.faults import fault
from gatewrit.policy.meaning import service_digest
from gatewrit.policy.model import EVERYWHERE, NOTHING_EXCEPTED, Endpoint, Exceptions, Scope, Service
from gatewrit.policy.ranges import to_ranges
from gatewrit.policy.yaml import Mapping as MappingNode
from gatewrit.policy.yaml import Node
from gatewrit.policy.yaml import Sequence as SequenceNode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.policy.model import Ranges
    from gatewrit.policy.ranges import AddressList, Span
    from gatewrit.policy.schema import EndpointModel, PolicyModel, ServiceModel
    from gatewrit.policy.terms import Fault, Place


def node_at(root: Node | None, *keys: str) -> Node:
    """Give the node below, or the last one on the way to it."""
    assert root is not None  # noqa: S101 - asked only of trees that a model was read from
    node = root
    for key in keys:
        node = (node.get(key) if isinstance(node, MappingNode) else None) or node
    return node


def exceptions(model: PolicyModel, root: Node) -> Exceptions:
    """Give what a policy leaves alone."""
    said = model.except_
    if said is None:
        return NOTHING_EXCEPTED
    prefixes = _entries(said.prefixes, node_at(root, "except", "prefixes"))
    return Exceptions(prefixes, _entries(said.sources, node_at(root, "except", "sources")))


def scope(model: PolicyModel, root: Node) -> Scope:
    """Give where a policy applies."""
    said = model.scope
    if said is None:
        return EVERYWHERE
    sources = None if said.sources is None else _entries(said.sources, node_at(root, "scope", "sources"))
    return Scope(said.gateways, said.interfaces, sources)


def _entries(entries: tuple[Span, ...] | None, node: Node) -> tuple[Ranges, ...]:
    """Put entries that stand in a file itself into arrays, each with its line."""
    lines = [item.place.line for item in node.items] if isinstance(node, SequenceNode) else []
    return to_ranges(zip(entries, lines, strict=True), node.place.file) if entries else ()


def one_family(applies: Scope, place: Place) -> tuple[Fault, ...]:
    """Warn of sources of one family: the other one then isn't blocked."""
    families = {part.family for part in applies.sources or ()}
    if len(families) != 1:
        return ()
    named, other = ("IPv4", "IPv6") if families == {4} else ("IPv6", "IPv4")
    message = f"these sources are {named} only, so this policy blocks no {other}; name {other} sources too if it should"
    return (fault(place, "one_family", message, "warning"),)


def service(model: ServiceModel, endpoints: Node, lists: Mapping[str, AddressList], place: Place) -> Service:
    """Give the service that a file describes; `lists` by what `prefixes_from` calls them."""
    assert isinstance(endpoints, SequenceNode)  # noqa: S101 - else there would be no model
    made = tuple(
        _endpoint(endpoint, node, lists) for endpoint, node in zip(model.endpoints, endpoints.items, strict=True)
    )
    return Service(model.service, model.title, made, service_digest(model.service, model.title, made), place)


def _endpoint(model: EndpointModel, node: Node, lists: Mapping[str, AddressList]) -> Endpoint:
    ranges: tuple[Ranges, ...] = ()
    if model.prefixes is not None:
        ranges = _entries(model.prefixes, node_at(node, "prefixes"))
    if model.prefixes_from is not None:
        ranges += lists[model.prefixes_from].ranges
    return Endpoint(ranges, model.ports, node.place)
