"""What somebody types into the look-up box: an address, a prefix, an address with a port, or a URL. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gatewrit.api.question import QuestionError, read_question

if TYPE_CHECKING:
    from gatewrit.engine.answer import Question

_LONGEST = 2000
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_WITH_PORT = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<v4>[0-9.]+)):(?P<port>[^:]*)")
_NAME = re.compile(r"(?=.*[^\W\d_])[\w-]+(?:\.[\w-]+)*\.?")
#: What a browser connects to where the URL names no port.
_PORTS = {"http": "80", "https": "443"}
_EXAMPLES = (
    "Type an address (206.51.26.1), an address with a port (206.51.26.1:3101), a prefix (206.51.26.0/24) or a URL"
)


class UnreadableError(ValueError):
    """What was typed can't be looked up; the message is a sentence for whoever typed it."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """The question to ask, with a sentence on what it leaves open, None where it asks for all that was typed."""

    question: Question
    remark: str | None = None


def read(text: str) -> Lookup:
    """Read what was typed; raises UnreadableError."""
    text = text.strip()
    if not text:
        raise UnreadableError(f"Nothing was typed. {_EXAMPLES}.")
    if len(text) > _LONGEST:
        raise UnreadableError(f"That is too long to look up. {_EXAMPLES}.")
    if scheme := _SCHEME.match(text):
        return _url(text, scheme[1].lower())
    if "/" in text:
        return _prefix(text)
    if match := _WITH_PORT.fullmatch(text):
        return Lookup(_question(match["v6"] or match["v4"] or "", match["port"]))
    return Lookup(_question(text))


def _url(text: str, scheme: str) -> Lookup:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise UnreadableError(f"This isn't a URL that can be read. {_EXAMPLES}.") from None
    chosen = _PORTS.get(scheme) if port is None else str(port)
    question = _question(host, chosen, "tcp" if scheme in _PORTS else None)
    if port is None and chosen is not None:
        return Lookup(question, f"Asked about TCP port {chosen}, where {scheme} goes; other ports may fare otherwise.")
    return Lookup(question)


def _prefix(text: str) -> Lookup:
    address, _, length = text.partition("/")
    try:
        network = ip_network(text)
    except ValueError:
        _question(address)  # says what is wrong with it, if it is the address
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            most = 32 if isinstance(ip_address(address), IPv4Address) else 128
            raise UnreadableError(f"What follows / is a length from 0 to {most}, not “{length[:40]}”.") from None
        raise UnreadableError(f"{text} has bits beyond its length; is {network} meant, or {address} alone?") from None
    if network.num_addresses == 1:
        return Lookup(_question(str(network[0])))
    return Lookup(_question(str(network[0]), length=str(network.prefixlen)))


def _question(
    address: str, port: str | None = None, protocol: str | None = None, length: str | None = None
) -> Question:
    given = {"address": address, "port": port, "protocol": protocol, "length": length}
    try:
        return read_question({name: value for name, value in given.items() if value is not None})
    except QuestionError as error:
        if error.parameter == "port":
            raise UnreadableError(f"A port is a whole number from 0 to 65535, not “{(port or '')[:40]}”.") from None
        try:
            ip_address(address)
        except ValueError:
            raise UnreadableError(_unlike(address)) from None
        raise UnreadableError(f"{str(error)[0].upper()}{str(error)[1:]}.") from None


def _unlike(text: str) -> str:
    """Say what is wrong with what isn't an address."""
    shown = f"“{text[:80]}{'…' if len(text) > 80 else ''}”"
    if _NAME.fullmatch(text):
        return (
            f"{shown} is a name. Orders are enforced by address, and names aren't looked up here: find out which "
            "address the customer's device connects to, and type that."
        )
    return f"{shown} isn't an address. {_EXAMPLES} with an address in it."
