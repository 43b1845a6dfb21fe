"""Our own nf_tables messages, byte by byte: each is the nft command in its caption.

That the kernel understands the two alike is shown in tests/kernel/test_second_opinion.py; here nothing may move unseen.
"""

from __future__ import annotations

import pytest

from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.messages import Message, encode
from gatewrit.kernel.ruleset import (
    DPORT,
    IP6_SADDR,
    IP_DADDR,
    IPV4,
    IPV6,
    L4PROTO,
    PORT,
    PROTOCOL,
    Before,
    ByMap,
    Chain,
    Count,
    Counter,
    Hook,
    InSet,
    ProtocolIs,
    Reject,
    Rule,
    SetSpec,
)
from gatewrit.kernel.transaction import (
    AddChain,
    AddCounter,
    AddElements,
    AddRule,
    AddSet,
    AddTable,
    DeleteChain,
    DeleteCounter,
    DeleteElements,
    DeleteRule,
    DeleteSet,
    DeleteTable,
    FlushChain,
    Operation,
    Transaction,
)

TO4 = SetSpec("to4", (IPV4,), interval=True, verdicts=True)
TO6 = SetSpec("to6", (IPV6,), interval=True, verdicts=False)
PORTS = SetSpec("ports", (PROTOCOL, PORT), interval=False, verdicts=False)
RANGES = SetSpec("ranges", (PROTOCOL, PORT), interval=True, verdicts=True, comment="a")
GO = Verdict("goto", "c")
TCP_3101 = bytes.fromhex("06000000 0c1d0000")
TCP_3200 = bytes.fromhex("06000000 0c800000")

