"""What the kernel dumps of the table: put together, or the one error.

An octet before each piece says what it is; pieces are cut as in `elements`. Datagrams are among them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from fuzz.targets.elements import pieces
from gatewrit.kernel import messages, socket, wire
from gatewrit.kernel.backend import KernelError
from gatewrit.kernel.ruleset import TABLE
from gatewrit.kernel.transaction import Actual

_KINDS = ("tables", "chains", "rules", "sets", "objects", "flowtables", "elements", "datagram")


def one_input(data: bytes) -> None:
    found: dict[str, list[bytes]] = defaultdict(list)
    for piece in pieces(data):
        if piece:
            found[_KINDS[piece[0] % len(_KINDS)]].append(piece[1:])
    for each in found["datagram"]:
        _datagram(each)
    try:
        handles = {name: wire.number(parts[16]) for name, parts in messages.own_sets(found["sets"]).items()}
        answers = messages.Answers(
            7,
            tuple(found["tables"]),
            tuple(found["chains"]),
            tuple(found["rules"]),
            tuple(found["sets"]),
            tuple(found["objects"]),
            tuple(found["flowtables"]),
            dict.fromkeys(handles, tuple(found["elements"])),
            handles,
        )
        actual = messages.decode(answers)
        counters = [each for each in map(messages.decode_counter, answers.objects) if each is not None]
    except wire.WireError as error:
        assert str(error)
        return
    assert isinstance(actual, Actual)
    assert actual.handle is None or any(TABLE.encode() in each for each in found["tables"])
    if actual.handle is not None:
        assert actual.counters == {each.name: each for each in counters}
        left = {name: () for name in handles if name not in actual.sets}
        assert messages.decode(replace(answers, elements=left), actual).sets.keys() >= actual.sets.keys()


def _datagram(data: bytes) -> None:
    """Give the socket one message of a datagram, as pyroute2 does: its length made sure of, and nothing else."""
    if len(data) < wire.NLMSGHDR.size or not wire.NLMSGHDR.size <= wire.NLMSGHDR.unpack_from(data)[0] <= len(data):
        return
    said = socket._parse(data, 0, len(data))
    assert isinstance(said["payload"], bytes)
    if (error := said["header"]["error"]) is not None:
        assert str(KernelError(error.code, "a test"))
