"""What passes beside the table, from values as the kernel would give them: flowtables can't be made on every kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gatewrit.engine import status
from gatewrit.engine.beside import READ_EVERY, SETTLED, Watcher, troubles
from gatewrit.engine.timing import Agenda
from gatewrit.kernel import wire
from gatewrit.kernel.beside import Base, Beside, Doer, Flowtable, base_chain, doers_in, flowtable
from gatewrit.kernel.host import Bridge, Links
from support.clock import FakeClock

NAT = Base(1, "router", "dstnat", "nat", 0, -100)
REWRITES = Doer(1, "router", "dstnat", "rewrites")


def codes(found: Beside, *hooks: str, priority: int = -10) -> list[str]:
    return [each.code for each in troubles(found, hooks or ("forward",), priority)]  # type: ignore[arg-type]


def test_nothing_beside_is_nothing_to_tell() -> None:
    assert codes(Beside()) == []
    assert codes(Beside(links=Links())) == []


def test_flowtables() -> None:
    table = Flowtable(1, "router", "fast", ("eth0", "eth1"))
    payload = wire.string(1, "router") + wire.string(2, "fast")
    payload += wire.nest(
        3, wire.be32(1, 0), wire.be32(2, 0), wire.nest(3, wire.string(1, "eth0"), wire.string(1, "eth1"))
    )
    assert flowtable(1, payload) == table
    assert flowtable(1, payload.replace(b"router\0\0", b"gatewri\0")) != table
    assert flowtable(1, wire.string(1, "gatewrit") + wire.string(2, "fast")) is None
    found = Beside(flowtables=(table,))
    assert codes(found) == codes(found, "prerouting") == ["bypass_flowtable"]
    assert codes(found, "output") == []
    assert "inet router fast" in troubles(found, ("forward",), -10)[0].message


def test_destinations_that_are_rewritten_ahead_of_the_hook() -> None:
    found = Beside(bases=(NAT,), doers=(REWRITES,))
    assert codes(found) == codes(found, "input") == ["bypass_nat"]
    # Only what comes before: the same hook, but earlier.
    assert codes(found, "prerouting", priority=-10) == ["bypass_nat"]
    assert codes(found, "prerouting", priority=-150) == []
    assert codes(found, "output") == []
    out = replace(NAT, name="out", hook=3)
    ours = Beside(bases=(out,), doers=(replace(REWRITES, chain="out"),))
    assert codes(ours) == []
    assert codes(ours, "output") == ["bypass_nat"]
    # What no rule does, what only changes sources, and what hangs nowhere near.
    assert codes(replace(found, doers=())) == []
    assert codes(Beside(bases=(out, NAT), doers=(replace(REWRITES, chain="out"),))) == []
    assert codes(Beside(bases=(NAT,), doers=(replace(REWRITES, table="elsewhere"),))) == []
    # A chain that is jumped to.
    assert codes(Beside(bases=(NAT,), doers=(replace(REWRITES, chain="services"),))) == ["bypass_nat"]


def test_proxies_and_what_is_sent_on_at_ingress() -> None:
    proxied = Beside(bases=(replace(NAT, kind="filter", priority=-150),), doers=(replace(REWRITES, deed="proxies"),))
    assert codes(proxied) == ["bypass_tproxy"]
    assert codes(proxied, "forward", "input") == codes(proxied, "prerouting") == []
    ingress = Base(5, "edge", "in", "filter", 0, 0)
    sent = Beside(bases=(ingress,), doers=(Doer(5, "edge", "in", "forwards"),))
    assert codes(sent) == codes(sent, "prerouting") == ["bypass_ingress"]
    assert codes(sent, "output") == []


@pytest.mark.parametrize(
    ("ports", "calls", "bridged", "told"),
    [
        (("p1", "p2"), (False, False), (False, False), True),
        (("p1", "p2"), (False, False), (True, True), False),
        (("p1", "p2"), (True, False), (False, True), False),
        (("p1", "p2"), (True, False), (True, False), True),
        (("p1",), (False, False), (False, False), False),
    ],
)
def test_bridges(ports: tuple[str, ...], calls: tuple[bool, bool], bridged: tuple[bool, bool], *, told: bool) -> None:
    found = Beside(links=Links((Bridge("br0", ports, calls),)), bridged=bridged)
    assert codes(found) == ["bypass_bridge"] * told
    assert codes(found, "output") == []


def test_programs() -> None:
    found = Beside(links=Links(xdp=tuple(f"eth{number}" for number in range(7))))
    assert codes(found) == ["bypass_xdp"]
    assert "eth4 and 2 more" in troubles(found, ("forward",), -10)[0].message


def test_every_code_says_what_to_do() -> None:
    table = Flowtable(1, "t", "f", ())
    everything = Beside(
        (NAT, replace(NAT, family=5, table="edge", kind="filter")),
        (REWRITES, replace(REWRITES, deed="proxies"), Doer(5, "edge", "dstnat", "forwards")),
        (table,),
        Links((Bridge("br0", ("a", "b"), (False, False)),), ("eth0",)),
    )
    found = troubles(everything, ("forward",), -10)
    assert len({each.code for each in found}) == len(found) == 6
    assert all(each.severity == "warning" and each.code in status.ACTIONS for each in found)


def expression(name: str, *data: bytes) -> bytes:
    return wire.nest(1, wire.string(1, name), wire.nest(2, *data))


@pytest.mark.parametrize(
    ("rule", "deeds"),
    [
        (expression("nat", wire.be32(1, 1), wire.be32(2, 2)), ["rewrites"]),
        (expression("nat", wire.be32(1, 0), wire.be32(2, 2)), []),
        (expression("redir"), ["rewrites"]),
        (expression("masq"), []),
        (expression("tproxy", wire.be32(1, 2)), ["proxies"]),
        (expression("fwd", wire.be32(1, 1)), ["forwards"]),
        (expression("target", wire.string(1, "DNAT"), wire.be32(2, 2)), ["rewrites"]),
        (expression("target", wire.string(1, "SNAT"), wire.be32(2, 2)), []),
        (expression("target", wire.string(1, "TPROXY"), wire.be32(2, 2)), ["proxies"]),
        (expression("counter") + expression("redir"), ["rewrites"]),
        (b"", []),
    ],
)
def test_what_a_rule_does(rule: bytes, deeds: list[str]) -> None:
    payload = wire.string(1, "t") + wire.string(2, "c") + wire.attr(4 | wire.NESTED, rule)
    assert [each.deed for each in doers_in(2, payload)] == deeds


def test_chains_without_a_hook_and_our_own_are_left_out() -> None:
    hook = wire.nest(4, wire.be32(1, 0), wire.be32(2, -100))
    named = wire.string(1, "router") + wire.string(3, "dstnat")
    assert base_chain(1, named + hook + wire.string(7, "nat")) == NAT
    assert base_chain(1, named) is None
    assert base_chain(1, named.replace(b"router\0", b"gatewri", 1)) is None
    ours = wire.string(1, "gatewrit") + wire.string(3, "forward") + hook
    assert base_chain(1, ours) is None
    assert base_chain(2, ours) is not None


async def test_it_is_read_now_and_then_soon_after_a_change_and_never_all_the_time() -> None:
    clock = FakeClock(0)
    agenda = Agenda(clock)
    answers: list[Beside | OSError] = [Beside(), Beside(links=Links(xdp=("eth0",))), OSError("later"), Beside()]

    def reader() -> Beside:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    watcher = Watcher(reader, ("forward",), -10, clock, agenda)
    assert agenda.is_due("beside")
    assert not await watcher.look()
    assert agenda.left(1e9) == READ_EVERY
    assert watcher.stir()
    # However often it is told.
    assert not watcher.stir()
    assert agenda.left(1e9) == SETTLED
    assert await watcher.look()
    assert [each.code for each in watcher.troubles] == ["bypass_xdp"]
    # What can't be read stays as it was.
    assert not await watcher.look()
    assert [each.code for each in watcher.troubles] == ["bypass_xdp"]
    assert await watcher.look()
    assert watcher.troubles == []
    assert not Watcher(None, ("forward",), -10, clock, Agenda(clock)).stir()
