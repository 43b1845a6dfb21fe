"""A kernel without memory for what is ordered: what was in force stays, it is said, and nobody else is kept waiting."""

from __future__ import annotations

import asyncio
import errno
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest

from gatewrit.engine.byhand import Request
from gatewrit.engine.intake import BULK
from gatewrit.engine.reconcile import reconcile
from gatewrit.kernel.backend import KernelError
from gatewrit.kernel.draft import TWIN
from gatewrit.kernel.plan import diff
from gatewrit.kernel.spare import RESERVE, Spare
from support.fake import FakeKernel
from support.gateway import policy, service
from support.paper import Packet, by_rules
from unit.test_plan import hosts
from unit.test_time import Bench

if TYPE_CHECKING:
    from pathlib import Path

    from gatewrit.engine.snapshot import Outcome


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_what_is_in_force_stays_wherever_memory_ends_and_the_next_pass_goes_on(taken: int) -> None:
    """Prepared sets are asked by nothing in force; the next pass uses them, or whatever is wanted then removes them."""
    now, wanted = hosts(range(100)), hosts(range(1000, 21_000))

    async def work(then: range) -> None:
        kernel = FakeKernel()
        held = (await reconcile(kernel, now)).actual
        kernel.refusals = [0] * taken + [errno.ENOMEM]
        with pytest.raises(KernelError, match="ENOMEM"):
            await reconcile(kernel, wanted)
        left = await kernel.read()
        assert left.chains == held.chains
        assert list(left.sets["hosts"].elements.rows()) == list(held.sets["hosts"].elements.rows())
        assert (f"hosts{TWIN}" in left.sets) is (taken > 0)
        done = await reconcile(kernel, hosts(then))
        assert not diff(hosts(then), done.actual)
        assert len(done.actual.sets) == 1
        # The first batch makes the set; what is in it already isn't prepared again.
        assert done.changed < 20_000 or taken < 2

    asyncio.run(work(range(1000, 21_000)))
    asyncio.run(work(range(101)))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


START, UNTIL = "2015-01-01T00:00:00Z", "2199-01-01T00:00:00Z"


def order(bench: Bench, number: int, name: str) -> None:
    """Order the /24 of that number."""
    (bench.policies / "services" / f"{name}.yaml").write_text(service(name, (f"203.0.{number}.0/24", "tcp/3101")))
    (bench.policies / f"{name}.yaml").write_text(policy(name, name, start=START, until=UNTIL))


def bulk(bench: Bench, entries: int = BULK) -> None:
    """Order a list, no two entries of which touch."""
    lines = (f"198.{18 + at // 32768}.{at // 128 % 256}.{at % 128 * 2}" for at in range(entries))
    (bench.policies / "services" / "bulk.txt").write_text("\n".join(lines) + "\n")
    (bench.policies / "services" / "bulk.yaml").write_text(service("bulk", ("bulk.txt", "tcp/3101")))
    (bench.policies / "bulk.yaml").write_text(policy("bulk", "bulk", start=START, until=UNTIL))


async def reload(bench: Bench) -> Outcome:
    assert bench.daemon is not None
    return await asyncio.wait_for(bench.daemon.reload(), 60)


async def acting(bench: Bench) -> list[str]:
    """Give the policies that a packet to an address of each is counted for."""
    actual = await bench.kernel.read()
    names = {name: (name.removeprefix("by."),) for name in actual.counters}
    found = []
    for address in ("203.0.1.5", "203.0.2.5", "198.18.0.4"):
        packet = Packet(4, int(IPv4Address("100.64.0.1")), int(IPv4Address(address)), 6, 4000, 3101)
        found += by_rules(actual, names, packet, "forward", int(bench.clock.time())).counts
    return found


