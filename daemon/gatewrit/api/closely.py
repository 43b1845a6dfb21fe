"""One policy looked at closely, and what happened, as documents. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewrit.api.documents import instant, stated

if TYPE_CHECKING:
    from gatewrit.api import shapes
    from gatewrit.engine.events import Event
    from gatewrit.engine.particulars import Entries, Listed, Particulars, Revision, ServiceView, Sources


def policy_document(item: shapes.Item, shown: Particulars | None) -> shapes.Policy:
    """Return `/v1/policies/{id}`: the item of the list, and its particulars where anybody can tell them."""
    return {**item, **(_NOTHING if shown is None else _particulars(shown))}


_NOTHING: shapes.Particulars = {
    "place": None,
    "sha256": None,
    "endpoints": None,
    "except": None,
    "must_continue": None,
    "scope": None,
    "allow_wide": None,
    "suspended_until": None,
    "revisions": None,
}


def _particulars(shown: Particulars) -> shapes.Particulars:
    scope = shown.scope_sources
    return {
        "place": shown.place,
        "sha256": shown.sha256,
        "endpoints": [_service(each) for each in shown.services],
        "except": {"prefixes": _entries(shown.except_prefixes), "sources": _count(shown.except_sources)},
        "must_continue": [_service(each) for each in shown.must_continue],
        "scope": {
            "gateways": None if shown.scope_gateways is None else list(shown.scope_gateways),
            "interfaces": None if shown.scope_interfaces is None else list(shown.scope_interfaces),
            "sources": None if scope is None else _count(scope),
        },
        "allow_wide": shown.allow_wide,
        "suspended_until": instant(shown.suspended_until),
        "revisions": [_revision(each) for each in shown.revisions],
    }


def listed(each: Listed) -> shapes.Listed:
    """Return one entry of what a policy names."""
    return {"service": each.service, "prefix": each.prefix, "ports": list(each.ports), "place": each.place}


def event_document(event: Event) -> shapes.HistoryItem:
    """Return an event, with the topic that is the stream's `event:`."""
    return {
        "id": event.id,
        "at": stated(event.at),
        "event": event.topic.value,
        "kind": event.kind,
        "policy": event.policy,
        "message": event.message,
    }


def _service(view: ServiceView) -> shapes.Service:
    return {
        "service": view.name,
        "title": view.title,
        "digest": view.digest,
        "file": view.file,
        "endpoints": [{"prefixes": _entries(each.prefixes), "ports": list(each.ports)} for each in view.endpoints],
    }


def _entries(entries: Entries) -> shapes.Entries:
    return {"entries": entries.entries, "first": list(entries.shown), "addresses": _count(entries)}


def _count(counted: Entries | Sources) -> shapes.Count:
    return {"ipv4": str(counted.addresses_ipv4), "ipv6": str(counted.addresses_ipv6)}


def _revision(revision: Revision) -> shapes.Revision:
    return {
        "id": revision.id,
        "revision": revision.revision,
        "accepted_at": stated(revision.at),
        "says": revision.says,
    }
