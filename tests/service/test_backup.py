"""docs/backup.md, command by command: a backup of a running daemon, restored on another host."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from gatewrit.engine import memory
from gatewrit.engine.generations import Generations
from gatewrit.engine.journal.database import path_in
from gatewrit.engine.journal.verify import verify
from gatewrit.engine.ledger import Count, Ledger
from lab import Namespace
from support.gateway import clean_environment, gateway_in

if TYPE_CHECKING:
    from gatewrit.engine.journal.verify import Verdict
    from support.gateway import Gateway

PAGE = Path(__file__).parents[2] / "docs" / "backup.md"
COUNTED = Count(18_204, 1_092_240)


def run_blocks(space: Namespace, number: int, **paths: Path) -> None:
    """Run a block of the page as it stands there."""
    block = re.findall(r"^ *```sh\n(.*?)^ *```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)[number]
    named = {name: str(path) for name, path in paths.items()}
    space.check(["sh", "-c", block], env={**clean_environment(), **named})


def journal(gateway: Gateway) -> Verdict:
    found = verify(path_in(gateway.state))
    assert found.whole
    return found


def generations(gateway: Gateway) -> list[int]:
    kept = Generations(gateway.state)
    assert kept.load() == ()
    return sorted(kept.known)


def test_what_is_backed_up_comes_back_on_another_host(gateway: Gateway, tmp_path: Path) -> None:
    gateway.order("alpha", "203.0.113.0/24", "tcp/3101")
    gateway.order("bravo", "203.0.114.0/24", "any", action="drop")
    memory.save_ledger(gateway.state, Ledger({"alpha": COUNTED}))
    gateway.start()
    gateway.order("bravo", "203.0.114.0/25", "any", action="drop", revision=2)
    gateway.reload()
    assert gateway.cli("suspend", "bravo", "--until", "6d", "--reason", "ticket 4711").returncode == 0
    before, views = gateway.status(), gateway.views()
    assert before["ruleset"]["generation"] > 1
    noted = journal(gateway)

    backup = tmp_path / "backup"
    run_blocks(gateway.space, 0, STATE=gateway.state, TO=backup)
    assert not list(backup.glob("journal.db-*"))

    with Namespace() as space, gateway_in(space, tmp_path / "other") as other:
        # One policy file is lost, too: that lifts nothing.
        for path in gateway.policies.rglob("*.yaml"):
            if path.name != "bravo.yaml":
                other.write(str(path.relative_to(gateway.policies)), path.read_text())
        other.state.mkdir()
        run_blocks(space, 1, STATE=other.state, TO=backup)
        assert journal(other) == noted
        assert generations(other) == generations(gateway)
        other.start()
        after, restored = other.status(), other.views()
        assert after["ruleset"]["digest"] == before["ruleset"]["digest"]
        assert after["ruleset"]["generation"] >= before["ruleset"]["generation"]
        assert after["policies"] == before["policies"]
        assert {name: each["counters"] for name, each in restored.items()} == {
            name: each["counters"] for name, each in views.items()
        }
        assert restored["alpha"]["counters"] == {"packets": COUNTED.packets, "bytes": COUNTED.bytes}
        assert (restored["bravo"]["revision"], restored["bravo"]["state"]) == (2, "suspended")
        assert ("policy_missing", "bravo") in other.problems()
        assert other.cli("verify").returncode == 0
        # The chain goes on, and has what it had.
        assert other.cli("log", "verify", "--head", noted.head.digest).returncode == 0
        assert journal(other).rows > noted.rows
        assert set(generations(gateway)) <= set(generations(other))
        other.end()
    gateway.end()
