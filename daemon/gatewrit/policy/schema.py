"""Both documents as pydantic models: what their keys are called, what may stand there, and the JSON Schema of it.

The models are read in strict mode and live only while a file is being read; `load` makes the values of `model` from
them. Descriptions go into the schema that editors complete from, and into messages about missing keys.
"""

from __future__ import annotations

import json
import posixpath
import re
import unicodedata
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticKnownError

from gatewrit.policy.decode import refuse
from gatewrit.policy.faults import suggest
from gatewrit.policy.instant import parse_date, parse_instant, start_of_day
from gatewrit.policy.model import Instant, Transport
from gatewrit.policy.ranges import EntryError, Span, parse_span
from gatewrit.policy.yaml import Trap

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core.core_schema import NullableSchema, WithDefaultSchema

#: What policies and services are called: it must do for file names, labels, URLs and names in the kernel alike.
NAME = r"[a-z0-9][a-z0-9-]{0,47}"
#: Protocols whose header begins with the two ports.
WITH_PORTS = {"tcp": 6, "udp": 17, "sctp": 132}
ICMP = 1
MAX_PORT = 65535
_PORT_FORMS = "write tcp/80, udp/5060-5061, sctp/any, icmp, or any"


class Strict(BaseModel):
    """What all our models have in common: nothing is converted, nothing is ignored, nothing changes."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True)


# -- single values ----------------------------------------------------------------------------------------------------


def text_of(value: object) -> str:
    """Give the text that a validator of ours was handed; anything else is a wrong type."""
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    return value


def check_line(text: str) -> str:
    """One visible line: no control characters, which escapes in double quotes could bring in, no blank ends."""
    if any(character in "\n\r\x85\u2028\u2029" for character in text):
        raise refuse("bad_value", "this is shown on one line; write it without line breaks (a block begins with >-)")
    return check_text(text)


def check_text(text: str) -> str:
    """Visible text, on several lines where need be."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs", "Cn") and character not in "\n\t":
            raise refuse("bad_value", f"the character U+{ord(character):04X} can't be shown; take it out")
        if character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029":
            raise refuse("bad_value", f"the invisible mark U+{ord(character):04X} changes how text reads; take it out")
    if text != text.rstrip("\n").strip(" \t") + "\n" * (len(text) - len(text.rstrip("\n"))):
        raise refuse("bad_value", "the text begins or ends with a blank; take it out")
    if text and not text.strip():
        raise refuse("bad_value", "the text is blank; write something")
    return text


def _check_name(text: str) -> str:
    if not re.fullmatch(NAME, text):
        right = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48]
        hint = f"; {right} would do" if right else ""
        raise refuse("bad_value", f"{text!r} can't be a name: up to 48 of a-z, 0-9 and -, not beginning with -{hint}")
    return text


def _check_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+(?:/\S*)?", text):
        raise refuse("bad_value", f"{text} isn't a web address; it begins with https://")
    return text


