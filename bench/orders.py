"""How gatewrit bears ten thousand orders: load, change, restart, memory, and what one packet meets.

    make bench-orders [POLICIES=10000 PREFIXES=100000]

The real daemon runs in a network namespace that is made for it. Times are this machine's; the ratios hold elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import statistics
import tempfile
import time
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING

from gatewrit.api import client
from gatewrit.compile.render import compile_policies
from gatewrit.kernel.plan import diff
from gatewrit.policy.model import Transport
from lab import Namespace
from support.fake import FakeKernel
from support.gateway import Gateway, gateway_in, policy, service, until
from support.paper import Packet, rules_met
from support.strategies import simple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatewrit.kernel.transaction import Actual

#: As many questions as are answered at once; more wait, see api/bucket.py.
ASKED = 45
#: Seconds that anything may take on a slow machine.
PATIENCE = 900.0
#: The block that all IPv4 prefixes of the benchmark lie in.
BLOCK = int(IPv4Address("10.0.0.0"))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policies", type=int, default=10_000)
    parser.add_argument("--prefixes", type=int, default=100_000)
    asked = parser.parse_args()
    print(f"{platform.system()} {platform.release()}, Python {platform.python_version()}")
    print(f"{asked.policies:,} policies over {asked.prefixes:,} prefixes, one order in four with an exception\n")
    limits = {"total_share": 0.1}
    with (
        tempfile.TemporaryDirectory() as folder,
        Namespace("gateway") as space,
        gateway_in(space, Path(folder), limits=limits) as gateway,
    ):
        write(gateway, asked.policies, asked.prefixes)
        live(gateway, asked.policies)
    print()
    traverse(asked.policies)


def write(gateway: Gateway, policies: int, prefixes: int) -> None:
    """Write all policy and service files; every sixth prefix is IPv6."""
    dice = random.Random(7)  # noqa: S311 - the same orders every time
    for number in range(policies):
        name = f"order-{number:05}"
        own = list(_prefixes(dice, number, prefixes // policies))
        gateway.write(f"services/{name}.yaml", service(name, (own, f"tcp/{1000 + number % 50}")))
        exception = f"except: {{prefixes: ['{own[0].split('/')[0]}']}}\n" if number % 4 == 0 else ""
        gateway.write(f"{name}.yaml", policy(name, name) + exception)


def _prefixes(dice: random.Random, order: int, number: int) -> Iterator[str]:
    """Give an order's own prefixes; one in ten lies among those of the next order."""
    for at in range(number):
        whose = order + (at % 10 == 9)
        if at % 6 == 5:
            yield f"{IPv6Address((0x20010DB8 << 96) + (whose << 80) + (at << 64))}/{dice.choice([64, 96, 128])}"
        else:
            yield f"{IPv4Address(BLOCK + whose * 1024 + at * 64)}/{dice.choice([26, 28, 30, 32])}"


def live(gateway: Gateway, policies: int) -> None:
    """Measure the real daemon: first load, nothing new, one order more, answers, a restart."""
    began = time.monotonic()
    process = gateway.start(ready=False)
    until(lambda: ready(gateway), seconds=PATIENCE, every=0.1)
    first = row("started, read, enforced and read back", time.monotonic() - began)
    began = time.monotonic()
    reload(gateway)
    row("reload with nothing new", time.monotonic() - began, first)
    gateway.order("one-more", ["198.51.100.0/24"], "tcp/3101")
    began = time.monotonic()
    reload(gateway)
    row("reload with one order more", time.monotonic() - began, first)
    status = gateway.status()
    assert status["enforcement"] == "in_sync", status["problems"][:3]
    assert status["policies"]["in_force"] == policies + 1, status["policies"]
    times = [explain(gateway, number) for number in range(ASKED)]
    row("explain, median", statistics.median(times))
    row("explain, 99th percentile", statistics.quantiles(times, n=100)[98])
    status_file = Path(f"/proc/{process.pid}/status").read_text()
    memory = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in status_file.splitlines() if "kB" in line}
    print(f"{'memory of the daemon, now / at most':42} {memory['VmRSS']} / {memory['VmHWM']} MB")
    print(f"{'segments':42} {status['ruleset']['segments']}")
    began = time.monotonic()
    gateway.end()
    gateway.start(ready=False)
    until(lambda: ready(gateway), seconds=PATIENCE, every=0.1)
    row("restart over an unchanged table", time.monotonic() - began, first)
    gateway.end()


def ready(gateway: Gateway) -> bool:
    """Whether the daemon has said that it is ready."""
    gateway.listen()
    return any("READY=1" in text for _, text in gateway.heard)


def reload(gateway: Gateway) -> None:
    """Reload, however long it takes."""
    outcome = asyncio.run(client.call(gateway.runtime, "reload", within=PATIENCE))
    assert outcome["ok"], outcome


def explain(gateway: Gateway, number: int) -> float:
    """Ask about one address over HTTP; give the seconds until the answer."""
    address = IPv4Address(BLOCK + number * 54_321 % (1 << 24))
    began = time.monotonic()
    code, answer = gateway.get(f"/v1/explain?address={address}&protocol=tcp&port={1000 + number % 50}")
    assert code == 200, json.dumps(answer)
    return time.monotonic() - began


def row(what: str, seconds: float, of: float | None = None) -> float:
    """Print one measurement, and its ratio to another."""
    ratio = f"   {seconds / of:.2f} of the first load" if of else ""
    print(f"{what:42} {seconds * 1000:10,.1f} ms{ratio}", flush=True)
    return seconds


def traverse(policies: int) -> None:
    """Count the rules that one packet meets, with one order on its address and with all of them."""
    few = loaded(1)
    many = loaded(policies)
    for what, port in (("of a blocked packet", 3101), ("of one to another port", 443)):
        packet = Packet(4, int(IPv4Address("100.64.0.1")), BLOCK + 5, 6, 40000, port)
        one, all_ = (rules_met(actual, packet, "forward", 2000) for actual in (few, many))
        print(f"{'rules ' + what:42} {one} with 1 order, {all_} with {policies:,} on the same address")


def loaded(policies: int) -> Actual:
    """Compile orders that all cover one address, and load them into a table on paper."""
    made = [
        simple(f"order-{number:05}", ["10.0.0.0-10.0.0.255"], [Transport(6, 3101, 3101)]) for number in range(policies)
    ]
    compiled = compile_policies(made, 1500, ("forward",), -10)

    async def load() -> Actual:
        kernel = FakeKernel()
        await kernel.commit(diff(compiled.ruleset, await kernel.read()).whole)
        return await kernel.read()

    return asyncio.run(load())


if __name__ == "__main__":
    main()
