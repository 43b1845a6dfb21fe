"""What each answer looks like, as types: what makes an answer is checked against them, and `/openapi.json` tells them.

Instants are RFC 3339 in UTC with `Z`, address counts decimal strings, since IPv6 passes the 2^53 that JSON readers
count to. What is absent is null. Pydantic reads all this at run time, so nothing here is for checks only.
"""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

Instant = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
Decimal = Annotated[str, Field(pattern=r"^[0-9]+$")]
Whole = Annotated[int, Field(ge=0)]
Severity = Literal["error", "warning"]
Action = Literal["observe", "reject", "drop"]
Direction = Literal["to", "from", "both"]
State = Literal["rescinded", "lapsed", "out_of_scope", "suspended", "scheduled", "in_force", "rejected"]
Judgement = Literal["pass", "observe", "reject", "drop"]
Standing = Literal["failed", "drifted", "degraded", "starting", "in_sync"]
About = Literal["policy", "enforcement", "problem", "drift"]


class Count(TypedDict):
    """Distinct addresses of each family."""

    ipv4: Decimal
    ipv6: Decimal


class Segments(TypedDict):
    """Segments of each family, in the kernel."""

    ipv4: Whole
    ipv6: Whole


class Ruleset(TypedDict):
    """The ruleset that the kernel last confirmed."""

    generation: Whole
    digest: str | None
    applied_at: Instant | None
    verified_at: Instant | None
    segments: Segments


class States(TypedDict):
    """How many policies are in which state."""

    in_force: Whole
    scheduled: Whole
    suspended: Whole
    lapsed: Whole
    rescinded: Whole
    rejected: Whole
    out_of_scope: Whole


class Problem(TypedDict):
    """Something a person should know, since when, and what to do about it."""

    code: str
    severity: Severity
    policy: str | None
    message: str
    action: str
    since: Instant
    place: str | None


class Progress(TypedDict):
    """What is under way; a total of 0 means that nobody knows how much there is to do."""

    activity: str
    done: Whole
    total: Whole
    since: Instant


class Manifest(TypedDict):
    """What was signed, and by whom, of the policies that count."""

    serial: Whole
    digest: str
    made: Instant
    accepted_at: Instant
    signers: list[str]


class Standings(TypedDict):
    """The part of the status that only a new snapshot changes."""

    enforcement: Standing
    ruleset: Ruleset
    policies: States
    problems: list[Problem]
    progress: Progress | None
    manifest: Manifest | None


class Gateway(TypedDict):
    """Who speaks."""

    gateway: str
    version: str


class Status(Gateway, Standings):
    """The verdict over the gateway, and what it comes from."""

    now: Instant


class PastRuleset(TypedDict):
    """The ruleset that the kernel had last confirmed then. What isn't in the journal is null."""

    generation: Whole | None
    digest: str | None
    applied_at: Instant | None
    verified_at: None
    segments: None


class PastStates(TypedDict):
    """How many policies were in which state. Of files that were never good nothing is kept: null."""

    in_force: Whole
    scheduled: Whole
    suspended: Whole
    lapsed: Whole
    rescinded: Whole
    rejected: None
    out_of_scope: Whole


class PastProblem(TypedDict):
    """A problem that was open; `/v1/history` has its words."""

    code: str
    policy: str | None
    place: str | None


class PastStatus(TypedDict):
    """How the gateway stood at `at`, by the journal; what it doesn't have is null.

    `running` says whether a daemon was there, null if that isn't known: without one, the rules stood in the kernel as
    the last one had left them.
    """

    gateway: str | None
    version: str | None
    at: Instant
    running: bool | None
    enforcement: None
    ruleset: PastRuleset
    policies: PastStates
    problems: list[PastProblem]
    progress: None
    manifest: None


class Order(TypedDict):
    """Who ordered it, and how to find the paper."""

    authority: str
    reference: str
    issued: str
    received: Instant | None
    ticket: str | None
    contact: str | None
    url: str | None
    basis: str | None
    text: str | None
    document_sha256: str | None
    supersedes: str | None


_From = TypedDict("_From", {"from": Instant})


