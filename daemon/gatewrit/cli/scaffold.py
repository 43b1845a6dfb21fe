"""Texts of policies and services for people to go on from: what `new policy` and `init` write.

Whatever is given is quoted, so that it means the same to every reader of YAML.
"""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Draft:
    """What a policy is to say, as it is written: instants and dates are text."""

    name: str
    title: str
    authority: str
    reference: str
    issued: str
    begins: str
    services: tuple[str, ...]
    until: str | None = None
    review_by: str | None = None
    action: str = "reject"
    direction: str = "to"
    state: str = "suspended"


def policy_text(draft: Draft) -> str:
    """Write a policy file."""
    services = ", ".join(draft.services)
    ends = [("until", draft.until), ("review_by", draft.review_by)]
    lines = [
        f"policy: {draft.name}",
        f"title: {_quoted(draft.title)}",
        "revision: 1                      # raise it with every change, or the change is refused",
        "order:",
        f"  authority: {_quoted(draft.authority)}",
        f"  reference: {_quoted(draft.reference)}",
        f"  issued: {draft.issued}",
        "# Also possible: received, ticket, contact, url, basis, text, document_sha256, supersedes",
        "effective:",
        f"  from: {_quoted(draft.begins)}   # inclusive",
        *(f"  {key}: {_quoted(value)}" for key, value in ends if value is not None),
        "# until is exclusive and ends the block; review_by reminds and doesn't lift. One of the two, or both",
        f"state: {draft.state:<25} # active | suspended | rescinded",
        f"block: {{services: [{services}], action: {draft.action}, direction: {draft.direction}}}",
        "# must_continue: [NAME]         # services of which nothing may be blocked; proved whenever this is loaded",
        "# except: {prefixes: [ADDRESS], sources: [SUBSCRIBERS]}",
        '# scope: {gateways: ["core-*"], interfaces: [NAME], sources: [SUBSCRIBERS]}',
    ]
    return "\n".join(lines) + "\n"


def service_text(name: str, title: str, prefixes: tuple[str, ...], ports: tuple[str, ...]) -> str:
    """Write a service file with one endpoint."""
    lines = [
        f"service: {name}",
        f"title: {_quoted(title)}",
        "endpoints:",
        f"  - prefixes: [{', '.join(map(_quoted, prefixes))}]   # CIDR, address, or first-last",
        "  # prefixes_from: list.txt    # a file beside this one, one entry a line",
        f"    ports: [{', '.join(map(_quoted, ports))}]   # tcp/80, udp/5060-5061, sctp/any, icmp, or any",
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    # JSON is YAML.
    return json.dumps(text, ensure_ascii=False)
