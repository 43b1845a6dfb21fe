from __future__ import annotations

import pytest

from lab import Lab, Packet, Probe, Verdict

RULES = """
    table inet t {
        counter refused {}
        counter passed {}
        chain forward {
            type filter hook forward priority 0
            ip saddr 198.18.0.0/15 accept
            tcp dport 3101 counter name refused reject with tcp reset
            udp dport 3101 counter name refused reject with icmpx admin-prohibited
            sctp dport 3101 counter name refused reject with icmpx admin-prohibited
            meta l4proto { icmp, icmpv6 } counter name refused drop
            counter name passed
        }
    }
"""
ENDS = [("100.64.9.9", "206.51.26.7"), ("2001:db8:64::9", "2607:ffc0::7")]


def counted(lab: Lab, name: str) -> int:
    listed = lab.gateway.nft(f"list counter inet t {name}")
    return int(listed.split("packets ")[1].split()[0])


@pytest.mark.parametrize(("source", "destination"), ENDS)
def test_each_packet_has_its_verdict_and_is_counted_once(lab: Lab, source: str, destination: str) -> None:
    lab.gateway.nft(RULES)
    cases = [
        (Packet(source, destination, "tcp", destination_port=3101), Verdict.RESET),
        (Packet(source, destination, "tcp", destination_port=443), Verdict.REACHED),
        (Packet(source, destination, "udp", destination_port=3101), Verdict.PROHIBITED),
        (Packet(source, destination, "udp", destination_port=3100), Verdict.REACHED),
        (Packet(source, destination, "sctp", destination_port=3101), Verdict.PROHIBITED),
        (Packet(source, destination, "sctp", destination_port=3102), Verdict.REACHED),
        (Packet(source, destination, "icmp"), Verdict.SILENT),
        (Packet(source, destination, 47), Verdict.REACHED),
    ] * 20

    assert lab.exchange([packet for packet, _ in cases]) == [verdict for _, verdict in cases]
    assert (counted(lab, "refused"), counted(lab, "passed")) == (4 * 20, 4 * 20)


@pytest.mark.parametrize(("source", "destination"), ENDS)
def test_later_fragments_have_no_ports(lab: Lab, source: str, destination: str) -> None:
    lab.gateway.nft(RULES)

    first = Packet(source, destination, "tcp", destination_port=3101, more=True)
    later = Packet(source, destination, "tcp", destination_port=3101, offset=1480)

    assert lab.exchange([first, later]) == [Verdict.RESET, Verdict.REACHED]


def test_sources_may_be_anybody_and_the_way_back_works_alike(lab: Lab) -> None:
    lab.gateway.nft("""
        table inet t {
            chain forward {
                type filter hook forward priority 0
                ip saddr 206.51.26.0/24 tcp sport 3101 drop
            }
        }
    """)

    packets = [Packet("206.51.26.1", "100.64.0.9", "tcp", source_port=port) for port in (3101, 443)]

    assert lab.exchange(packets, origin=lab.internet, target=lab.subscriber) == [Verdict.SILENT, Verdict.REACHED]
    assert lab.exchange([Packet("192.0.2.9", "8.8.8.8")]) == [Verdict.REACHED]


def test_the_gateways_own_traffic_can_be_tried(lab: Lab) -> None:
    lab.listen()
    lab.listen(at=lab.gateway)
    lab.gateway.nft("""
        table inet t {
            chain output { type filter hook output priority 0
                tcp dport 3101 reject with tcp reset
            }
            chain input { type filter hook input priority 0
                tcp dport 25 drop
            }
        }
    """)

    sent = lab.probe([Probe("206.51.26.1", "tcp/3101"), Probe("206.51.26.1", "tcp/443")], origin=lab.gateway)
    received = lab.probe([Probe("198.18.2.1", "tcp/25"), Probe("198.18.2.1", "tcp/443")], target=lab.gateway)

    assert list(sent.values()) == [Verdict.RESET, Verdict.REACHED]
    assert list(received.values()) == [Verdict.SILENT, Verdict.REACHED]


def test_probes_work_again_after_the_ends_were_hushed(lab: Lab) -> None:
    lab.listen()

    lab.exchange([Packet("100.64.9.9", "206.51.26.7")])

    assert lab.try_one("206.51.26.7", "tcp/3101") is Verdict.REACHED
    assert lab.try_one("2607:ffc0::7", "udp/443", source="2001:db8:64::1") is Verdict.REACHED
