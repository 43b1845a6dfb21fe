from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.compile.render import compile_policies
from gatewrit.engine.reconcile import NotConvergedError, reconcile
from gatewrit.kernel import text
from gatewrit.kernel.backend import KernelError
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.plan import diff
from gatewrit.kernel.ruleset import (
    DPORT,
    IIFNAME,
    IP6_DADDR,
    IP_DADDR,
    IPV4,
    Before,
    Chain,
    Hook,
    Masked,
    PortIs,
    Rule,
    Ruleset,
    Set,
    SetSpec,
)
from gatewrit.kernel.transaction import AddChain, DeleteRule, DeleteTable, FlushChain, Transaction, removal
from gatewrit.policy.model import Transport
from support.fake import FakeKernel
from support.strategies import policy_sets, simple

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatewrit.policy.model import Policy


def rendered(policies: list[Policy], now: int = 0) -> Ruleset:
    return compile_policies(policies, now, ("forward",), -10).ruleset


async def bring(kernel: FakeKernel, desired: Ruleset) -> Transaction:
    plan = diff(desired, await kernel.read())
    await kernel.commit(plan.whole)
    await kernel.commit(plan.sweep)
    return plan.whole


@given(st.lists(st.tuples(policy_sets(3), st.sampled_from([0, 1500, 3500])), min_size=1, max_size=4))
def test_each_step_leads_exactly_to_what_is_desired(steps: list[tuple[list[Policy], int]]) -> None:
    async def work() -> None:
        kernel = FakeKernel()
        for policies, now in steps:
            desired = rendered(policies, now)
            await bring(kernel, desired)
            again = diff(desired, await kernel.read())
            assert not again
            assert not again.sweep

    asyncio.run(work())


@given(policy_sets(3), policy_sets(3))
def test_a_crash_between_any_two_transactions_then_a_pass_converges(one: list[Policy], two: list[Policy]) -> None:
    async def work() -> None:
        kernel = FakeKernel()
        await bring(kernel, rendered(one))
        plan = diff(rendered(two), await kernel.read())
        await kernel.commit(plan.whole)  # and here the daemon died, the sweep never came
        assert not (await reconcile(kernel, rendered(two))).changed

    asyncio.run(work())


def test_a_refused_transaction_changes_nothing() -> None:
    async def work() -> None:
        kernel = FakeKernel()
        desired = rendered([simple("a", ["10.0.0.1"], [Transport(6, 1, 1)])])
        await bring(kernel, desired)
        before = await kernel.read()
        with pytest.raises(KernelError) as refused:
            await kernel.commit(Transaction((AddChain(Chain("x", ())), AddChain(Chain("x", ())))))
        assert refused.value.errno == errno.EEXIST
        assert not diff(desired, await kernel.read()).whole
        assert (await kernel.read()).generation == before.generation

    asyncio.run(work())


def held(*numbers: int, size: int | None = None, to: str | None = None, interval: bool = False) -> Ruleset:
    keys = [number.to_bytes(4, "big") for number in numbers]
    verdict = Verdict("goto", to) if to else None
    elements = Elements.of(4, [(key, key, verdict) for key in keys])
    return Ruleset(sets={"s": Set(SetSpec("s", (IPV4,), interval, to is not None, size=size), elements)})


def test_digests_differ_just_where_the_scripts_do() -> None:
    made = [
        held(),
        held(1),
        held(1, 2),
        held(2, 1),
        held(1, 2, size=2),
        held(1, 2, interval=True),
        held(1, 2, to="a"),
        held(1, 2, to="b"),
        held(1, 2, to="b"),
        replace(held(1, 2), chains=rung(1).chains),
        replace(held(1, 2), chains=rung(2).chains),
    ]
    for one in made:
        for two in made:
            assert (text.digest(one) == text.digest(two)) == (text.script(one) == text.script(two))


def test_a_digest_goes_through_elements_that_it_has_seen_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ruleset = held(1, 2, to="a")
    first = text.digest(ruleset)
    monkeypatch.setattr("gatewrit.kernel.elements.sha256", None)
    assert text.digest(replace(ruleset)) == first
    with pytest.raises(TypeError):
        text.digest(held(1, 2, to="a"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Masked(IP_DADDR, 0),
        lambda: Masked(IP_DADDR, 32),
        lambda: Masked(IP6_DADDR, 128),
        lambda: Masked(IIFNAME, 8),
        lambda: PortIs(1, DPORT, 1, 1),
        lambda: PortIs(6, IP_DADDR, 1, 1),
        lambda: PortIs(6, DPORT, 2, 1),
        lambda: PortIs(6, DPORT, 1, 65536),
    ],
)
def test_what_nft_could_not_list_is_not_made(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"mask|port"):
        make()