async def test_a_list_too_large_for_the_memory_keeps_no_small_order_out(bench: Bench) -> None:
    order(bench, 1, "first")
    async with bench.running():
        bench.kernel.memory = BULK // 2
        bulk(bench)
        outcome = await reload(bench)
        assert not outcome.ok
        assert "ENOMEM" in outcome.sentence
        assert "what was in force before stays" in outcome.sentence
        assert bench.codes == ["kernel_refused"]
        assert await acting(bench) == ["first"]

        # An order and a suspension by hand act all the same, though the list still doesn't fit.
        order(bench, 2, "urgent")
        assert not (await reload(bench)).ok
        assert await acting(bench) == ["first", "urgent"]
        assert bench.daemon is not None
        request = Request("suspend", "first", "tester", 0, "for a test", int(bench.clock.time()) + 3600)
        done = await asyncio.wait_for(bench.daemon.by_hand(request), 60)
        assert done.outcome.ok, done.outcome.sentence
        assert await acting(bench) == ["urgent"]
        await bench.until(lambda: "kernel_refused" in bench.codes)
        assert await acting(bench) == ["urgent"]

        # With memory it comes by itself.
        bench.kernel.memory = 2 * BULK
        await bench.pass_(40)
        await bench.until(lambda: "kernel_refused" not in bench.codes)
        assert await acting(bench) == ["urgent", "bulk"]


LITTLE, PLENTY = Spare(RESERVE + (1 << 20), "what there is"), Spare(1 << 40, "what there is")


async def test_a_list_that_there_is_no_room_for_is_left_before_anything_is_prepared(bench: Bench) -> None:
    order(bench, 1, "first")
    async with bench.running():
        bench.spare = LITTLE
        bulk(bench)
        order(bench, 2, "urgent")
        outcome = await reload(bench)
        (fault,) = outcome.faults
        assert (fault.code, fault.place.file) == ("memory_short", str(bench.policies / "bulk.yaml"))
        assert fault.message == (
            "bringing the 20,000 entries of bulk into force takes some 5 MB, which is more than what is left of what "
            "there is; nothing of it is in force"
        )
        assert await acting(bench) == ["first", "urgent"]
        assert "memory_short" in bench.codes
        # Of 20,000 elements nothing came near the kernel.
        assert bench.kernel.table is not None
        assert sum(len(each.elements) for each in bench.kernel.table.sets.values()) < 100

        bench.spare = PLENTY
        assert (await reload(bench)).ok
        assert await acting(bench) == ["first", "urgent", "bulk"]
        assert "memory_short" not in bench.codes


async def test_a_few_lines_of_a_long_list_need_little_room(bench: Bench) -> None:
    bulk(bench)
    async with bench.running():
        bench.spare = LITTLE
        with (bench.policies / "services" / "bulk.txt").open("a") as file:
            file.write("203.0.2.0/24\n")
        outcome = await reload(bench)
        assert (outcome.ok, outcome.faults) == (True, ())
        assert await acting(bench) == ["bulk", "bulk"]

        # All of it anew is another matter; what its list was stays.
        bulk(bench, 40_000)
        lines = (bench.policies / "services" / "bulk.txt").read_text().splitlines()
        (bench.policies / "services" / "bulk.txt").write_text("\n".join(lines[1:]) + "\n")
        (fault,) = (await reload(bench)).faults
        assert fault.code == "memory_short"
        assert fault.message.endswith("; revision 1 with what its lists were stays in force")
        assert await acting(bench) == ["bulk", "bulk"]


async def test_where_room_runs_out_after_all_what_is_in_force_stays_and_it_is_tried_again(bench: Bench) -> None:
    order(bench, 1, "first")
    async with bench.running():
        answers = iter([PLENTY])
        assert bench.daemon is not None
        bench.left = lambda: next(answers, LITTLE)
        bulk(bench, 60_000)
        outcome = await reload(bench)
        assert outcome.sentence == (
            "not enforced: preparing 60,027 elements in the kernel takes some 8 MB, which is more than what is left of "
            "what there is; what was in force before stays, and a running daemon tries again"
        )
        assert await acting(bench) == ["first"]
        assert "memory_short" in bench.codes

        bench.left = lambda: PLENTY
        await bench.pass_(40)
        await bench.until(lambda: "memory_short" not in bench.codes)
        assert await acting(bench) == ["first", "bulk"]
