"""Single values of our documents: what each kind of text must be, as types that pydantic reads strictly.

Each reader says in its own words what is wrong and what would be right, and each type carries the JSON Schema of what
is written, whatever it becomes.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from datetime import date
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticKnownError

from gatewrit.policy.decode import refuse
from gatewrit.policy.faults import suggest
from gatewrit.policy.instant import parse_date, parse_instant
from gatewrit.policy.model import Transport
from gatewrit.policy.ranges import EntryError, Span, parse_span
from gatewrit.policy.scalar import Trap
from gatewrit.policy.terms import Instant

#: What policies and services are called: it must do for file names, labels, URLs and names in the kernel alike.
NAME = r"[a-z0-9][a-z0-9-]{0,47}"
#: Protocols whose header begins with the two ports.
WITH_PORTS = {"tcp": 6, "udp": 17, "sctp": 132}
ICMP = 1
MAX_PORT = 65535
_PORT_FORMS = "write tcp/80, udp/5060-5061, sctp/any, icmp, or any"


def text_of(value: object) -> str:
    """Give the text that a validator of ours was handed; what can't even be quoted as such is a wrong type."""
    if isinstance(value, Trap) and value.taken_for is not None:
        return value.text
    if isinstance(value, int):
        return str(value).lower()
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    return value


def check_line(text: str) -> str:
    """One visible line: no control characters, which escapes in double quotes could bring in, no blank ends."""
    if any(character in "\n\r\x85\u2028\u2029" for character in text):
        message = "this is shown on one line; write it without line breaks (a block begins with >-)"
        raise refuse("bad_value", message, named=True)
    return check_text(text)


def check_text(text: str) -> str:
    """Visible text, on several lines where need be."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t":
            raise refuse("bad_value", f"the character U+{ord(character):04X} can't be shown; take it out", named=True)
        if character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029":
            message = f"the invisible mark U+{ord(character):04X} changes how text reads; take it out"
            raise refuse("bad_value", message, named=True)
    if text and not text.strip():
        raise refuse("bad_value", "the text is blank; write something", named=True)
    if text.strip(" \t") != text:
        raise refuse("bad_value", "the text begins or ends with a blank; take it out", named=True)
    return text


def _check_name(text: str) -> str:
    if not re.fullmatch(NAME, text):
        right = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48]
        hint = f"; {right} would do" if right else ""
        raise refuse("bad_value", f"{text!r} can't be a name: up to 48 of a-z, 0-9 and -, not beginning with -{hint}")
    return text


def _check_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+(?:/\S*)?", text):
        raise refuse("bad_value", f"{text} isn't a web address; it begins with https://", named=True)
    return text


def _check_digest(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise refuse("bad_value", "a SHA-256 is 64 digits of 0-9 and a-f, as sha256sum prints it", named=True)
    return text


_IN_INTERFACE = r"(?:(?![/:*\"\\])[!-~])"


def _check_interface(text: str) -> str:
    # The kernel takes more in a name (dev_valid_name), but nft, which has no escapes, couldn't read it back.
    if not re.fullmatch(rf"{_IN_INTERFACE}{{1,15}}|{_IN_INTERFACE}{{1,14}}\*", text) or text in (".", ".."):
        message = f"{text} can't be an interface: up to 15 plain characters, at most one * at the end"
        raise refuse("bad_value", message)
    return text


def _check_list_path(text: str) -> str:
    if leads_out(text):
        message = f"{text} leads out of the policies directory; name a file beside this one, without a path"
        raise refuse("outside_policies", message)
    return text


def leads_out(path: str) -> bool:
    """Whether a path that begins in the services folder ends outside of the policies directory, links aside."""
    return path.startswith("/") or posixpath.normpath(f"services/{path}").split("/")[0] == ".."


def _read_date(value: object) -> date:
    text = text_of(value)
    try:
        return parse_date(text)
    except ValueError as error:
        raise refuse("bad_date", str(error)) from None


def _read_instant(value: object) -> Instant:
    text = text_of(value)
    try:
        return parse_instant(text)
    except ValueError as error:
        raise refuse("bad_instant", str(error)) from None


def _read_review(value: object) -> Instant | date:
    text = text_of(value)
    return _read_instant(text) if "T" in text.upper() else _read_date(text)


def _read_entry(value: object) -> Span:
    text = text_of(value)
    try:
        return parse_span(text)
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
LabelName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(check_line)]
LabelText = Annotated[str, Field(max_length=1000), AfterValidator(check_line)]
Interface = Annotated[str, AfterValidator(_check_interface)]
Entry = Annotated[Span, *_reads(_read_entry, "", examples=["206.51.26.0/24", "2607:ffc0::/32", "192.0.2.4-192.0.2.9"])]
Port = Annotated[Transport, *_reads(read_transport, _PORTS, examples=["tcp/3101", "udp/5060-5061", "icmp", "any"])]
Moment = Annotated[Instant, *_reads(_read_instant, _INSTANT, examples=["2015-12-31T00:00:00[Asia/Karachi]"])]
Day = Annotated[date, *_reads(_read_date, _DAY, format="date")]
Review: TypeAlias = Annotated[Instant | date, *_reads(_read_review, f"{_DAY}|{_INSTANT}", examples=["2016-03-01"])]
