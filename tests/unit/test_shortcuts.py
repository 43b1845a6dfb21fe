"""Shortcuts come later where they are many: what is enforced meanwhile, and what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gatewrit.compile.cells import Sizes
from gatewrit.compile.render import compile_policies
from gatewrit.engine.enforcer import Enforcer
from gatewrit.engine.scribe import Scribe
from gatewrit.engine.timing import Agenda
from gatewrit.kernel.expressions import Lookup
from gatewrit.kernel.shortcuts import without_shortcuts
from gatewrit.policy.model import Transport
from support.clock import FakeClock
from support.fake import FakeKernel
from support.strategies import policy, ranges_of, services_of

if TYPE_CHECKING:
    from pathlib import Path

    from gatewrit.compile.render import Compiled

BOTTOM = 206 << 24
#: So that a hundred entries are a block with hashes.
SIZES = Sizes(plain=0, hashed=1)


def compiled(shift: int, count: int = 100) -> Compiled:
    """Compile a list whose ranges are of four lengths and far apart, so that a shortcut is worth it."""
    pairs = [(BOTTOM + at * 64 + shift, BOTTOM + at * 64 + shift + at % 4) for at in range(count)]
    parts = [ranges_of(4, pairs)]
    made = policy("a", services_of("s", parts, [Transport(None)]), start=0)
    return compile_policies([made], 0, ("forward",), -10, sizes=SIZES)


FIRST, SECOND = compiled(0), compiled(8)
(GUARD,) = (name for name in FIRST.ruleset.sets if name.endswith(".guard"))


class Bench:
    """An enforcer for which a single missing element of a shortcut is many."""

    def __init__(self, state: Path) -> None:
        self.kernel = FakeKernel()
        self.clock = FakeClock(1_700_000_000)
        self.agenda = Agenda(self.clock)
        self.enforcer = Enforcer(self.kernel, self.clock, self.agenda, Scribe(state))
        self.enforcer.late = 0

    async def enforce(self, wanted: Compiled, cause: str = "reload") -> None:
        self.enforcer.want(wanted, "digest", {})
        assert await self.enforcer.enforce(cause)

    async def asked(self) -> set[str]:
        """Give the sets that rules ask, by the names that they are compiled under."""
        actual = await self.kernel.read()
        rules = [rule for chain in actual.chains.values() for rule in chain.rules]
        return {each.name.removesuffix(".b") for rule in rules for each in rule.expressions if isinstance(each, Lookup)}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_without_shortcuts_leaves_out_only_those_that_lack_much() -> None:
    whole = FIRST.ruleset
    assert without_shortcuts(whole, {}, len(whole.sets[GUARD].elements)) is whole
    lean = without_shortcuts(whole, {}, len(whole.sets[GUARD].elements) - 1)
    assert whole.sets.keys() - lean.sets.keys() == {GUARD}
    assert [len(whole.chains[name].rules) - len(chain.rules) for name, chain in lean.chains.items()].count(1) == 1
    assert without_shortcuts(whole, whole.sets, 0) is whole
    assert without_shortcuts(whole, SECOND.ruleset.sets, 0).sets.keys() == lean.sets.keys()


async def test_what_blocks_comes_first_and_shortcuts_later(bench: Bench) -> None:
    await bench.enforce(FIRST)
    assert bench.agenda.is_due("complete")
    assert GUARD not in (await bench.kernel.read()).sets
    assert await bench.asked() == FIRST.ruleset.sets.keys() - {GUARD}
    # A look finds nothing wrong with that.
    done = await bench.enforcer.enforce("look")
    assert done
    assert not done.changed

    assert await bench.enforcer.complete(lambda _done, _size: True)
    await bench.enforce(FIRST, "shortcuts")
    assert not bench.agenda.is_due("complete")
    assert await bench.asked() == FIRST.ruleset.sets.keys()
    done = await bench.enforcer.enforce("look")
    assert done
    assert not done.changed


async def test_nothing_of_before_stays_while_they_are_still_to_come(bench: Bench) -> None:
    """Else the kernel would hold two of everything until they are there."""
    bench.enforcer.late = None
    await bench.enforce(FIRST)
    bench.enforcer.late = 0
    other = compiled(8, count=600)
    await bench.enforce(other)
    lean = without_shortcuts(other.ruleset, {}, 0)
    held = (await bench.kernel.read()).sets
    assert {name.removesuffix(".b") for name in held} == lean.sets.keys()
    assert len(held) == len(lean.sets)


async def test_somebody_in_a_hurry_goes_before_them(bench: Bench) -> None:
    await bench.enforce(FIRST)
    await bench.enforce(SECOND, "by hand")
    assert await bench.asked() == SECOND.ruleset.sets.keys() - {GUARD}
    assert bench.agenda.is_due("complete")


async def test_those_of_before_make_room_for_what_comes(bench: Bench) -> None:
    bench.enforcer.late = None
    await bench.enforce(FIRST)
    assert await bench.asked() == FIRST.ruleset.sets.keys()
    bench.enforcer.late = 0
    assert await bench.enforcer.prepare(SECOND.ruleset, lambda _done, _size: True)
    assert (await bench.kernel.read()).sets.keys() == FIRST.ruleset.sets.keys() - {GUARD}
    assert await bench.asked() == FIRST.ruleset.sets.keys() - {GUARD}
    # If it never comes to the switch, they come back.
    assert bench.agenda.is_due("complete")
    assert await bench.enforcer.complete(lambda _done, _size: True)
    bench.enforcer.forget_coming()
    await bench.enforce(FIRST)
    assert (await bench.kernel.read()).sets.keys() == FIRST.ruleset.sets.keys()
    assert await bench.asked() == FIRST.ruleset.sets.keys()


async def test_a_kernel_without_room_for_them_is_asked_again_later(bench: Bench) -> None:
    await bench.enforce(FIRST)
    bench.kernel.refusals = [12]
    assert not await bench.enforcer.complete(lambda _done, _size: True)
    assert not bench.agenda.is_due("complete")
    assert bench.enforcer.failure is None
    await bench.enforce(FIRST, "look")
    assert not bench.agenda.is_due("complete")
    bench.clock.elapsed += 60
    assert bench.agenda.is_due("complete")
    assert await bench.enforcer.complete(lambda _done, _size: True)
    await bench.enforce(FIRST)
    assert await bench.asked() == FIRST.ruleset.sets.keys()
