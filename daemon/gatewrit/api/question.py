"""A question about an address, read from the parameters of a request or of the command line. Pure."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from gatewrit.engine.answer import Question
from gatewrit.policy.instant import parse_instant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatewrit.engine.answer import Address
    from gatewrit.policy.terms import Instant

PARAMETERS = ("address", "protocol", "port", "source", "interface", "at")
_PROTOCOLS = ("tcp", "udp", "sctp", "icmp")


class QuestionError(ValueError):
    """A question that can't be asked like this; names the parameter."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


def read_question(given: Mapping[str, str]) -> Question:
    """Read a question; raises QuestionError with what would be right."""
    if "address" not in given:
        raise QuestionError("address", "address is missing: say which address this is about")
    address = _address("address", given["address"])
    protocol = given.get("protocol")
    if protocol is not None:
        protocol = protocol.lower()
        if protocol not in _PROTOCOLS:
            raise QuestionError("protocol", f"protocol is one of {', '.join(_PROTOCOLS)}")
    port = _port(given["port"]) if "port" in given else None
    if port is not None and protocol == "icmp":
        raise QuestionError("port", "icmp has no ports; leave port out")
    source = _address("source", given["source"]) if "source" in given else None
    if source is not None and source.version != address.version:
        raise QuestionError("source", "source and address are of one family: a packet has both in one header")
    interface = given.get("interface")
    if interface is not None and not re.fullmatch(r"[^\s/:*]{1,15}", interface):
        raise QuestionError("interface", "interface is the name of one interface, with up to 15 characters")
    length = _length(address, given["length"]) if "length" in given else None
    return Question(address, protocol, port, source, interface, _at(given["at"]) if "at" in given else None, length)


def parameters_of(question: Question) -> dict[str, str]:
    """Return the parameters that `read_question` makes this question of."""
    given = {
        "address": question.address,
        "protocol": question.protocol,
        "port": question.port,
        "source": question.source,
        "interface": question.interface,
        "at": None if question.at is None else question.at.text,
        "length": question.length,
    }
    return {name: str(value) for name, value in given.items() if value is not None}


def _address(parameter: str, text: str) -> Address:
    if "/" in text:
        raise QuestionError(parameter, f"{parameter} is one address, not a prefix; leave out what begins with /")
    try:
        address = ip_address(text)
    except ValueError:
        raise QuestionError(parameter, f"{parameter} isn't an IPv4 or IPv6 address; names aren't looked up") from None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise QuestionError(parameter, f"{parameter} is an address without a zone (%)")
        if address.ipv4_mapped is not None:
            raise QuestionError(parameter, f"{parameter} is IPv4 in disguise; write {address.ipv4_mapped}")
    return address


def _port(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,5}", text) and int(text) <= 65535:
        return int(text)
    raise QuestionError("port", "port is a whole number from 0 to 65535")


def _length(address: Address, text: str) -> int:
    """Read the length of a prefix that begins at an address."""
    if re.fullmatch(r"[0-9]{1,3}", text) and int(text) <= address.max_prefixlen:
        free = address.max_prefixlen - int(text)
        if int(address) % (1 << free) == 0:
            return int(text)
    raise QuestionError("length", "length is that of a prefix, which has no bits beyond it")


def _at(text: str) -> Instant:
    try:
        return parse_instant(text)
    except ValueError as error:
        raise QuestionError("at", f"at: {error}") from None
