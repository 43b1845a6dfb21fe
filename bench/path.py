"""Rows about the packet path: what a forwarded packet that matches nothing costs more, by configuration and size."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench import lists, rivals
from bench.daemon import LIMITS, PATIENCE
from bench.measure import Failed, timed
from bench.misses import others
from bench.packets import BARE, FLOOR, Street
from support.gateway import clean_environment, gateway_in, policy, program, service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.asked import Asked
    from bench.lists import Made
    from bench.measure import Table
    from lab import Namespace

#: Destinations that are sent to; and few of them, which fit into the caches with all that is looked up for them.
_POOL, _FEW = 1 << 18, 1 << 12
#: As many as trafgen takes in without ado.
_TRAFGEN_POOL = 4096
#: Prefixes of each of many policies.
_EACH = 10
#: What nothing can undercut that looks at packets by nftables.
_LEAST = {"nft, an empty chain": "", "nft, a chain with the rule `tcp dport 3101 drop`": "tcp dport 3101 drop"}
_TARGETS = {"ports": 5.0, "hosts": 15.0, "mixed": 25.0}


class Said(NamedTuple):
    """What rows are about."""

    key: str
    what: str
    target: float | None = None


# -- configurations ---------------------------------------------------------------------------------------------------


def gatewrit(space: Namespace, made: Made, ports: str = "any", policies: int = 1) -> None:
    """Load a list with `gatewrit apply`, as one policy or shared out among many, and leave it there."""
    with tempfile.TemporaryDirectory() as folder, gateway_in(space, Path(folder), limits=LIMITS) as gateway:
        for number in range(policies):
            name = f"order-{number:05}"
            own = lists.Made(made.name, made.what, made.family, made.entries[number::policies])
            own.write(gateway.services / f"{name}.txt")
            gateway.write(f"services/{name}.yaml", service(name, (f"{name}.txt", ports)))
            gateway.write(f"{name}.yaml", policy(name, name) + "allow_wide: to be measured\n")
        args = [*program(), "apply", "--config", str(gateway.config)]
        timed(space, args, limit=PATIENCE, env=clean_environment())


def nft(space: Namespace, made: Made) -> None:
    """Load a list into one interval set of nft."""
    with tempfile.TemporaryDirectory() as folder:
        rivals.nft(space, rivals.write_nft(made, Path(folder, "nft")))


def ipset(space: Namespace, made: Made) -> None:
    """Load a list into an ipset, and look forwarded packets up in it."""
    with tempfile.TemporaryDirectory() as folder:
        rivals.ipset(space, rivals.write_ipset(made, Path(folder, "ipset")))
    rivals.ipset_rule(space, made.family)


def _chain(space: Namespace, rule: str) -> None:
    """Load a chain with no more than one rule: what can't be undercut."""
    space.nft(
        f"table inet least {{ chain forward {{ type filter hook forward priority -10; policy accept; {rule}\n}}\n}}\n"
    )


def _plans(asked: Asked, family: int, mixed: Made, hosts: Made) -> Iterator[tuple[str, Callable[[Namespace], None]]]:
    """Give a name for each configuration and what loads it."""
    for size in asked.sizes if family == 4 else (asked.size,):
        head = mixed.head(size)
        yield f"gatewrit mixed {size}", lambda space, head=head: gatewrit(space, head)
        yield f"nft mixed {size}", lambda space, head=head: nft(space, head)
        yield f"ipset mixed {size}", lambda space, head=head: ipset(space, head)
        yield f"gatewrit ports {size}", lambda space, head=head: gatewrit(space, head, "tcp/3101")
    for name, rule in _LEAST.items():
        yield name, lambda space, rule=rule: _chain(space, rule)
    yield f"gatewrit hosts {asked.size}", lambda space: gatewrit(space, hosts)
    if family == 4:
        some = mixed.head(asked.policies * _EACH)
        yield "gatewrit 1 policy", lambda space: gatewrit(space, some)
        yield f"gatewrit {asked.policies} policies", lambda space: gatewrit(space, some, policies=asked.policies)


# -- measuring --------------------------------------------------------------------------------------------------------


