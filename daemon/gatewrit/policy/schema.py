"""Both documents as pydantic models: what their keys are called, what may stand there, and the JSON Schema of it.

The models are read in strict mode and live only while a file is being read; `document` makes the values of `model`
from them. Descriptions go into the schema that editors complete from, and into messages about missing keys.
"""

# pydantic reads annotations at run time, so what they name is imported then.
# ruff: noqa: TC001
from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import GenerateJsonSchema

from gatewrit.policy.decode import refuse
from gatewrit.policy.instant import start_of_day
from gatewrit.policy.terms import Instant
from gatewrit.policy.values import (
    Day,
    Digest,
    Entry,
    Interface,
    LabelName,
    LabelText,
    Line,
    ListPath,
    Moment,
    Name,
    Port,
    Review,
    Text,
    Url,
)

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core.core_schema import NullableSchema, WithDefaultSchema


class Strict(BaseModel):
    """What all our models have in common: nothing is converted, nothing is ignored, nothing changes."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True)


# -- the service file -------------------------------------------------------------------------------------------------


class EndpointModel(Strict):
    """Addresses together with the ports that reach the service there."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["prefixes"]}, {"required": ["prefixes_from"]}]}
    )

    prefixes: Annotated[tuple[Entry, ...], Field(min_length=1)] | None = Field(
        None, description="prefixes (CIDR), single addresses, or ranges written first-last"
    )
    prefixes_from: ListPath | None = Field(
        None, description="a file beside this one, with one prefix, address or range per line"
    )
    ports: tuple[Port, ...] = Field(
        min_length=1, description="what reaches the service there: tcp/80, udp/5060-5061, sctp/any, icmp, or any"
    )


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

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["until"]}, {"required": ["review_by"]}]})

    start: Moment = Field(alias="from", description="the first instant at which it is in force")
    until: Moment | None = Field(None, description="the first instant at which it no longer is")
    review_by: Review | None = Field(None, description="from then on somebody is reminded; nothing is lifted")

    @model_validator(mode="after")
    def _in_order(self) -> EffectiveModel:
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
    labels: Annotated[dict[LabelName, LabelText], Field(max_length=64)] | None = Field(
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