class Effective(_From):
    """From when (inclusive) until when (exclusive), and from when on somebody must look at it again."""

    until: Instant | None
    review_by: Instant | None


class Counters(TypedDict):
    """What the policy matched."""

    packets: Whole
    bytes: Whole


class Item(TypedDict):
    """A policy. What no good revision says is null; of a past time nobody knows counters and addresses: null too."""

    id: str
    title: str | None
    revision: Whole | None
    order: Order | None
    effective: Effective | None
    state: State
    action: Action | None
    direction: Direction | None
    services: list[str]
    counters: Counters | None
    addresses: Count | None
    in_force_since: Instant | None
    problem: Problem | None
    labels: dict[str, str]


class Policies(TypedDict):
    """A page of the policies; `next` is the cursor of the page that follows."""

    items: list[Item]
    next: str | None


class Entries(TypedDict):
    """A list of addresses: how many entries it has, the first of them, how many distinct addresses they are."""

    entries: Whole
    first: list[str]
    addresses: Count


class Endpoint(TypedDict):
    """Addresses with the ports that are meant there, as a service file writes them (`tcp/3101`, `any`)."""

    prefixes: Entries
    ports: list[str]


class Service(TypedDict):
    """A service as it counts for a policy; `digest` is over what it means, its lists included."""

    service: str
    title: str
    digest: str
    file: str
    endpoints: list[Endpoint]


class Exceptions(TypedDict):
    """What a policy leaves alone. Subscribers are counted, never listed."""

    prefixes: Entries
    sources: Count


class Scope(TypedDict):
    """Where a policy applies; null means everywhere. Subscribers are counted, never listed."""

    gateways: list[str] | None
    interfaces: list[str] | None
    sources: Count | None


class Revision(TypedDict):
    """A revision as it was accepted here; `id` is the journal's row, `says` the state in its file."""

    id: Whole
    revision: Whole
    accepted_at: Instant
    says: str


_Except = TypedDict("_Except", {"except": Exceptions | None})


class Particulars(_Except):
    """What only the answer about one policy has; null where no revision was good, or nobody can be asked."""

    place: str | None
    sha256: str | None
    endpoints: list[Service] | None
    must_continue: list[Service] | None
    scope: Scope | None
    allow_wide: str | None
    suspended_until: Instant | None
    revisions: list[Revision] | None


class Policy(Item, Particulars):
    """One policy with all that is shown of it."""


class Listed(TypedDict):
    """One entry of what a policy names: whose it is, with which ports, and where it stands (`file:line`)."""

    service: str
    prefix: str
    ports: list[str]
    place: str


class Listing(TypedDict):
    """A part of what a policy names; `total` is how many entries there are."""

    items: list[Listed]
    total: Whole
    next: str | None


class EventData(TypedDict):
    """An event: `id` is the journal's row, `kind` what happened, as `gatewrit log` has it, or the new verdict."""

    id: Whole
    at: Instant
    kind: str
    policy: str | None
    message: str


class HistoryItem(EventData):
    """An event of the journal, with what it is about, as `event:` has it in the stream."""

    event: About


class History(TypedDict):
    """A page of what happened, newest first; `next` is the cursor of the page that follows."""

    items: list[HistoryItem]
    next: str | None


class Reason(TypedDict):
    """One policy that acts on what was asked about, or would but for an exception."""

    id: str
    revision: Whole
    verdict: Judgement
    direction: Direction
    since: Instant | None
    until: Instant | None
    review_by: Instant | None
    place: str
    excepted_by: str | None


class Explanation(TypedDict):
    """Whether what was asked about is blocked, wholly or partly, and by whose order."""

    address: str
    protocol: str | None
    port: Whole | None
    at: Instant
    blocked: bool
    partly: bool
    verdict: Judgement
    policies: list[Reason]
    sentence: str


class Alive(TypedDict):
    """The loops turn."""

    alive: bool


class Ready(TypedDict):
    """The first complete programming of the kernel is done and holds."""

    ready: bool
    enforcement: Standing


class _Error(TypedDict):
    type: str
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    code: str


class Error(_Error, total=False):
    """RFC 9457. `code` is for programs, `detail` for people; `parameter` names the one that is wrong."""

    parameter: str
    enforcement: Standing