def measure(table: Table, asked: Asked, family: int, curves: dict[str, list[list[float]]]) -> None:
    """Load all configurations, each into a gateway of its own, and send through all of them."""
    mixed, hosts = (
        (lists.mixed(asked.size), lists.hosts(asked.size))
        if family == 4
        else (lists.mixed6(asked.size), lists.hosts6(asked.size))
    )
    plans = dict(_plans(asked, family, mixed, hosts))
    with Street(list(plans)) as street:
        loaded = list[str]()
        for name, load in plans.items():
            try:
                load(street[name])
                loaded.append(name)
            except Failed as why:
                table.row(f"path{family}.{name}", f"IPv{family}, {name}", "%", note=str(why))
        pool = others([mixed, hosts], _POOL)
        anywhere = street.measure(family, pool, 3 * asked.rounds, loaded)
        largest = [name for name in loaded if name.endswith(f"mixed {asked.size}")]
        again = [*largest, *(name for name in loaded if "hosts" in name)]
        few = street.measure(family, pool[:_FEW], 2 * asked.rounds, again)
        close = others([mixed, hosts], _POOL, near=True)
        near = street.measure(family, close, 2 * asked.rounds, largest)
        _bare(table, family, anywhere)
        _trafgen(table, asked, street, family, close[:_TRAFGEN_POOL])
    for name in loaded:
        _compare(table, asked, family, name, anywhere)
        who, kind, size = name.rsplit(" ", 2)
        if family == 4 and kind in {"mixed", "ports"}:
            extra = [a - b for a, b in zip(anywhere[name], anywhere[BARE], strict=True)]
            point = [int(size), statistics.median(extra), min(extra), max(extra)]
            curves.setdefault(who if kind == "mixed" else f"{who} {kind}", []).append(point)
    for name in largest:
        where = "the same /24s as entries" if family == 4 else "the same /48s as entries"
        row = Said(f"path{family}.near.{name}", f"IPv{family}, {_said(name)}, destinations in {where}")
        _extra(table, row, near, name)
    for name in again:
        row = Said(f"path{family}.few.{name}", f"IPv{family}, {_said(name)}, {_FEW:,} destinations again and again")
        _extra(table, row, few, name)
    _many(table, asked, family, anywhere)


def _bare(table: Table, family: int, took: dict[str, list[float]]) -> None:
    row = table.row(f"path{family}.bare", f"IPv{family}, nothing loaded: a packet's whole way, sent to dropped", "ns")
    row.values += took[BARE]
    row = table.row(f"path{family}.part", "… the gateway's own part of it", "ns")
    row.values += [a - b for a, b in zip(took[BARE], took[FLOOR], strict=True)]


def _trafgen(table: Table, asked: Asked, street: Street, family: int, numbers: Sequence[int]) -> None:
    """Have Debian's generator say what the bare way costs: the same, or our sender is at fault."""
    row = table.row(f"path{family}.trafgen", "… the whole way with trafgen as the sender, for comparison", "ns")
    try:
        row.values += [street.trafgen(family, numbers) for _ in range(asked.rounds)]
    except Failed as why:
        row.note = str(why)


def _compare(table: Table, asked: Asked, family: int, name: str, took: dict[str, list[float]]) -> None:
    if "polic" in name:
        return
    words = name.split()
    target = _TARGETS[words[1]] if words[0] == "gatewrit" and words[2] == str(asked.size) else None
    _extra(table, Said(f"path{family}.{name}", f"IPv{family}, {_said(name)}", target), took, name)


def _said(name: str) -> str:
    if name in _LEAST:
        return name
    who, what, size = name.split()
    kinds = {"ports": "mixed, limited to a port", "hosts": "single addresses, any port", "mixed": "mixed, any port"}
    return f"{who}, {int(size):,} {kinds[what]}"


def _extra(table: Table, row: Said, took: dict[str, list[float]], name: str) -> None:
    """Add rows of what a packet costs more: in ns, of its whole way, and of the gateway's part."""
    extra = [a - b for a, b in zip(took[name], took[BARE], strict=True)]
    part = [a - b for a, b in zip(took[BARE], took[FLOOR], strict=True)]
    table.row(row.key, f"{row.what}: more per packet", "%", row.target).values += _percent(extra, took[BARE])
    table.row(f"{row.key}.ns", "… in nanoseconds", "ns").values += extra
    table.row(f"{row.key}.share", "… of the gateway's part", "%").values += _percent(extra, part)


def _percent(extra: Sequence[float], whole: Sequence[float]) -> list[float]:
    return [100 * a / b for a, b in zip(extra, whole, strict=True)]


def _many(table: Table, asked: Asked, family: int, took: dict[str, list[float]]) -> None:
    one, many = "gatewrit 1 policy", f"gatewrit {asked.policies} policies"
    if one in took and many in took:
        what = f"{asked.policies:,} policies against 1, same {asked.policies * _EACH:,} prefixes: a packet's whole way"
        table.row(f"path{family}.policies", what, "x", 1.1).values += [
            a / b for a, b in zip(took[many], took[one], strict=True)
        ]
        extras = [[a - b for a, b in zip(took[name], took[BARE], strict=True)] for name in (one, many)]
        for said, extra in zip(("1 policy", f"{asked.policies:,} policies"), extras, strict=True):
            table.row(f"path{family}.policies.{said}", f"… {said}: more per packet", "ns").values += extra
