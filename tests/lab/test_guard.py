"""No packet leaves the lab: each way in which a sender could find itself elsewhere is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pyroute2 import IPRoute

from lab import Lab, Namespace, Packet, Probe, Refused, guard, require_lab
from lab.flood import Flood
from lab.process import libc

if TYPE_CHECKING:
    from collections.abc import Callable

CLONE_NEWNET = 0x40000000


def test_the_network_we_were_started_in_is_refused(namespace: Namespace) -> None:
    with pytest.raises(Refused, match="started from"):
        require_lab(namespace.token)


def test_the_machines_own_network_is_refused_even_when_it_is_not_ours(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_HOME", namespace.fileno())
    with pytest.raises(Refused):
        require_lab(namespace.token)


def test_a_namespace_that_the_lab_did_not_make_is_refused(namespace: Namespace) -> None:
    def elsewhere() -> None:
        libc("unshare", CLONE_NEWNET)
        require_lab(namespace.token)

    with pytest.raises(Refused, match="mark"):
        namespace.run(elsewhere)


@pytest.mark.parametrize("token", ["", "someone-elses"])
def test_another_labs_mark_is_refused(namespace: Namespace, token: str) -> None:
    with pytest.raises(Refused, match="mark"):
        namespace.run(require_lab, token)


def test_an_interface_that_the_lab_did_not_make_is_refused(namespace: Namespace) -> None:
    def with_a_stranger() -> None:
        with IPRoute() as netlink:
            netlink.link("add", kind="veth", ifname="stranger0", peer={"ifname": "stranger1"})
        require_lab(namespace.token)

    namespace.run(require_lab, namespace.token)
    with pytest.raises(Refused, match="stranger"):
        namespace.run(with_a_stranger)


def test_a_link_that_leads_home_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.gateway.run(require_lab, lab.gateway.token)

    monkeypatch.setattr(guard, "_HOME", lab.subscriber.fileno())

    with pytest.raises(Refused, match="gn0 leads"):
        lab.gateway.run(require_lab, lab.gateway.token)
    lab.internet.run(require_lab, lab.internet.token)


@pytest.mark.parametrize(
    "send",
    [
        lambda lab: lab.probe([Probe("206.51.26.7", "tcp/3101")]),
        lambda lab: lab.exchange([Packet("100.64.9.9", "206.51.26.7")]),
        lambda lab: lab.subscriber.socket(),
        lambda lab: Flood(lab, [Packet("100.64.9.9", "206.51.26.7")]).__enter__(),
    ],
    ids=["probe", "exchange", "socket", "flood"],
)
def test_every_sender_asks_first(lab: Lab, send: Callable[[Lab], object]) -> None:
    lab.subscriber.token = lab.subscriber.token[::-1]

    with pytest.raises(Refused):
        send(lab)
