"""Every path for programs: what it answers with, and which parameters it takes. `/openapi.json` is made of this."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gatewrit.api import shapes
from gatewrit.engine.events import Topic
from gatewrit.engine.snapshot import PolicyState

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE_SIZE, LARGEST_PAGE = 100, 1000
JSON, CSV, SSE = "application/json", "text/csv", "text/event-stream"
TEXT, OPENMETRICS = "text/plain", "application/openmetrics-text"
#: By what the policies can be put in order; with `-` before it the other way round.
SORTS = ("id", "title", "state", "authority", "from", "until", "in_force_since", "packets", "bytes")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the query; `schema` is JSON Schema, which tells less than is checked where it must."""

    about: str
    schema: Mapping[str, Any]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Path:
    """What a path answers: `shape` is a JSON document's, None for what isn't JSON; errors beside those of all paths."""

    about: str
    shape: Any = None
    media: tuple[str, ...] = (JSON,)
    takes: tuple[str, ...] = ()
    errors: tuple[int, ...] = ()


_TEXT: Mapping[str, Any] = {"type": "string"}
_SOME: Mapping[str, Any] = {"type": "string", "minLength": 1}


def _words(words: tuple[str, ...]) -> Mapping[str, Any]:
    return {"type": "string", "enum": list(words)}


PARAMETERS: Mapping[str, Parameter] = MappingProxyType(
    {
        "cursor": Parameter("`next` of the page before", _SOME),
        "limit": Parameter(
            f"How many items a page has; {PAGE_SIZE} if it isn't said",
            {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE_SIZE},
        ),
        "format": Parameter("As `Accept` has it: `json` or `csv`", _words(("json", "csv"))),
        "state": Parameter("Policies in this state only", _words(tuple(PolicyState))),
        "authority": Parameter("Policies ordered by this authority only; case doesn't count", _SOME),
        "service": Parameter("Policies that block this service only", _SOME),
        "label": Parameter("Policies with this label only: `name`, or `name=value`", _SOME),
        "problem": Parameter("Policies with a problem of this code only; `any`: with any; `none`: without", _SOME),
        "q": Parameter("Policies in whose words all of these occur; case doesn't count", _SOME),
        "sort": Parameter("The order; `-` before it turns it round", _words((*SORTS, *(f"-{name}" for name in SORTS)))),
        "event": Parameter("Events of this kind only, as `event:` has it in the stream", _words(tuple(Topic))),
        "address": Parameter("The service's address", _SOME, required=True),
        "protocol": Parameter("tcp, udp, sctp or icmp; any if it isn't said", _TEXT),
        "port": Parameter(
            "The service's port; any if it isn't said", {"type": "integer", "minimum": 0, "maximum": 65535}
        ),
        "source": Parameter("The subscriber's address; any if it isn't said", _TEXT),
        "interface": Parameter("The interface on the service's side; any if it isn't said", _TEXT),
        "at": Parameter(
            "Another instant than now, to come in `/v1/explain` only: RFC 3339 with an offset, or RFC 9557 with a zone",
            _SOME,
        ),
    }
)

_PAGED = ("cursor", "limit", "format")
_SOUGHT = ("state", "authority", "service", "label", "problem", "q", "sort")

PATHS: Mapping[str, Path] = MappingProxyType(
    {
        "/openapi.json": Path("This description", dict[str, Any]),
        "/livez": Path("Whether the enforcement loops turn", shapes.Alive, errors=(503,)),
        "/readyz": Path("Whether what is ordered was enforced and holds", shapes.Ready, errors=(503,)),
        "/metrics": Path("Metrics, in the format that `Accept` asks for", media=(TEXT, OPENMETRICS)),
        "/v1/status": Path(
            "The verdict over the gateway; with `at`, what the journal has of how it stood",
            shapes.Status | shapes.PastStatus,
            takes=("at",),
            errors=(404, 503),
        ),
        "/v1/policies": Path(
            "The policies", shapes.Policies, (JSON, CSV), (*_PAGED, *_SOUGHT, "at"), errors=(404, 503)
        ),
        "/v1/policies/{id}": Path(
            "One policy, with all that is shown of it", shapes.Policy, takes=("at",), errors=(404, 503)
        ),
        "/v1/policies/{id}/addresses": Path(
            "The entries that it names", shapes.Listing, (JSON, CSV), _PAGED, errors=(404, 503)
        ),
        "/v1/policies/{id}/history": Path(
            "What happened to it, newest first", shapes.History, (JSON, CSV), (*_PAGED, "event"), errors=(404, 503)
        ),
        "/v1/history": Path(
            "What happened, newest first", shapes.History, (JSON, CSV), (*_PAGED, "event"), errors=(503,)
        ),
        "/v1/explain": Path(
            "Whether an address is blocked, and by whose order",
            shapes.Explanation,
            takes=("address", "protocol", "port", "source", "interface", "at"),
            errors=(404, 503),
        ),
        "/v1/events": Path("What happens, as it happens: server-sent events", media=(SSE,), errors=(503,)),
    }
)