#: (the nft command, the operation, message kind, flags, the attributes in hex)
CASES: list[tuple[str, Operation, int, int, str]] = [
    (
        'add table inet gatewrit { comment "service-block orders; see: gatewrit status"; }',
        AddTable(),
        0,
        0x600,
        (
            "0d000100676174657772697400000000080002000000000031000600002b736572766963652d626c6f636b206f7264657273"
            "3b207365653a2067617465777269742073746174757300000000"
        ),
    ),
    (
        "delete table inet gatewrit",
        DeleteTable(),
        2,
        0x0,
        "0d000100676174657772697400000000",
    ),
    (
        'add counter inet gatewrit by.a { comment "a"; }',
        AddCounter(Counter("by.a", "a")),
        18,
        0x600,
        (
            "0d0001006761746577726974000000000900020062792e610000000008000300000000011c0004800c000100000000000000"
            "00000c00020000000000000000000800080000026100"
        ),
    ),
    (
        "delete counter inet gatewrit by.a",
        DeleteCounter("by.a"),
        20,
        0x0,
        "0d0001006761746577726974000000000900020062792e61000000000800030000000001",
    ),
    (
        "add chain inet gatewrit forward { type filter hook forward priority -10; policy accept; }",
        AddChain(Chain("forward", (), Hook("forward", -10))),
        3,
        0x600,
        (
            "0d0001006761746577726974000000000c000300666f72776172640014000480080001000000000208000200fffffff60800"
            "0500000000010b00070066696c7465720000"
        ),
    ),
    (
        'add chain inet gatewrit c { comment "a b"; }',
        AddChain(Chain("c", (), comment="a b")),
        3,
        0x600,
        "0d00010067617465777269740000000006000300630000000a000c000004612062000000",
    ),
    (
        "flush chain inet gatewrit c",
        FlushChain("c"),
        8,
        0x0,
        "0d0001006761746577726974000000000600020063000000",
    ),
    (
        "delete chain inet gatewrit c",
        DeleteChain("c"),
        5,
        0x0,
        "0d0001006761746577726974000000000600030063000000",
    ),
    (
        "delete rule inet gatewrit c handle 21",
        DeleteRule("c", 21),
        8,
        0x0,
        "0d00010067617465777269740000000006000200630000000c0003000000000000000015",
    ),
    (
        "add rule inet gatewrit forward jump c",
        AddRule("forward", Rule((Verdict("jump", "c"),))),
        6,
        0xC00,
        (
            "0d0001006761746577726974000000000c000200666f7277617264003c000480380001800e000100696d6d65646961746500"
            "0000240002800800010000000000180002801400028008000100fffffffd0600020063000000"
        ),
    ),
    (
        'add rule inet gatewrit c meta l4proto . th dport @ports goto d comment "the gate"',
        AddRule("c", Rule((InSet((L4PROTO, DPORT), "ports"), Verdict("goto", "d")), "the gate")),
        6,
        0xC00,
        (
            "0d0001006761746577726974000000000600020063000000c400048024000180090001006d65746100000000140002800800"
            "0200000000100800010000000001340001800c0001007061796c6f6164002400028008000100000000090800020000000002"
            "08000300000000020800040000000002300001800b0001006c6f6f6b75700000200002800a000100706f7274730000000800"
            "0200000000010800050000000000380001800e000100696d6d65646961746500000024000280080001000000000018000280"
            "1400028008000100fffffffc06000200640000000f000700000974686520676174650000"
        ),
    ),
    (
        "add rule inet gatewrit c ip daddr vmap @to4",
        AddRule("c", Rule((ByMap((IP_DADDR,), "to4"),))),
        6,
        0xC00,
        (
            "0d0001006761746577726974000000000600020063000000bc00048024000180090001006d65746100000000140002800800"
            "02000000000f08000100000000012c00018008000100636d700020000280080001000000000108000200000000000c000380"
            "0500010002000000340001800c0001007061796c6f6164002400028008000100000000010800020000000001080003000000"
            "00100800040000000004340001800b0001006c6f6f6b757000002400028008000100746f3400080002000000000108000300"
            "000000000800050000000000"
        ),
    ),
    (
        "add rule inet gatewrit c ip6 saddr vmap @to6",
        AddRule("c", Rule((ByMap((IP6_SADDR,), "to6"),))),
        6,
        0xC00,
        (
            "0d0001006761746577726974000000000600020063000000bc00048024000180090001006d65746100000000140002800800"
            "02000000000f08000100000000012c00018008000100636d700020000280080001000000000108000200000000000c000380"
            "050001000a000000340001800c0001007061796c6f6164002400028008000100000000010800020000000001080003000000"
            "00080800040000000010340001800b0001006c6f6f6b757000002400028008000100746f3600080002000000000108000300"
            "000000000800050000000000"
        ),
    ),
    (
        'add rule inet gatewrit c meta time < 1448841600 counter name by.a drop comment "a"',
        AddRule("c", Rule((Before(1448841600), Count("by.a"), Verdict("drop")), "a")),
        6,
        0xC00,
        (
            "0d0001006761746577726974000000000600020063000000f000048024000180090001006d65746100000000140002800800"
            "02000000001e0800010000000001400001800e000100627974656f726465720000002c000280080001000000000108000200"
            "000000010800030000000001080004000000000808000500000000083000018008000100636d700024000280080001000000"
            "00010800020000000002100003800c000100141b51c247cf0000280001800b0001006f626a72656600001800028008000100"
            "000000010900020062792e6100000000300001800e000100696d6d6564696174650000001c00028008000100000000001000"
            "02800c00028008000100000000000800070000026100"
        ),
    ),
    (
        "add rule inet gatewrit c meta time < 1448841600 return",
        AddRule("c", Rule((Before(1448841600), Verdict("return")))),
        6,
        0xC00,
        (
            "0d0001006761746577726974000000000600020063000000c800048024000180090001006d65746100000000140002800800"
            "02000000001e0800010000000001400001800e000100627974656f726465720000002c000280080001000000000108000200"
            "000000010800030000000001080004000000000808000500000000083000018008000100636d700024000280080001000000"
            "00010800020000000002100003800c000100141b51c247cf0000300001800e000100696d6d6564696174650000001c000280"
            "0800010000000000100002800c00028008000100fffffffb"
        ),
    ),
    (
        "add rule inet gatewrit c meta l4proto tcp reject with tcp reset",
        AddRule("c", Rule((ProtocolIs(6), Reject(reset=True)))),
        6,
        0xC00,
        (
            "0d00010067617465777269740000000006000200630000007800048024000180090001006d65746100000000140002800800"
            "02000000001008000100000000012c00018008000100636d700020000280080001000000000108000200000000000c000380"
            "0500010006000000240001800b00010072656a65637400001400028008000100000000010500020000000000"
        ),
    ),
    (
        "add rule inet gatewrit c reject with icmpx admin-prohibited",
        AddRule("c", Rule((Reject(reset=False),))),
        6,
        0xC00,
        (
            "0d000100676174657772697400000000060002006300000028000480240001800b00010072656a6563740000140002800800"
            "0100000000020500020003000000"
        ),
    ),
    (
        "add map inet gatewrit to4 { type ipv4_addr : verdict; flags interval; }",
        AddSet(TO4),
        9,
        0x600,
        (
            "0d00010067617465777269740000000008000200746f3400080003000000000c080004000000000708000500000000040800"
            "0a000000000108000600ffffff000800070000000010"
        ),
    ),
    (
        "add set inet gatewrit to6 { type ipv6_addr; flags interval; }",
        AddSet(TO6),
        9,
        0x600,
        (
            "0d00010067617465777269740000000008000200746f36000800030000000004080004000000000808000500000000100800"
            "0a0000000001"
        ),
    ),
    (
        "add set inet gatewrit ports { type inet_proto . inet_service; }",
        AddSet(PORTS),
        9,
        0x600,
        (
            "0d0001006761746577726974000000000a000200706f7274730000000800030000000000080004000000030d080005000000"
            "000808000a0000000001"
        ),
    ),
    (
        'add map inet gatewrit ranges { type inet_proto . inet_service : verdict; flags interval; comment "a"; }',
        AddSet(RANGES),
        9,
        0x600,
        (
            "0d0001006761746577726974000000000b00020072616e6765730000080003000000008c080004000000030d080005000000"
            "000808000a000000000108000600ffffff000800070000000010200009801c0002800c00018008000100000000010c000180"
            "080001000000000208000d0007026100"
        ),
    ),
    (
        "delete set inet gatewrit to4",
        DeleteSet("to4"),
        11,
        0x0,
        "0d00010067617465777269740000000008000200746f3400",
    ),
    (
        "add element inet gatewrit to4 { 10.0.0.0/24 : goto c }",
        AddElements(TO4, Elements.of(4, [(bytes([10, 0, 0, 0]), bytes([10, 0, 0, 255]), GO)])),
        12,
        0x600,
        (
            "0d00010067617465777269740000000008000200746f340044000380280001800c000180080001000a000000180002801400"
            "028008000100fffffffc06000200630000001800018008000300000000010c000180080001000a000100"
        ),
    ),
    (
        "add element inet gatewrit to4 { 255.255.255.0/24 : goto c }",
        AddElements(TO4, Elements.of(4, [(bytes([255, 255, 255, 0]), bytes([255] * 4), GO)])),
        12,
        0x600,
        (
            "0d00010067617465777269740000000008000200746f34002c000380280001800c00018008000100ffffff00180002801400"
            "028008000100fffffffc0600020063000000"
        ),
    ),
    (
        "delete element inet gatewrit to4 { 10.0.0.0/24 : goto c }",
        DeleteElements(TO4, Elements.of(4, [(bytes([10, 0, 0, 0]), bytes([10, 0, 0, 255]), GO)])),
        14,
        0x0,
        (
            "0d00010067617465777269740000000008000200746f340044000380280001800c000180080001000a000000180002801400"
            "028008000100fffffffc06000200630000001800018008000300000000010c000180080001000a000100"
        ),
    ),
    (
        "add element inet gatewrit to6 { 2607::/16 }",
        AddElements(TO6, Elements.of(16, [(b"\x26\x07" + bytes(14), b"\x26\x07" + bytes([255] * 14), None)])),
        12,
        0x600,
        (
            "0d00010067617465777269740000000008000200746f3600440003801c000180180001801400010026070000000000000000"
            "000000000000240001800800030000000001180001801400010026080000000000000000000000000000"
        ),
    ),
    (
        "add element inet gatewrit ports { tcp . 3101 }",
        AddElements(PORTS, Elements.of(8, [(TCP_3101, TCP_3101, None)])),
        12,
        0x600,
        ("0d0001006761746577726974000000000a000200706f7274730000001800038014000180100001800c000100060000000c1d0000"),
    ),
    (
        "add element inet gatewrit ranges { tcp . 3101-3200 : goto c }",
        AddElements(RANGES, Elements.of(8, [(TCP_3101, TCP_3200, GO)])),
        12,
        0x600,
        (
            "0d0001006761746577726974000000000b00020072616e6765730000400003803c000180100001800c000100060000000c1d"
            "0000180002801400028008000100fffffffc060002006300000010000a800c000100060000000c800000"
        ),
    ),
]


@pytest.mark.parametrize(("command", "operation", "kind", "flags", "payload"), CASES, ids=[case[0] for case in CASES])
def test_bytes_of(command: str, operation: Operation, kind: int, flags: int, payload: str) -> None:
    assert str(Transaction((operation,))) == command + "\n"
    assert list(encode(operation)) == [Message(kind, bytes.fromhex(payload), flags)]
