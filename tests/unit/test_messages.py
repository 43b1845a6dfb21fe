"""Our own nf_tables messages, byte by byte: each is the nft command in its caption.

That the kernel understands the two alike is shown in tests/kernel/test_second_opinion.py; here nothing may move unseen.
"""

from __future__ import annotations

import pytest

from gatewrit.kernel import expressions, wire
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.messages import Answers, Message, decode, encode, tenure
from gatewrit.kernel.ruleset import (
    DPORT,
    ICMPV6_TYPE,
    IP6_DADDR,
    IP6_SADDR,
    IP_DADDR,
    IPV4,
    IPV6,
    L4PROTO,
    PORT,
    PROTOCOL,
    SPORT,
    Before,
    ByMap,
    Chain,
    Count,
    Counter,
    Hook,
    InSet,
    LaterFragment,
    Masked,
    PortIs,
    ProtocolIs,
    Reject,
    Rule,
    SetSpec,
    Unfragmented,
)
from gatewrit.kernel.transaction import (
    AddChain,
    AddCounter,
    AddElements,
    AddRule,
    AddSet,
    AddTable,
    AdoptTable,
    DeleteChain,
    DeleteCounter,
    DeleteElements,
    DeleteRule,
    DeleteSet,
    DeleteTable,
    FlushChain,
    Operation,
    Tenure,
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
        'add table inet gatewrit { flags owner, persist; comment "service-block orders; see: gatewrit status"; }',
        AddTable(owned=True),
        0,
        0x600,
        (
            "0d000100676174657772697400000000080002000000000631000600002b736572766963652d626c6f636b206f7264657273"
            "3b207365653a2067617465777269742073746174757300000000"
        ),
    ),
    (
        "add table inet gatewrit { flags owner, persist; }",
        AdoptTable(),
        0,
        0x0,
        "0d0001006761746577726974000000000800020000000006",
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
        "add rule inet gatewrit c ip frag-off & 8191 != 0 return",
        AddRule("c", Rule((LaterFragment(2), Verdict("return")))),
        6,
        0xC00,
        (
            "0d00010067617465777269740000000006000200630000002801048024000180090001006d65746100000000140002800800"
            "02000000000f08000100000000012c00018008000100636d700020000280080001000000000108000200000000000c000380"
            "0500010002000000340001800c0001007061796c6f6164002400028008000100000000010800020000000001080003000000"
            "00060800040000000002440001800c0001006269747769736500340002800800010000000001080002000000000108000300"
            "000000020c000480060001001fff00000c00058006000100000000002c00018008000100636d700020000280080001000000"
            "000108000200000000010c0003800600010000000000300001800e000100696d6d6564696174650000001c00028008000100"
            "00000000100002800c00028008000100fffffffb"
        ),
    ),
    (
        "add rule inet gatewrit c frag frag-off != 0 return",
        AddRule("c", Rule((LaterFragment(10), Verdict("return")))),
        6,
        0xC00,
        (
            "0d00010067617465777269740000000006000200630000003001048024000180090001006d65746100000000140002800800"
            "02000000000f08000100000000012c00018008000100636d700020000280080001000000000108000200000000000c000380"
            "050001000a0000003c0001800b00010065787468647200002c0002800800010000000001050002002c000000080003000000"
            "000208000400000000020800050000000000440001800c000100626974776973650034000280080001000000000108000200"
            "0000000108000300000000020c00048006000100fff800000c00058006000100000000002c00018008000100636d70002000"
            "0280080001000000000108000200000000010c0003800600010000000000300001800e000100696d6d656469617465000000"
            "1c0002800800010000000000100002800c00028008000100fffffffb"
        ),
    ),
    (
        "add rule inet gatewrit c icmpv6 type @nd exthdr frag missing return",
        AddRule("c", Rule((InSet((ICMPV6_TYPE,), "nd"), Unfragmented(), Verdict("return")))),
        6,
        0xC00,
        (
            "0d00010067617465777269740000000006000200630000009c01048024000180090001006d65746100000000140002800800"
            "02000000000f08000100000000012c00018008000100636d700020000280080001000000000108000200000000000c000380"
            "050001000a00000024000180090001006d6574610000000014000280080002000000001008000100000000012c0001800800"
            "0100636d700020000280080001000000000108000200000000000c000380050001003a000000340001800c0001007061796c"
            "6f6164002400028008000100000000010800020000000002080003000000000008000400000000012c0001800b0001006c6f"
            "6f6b757000001c000280070001006e640000080002000000000108000500000000003c0001800b0001006578746864720000"
            "2c0002800800010000000001050002002c0000000800030000000000080004000000000108000500000000012c0001800800"
            "0100636d700020000280080001000000000108000200000000000c0003800500010000000000300001800e000100696d6d65"
            "64696174650000001c0002800800010000000000100002800c00028008000100fffffffb"
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
        "add rule inet gatewrit c ip daddr & 255.255.255.0 != @b4 return",
        AddRule("c", Rule((InSet((Masked(IP_DADDR, 24),), "b4", inverted=True), Verdict("return")))),
        6,
        0xC00,
        (
            "0d00010067617465777269740000000006000200630000002801048024000180090001006d65746100000000140002800800"
            "02000000000f08000100000000012c00018008000100636d700020000280080001000000000108000200000000000c000380"
            "0500010002000000340001800c0001007061796c6f6164002400028008000100000000010800020000000001080003000000"
            "00100800040000000004440001800c0001006269747769736500340002800800010000000001080002000000000108000300"
            "000000040c00048008000100ffffff000c00058008000100000000002c0001800b0001006c6f6f6b757000001c0002800700"
            "01006234000008000200000000010800050000000001300001800e000100696d6d6564696174650000001c00028008000100"
            "00000000100002800c00028008000100fffffffb"
        ),
    ),
    (
        "add rule inet gatewrit c ip6 saddr & ffff:ffff:: @b6 drop",
        AddRule("c", Rule((InSet((Masked(IP6_SADDR, 32),), "b6"), Verdict("drop")))),
        6,
        0xC00,
        (
            "0d00010067617465777269740000000006000200630000004001048024000180090001006d65746100000000140002800800"
            "02000000000f08000100000000012c00018008000100636d700020000280080001000000000108000200000000000c000380"
            "050001000a000000340001800c0001007061796c6f6164002400028008000100000000010800020000000001080003000000"
            "000808000400000000105c0001800c00010062697477697365004c0002800800010000000001080002000000000108000300"
            "000000101800048014000100ffffffff00000000000000000000000018000580140001000000000000000000000000000000"
            "00002c0001800b0001006c6f6f6b757000001c00028007000100623600000800020000000001080005000000000030000180"
            "0e000100696d6d6564696174650000001c0002800800010000000000100002800c0002800800010000000000"
        ),
    ),
    (
        "add rule inet gatewrit c ip daddr & 255.255.255.254 vmap @v4",
        AddRule("c", Rule((ByMap((Masked(IP_DADDR, 31),), "v4"),))),
        6,
        0xC00,
        (
            "0d00010067617465777269740000000006000200630000000001048024000180090001006d65746100000000140002800800"
            "02000000000f08000100000000012c00018008000100636d700020000280080001000000000108000200000000000c000380"
            "0500010002000000340001800c0001007061796c6f6164002400028008000100000000010800020000000001080003000000"
            "00100800040000000004440001800c0001006269747769736500340002800800010000000001080002000000000108000300"
            "000000040c00048008000100fffffffe0c0005800800010000000000340001800b0001006c6f6f6b75700000240002800700"
            "010076340000080002000000000108000300000000000800050000000000"
        ),
    ),
    (
        "add rule inet gatewrit c ip6 daddr & ffff:ffff:ffff:: vmap @v6",
        AddRule("c", Rule((ByMap((Masked(IP6_DADDR, 48),), "v6"),))),
        6,
        0xC00,
        (
            "0d00010067617465777269740000000006000200630000001801048024000180090001006d65746100000000140002800800"
            "02000000000f08000100000000012c00018008000100636d700020000280080001000000000108000200000000000c000380"
            "050001000a000000340001800c0001007061796c6f6164002400028008000100000000010800020000000001080003000000"
            "001808000400000000105c0001800c00010062697477697365004c0002800800010000000001080002000000000108000300"
            "000000101800048014000100ffffffffffff0000000000000000000018000580140001000000000000000000000000000000"
            "0000340001800b0001006c6f6f6b757000002400028007000100763600000800020000000001080003000000000008000500"
            "00000000"
        ),
    ),
    (
        "add rule inet gatewrit c meta l4proto tcp th dport 3101 drop",
        AddRule("c", Rule((PortIs(6, DPORT, 3101, 3101), Verdict("drop")))),
        6,
        0xC00,
        (
            "0d0001006761746577726974000000000600020063000000e400048024000180090001006d65746100000000140002800800"
            "02000000001008000100000000012c00018008000100636d700020000280080001000000000108000200000000000c000380"
            "0500010006000000340001800c0001007061796c6f6164002400028008000100000000010800020000000002080003000000"
            "000208000400000000022c00018008000100636d700020000280080001000000000108000200000000000c00038006000100"
            "0c1d0000300001800e000100696d6d6564696174650000001c0002800800010000000000100002800c000280080001000000"
            "0000"
        ),
    ),
    (
        "add rule inet gatewrit c meta l4proto udp th sport 5060-5061 drop",
        AddRule("c", Rule((PortIs(17, SPORT, 5060, 5061), Verdict("drop")))),
        6,
        0xC00,
        (
            "0d00010067617465777269740000000006000200630000001001048024000180090001006d65746100000000140002800800"
            "02000000001008000100000000012c00018008000100636d700020000280080001000000000108000200000000000c000380"
            "0500010011000000340001800c0001007061796c6f6164002400028008000100000000010800020000000002080003000000"
            "000008000400000000022c00018008000100636d700020000280080001000000000108000200000000050c00038006000100"
            "13c400002c00018008000100636d700020000280080001000000000108000200000000030c0003800600010013c500003000"
            "01800e000100696d6d6564696174650000001c0002800800010000000000100002800c0002800800010000000000"
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
        "add set inet gatewrit b4 { type ipv4_addr; size 1000000; }",
        AddSet(SetSpec("b4", (IPV4,), interval=False, verdicts=False, size=1_000_000)),
        9,
        0x600,
        (
            "0d00010067617465777269740000000007000200623400000800030000000000080004000000000708000500000000040800"
            "0a00000000010c00098008000100000f4240"
        ),
    ),
    (
        "add set inet gatewrit r { type inet_proto . inet_service; size 100; flags interval; }",
        AddSet(SetSpec("r", (PROTOCOL, PORT), interval=True, verdicts=False, size=100)),
        9,
        0x600,
        (
            "0d00010067617465777269740000000006000200720000000800030000000084080004000000030d08000500000000080800"
            "0a00000000012800098008000100000000641c0002800c00018008000100000000010c0001800800010000000002"
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


OURS = wire.string(1, "gatewrit")
HOOKED = OURS + wire.string(3, "forward")


@pytest.mark.parametrize(
    "lacking",
    [
        {"tables": (OURS,)},
        {"chains": (OURS,)},
        {"chains": (HOOKED + wire.nest(4, wire.be32(2, 0)),)},
        {"rules": (OURS + wire.be64(3, 7),)},
        {"rules": (OURS + wire.string(2, "c"),)},
        {"sets": (OURS,)},
        {"sets": (OURS + wire.string(2, "to4") + wire.be32(4, IPV4.number),)},
        {"objects": (OURS + wire.string(2, "by.a"),)},
        {"objects": (OURS + wire.string(2, "by.a") + wire.be32(3, 1),)},
        {"flowtables": (OURS,)},
    ],
    ids=str,
)
def test_an_answer_that_lacks_something_is_the_one_error(lacking: dict[str, tuple[bytes, ...]]) -> None:
    known = {"tables": (OURS + wire.be64(4, 9),), **lacking}
    with pytest.raises(wire.WireError, match="missing"):
        decode(Answers(1, handles={"to4": 3}, **known))


def test_a_set_whose_elements_may_let_packets_off_is_foreign() -> None:
    """A limit, a quota or a count of connections in a set (NFTA_SET_EXPR) keeps its elements from matching."""
    spec = SetSpec("to4", (IPV4,), interval=True, verdicts=True)
    (made,) = encode(AddSet(spec))
    for acting in (17, 18):
        sets = (made.payload + wire.nest(acting, wire.string(1, "limit")),)
        actual = decode(Answers(1, (OURS + wire.be64(4, 9),), sets=sets, elements={"to4": ()}, handles={"to4": 3}))
        assert (actual.foreign, actual.sets) == (("set to4",), {})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("meta", wire.be64(2, 16) + wire.be32(1, 1)),
        ("reject", wire.be32(1, 2) + wire.be32(2, 3)),
        ("exthdr", wire.be32(1, 1) + wire.be32(2, 44) + wire.be32(3, 0) + wire.be32(4, 1)),
    ],
)
def test_a_number_of_another_width_is_not_taken_for_ours(name: str, data: bytes) -> None:
    payload = wire.nest(1, wire.string(1, name), wire.nest(2, data))
    assert expressions.decode(payload) == (expressions.Unknown(name, data),)


def named(name: str, flags: int, owner: int | None = None) -> bytes:
    return wire.string(1, name) + wire.be32(2, flags) + (b"" if owner is None else wire.be32(7, owner))


@pytest.mark.parametrize(
    ("tables", "owning", "expected"),
    [
        ([], True, (Tenure.OURS, None)),
        ([], False, (Tenure.OPEN, None)),
        ([named("other", 6, 9)], True, (Tenure.OURS, None)),
        ([named("gatewrit", 6, 7)], True, (Tenure.OURS, None)),
        ([named("gatewrit", 6, 7)], False, (Tenure.OURS, None)),
        ([named("gatewrit", 6, 9)], True, (Tenure.HELD, 9)),
        ([named("gatewrit", 2, 9)], False, (Tenure.HELD, 9)),
        ([named("other", 6, 9), named("gatewrit", 4)], True, (Tenure.ORPHANED, None)),
        ([named("gatewrit", 4)], False, (Tenure.OPEN, None)),
        ([named("gatewrit", 0)], True, (Tenure.PLAIN, None)),
        ([named("gatewrit", 0)], False, (Tenure.OPEN, None)),
    ],
)
def test_whose_the_table_is(tables: list[bytes], *, owning: bool, expected: tuple[Tenure, int | None]) -> None:
    assert tenure(tables, 7, owning=owning) == expected