def _check_digest(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise refuse("bad_value", "a SHA-256 is 64 digits of 0-9 and a-f, as sha256sum prints it")
    return text


def _check_interface(text: str) -> str:
    if not re.fullmatch(r"[^\s/:*]{1,15}|[^\s/:*]{0,14}\*", text) or text in (".", "..", "*"):
        raise refuse("bad_value", f"{text} can't be an interface: up to 15 characters, at most one * at the end")
    return text


def _check_list_path(text: str) -> str:
    if leads_out(text):
        message = f"{text} leads out of the policies directory; name a file beside this one, without a path"
        raise refuse("outside_policies", message)
    return text


def leads_out(path: str) -> bool:
    """Whether a path that begins in `policies/services/` ends outside of `policies/`, links aside."""
    return path.startswith("/") or posixpath.normpath(f"policies/services/{path}").split("/")[0] != "policies"


def _read_date(value: object) -> date:
    try:
        return parse_date(text_of(value))
    except ValueError as error:
        raise refuse("bad_date", str(error)) from None


def _read_instant(value: object) -> Instant:
    try:
        return parse_instant(text_of(value))
    except ValueError as error:
        raise refuse("bad_instant", str(error)) from None


def _read_review(value: object) -> Instant | date:
    text = text_of(value)
    return _read_instant(text) if "T" in text.upper() else _read_date(text)


def _read_entry(value: object) -> Span:
    try:
        return parse_span(text_of(value))
    except EntryError as error:
        raise refuse(error.code, str(error)) from None


def read_transport(value: object) -> Transport:
    """Read one item of `ports`."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise refuse("bad_port", f"{value} lacks its protocol; write tcp/{value} (or udp/{value}, sctp/{value})")
    if isinstance(value, Trap) and value.taken_for is not None:
        first, colon, last = value.text.partition(":")
        right = f"a range is tcp/{first}-{last}" if colon else _PORT_FORMS
        raise refuse("bad_port", f"{value.text} isn't a port, and is {value.taken_for} to YAML readers; {right}")
    text = text_of(value)
    if text == "any":
        return Transport(None)
    if text == "icmp":
        return Transport(ICMP)
    name, slash, ports = text.partition("/")
    if not slash or name not in WITH_PORTS:
        raise refuse("bad_port", _port_hint(text, name, ports))
    if ports == "any":
        return Transport(WITH_PORTS[name])
    match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", ports)
    if not match or any(port and len(port) > 1 and port[0] == "0" for port in match.groups()):
        raise refuse("bad_port", f"{text}: a port is a number such as {name}/80 or a range such as {name}/5060-5061")
    low, high = int(match[1]), int(match[2] or match[1])
    if not (1 <= low <= MAX_PORT and 1 <= high <= MAX_PORT):
        raise refuse("bad_port", f"{text}: ports go from 1 to {MAX_PORT}; all of them are {name}/any")
    if low > high:
        raise refuse("bad_port", f"{text}: the range runs backwards; write {name}/{high}-{low}")
    return Transport(WITH_PORTS[name], low, high)


def _port_hint(text: str, name: str, ports: str) -> str:
    if name == "icmp" and ports:
        return f"{text}: icmp has no ports here; write icmp"
    if text in WITH_PORTS:
        return f"{text} lacks its port; write {text}/80, or {text}/any for all of them"
    if re.fullmatch(r"\d+(-\d+)?", text):
        return f"{text} lacks its protocol; write tcp/{text} (or udp/{text}, sctp/{text})"
    if text.lower() != text:
        return f"{text}: write it in small letters: {text.lower()}"
    if swapped := re.fullmatch(r"(\d+(?:-\d+)?)[/:](tcp|udp|sctp)", text):
        return f"{text}: the protocol comes first: {swapped[2]}/{swapped[1]}"
    return f"{text} isn't known{suggest(name, [*WITH_PORTS, 'icmp', 'any'])}; {_PORT_FORMS}"


def _reads(function: Any, schema: str, **more: Any) -> tuple[PlainValidator, WithJsonSchema]:
    return PlainValidator(function), WithJsonSchema(
        {"type": "string", **({"pattern": schema} if schema else {}), **more}
    )


_INSTANT = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d([Zz]|[+-]\d\d:\d\d)?(\[!?[A-Za-z][A-Za-z0-9_+/-]*\])?$"
_DAY = r"^\d{4}-\d\d-\d\d$"
_PORTS = r"^((tcp|udp|sctp)/(any|[1-9]\d{0,4}(-[1-9]\d{0,4})?)|icmp|any)$"

Name = Annotated[str, AfterValidator(_check_name), Field(json_schema_extra={"pattern": f"^{NAME}$"})]
Line = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(check_line)]
Text = Annotated[str, Field(min_length=1, max_length=100_000), AfterValidator(check_text)]
Url = Annotated[str, Field(max_length=2000, json_schema_extra={"format": "uri"}), AfterValidator(_check_url)]
Digest = Annotated[str, Field(json_schema_extra={"pattern": "^[0-9a-f]{64}$"}), AfterValidator(_check_digest)]
ListPath = Annotated[Line, AfterValidator(_check_list_path)]
Interface = Annotated[str, AfterValidator(_check_interface)]
Entry = Annotated[Span, *_reads(_read_entry, "", examples=["206.51.26.0/24", "2607:ffc0::/32", "192.0.2.4-192.0.2.9"])]
Port = Annotated[Transport, *_reads(read_transport, _PORTS, examples=["tcp/3101", "udp/5060-5061", "icmp", "any"])]
Moment = Annotated[Instant, *_reads(_read_instant, _INSTANT, examples=["2015-12-31T00:00:00[Asia/Karachi]"])]
Day = Annotated[date, *_reads(_read_date, _DAY, format="date")]
Review: TypeAlias = Annotated[Instant | date, *_reads(_read_review, f"{_DAY}|{_INSTANT}", examples=["2016-03-01"])]


# -- the service file -------------------------------------------------------------------------------------------------


class EndpointModel(Strict):
    """Addresses together with the ports that reach the service there."""

    prefixes: Annotated[tuple[Entry, ...], Field(min_length=1)] | None = Field(
        None, description="prefixes (CIDR), single addresses, or ranges written first-last"
    )
    prefixes_from: ListPath | None = Field(
        None, description="a file beside this one, with one prefix, address or range per line"
    )
    ports: tuple[Port, ...] = Field(
        min_length=1, description="what reaches the service there: tcp/80, udp/5060-5061, sctp/any, icmp, or any"
    )

    @model_validator(mode="after")
    def _names_something(self) -> EndpointModel:
        if self.prefixes is None and self.prefixes_from is None:
            message = "this endpoint names no addresses and would match all of them; add prefixes or prefixes_from"
            raise refuse("missing_key", message)
        return self


class ServiceModel(Strict):
    """A service: a named set of endpoints that policies can block."""

    service: Name = Field(description="the service's name, by which policies refer to it")
    title: Line = Field(description="one line that says what it is")
    endpoints: tuple[EndpointModel, ...] = Field(min_length=1, description="where it is reached")


# -- the policy file --------------------------------------------------------------------------------------------------


class OrderModel(Strict):
    """Who ordered it, and how to find the paper."""

    authority: Line = Field(description="who gave the order")
    reference: Line = Field(description="how the paper is called or numbered")
    issued: Day = Field(description="the date on the paper")
    received: Moment | None = Field(None, description="when it reached the operator")
    ticket: Line | None = Field(None, description="the operator's own ticket for it")
    contact: Line | None = Field(None, description="whom to ask about it")
    url: Url | None = Field(None, description="where it can be read")
    basis: Text | None = Field(None, description="the law it rests on")
    text: Text | None = Field(None, description="what it says, as far as it matters here")
    document_sha256: Digest | None = Field(None, description="the SHA-256 of the paper as received")
    supersedes: Line | None = Field(None, description="the order that it replaces")


class EffectiveModel(Strict):
    """From when until when it is in force."""

    start: Moment = Field(alias="from", description="the first instant at which it is in force")
    until: Moment | None = Field(None, description="the first instant at which it no longer is")
    review_by: Review | None = Field(None, description="from then on somebody is reminded; nothing is lifted")

    @model_validator(mode="after")
    def _ends_or_is_reviewed(self) -> EffectiveModel:
        if self.until is None and self.review_by is None:
            message = "an order without an end is forgotten; add until, or review_by if it has none"
            raise refuse("missing_key", message)
        if self.until is not None and self.until <= self.start:
            message = (
                f"until ({self.until.text}) doesn't come after from ({self.start.text}); it would never be in force"
            )
            raise refuse("bad_value", message, at="until")
        try:
            self.review()
        except ValueError as error:
            raise refuse("bad_date", str(error), at="review_by") from None
        return self

    def review(self) -> Instant | None:
        """When the review is due; a bare date is the start of that day where `from` is."""
        return start_of_day(self.review_by, self.start) if isinstance(self.review_by, date) else self.review_by


class BlockModel(Strict):
    """Which services are blocked, how, and judged at which end."""

    services: tuple[Name, ...] = Field(min_length=1, description="the services to block, by name")
    action: Literal["drop", "reject", "observe"] = Field(
        description="drop discards silently, reject tells the subscriber's side, observe only counts"
    )
    direction: Literal["to", "from", "both"] = Field(
        "to", description="which end is judged: packets to the service (the default), from it, or both"
    )

    @model_validator(mode="after")
    def _each_once(self) -> BlockModel:
        for name in self.services:
            if self.services.count(name) > 1:
                raise refuse("bad_value", f"{name} is named twice; once is enough", at="services")
        return self


class ExceptModel(Strict):
    """What this policy leaves alone."""

    prefixes: tuple[Entry, ...] | None = Field(None, description="addresses of the service that stay reachable")
    sources: tuple[Entry, ...] | None = Field(None, description="subscribers that aren't affected")

    @model_validator(mode="after")
    def _names_something(self) -> ExceptModel:
        if not self.prefixes and not self.sources:
            raise refuse("list_empty", "except names nothing; add prefixes or sources, or leave it out")
        return self


class ScopeModel(Strict):
    """Where this policy applies."""

    gateways: Annotated[tuple[Line, ...], Field(min_length=1)] | None = Field(
        None, description="gateways by name or tag; * and ? stand for characters"
    )
    interfaces: Annotated[tuple[Interface, ...], Field(min_length=1)] | None = Field(
        None, description="interfaces on the service's side; a * may end the name"
    )
    sources: Annotated[tuple[Entry, ...], Field(min_length=1)] | None = Field(
        None, description="subscribers' addresses"
    )

    @model_validator(mode="after")
    def _names_something(self) -> ScopeModel:
        if self.gateways is None and self.interfaces is None and self.sources is None:
            raise refuse("list_empty", "scope names nothing; add gateways, interfaces or sources, or leave it out")
        return self


LabelKey = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(check_line)]
LabelValue = Annotated[str, Field(max_length=1000), AfterValidator(check_line)]


class PolicyModel(Strict):
    """A policy: one order put into a file."""

    policy: Name = Field(description="the policy's id, its handle everywhere")
    title: Line = Field(description="one line that says what is ordered")
    revision: int = Field(ge=1, le=2**53 - 1, description="raised by every amendment")
    order: OrderModel = Field(description="who ordered it, and how to find the paper")
    effective: EffectiveModel = Field(description="from when until when")
    state: Literal["active", "suspended", "rescinded"] = Field(description="active, suspended or rescinded")
    block: BlockModel = Field(description="which services, and what happens to their packets")
    except_: ExceptModel | None = Field(None, alias="except", description="what this policy leaves alone")
    must_continue: Annotated[tuple[Name, ...], Field(min_length=1)] | None = Field(
        None, description="services that this policy may not touch; proved when it is loaded"
    )
    scope: ScopeModel | None = Field(None, description="where it applies; everywhere if left out")
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] | None = Field(
        None, description="free, for the operator's own use"
    )
    allow_wide: Line | None = Field(None, description="why this policy may pass the limits of width and share")


# -- the JSON Schema --------------------------------------------------------------------------------------------------


class _Published(GenerateJsonSchema):
    """A key that may be left out isn't one that may be null; and descriptions say more than titles made of names."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - asked for each field
        return False

    def nullable_schema(self, schema: NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        if made.get("default", ...) is None:
            del made["default"]
        return made


def json_schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    """Give the JSON Schema of a document, for editors and for other programs that write it."""
    made = model.model_json_schema(by_alias=True, schema_generator=_Published)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": title}


def published() -> dict[str, str]:
    """Give what belongs into `docs/schema/`: file names and their text."""
    documents = {
        "policy.schema.json": json_schema(PolicyModel, "gatewrit policy"),
        "service.schema.json": json_schema(ServiceModel, "gatewrit service"),
    }
    return {name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in documents.items()}
