"""How this gateway is set up: defaults, a YAML file, the environment and the command line, each over the one before.

All layers become one tree of nodes that know where they were written, so that a fault in an environment variable is
told like one in the file. A relative path in the file starts at the file's own folder; one from the environment or
the command line starts where the program was called.
"""

# pydantic reads annotations at run time, so what they name is imported then.
# ruff: noqa: TC001
from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticKnownError

from gatewrit.policy.decode import decode, find, refuse
from gatewrit.policy.faults import fault, suggest
from gatewrit.policy.files import RefusedFile, read_one
from gatewrit.policy.ranges import Span
from gatewrit.policy.schema import Strict, json_schema
from gatewrit.policy.terms import Fault, Place
from gatewrit.policy.values import Entry, Line
from gatewrit.policy.yaml import MAX_BYTES, Mapping, Node, Scalar, Sequence, read_yaml
from gatewrit.signing.keys import MAX_LINE, KeyRefusedError, read_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping as MappingOf

DEFAULT_FILE = Path("/etc/gatewrit/gatewrit.yaml")
PREFIX = "GATEWRIT_"
COMMAND_LINE = "command line"
#: RFC 6052, section 2.2.
_NAT64_LENGTHS = (32, 40, 48, 56, 64, 96)


class SettingsError(Exception):
    """The settings can't be used; prints as one fault per line."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


# -- what can be set --------------------------------------------------------------------------------------------------


def _read_path(value: object) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    if not value or "\0" in value:
        raise refuse("bad_value", "a path is missing here")
    return Path(value)


def _check_listen(text: str) -> str:
    if text.startswith("unix:"):
        if not text.startswith("unix:/") or "\0" in text:
            raise refuse("bad_value", f"{text}: a socket's path starts with /, as in unix:/run/gatewrit/http.sock")
        return text
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+)):(\d{1,5})", text, re.ASCII)
    if match is None or int(match[3]) > 65535:
        raise refuse("bad_value", f"{text} isn't an address to listen on; write HOST:PORT, [V6]:PORT or unix:/PATH")
    try:
        address = ipaddress.ip_address(match[1] or match[2])
    except ValueError:
        raise refuse("bad_value", f"{text}: the host is given as an address, such as 127.0.0.1:{match[3]}") from None
    if (address.version == 6) != bool(match[1]):
        raise refuse("bad_value", f"{text}: only an IPv6 address stands in brackets, and only there")
    return text


def beyond_loopback(listen: str) -> bool:
    """Whether what is listened on (as the settings have it) can be reached from elsewhere."""
    return (
        not listen.startswith("unix:") and not ipaddress.ip_address(listen.rpartition(":")[0].strip("[]")).is_loopback
    )


def _check_nat64(span: Span) -> Span:
    size = span.last - span.first + 1
    length = 129 - size.bit_length()
    if span.family != 6 or size.bit_count() != 1 or span.first % size or length not in _NAT64_LENGTHS:
        lengths = ", ".join(f"/{each}" for each in _NAT64_LENGTHS)
        raise refuse("bad_value", f"a NAT64 prefix is an IPv6 prefix of one of the lengths {lengths} (RFC 6052)")
    return span


def _widen(value: object) -> object:
    """Take a plain prefix for a protected one without a reason."""
    return {"prefix": value} if isinstance(value, str) else value


SettingPath = Annotated[Path, PlainValidator(_read_path), WithJsonSchema({"type": "string"})]
Listen = Annotated[str, AfterValidator(_check_listen)]
Hook = Literal["forward", "input", "output", "prerouting"]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class Gateway(Strict):
    """Who this gateway is."""

    name: Line = Field(default_factory=socket.gethostname, description="its name; the host's if left out")
    tags: tuple[Line, ...] = Field(default=(), description="words by which policies can mean it")


class Tls(Strict):
    """The certificate for listening beyond loopback."""

    cert: SettingPath = Field(description="the certificate chain, PEM")
    key: SettingPath = Field(description="its private key, PEM")


class Control(Strict):
    """Who may command the running daemon, besides root and its own user."""

    group: Line = Field(default="gatewrit", description="members of this group may")


class Protected(Strict):
    """Addresses that no policy may touch."""

    prefix: Entry = Field(description="a prefix, an address or a first-last range")
    why: Line | None = Field(default=None, description="why")


class Limits(Strict):
    """What a policy may ask for without saying why."""

    widest_ipv4: int = Field(default=16, ge=1, le=32, description="the shortest IPv4 prefix length")
    widest_ipv6: int = Field(default=32, ge=1, le=128, description="the shortest IPv6 prefix length")
    total_share: Share = Field(
        default=0.01, description="the share of a family's addresses that one policy may take in"
    )
    change_share: Share = Field(
        default=0.5, description="the share of what is blocked that a reload may change by itself"
    )


class Journal(Strict):
    """How long the journal is kept."""

    keep_days: int = Field(default=400, ge=1, le=36500, description="days")
    max_mb: int = Field(default=2000, ge=1, le=10**6, description="megabytes")


def _check_keys(lines: tuple[str, ...]) -> tuple[str, ...]:
    seen: dict[bytes, int] = {}
    for number, line in enumerate(lines):
        try:
            key = read_key(line)
        except KeyRefusedError as refused:
            raise refuse("bad_value", f"key {number + 1}: {refused}") from None
        if key.blob in seen:
            raise refuse("bad_value", f"key {number + 1} is the same as key {seen[key.blob] + 1}; each counts once")
        seen[key.blob] = number
    return lines


KeyLine = Annotated[str, Field(min_length=1, max_length=MAX_LINE)]


class Signatures(Strict):
    """How many people must have signed the policies, and who may."""

    required: int = Field(default=0, ge=0, le=16, description="how many must have; 0: nothing is verified")
    keys: Annotated[tuple[KeyLine, ...], Field(max_length=64), AfterValidator(_check_keys)] = Field(
        default=(), description="the OpenSSH public keys of those who may, each as in its .pub file"
    )

    @model_validator(mode="after")
    def _enough(self) -> Signatures:
        if len(self.keys) < self.required:
            message = (
                f"{self.required} signatures are required, but keys has {len(self.keys)}; so nothing could ever count"
            )
            raise refuse("bad_value", message, at="required")
        return self


class Log(Strict):
    """What is logged, and how."""

    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: JSON under systemd, else for people"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="the least that is logged")


class Settings(Strict):
    """Everything that can be set, with its default."""

    gateway: Gateway = Field(default_factory=Gateway, description="who this gateway is")
    policies: SettingPath = Field(default=Path("/etc/gatewrit/policies"), description="the directory of policies")
    state: SettingPath = Field(
        default=Path("/var/lib/gatewrit"), description="the directory of what must outlive a reboot"
    )
    runtime: SettingPath = Field(default=Path("/run/gatewrit"), description="the directory of the control socket")
    listen: tuple[Listen, ...] = Field(
        default=("127.0.0.1:9451",), description="where to answer HTTP: HOST:PORT, [V6]:PORT or unix:/PATH"
    )
    tls: Tls | None = Field(default=None, description="the certificate for listening beyond loopback")
    tokens: SettingPath = Field(default=Path("/etc/gatewrit/tokens"), description="the file of tokens for HTTP")
    control: Control = Field(default_factory=Control, description="who may command the daemon")
    hooks: tuple[Hook, ...] = Field(
        default=("forward",), min_length=1, description="where packets are judged: forward, input, output, prerouting"
    )
    priority: int = Field(
        default=-10, ge=-(2**31), le=2**31 - 1, description="the priority of our chains among others on the same hook"
    )
    table_owner: bool = Field(
        default=True, description="whether no other program may change our table, where the kernel can see to that"
    )
    protected: tuple[Annotated[Protected, BeforeValidator(_widen)], ...] = Field(
        default=(), description="addresses that no policy may touch"
    )
    nat64: tuple[Annotated[Entry, AfterValidator(_check_nat64)], ...] = Field(
        default=(), description="NAT64 prefixes in which IPv4 endpoints match too"
    )
    limits: Limits = Field(default_factory=Limits, description="what a policy may ask for without saying why")
    journal: Journal = Field(default_factory=Journal, description="how long the journal is kept")
    signatures: Signatures = Field(default_factory=Signatures, description="who must have signed the policies")
    log: Log = Field(default_factory=Log, description="what is logged, and how")

    @model_validator(mode="after")
    def _hooks_agree(self) -> Settings:
        if len(set(self.hooks)) < len(self.hooks):
            raise refuse("bad_value", "a hook is named twice; once is enough", at="hooks")
        if "prerouting" in self.hooks and {"forward", "input"} & set(self.hooks):
            message = "prerouting sees what forward and input see, so that packets would count twice; choose one"
            raise refuse("bad_value", message, at="hooks")
        return self

    @model_validator(mode="after")
    def _nobody_listens_in(self) -> Settings:
        beyond = [each for each in self.listen if beyond_loopback(each)]
        if beyond and self.tls is None:
            message = f"{beyond[0]} can be reached from elsewhere, where TLS and a token are required"
            raise refuse("bad_value", f"{message}: set `tls: {{cert: …, key: …}}`, or listen on 127.0.0.1", at="listen")
        return self


# -- how it is set ----------------------------------------------------------------------------------------------------


def load_settings(
    path: Path | None, environ: MappingOf[str, str], overrides: MappingOf[str, object] | None = None
) -> Settings:
    """Read the settings; raises SettingsError with all faults of all layers.

    `path` is the file that was asked for; without one the usual file is read, if there is one. `overrides` is what
    the command line said, nested like the file: `{"log": {"level": "debug"}}`.
    """
    file = path or DEFAULT_FILE
    root, faults = _read_file(file, required=path is not None)
    for place, keys, node in _from_environment(environ, faults):
        root = _overlay(root, _nest(keys, node, place))
    place = Place(COMMAND_LINE, 1, 1)
    root = _overlay(root, _node(dict(overrides or {}), place))
    settings, more = decode(root, Settings)
    faults += more
    if settings is None or faults:
        raise SettingsError(tuple(sorted(faults)))
    return settings.model_copy(update=_paths(settings, root, file))


def settings_schema() -> str:
    """Give the JSON Schema of the settings file."""
    schema = json_schema(Settings, "gatewrit settings")
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _read_file(file: Path, *, required: bool) -> tuple[Node, list[Fault]]:
    nothing = Mapping(Place(str(file), 1, 1), {}, {})
    try:
        root, faults = read_yaml(read_one(file, MAX_BYTES, trusted=True), str(file))
    except RefusedFile as refused:
        if refused.code == "not_found" and not required:
            return nothing, []
        return nothing, [fault(nothing.place, refused.code, refused.message)]
    # Unlike a policy, settings that say nothing are fine: everything has a default.
    told = [found for found in faults if found.code != "empty_file"]
    if root is not None and not isinstance(root, Mapping):
        told.append(fault(root.place, "wrong_type", "a settings file is a mapping (key: value)"))
    return root if isinstance(root, Mapping) else nothing, told


def _from_environment(environ: MappingOf[str, str], faults: list[Fault]) -> Iterator[tuple[Place, list[str], Node]]:
    for name in sorted(name for name in environ if name.startswith(PREFIX)):
        place = Place(name, 1, 1)
        keys = name.removeprefix(PREFIX).lower().split("__")
        kind = _variables().get(name)
        if kind is None:
            hint = suggest(name, _variables()) or f"; variables are named like {PREFIX}LIMITS__WIDEST_IPV4"
            faults.append(fault(place, "unknown_key", f"this variable sets nothing{hint}"))
        elif kind == "string":
            yield place, keys, Scalar(place, environ[name])
        elif kind in ("array", "object"):
            try:
                yield place, keys, _node(json.loads(environ[name]), place)
            except (ValueError, RecursionError):
                example = '["127.0.0.1:9451"]' if kind == "array" else '{"level": "debug"}'
                faults.append(fault(place, "bad_value", f"lists and mappings are given as JSON, such as {example}"))
        else:
            yield place, keys, Scalar(place, environ[name].strip(), plain=True)


@lru_cache(maxsize=1)
def _variables() -> dict[str, str]:
    """Each variable that sets something, and the JSON type of what it sets."""
    schema = json_schema(Settings, "")

    def walk(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
        for key, described in node.get("properties", {}).items():
            inner = schema["$defs"][described["$ref"].rsplit("/", 1)[-1]] if "$ref" in described else described
            name = f"{prefix}{key.upper()}"
            yield name, inner["type"]
            yield from walk(inner, f"{name}__")

    return dict(walk(schema, PREFIX))


def _node(value: object, place: Place) -> Node:
    """Make a node of plain data that didn't come from YAML."""
    if isinstance(value, dict):
        keys = {str(key): Scalar(place, str(key)) for key in value}
        return Mapping(place, keys, {str(key): _node(item, place) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return Sequence(place, tuple(_node(item, place) for item in value))
    if isinstance(value, (str, os.PathLike)):
        return Scalar(place, os.fspath(value))
    return Scalar(place, "" if value is None else str(value).lower(), plain=True)


def _nest(keys: list[str], node: Node, place: Place) -> Node:
    for key in reversed(keys):
        node = Mapping(place, {key: Scalar(place, key)}, {key: node})
    return node


def _overlay(base: Node, over: Node) -> Node:
    """Lay one tree over another: mappings merge, everything else is replaced."""
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return over
    values = dict(base.values)
    for key, node in over.values.items():
        values[key] = _overlay(values[key], node) if key in values else node
    return Mapping(base.place, base.keys | over.keys, values)


def _paths(settings: Settings, root: Node, file: Path) -> dict[str, Path | Tls]:
    """Relative paths of the file start at its folder."""
    found: dict[str, Path | Tls] = {}
    for key in ("policies", "state", "runtime", "tokens"):
        node = find(root, (key,))
        if isinstance(node, Scalar) and node.place.file == str(file):
            found[key] = file.parent / getattr(settings, key)
    if settings.tls is not None:
        given = {key: find(root, ("tls", key)) for key in ("cert", "key")}
        paths = {
            key: file.parent / getattr(settings.tls, key)
            for key, node in given.items()
            if isinstance(node, Scalar) and node.place.file == str(file)
        }
        found["tls"] = settings.tls.model_copy(update=paths)
    return found
