"""What somebody sets up beside the table is told within seconds, and no longer once it is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.gateway import until

if TYPE_CHECKING:
    from support.gateway import Gateway


@pytest.mark.parametrize("owner", [True, False])
def test_a_table_that_rewrites_destinations_is_told_as_long_as_it_is_there(gateway: Gateway, *, owner: bool) -> None:
    """Found by the generation where nobody else can change our table, else by notification."""
    gateway.set(table_owner=owner)
    gateway.order("alpha", "203.0.1.0/24", "tcp/3101")
    gateway.nft("table ip before { chain c { type nat hook prerouting priority -100; dnat to 192.0.2.1; }\n}\n")
    gateway.start()

    def told() -> list[dict[str, Any]]:
        return [each for each in gateway.status()["problems"] if each["code"].startswith("bypass_")]

    (problem,) = until(told)
    assert (problem["code"], problem["severity"]) == ("bypass_nat", "warning")
    assert "ip before c" in problem["message"]
    assert "priority" in problem["action"]
    # A warning: what is ordered is loaded.
    assert gateway.status()["enforcement"] == "in_sync"
    gateway.nft("delete table ip before\n")
    until(lambda: not told())
    gateway.nft(
        "table netdev n { chain c { type filter hook ingress device lo priority 0; meta mark 7 fwd to lo; }\n}\n"
    )
    assert [each["code"] for each in until(told)] == ["bypass_ingress"]
    assert len(gateway.logged("beside.found")) == 2