def rung(*instants: int) -> Ruleset:
    rules = tuple(Rule((Before(instant), Verdict("drop"))) for instant in instants)
    return Ruleset({"cell": Chain("cell", rules)})


def test_a_rung_that_has_passed_is_taken_away_alone() -> None:
    async def work() -> None:
        kernel = FakeKernel()
        await bring(kernel, rung(1, 2, 3))
        first = (await kernel.read()).chains["cell"].rules[0].handle
        change = await bring(kernel, rung(2, 3))
        assert change.operations == (DeleteRule("cell", first),)

    asyncio.run(work())


def test_a_rule_in_the_wrong_place_is_written_anew() -> None:
    async def work() -> None:
        kernel = FakeKernel()
        await bring(kernel, rung(2, 1))
        change = await bring(kernel, rung(1, 2))
        assert change.operations[0] == FlushChain("cell")
        assert not diff(rung(1, 2), await kernel.read()).whole

    asyncio.run(work())


@pytest.mark.parametrize("what", ["hook", "comment", "foreign"])
def test_what_cannot_be_changed_in_place_is_made_anew_with_the_table(what: str) -> None:
    async def work() -> None:
        kernel = FakeKernel()
        base = held(0, 1, size=2)
        base = replace(base, chains={"forward": Chain("forward", (), Hook("forward", -10), "a comment")})
        await bring(kernel, base)
        actual = await kernel.read()
        chain = actual.chains["forward"]
        bent = {
            "hook": replace(actual, chains={"forward": replace(chain, hook=Hook("input", -10))}),
            "comment": replace(actual, chains={"forward": replace(chain, comment=None)}),
            "foreign": replace(actual, foreign=("flowtable f",)),
        }[what]
        assert isinstance(diff(base, bent).whole.operations[0], DeleteTable)

    asyncio.run(work())


def test_counters_are_swept_only_after_the_rules_have_gone() -> None:
    async def work() -> None:
        kernel = FakeKernel()
        await bring(kernel, rendered([simple("a", ["10.0.0.1"], [Transport(6, 1, 1)])]))
        plan = diff(rendered([]), await kernel.read())
        assert "counter" not in str(plan.whole)
        assert str(plan.sweep) == "delete counter inet gatewrit by.a\n"

    asyncio.run(work())


def test_removal_takes_the_table_away_and_nothing_if_there_is_none() -> None:
    async def work() -> None:
        kernel = FakeKernel()
        assert not removal(await kernel.read())
        await bring(kernel, rung(1))
        await kernel.commit(removal(await kernel.read()))
        assert (await kernel.read()).handle is None

    asyncio.run(work())


# -- a pass -----------------------------------------------------------------------------------------------------------


class Overtaken(FakeKernel):
    """Somebody else changes the ruleset before each of our first commits."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def commit(self, transaction: Transaction, generation: int | None = None) -> None:
        if self.times:
            self.times -= 1
            self.now += 1
        await super().commit(transaction, generation)


@pytest.mark.parametrize("times", [1, 2, 3, 6])
def test_a_pass_that_is_overtaken_plans_anew(times: int) -> None:
    done = asyncio.run(reconcile(Overtaken(times), rung(1)))
    assert done.changed == 3


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOMEM, errno.EINVAL])
def test_a_refusal_is_told(code: int) -> None:
    kernel = FakeKernel()
    kernel.refusals = [code]
    with pytest.raises(KernelError) as refused:
        asyncio.run(reconcile(kernel, rung(1)))
    assert refused.value.errno == code


def test_a_lost_acknowledgement_is_settled_by_reading() -> None:
    class Lossy(FakeKernel):
        async def commit(self, transaction: Transaction, generation: int | None = None) -> None:
            await super().commit(transaction, generation)
            if self.now == 2:
                raise KernelError(errno.ENOBUFS, "commit a transaction")

    done = asyncio.run(reconcile(Lossy(), rung(1)))
    assert not diff(rung(1), done.actual).whole


def test_a_kernel_that_does_not_keep_what_it_acknowledged_is_not_believed() -> None:
    class Forgetful(FakeKernel):
        async def commit(self, transaction: Transaction, generation: int | None = None) -> None:
            del transaction, generation

    with pytest.raises(NotConvergedError, match="still differs in 3 places"):
        asyncio.run(reconcile(Forgetful(), rung(1)))
