"""The gateway's own addresses, next hops and resolvers, as values: what is spared, and whom that concerns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from gatewrit.compile.rows import Touching
from gatewrit.compile.surroundings import ALONE, Surroundings
from gatewrit.engine.around import READ_EVERY, Around, here, overlaps, read_resolvers, surroundings
from gatewrit.engine.timing import Agenda
from gatewrit.kernel.host import Host
from gatewrit.policy.model import Transport
from support.clock import FakeClock
from support.strategies import simple

if TYPE_CHECKING:
    from pathlib import Path

TCP = Transport(6, 3101, 3101)
HOST = Host(frozenset({"192.0.2.1", "2001:db8::1"}), frozenset({"192.0.2.254"}), (("vrf1", ("eth1", "eth2")),))


@dataclass
class Reader:
    """A host that says what it is told to say."""

    host: Host | OSError

    def read(self) -> Host:
        if isinstance(self.host, OSError):
            raise self.host
        return self.host


def numbers(around: Surroundings) -> dict[int, list[object]]:
    return {part.family: part.first.tolist() for part in around.spared}


def test_everything_that_is_the_gateways_own_is_spared() -> None:
    around = surroundings(ALONE, HOST, ["192.0.2.53", "192.0.2.1"])
    assert numbers(around) == {
        4: [0xC0000201, 0xC0000235, 0xC00002FE],
        6: [(0x20010DB800000000, 1)],
    }
    assert dict(around.masters) == {"vrf1": ("eth1", "eth2")}
    assert surroundings(ALONE, Host(), []).spared == ()


def test_resolvers_are_read_from_whatever_stands_there(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_bytes(
        b"# a comment\nnameserver 192.0.2.53\nnameserver\t2001:db8::53 trailing\nnameserver fe80::1%eth0\n"
        b"nameserver nonsense\nnameserver\nsearch example.net\n;nameserver 192.0.2.99\noptions edns0\n\xff\xfe\n"
    )
    assert read_resolvers([file, tmp_path / "none", tmp_path]) == {"192.0.2.53", "2001:db8::53"}


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("192.0.2.0-192.0.2.255", "192.0.2.1, 192.0.2.254"),
        ("192.0.2.254", "192.0.2.254"),
        ("2001:db8::-2001:db8::ffff", "2001:db8::1"),
        ("192.0.2.2-192.0.2.253", None),
        ("203.0.113.0-203.0.113.255", None),
    ],
)
def test_a_policy_that_covers_them_is_told_of(entry: str, told: str | None) -> None:
    found = overlaps([simple("a", [entry], [TCP])], Touching(surroundings(ALONE, HOST, []).spared))
    if told is None:
        assert found == []
    else:
        (trouble,) = found
        assert (trouble.code, trouble.severity, trouble.policy) == ("protected_overlap", "warning", "a")
        assert told in trouble.message


async def test_what_changes_is_followed_and_what_cannot_be_read_stays() -> None:
    clock, reader = FakeClock(0), Reader(HOST)
    agenda = Agenda(clock)
    around = Around(reader, ALONE, clock, agenda)
    assert await around.look()
    assert not await around.look()
    before = numbers(around.now)
    reader.host = OSError(1, "no")
    assert not await around.look()
    assert [each.code for each in around.troubles] == ["host_unreadable"]
    assert numbers(around.now) == before
    assert not agenda.is_due("host")
    await clock.pass_(READ_EVERY)
    assert agenda.is_due("host")
    reader.host = Host(frozenset({"192.0.2.1"}))
    assert await around.look()
    assert around.troubles == []
    # Whatever resolvers this machine has are among them.
    assert 0xC0000201 in numbers(around.now)[4]
    assert 0xC00002FE not in numbers(around.now)[4]


def test_who_renders_without_a_host_spares_nothing() -> None:
    assert here(Reader(OSError(1, "no"))) is ALONE
    assert {0xC0000201} <= set(numbers(here(Reader(HOST)))[4])
