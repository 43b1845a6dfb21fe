"""Files that are read again while bulk is being prepared: what isn't new isn't worked out again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import gatewrit.engine.desired
from unit.test_out_of_memory import LITTLE, acting, bulk, order, reload
from unit.test_time import Bench

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("new", [False, True])
async def test_reading_again_keeps_what_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, new: bool
) -> None:
    bench, compiled, asked = Bench(tmp_path), list[int](), list[bool]()
    compile_policies = gatewrit.engine.desired.compile_policies
    commit = bench.kernel.commit

    def counted(policies: Any, *given: Any, **named: Any) -> Any:
        compiled.append(len(policies))
        return compile_policies(policies, *given, **named)

    async def overtaken(transaction: Any, generation: int | None = None) -> None:
        await commit(transaction, generation)
        if compiled[-1] == 2 and not asked:
            # Somebody orders a reload while the list is under way.
            if new:
                order(bench, 2, "urgent")
            asked.append(new)
            # What is being prepared has the memory that it was promised.
            bench.spare = LITTLE
            assert bench.daemon is not None
            bench.daemon.want_reload(ordered=True)

    order(bench, 1, "first")
    async with bench.running():
        monkeypatch.setattr(gatewrit.engine.desired, "compile_policies", counted)
        monkeypatch.setattr(bench.kernel, "commit", overtaken)
        bulk(bench)
        assert (await reload(bench)).ok
        # With the list, as nothing else is new; then the urgent order, which doesn't wait for it; at last all of it.
        assert compiled == ([2, 2, 3, 3] if new else [2, 2, 2])
        assert await acting(bench) == (["first", "urgent", "bulk"] if new else ["first", "bulk"])
