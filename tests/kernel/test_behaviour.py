"""One suite against the kernel and against its stand-in in memory, so that the stand-in can't lie."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewrit.compile.render import compile_policies
from gatewrit.engine.reconcile import reconcile
from gatewrit.kernel.backend import KernelError
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.plan import diff
from gatewrit.kernel.ruleset import (
    DPORT,
    IP6_DADDR,
    IP6_SADDR,
    IP_DADDR,
    IP_SADDR,
    IPV4,
    IPV6,
    PORT,
    PROTOCOL,
    SPORT,
    ByMap,
    Chain,
    Counter,
    InSet,
    Masked,
    PortIs,
    Rule,
    SetSpec,
    Statement,
    lower,
)
from gatewrit.kernel.socket import NftSocket
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
    Operation,
    Transaction,
)
from gatewrit.policy.model import Transport
from support.fake import FakeKernel
from support.strategies import policy_sets, simple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gatewrit.kernel.backend import Kernel
    from gatewrit.policy.model import Policy
    from lab import Namespace

    Work = Callable[[Kernel], Awaitable[None]]
    Run = Callable[[Work], None]

MAP = SetSpec("m", (IPV4,), interval=True, verdicts=True)
HASH = SetSpec("h", (IPV4,), interval=False, verdicts=True, size=2)


async def with_socket(work: Work) -> None:
    async with NftSocket() as kernel:
        await work(kernel)


@pytest.fixture(params=["fake", "kernel"])
def on(request: pytest.FixtureRequest) -> Run:
    """Give what runs a piece of work on an empty kernel of either kind."""
    if request.param == "fake":
        return lambda work: asyncio.run(work(FakeKernel()))  # type: ignore[arg-type]
    space: Namespace = request.getfixturevalue("namespace")
    return lambda work: space.run(lambda: asyncio.run(with_socket(work)))


def elements(*rows: tuple[int, int]) -> Elements:
    return Elements.of(4, [(a.to_bytes(4, "big"), b.to_bytes(4, "big"), Verdict("goto", "c")) for a, b in rows])


BASE: tuple[Operation, ...] = (
    AddTable(),
    AddChain(Chain("c", ())),
    AddChain(Chain("d", ())),
    AddCounter(Counter("k")),
    AddSet(MAP),
    AddSet(HASH),
)


def test_nothing_is_there_at_first(on: Run) -> None:
    async def work(kernel: Kernel) -> None:
        actual = await kernel.read()
        assert (actual.handle, dict(actual.chains), dict(await kernel.counters())) == (None, {}, {})

    on(work)


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ((AddTable(),), errno.EEXIST),
        ((AddChain(Chain("c", ())),), errno.EEXIST),
        ((AddSet(MAP),), errno.EEXIST),
        ((AddCounter(Counter("k")),), errno.EEXIST),
        ((DeleteChain("x"),), errno.ENOENT),
        ((DeleteSet("x"),), errno.ENOENT),
        ((DeleteCounter("x"),), errno.ENOENT),
        ((DeleteRule("c", 999_999),), errno.ENOENT),
        ((AddElements(MAP, elements((5, 9))), AddElements(MAP, elements((9, 12)))), errno.EEXIST),
        ((AddElements(MAP, elements((5, 9))), AddElements(MAP, elements((6, 7)))), errno.EEXIST),
        ((DeleteElements(MAP, elements((1, 2))),), errno.ENOENT),
        ((AddElements(MAP, elements((1, 2))), DeleteChain("c")), errno.EBUSY),
        ((AddElements(HASH, elements((1, 1))), AddElements(HASH, elements((1, 1)))), errno.EEXIST),
        ((AddElements(HASH, elements((1, 1), (2, 2), (3, 3))),), errno.ENFILE),
        ((AddElements(HASH, elements((1, 1), (2, 2))), AddElements(HASH, elements((3, 3)))), errno.ENFILE),
        ((AddRule("d", Rule((Verdict("jump", "c"),))), DeleteChain("c")), errno.EBUSY),
        ((AddRule("d", Rule((Verdict("goto", "nowhere"),))),), errno.ENOENT),
    ],
)
def test_what_it_refuses_and_then_nothing_has_changed(on: Run, operations: tuple[Operation, ...], code: int) -> None:
    async def work(kernel: Kernel) -> None:
        await kernel.commit(Transaction(BASE))
        before = await kernel.read()
        with pytest.raises(KernelError) as refused:
            await kernel.commit(Transaction((AddChain(Chain("first", ())), *operations)))
        assert refused.value.errno == code
        after = await kernel.read()
        assert (after.generation, after.chains, after.counters) == (before.generation, before.chains, before.counters)
        assert len(after.sets["m"].elements) == 0

    on(work)


def test_it_says_what_it_holds(on: Run) -> None:
    async def work(kernel: Kernel) -> None:
        await kernel.commit(Transaction(BASE))
        await kernel.commit(Transaction((AddElements(MAP, elements((1, 2), (3, 3), (0xFFFFFF00, 0xFFFFFFFF))),)))
        actual = await kernel.read()
        assert list(actual.sets["m"].elements.rows()) == list(elements((1, 2), (3, 3), (0xFFFFFF00, 0xFFFFFFFF)).rows())
        assert actual.sets["m"].spec == MAP
        await kernel.commit(Transaction((DeleteElements(MAP, elements((3, 3), (0xFFFFFF00, 0xFFFFFFFF))),)))
        assert list((await kernel.read()).sets["m"].elements.rows()) == list(elements((1, 2)).rows())

    on(work)


@pytest.mark.parametrize(
    "spec",
    [
        SetSpec("s", (IPV4,), interval=False, verdicts=False, size=1_000_000),
        SetSpec("s", (IPV6,), interval=False, verdicts=True, comment="a", size=1),
        SetSpec("s", (PROTOCOL, PORT), interval=False, verdicts=False, size=65536),
        SetSpec("s", (PROTOCOL, PORT), interval=True, verdicts=True, size=100),
        SetSpec("s", (PROTOCOL, PORT), interval=True, verdicts=True),
    ],
)
def test_a_set_comes_back_with_the_size_that_it_was_made_with(on: Run, spec: SetSpec) -> None:
    async def work(kernel: Kernel) -> None:
        await kernel.commit(Transaction((AddTable(), AddSet(spec))))
        assert (await kernel.read()).sets["s"].spec == spec

    on(work)


def test_a_full_set_takes_one_where_another_goes_first(on: Run) -> None:
    async def work(kernel: Kernel) -> None:
        await kernel.commit(Transaction((*BASE, AddElements(HASH, elements((1, 1), (2, 2))))))
        swap = (DeleteElements(HASH, elements((1, 1))), AddElements(HASH, elements((3, 3))))
        with pytest.raises(KernelError) as refused:
            await kernel.commit(Transaction((swap[1], swap[0])))
        assert refused.value.errno == errno.ENFILE
        await kernel.commit(Transaction(swap))
        assert list((await kernel.read()).sets["h"].elements.rows()) == list(elements((2, 2), (3, 3)).rows())

    on(work)


@pytest.mark.parametrize(
    "statements",
    [
        *(
            (InSet((Masked(field, length),), name, inverted), Verdict("return"))
            for field, name, lengths in ((IP_DADDR, "b4", (1, 24, 31)), (IP6_SADDR, "b6", (1, 32, 64, 127)))
            for length in lengths
            for inverted in (False, True)
        ),
        (ByMap((Masked(IP_SADDR, 9),), "v4"),),
        (ByMap((Masked(IP6_DADDR, 48),), "v6"),),
        (PortIs(6, DPORT, 3101, 3101), InSet((IP_DADDR,), "b4", inverted=True), Verdict("return")),
        (PortIs(17, SPORT, 0, 65535), Verdict("drop")),
        (PortIs(132, DPORT, 5060, 5061), ByMap((Masked(IP_DADDR, 24),), "v4")),
    ],
)
def test_a_rule_comes_back_as_it_went(on: Run, statements: tuple[Statement, ...]) -> None:
    async def work(kernel: Kernel) -> None:
        sets = (
            SetSpec(f"{letter}{family}", (key,), interval=False, verdicts=letter == "v", size=10)
            for family, key in ((4, IPV4), (6, IPV6))
            for letter in "bv"
        )
        rule = Rule(statements, "a comment")
        await kernel.commit(Transaction((AddTable(), AddChain(Chain("c", ())), *map(AddSet, sets), AddRule("c", rule))))
        (found,) = (await kernel.read()).chains["c"].rules
        assert (found.expressions, found.comment) == (lower(rule), rule.comment)

    on(work)


def test_a_transaction_can_insist_on_a_generation(on: Run) -> None:
    async def work(kernel: Kernel) -> None:
        seen = (await kernel.read()).generation
        await kernel.commit(Transaction(BASE), seen)
        with pytest.raises(KernelError) as refused:
            await kernel.commit(Transaction((DeleteTable(),)), seen)
        assert refused.value.errno == errno.ERESTART
        assert (await kernel.read()).handle is not None

    on(work)


def test_each_transaction_of_ours_is_one_generation_and_is_counted(on: Run) -> None:
    async def work(kernel: Kernel) -> None:
        others = await kernel.generation() - kernel.committed
        for operations in (BASE, (DeleteRule("c", 99),), (AddCounter(Counter("l")), DeleteCounter("k")), ()):
            with contextlib.suppress(KernelError):
                await kernel.commit(Transaction(operations))
        assert kernel.committed == 2
        assert await kernel.generation() - kernel.committed == others

    on(work)


def test_a_table_made_anew_and_its_counters_have_other_handles(on: Run) -> None:
    async def work(kernel: Kernel) -> None:
        homes = set()
        for _ in range(3):
            await kernel.commit(Transaction(BASE))
            actual = await kernel.read()
            homes.add((actual.handle, actual.counters["k"].handle))
            await kernel.commit(Transaction((DeleteTable(),)))
        assert len(homes) == 3

    on(work)


def test_a_counter_made_anew_has_another_handle(on: Run) -> None:
    async def work(kernel: Kernel) -> None:
        await kernel.commit(Transaction(BASE))
        first = (await kernel.counters())["k"].handle
        await kernel.commit(Transaction((DeleteCounter("k"),)))
        await kernel.commit(Transaction((AddCounter(Counter("k")),)))
        assert (await kernel.counters())["k"].handle != first

    on(work)


def test_one_pass_settles_and_the_next_finds_nothing(on: Run) -> None:
    async def work(kernel: Kernel) -> None:
        first = compile_policies([simple("a", ["10.0.0.1", "::1:1"], [Transport(6, 1, 1)])], 0, ("forward",), -10)
        second = compile_policies([simple("b", ["10.0.0.0-10.0.0.9"], [Transport(None)])], 0, ("forward",), -10)
        for compiled in (first, first, second):
            done = await reconcile(kernel, compiled.ruleset)
            await kernel.commit(done.sweep)
            assert not (await reconcile(kernel, compiled.ruleset)).changed

    on(work)


@settings(max_examples=8)
@given(steps=st.lists(policy_sets(3, conditions=True), min_size=2, max_size=6))
def test_any_policies_after_any_others(on: Run, steps: list[list[Policy]]) -> None:
    async def work(kernel: Kernel) -> None:
        for policies in steps:
            compiled = compile_policies(policies, 0, ("forward", "output"), -10)
            done = await reconcile(kernel, compiled.ruleset)
            await kernel.commit(done.sweep)
            assert not diff(compiled.ruleset, await kernel.read()).whole
        actual = await kernel.read()
        if actual.handle is not None:
            await kernel.commit(Transaction((DeleteTable(),)))

    on(work)
