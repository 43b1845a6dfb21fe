"""One policy looked at closely: everything that its files say, but no subscriber."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatewrit.engine.particulars import SHOWN, Entries, Sources
from gatewrit.engine.portray import listing, portray, ports_text
from gatewrit.policy.load import load
from gatewrit.policy.model import Transport

if TYPE_CHECKING:
    from pathlib import Path

    from gatewrit.policy.model import Policy

SERVICE = """\
service: {name}
title: Service {name}
endpoints:
  - prefixes: [198.51.100.0/24, 198.51.100.0/25, 192.0.2.1-192.0.2.6]
    ports: [tcp/80, udp/5060-5061, icmp]
  - prefixes_from: many.txt
    ports: [any]
"""
OTHER = "service: other\ntitle: Other\nendpoints:\n  - prefixes: [203.0.113.9]\n    ports: [tcp/80]\n"
POLICY = """\
policy: closely
title: Closely
revision: 3
order: {authority: A, reference: R, issued: 2015-07-24}
effective: {from: 2015-12-31T00:00:00Z, until: 2199-01-01T00:00:00Z}
state: active
block: {services: [named], action: drop}
except: {prefixes: [198.51.100.7], sources: [100.64.9.0/24]}
must_continue: [other]
scope: {gateways: ["core-*"], interfaces: [gi0], sources: [100.64.0.0/10, "2001:db8:1::/48"]}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    (tmp_path / "services").mkdir()
    (tmp_path / "services/named.yaml").write_text(SERVICE.format(name="named"))
    (tmp_path / "services/other.yaml").write_text(OTHER)
    (tmp_path / "services/many.txt").write_text("".join(f"2001:db8:{number:x}::/64\n" for number in range(1, 151)))
    (tmp_path / "closely.yaml").write_text(POLICY)
    (found,), faults = load(tmp_path)
    assert not [each for each in faults if each.severity == "error"]
    return found


def test_everything_that_its_files_say_is_shown(policy: Policy) -> None:
    shown = portray(policy, "ab", 77, ())
    (service,) = shown.services
    one, many = service.endpoints
    assert one.prefixes == Entries(("198.51.100.0/24", "198.51.100.0/25", "192.0.2.1-192.0.2.6"), 3, 262, 0)
    assert one.ports == ("tcp/80", "udp/5060-5061", "icmp")
    assert (many.prefixes.entries, len(many.prefixes.shown), many.prefixes.addresses_ipv6) == (150, SHOWN, 150 * 2**64)
    assert many.ports == ("any",)
    assert shown.except_prefixes.shown == ("198.51.100.7",)
    assert [each.name for each in shown.must_continue] == ["other"]
    assert (shown.scope_gateways, shown.scope_interfaces) == (("core-*",), ("gi0",))
    assert (shown.suspended_until, shown.sha256) == (77, "ab")


def test_subscribers_are_counted_and_never_listed(policy: Policy) -> None:
    shown = portray(policy, "ab", None, ())
    assert shown.except_sources == Sources(256, 0)
    assert shown.scope_sources == Sources(2**22, 2**80)
    assert "100.64" not in repr(shown)
    assert "2001:db8:1::/48" not in repr(shown)


def test_the_list_is_told_in_parts_that_join(policy: Policy) -> None:
    whole = listing(policy, 0, 1000)
    assert (whole.total, len(whole.entries)) == (153, 153)
    joined = [each for start in range(0, 153, 7) for each in listing(policy, start, 7).entries]
    assert tuple(joined) == whole.entries
    assert (whole.entries[2].prefix, whole.entries[2].ports) == ("192.0.2.1-192.0.2.6", one_s_ports())
    assert whole.entries[3].place.endswith("many.txt:1")
    assert listing(policy, 10**15, 5).entries == ()
    assert listing(policy, 0, 1).digest == whole.digest


def one_s_ports() -> tuple[str, ...]:
    return ("tcp/80", "udp/5060-5061", "icmp")


def test_transports_are_written_as_service_files_have_them() -> None:
    given = (Transport(None), Transport(6), Transport(132, 0, 65535), Transport(1), Transport(17, 53, 53))
    assert ports_text(given) == ("any", "tcp/any", "sctp/0-65535", "icmp", "udp/53")
