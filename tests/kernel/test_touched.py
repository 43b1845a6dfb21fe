"""Sets that are read back by themselves, or only what was changed in them: it is what the kernel has in any case."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gatewrit.kernel import touched
from gatewrit.kernel.elements import Elements, Verdict
from gatewrit.kernel.messages import GETSETELEM
from gatewrit.kernel.ruleset import IPV4, IPV6, Chain, Set, SetSpec
from gatewrit.kernel.socket import NftSocket
from gatewrit.kernel.transaction import AddChain, AddElements, AddSet, AddTable, DeleteElements, Touch, Transaction

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatewrit.kernel.ruleset import KeyType
    from lab import Namespace

HELD = range(0, 8000, 2)
ADDED, REMOVED = (101, 4001, 7001), (0, 5000)
WAYS = Verdict("goto", "one"), Verdict("goto", "other")


def some(spec: SetSpec, numbers: Iterable[int], way: int = 0) -> Elements:
    width = spec.key[0].length
    rows = [number.to_bytes(width, "big") for number in sorted(numbers)]
    said = WAYS[way : way + 1] if spec.verdicts else ()
    first = np.array(rows, f"S{width}")
    return Elements(width, first, first, np.zeros(len(rows), np.int32), said)


def read_after(
    space: Namespace, spec: SetSpec, added: Iterable[int], removed: Iterable[int], way: int = 0
) -> tuple[set[int], bool, list[str]]:
    """Change a set, then read it back as one of which ADDED came and REMOVED went.

    Gives what is in it then, whether that was taken for the set as it is to be, and which sets were dumped.
    """
    dumped = list[str]()

    async def work() -> tuple[set[int], bool, list[str]]:
        async with NftSocket() as kernel:
            made = (AddSet(spec), AddElements(spec, some(spec, HELD)))
            chains = (AddChain(Chain("one", ())), AddChain(Chain("other", ())))
            await kernel.commit(Transaction((AddTable(), *chains, *made)))
            before = await kernel.read()
            changes = (DeleteElements(spec, some(spec, removed)), AddElements(spec, some(spec, added, way)))
            await kernel.commit(Transaction(tuple(each for each in changes if len(each.elements))))
            now = Set(spec, some(spec, {*HELD, *ADDED} - {*REMOVED}))
            touch = Touch(now, some(spec, ADDED), some(spec, REMOVED))
            ask = kernel._reader._asking.ask

            def noted(message: Any, **given: Any) -> tuple[bytes, ...]:
                if message.kind == GETSETELEM:
                    dumped.append("h")
                return ask(message, **given)

            kernel._reader._asking.ask = noted  # type: ignore[method-assign]
            actual = await kernel.read(replace(before, sets={}, touched={"h": touch}))
            assert not actual.touched
            rows = actual.sets["h"].elements.rows()
            return {int.from_bytes(first, "big") for first, _, _ in rows}, actual.sets["h"] is now, dumped

    return space.run(lambda: asyncio.run(work()))


@pytest.mark.parametrize("verdicts", [False, True])
@pytest.mark.parametrize("key", [IPV4, IPV6])
def test_what_was_done_is_read_back_by_itself(namespace: Namespace, key: KeyType, *, verdicts: bool) -> None:
    spec = SetSpec("h", (key,), interval=False, verdicts=verdicts, size=8192)
    found, as_it_is_to_be, dumped = read_after(namespace, spec, ADDED, REMOVED)
    assert found == {*HELD, *ADDED} - {*REMOVED}
    assert (as_it_is_to_be, dumped) == (True, [])


@pytest.mark.parametrize(
    ("added", "removed", "verdicts", "way"),
    [
        (ADDED[1:], REMOVED, False, 0),
        (ADDED[:2], REMOVED, False, 0),
        (ADDED, REMOVED[1:], False, 0),
        (ADDED, (), True, 0),
        (ADDED, REMOVED, True, 1),
    ],
)
def test_what_was_not_done_is_seen(
    namespace: Namespace, added: tuple[int, ...], removed: tuple[int, ...], way: int, *, verdicts: bool
) -> None:
    spec = SetSpec("h", (IPV4,), interval=False, verdicts=verdicts, size=8192)
    found, as_it_is_to_be, dumped = read_after(namespace, spec, added, removed, way)
    assert found == {*HELD, *added} - {*removed}
    assert (as_it_is_to_be, dumped) == (False, ["h"])


def test_many_sets_are_asked_about_without_losing_an_answer(namespace: Namespace) -> None:
    """Answers wait in the socket's buffer until they are read: no more are asked for at once than it holds."""
    specs = [SetSpec(f"s{at}", (IPV4,), interval=False, verdicts=False, size=8192) for at in range(12)]
    added = range(1, 160, 2)

    async def work() -> None:
        async with NftSocket() as kernel:
            made = [each for spec in specs for each in (AddSet(spec), AddElements(spec, some(spec, HELD)))]
            await kernel.commit(Transaction((AddTable(), *made)))
            before = await kernel.read()
            removed = range(0, 80, 2)
            changes = [
                each
                for spec in specs
                for each in (DeleteElements(spec, some(spec, removed)), AddElements(spec, some(spec, added)))
            ]
            await kernel.commit(Transaction(tuple(changes)))
            now = {spec.name: Set(spec, some(spec, {*HELD, *added} - {*removed})) for spec in specs}
            touches = {spec.name: Touch(now[spec.name], some(spec, added), some(spec, removed)) for spec in specs}
            assert all(map(touched.worth_asking, touches.values()))
            actual = await kernel.read(replace(before, sets={}, touched=touches))
            assert dict(actual.sets) == now

    namespace.run(lambda: asyncio.run(work()))


def test_a_set_can_be_read_by_itself(namespace: Namespace) -> None:
    specs = [SetSpec(name, (IPV4,), interval=name == "i", verdicts=False) for name in ("h", "i")]

    async def work() -> None:
        async with NftSocket() as kernel:
            made = [each for spec in specs for each in (AddSet(spec), AddElements(spec, some(spec, HELD)))]
            await kernel.commit(Transaction((AddTable(), *made)))
            whole = await kernel.read()
            found = await kernel.read_sets(["h", "none", "i"])
            assert {name: handle for name, (_, handle) in found.items()} == dict(whole.handles)
            for name, (each, _) in found.items():
                assert each.spec == whole.sets[name].spec
                assert list(each.elements.rows()) == list(whole.sets[name].elements.rows())

    namespace.run(lambda: asyncio.run(work()))


def test_ranges_are_read_whole() -> None:
    spec = SetSpec("h", (IPV4,), interval=True, verdicts=False)
    nothing = some(spec, ())
    assert not touched.worth_asking(Touch(Set(spec, some(spec, HELD)), some(spec, (1,)), nothing))
    spec = replace(spec, interval=False)
    assert touched.worth_asking(Touch(Set(spec, some(spec, HELD)), some(spec, (1,)), nothing))
    assert not touched.worth_asking(Touch(Set(spec, some(spec, range(60))), some(spec, (1, 3)), nothing))


@pytest.mark.parametrize(("code", "sure"), [(errno.ENOENT, {"h"}), (errno.EPERM, set()), (0, set())])
def test_only_that_an_element_is_missing_shows_that_it_went(code: int, sure: set[str]) -> None:
    spec = SetSpec("h", (IPV4,), interval=False, verdicts=False)
    touch = Touch(Set(spec, some(spec, HELD)), some(spec, ()), some(spec, (1,)))
    assert touched.as_said([touch], lambda asked: [(code, [])] * len(asked)) == sure
