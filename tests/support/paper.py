"""Packets judged on paper, twice: by the policies as they are written, and by the rules as the kernel would run them.

The two share no code with each other or with the compiler. `by_policies` reads the contract's section 2 word by word;
`by_rules` is a small machine for the kernel's own expressions.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from gatewrit.compile.surroundings import ALONE
from gatewrit.kernel import expressions as nf
from gatewrit.policy.terms import Action, Direction, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gatewrit.compile.surroundings import Surroundings
    from gatewrit.kernel.elements import Verdict
    from gatewrit.kernel.transaction import Actual
    from gatewrit.policy.model import Policy, Transport
    from gatewrit.policy.terms import Family


@dataclass(frozen=True)
class Packet:
    """One packet as far as our rules look.

    `sport` and `dport` are None in a later fragment; the kernel's quick way to load them then takes what stands there:
    `litter`, as both ports, and as the ICMPv6 type. `iif` and `oif` are the interfaces that it comes in and goes out
    by; `sdif` is the member by which it came into the VRF that `iif` then is.
    """

    family: Family
    source: int
    destination: int
    protocol: int
    sport: int | None = None
    dport: int | None = None
    icmp_type: int = 0
    litter: int = 3101
    iif: str = ""
    oif: str = ""
    sdif: str = ""

    @property
    def later_fragment(self) -> bool:
        return self.sport is None

    def seen_at(self, hook: str) -> Packet:
        """Give what of its interfaces a hook knows."""
        if hook == "output":
            return replace(self, iif="", sdif="")
        if hook == "prerouting":
            # Before the VRF's device takes it: the packet is then seen once more, coming from that.
            return replace(self, oif="", sdif="")
        return replace(self, oif="") if hook == "input" else self


@dataclass
class Fate:
    """What became of it, and whom it was counted for."""

    verdict: str = "pass"
    counts: Counter[str] = field(default_factory=Counter)


_ENDS = {"forward": "to from", "prerouting": "to from", "input": "from", "output": "to"}


def by_policies(policies: Iterable[Policy], packet: Packet, hook: str, now: int, around: Surroundings = ALONE) -> Fate:
    """Judge a packet by the policies alone, on a gateway with these surroundings."""
    fate = Fate()
    packet = packet.seen_at(hook)
    peer = {"input": packet.source, "output": packet.destination}.get(hook)
    if peer is not None and _covers(around.spared, packet.family, peer):
        return fate
    discovers = packet.family == 6 and packet.protocol == 58 and 133 <= packet.icmp_type <= 137
    if discovers and not packet.later_fragment:
        return fate
    for end in _ENDS[hook].split():
        hits = [policy for policy in policies if _matches(policy, packet, end, now, around)]
        fate.counts.update(policy.id for policy in hits)
        actions = {policy.block.action for policy in hits}
        if Action.DROP in actions:
            fate.verdict = "drop"
        elif Action.REJECT in actions:
            answer = "reset" if packet.protocol == 6 else "prohibited"
            fate.verdict = answer if end == "to" else "drop"
        if fate.verdict != "pass":
            return fate
    return fate


def _matches(policy: Policy, packet: Packet, end: str, now: int, around: Surroundings) -> bool:
    if policy.state is not State.ACTIVE or policy.block.direction not in {Direction(end), Direction.BOTH}:
        return False
    effective = policy.effective
    if now < effective.start.epoch or (effective.until is not None and now >= effective.until.epoch):
        return False
    address, port = (packet.destination, packet.dport) if end == "to" else (packet.source, packet.sport)
    other = packet.source if end == "to" else packet.destination

    def covers(parts: Iterable[object], address: int) -> bool:
        return any(_covers(parts, *way) for way in _ways(packet.family, address, around))

    if covers(policy.exceptions.prefixes, address) or covers(policy.exceptions.sources, other):
        return False
    if policy.scope.sources is not None and not covers(policy.scope.sources, other):
        return False
    if policy.scope.interfaces is not None and not _passes(policy.scope.interfaces, packet, end, around):
        return False
    return any(
        _carries(transport, packet, port) and covers(endpoint.ranges, address)
        for service in policy.services.values()
        for endpoint in service.endpoints
        for transport in endpoint.transports
    )


def _passes(interfaces: Iterable[str], packet: Packet, end: str, around: Surroundings) -> bool:
    """Say whether a packet goes out (`to`) or comes in (`from`) by one of these, or by a VRF of whose it is."""
    used = {packet.iif, packet.sdif}
    if end == "to":
        used = {packet.oif, *(device for device, members in around.masters.items() if packet.oif in members)}
    return any(fnmatchcase(name, interface) for name in used if name for interface in interfaces)


def _ways(family: Family, address: int, around: Surroundings) -> list[tuple[Family, int]]:
    """Give what an address is: itself, and the IPv4 address that a NAT64 would make of it (RFC 6052, 2.2)."""
    ways = [(family, address)]
    octets = address.to_bytes(16, "big")
    for part in around.nat64 if family == 6 else ():
        for first, last in zip(part.first.tolist(), part.last.tolist(), strict=True):
            low, high = (first[0] << 64) + first[1], (last[0] << 64) + last[1]
            if not low <= address <= high:
                continue
            length = 128 - (high - low).bit_length()
            behind = octets[length // 8 :]
            if 40 <= length <= 64:
                # The octet at bits 64 to 71 is zero, and no part of the address.
                at = 8 - length // 8
                if behind[at]:
                    continue
                behind = behind[:at] + behind[at + 1 :]
            ways.append((4, int.from_bytes(behind[:4], "big")))
    return ways


def _carries(transport: Transport, packet: Packet, port: int | None) -> bool:
    if transport.protocol is None:
        return True
    wanted = 58 if transport.protocol == 1 and packet.family == 6 else transport.protocol
    if packet.protocol != wanted:
        return False
    if transport.first is None or transport.last is None:
        return True
    return port is not None and transport.first <= port <= transport.last


def _covers(parts: Iterable[object], family: Family, address: int) -> bool:
    for part in parts:
        if part.family != family:  # type: ignore[attr-defined]
            continue
        for first, last in zip(part.first.tolist(), part.last.tolist(), strict=True):  # type: ignore[attr-defined]
            low, high = (first, last) if family == 4 else ((first[0] << 64) + first[1], (last[0] << 64) + last[1])
            if low <= address <= high:
                return True
    return False


def by_rules(actual: Actual, counters: Mapping[str, Sequence[str]], packet: Packet, hook: str, now: int) -> Fate:
    """Run a packet through the table as the kernel would, one base chain on the hook."""
    machine = _Machine(actual, packet.seen_at(hook), now * 1_000_000_000)
    verdict = machine.run(hook)
    fate = Fate("pass" if verdict == "accept" else verdict)
    for name in machine.counted:
        fate.counts.update(counters[name])
    return fate


def rules_met(actual: Actual, packet: Packet, hook: str, now: int) -> int:
    """Count the rules that are evaluated for a packet, however far each of them gets."""
    machine = _Machine(actual, packet.seen_at(hook), now * 1_000_000_000)
    machine.run(hook)
    return machine.met


class _Break(Exception):  # noqa: N818 - the kernel's own word: this rule is over, the next one goes on
    pass


class _Machine:
    """The kernel's rule evaluation (net/netfilter/nf_tables_core.c) for the expressions that we use."""

    def __init__(self, actual: Actual, packet: Packet, now_ns: int) -> None:
        self.actual = actual
        self.packet = packet
        self.now = now_ns
        self.counted: list[str] = []
        self.hook = ""
        self.met = 0

    def run(self, base: str) -> str:
        self.hook = base
        stack: list[tuple[str, int]] = []
        chain, at = base, 0
        while True:
            rules = self.actual.chains[chain].rules
            if at >= len(rules):
                if not stack:
                    return "accept"
                chain, at = stack.pop()
                continue
            self.met += 1
            verdict = self._rule(rules[at].expressions)
            at += 1
            if verdict is None:
                continue
            if isinstance(verdict, str):
                return verdict
            if verdict.kind == "return":
                if not stack:
                    return "accept"
                chain, at = stack.pop()
            elif verdict.kind in {"jump", "goto"}:
                assert verdict.chain is not None
                if verdict.kind == "jump":
                    stack.append((chain, at))
                chain, at = verdict.chain, 0
            else:
                return verdict.kind

    def _rule(self, expressions: tuple[nf.Expression, ...]) -> Verdict | str | None:  # noqa: C901, PLR0912 - one arm each
        registers = bytearray(64)
        verdict: Verdict | None = None
        for part in expressions:
            try:
                match part:
                    case nf.Meta() | nf.Payload() | nf.ExtensionHeader():
                        value = self._load(part)
                        start = _offset(part.register)
                        registers[start : start + len(value)] = value
                    case nf.Byteorder():
                        pass  # _load gives network order already
                    case nf.Bitwise(mask, xor, register):
                        start = _offset(register)
                        held = registers[start : start + len(mask)]
                        result = (each & keep ^ flip for each, keep, flip in zip(held, mask, xor, strict=True))
                        registers[start : start + len(mask)] = bytes(result)
                    case nf.Cmp(op, data, register):
                        start = _offset(register)
                        held = bytes(registers[start : start + len(data)])
                        if not _holds(op, held, data):
                            return None
                    case nf.Lookup(name, wants_verdict, register, flags):
                        found = self._look_up(name, registers, register)
                        if (found is None) is not bool(flags & nf.LOOKUP_INVERTED):
                            return None
                        verdict = found[0] if wants_verdict and found else verdict
                    case nf.CounterRef(name):
                        self.counted.append(name)
                    case nf.Immediate(said):
                        verdict = said
                    case nf.Reject(kind, _):
                        return "reset" if kind == nf.REJECT_TCP_RST else "prohibited"
                    case _:
                        raise AssertionError(part)
            except _Break:
                return None
        return verdict

    def _load(self, part: nf.Meta | nf.Payload | nf.ExtensionHeader) -> bytes:  # noqa: PLR0911 - as it comes
        packet = self.packet
        if isinstance(part, nf.ExtensionHeader):
            assert packet.family == 6
            if part.flags == nf.EXTHDR_PRESENT:
                return bytes([packet.later_fragment])
            if not packet.later_fragment:
                raise _Break
            return (1480).to_bytes(2, "big")
        if isinstance(part, nf.Meta):
            return {
                nf.META_L4PROTO: lambda: bytes([packet.protocol, 0, 0, 0]),
                nf.META_NFPROTO: lambda: bytes([nf.NFPROTO_IPV4 if packet.family == 4 else nf.NFPROTO_IPV6]),
                nf.META_TIME_NS: lambda: self.now.to_bytes(8, "big"),
                nf.META_IIFNAME: lambda: packet.iif.encode().ljust(16, b"\0"),
                nf.META_OIFNAME: lambda: packet.oif.encode().ljust(16, b"\0"),
                nf.META_SDIFNAME: self._member,
            }[part.key]()
        if part.base == nf.NETWORK_HEADER:
            if part.length == 2:
                assert (packet.family, part.offset) == (4, 6)
                return (185 if packet.later_fragment else 0x4000).to_bytes(2, "big")
            width = 4 if packet.family == 4 else 16
            assert part.length == width
            source_at = 12 if packet.family == 4 else 8
            address = packet.source if part.offset == source_at else packet.destination
            return address.to_bytes(width, "big")
        if packet.sport is None or packet.dport is None:
            return (packet.litter % 256).to_bytes(1, "big") if part.length == 1 else _port(packet.litter)
        if part.length == 1:
            return bytes([packet.icmp_type])
        return _port(packet.sport if part.offset == 0 else packet.dport)

    def _member(self) -> bytes:
        # The kernel refuses rules that ask for it elsewhere (nft_meta_get_validate_sdif).
        assert self.hook in {"forward", "input"}
        return self.packet.sdif.encode().ljust(16, b"\0")

    def _look_up(self, name: str, registers: bytearray, register: int) -> tuple[Verdict | None] | None:
        elements = self.actual.sets[name].elements
        start = _offset(register)
        key = bytes(registers[start : start + elements.width])
        if len(self.actual.sets[name].spec.key) > 1:
            for first, last, verdict in elements.rows():
                if _within(key, first, last):
                    return (verdict,)
            return None
        # Sorted and disjoint, so only the last one that begins before it can hold it.
        at = int(np.searchsorted(elements.first, np.bytes_(key), "right")) - 1
        # NumPy drops the NULs at the end of a single key.
        if at < 0 or key > bytes(elements.last[at]).ljust(elements.width, b"\0"):
            return None
        return (elements.verdicts[int(elements.verdict[at])] if elements.verdicts else None,)


def _holds(op: int, held: bytes, data: bytes) -> bool:
    return {
        nf.CMP_EQ: held == data,
        nf.CMP_NEQ: held != data,
        nf.CMP_LT: held < data,
        nf.CMP_LTE: held <= data,
        nf.CMP_GT: held > data,
        nf.CMP_GTE: held >= data,
    }[op]


def _port(number: int) -> bytes:
    return number.to_bytes(2, "big") + bytes(2)


def _within(key: bytes, first: bytes, last: bytes) -> bool:
    """Say whether a concatenated key is in a range: field by field, as pipapo does."""
    return all(first[at : at + 4] <= key[at : at + 4] <= last[at : at + 4] for at in range(0, len(key), 4))


def _offset(register: int) -> int:
    return (register - 1) * 16 if register < 8 else (register - 8) * 4
