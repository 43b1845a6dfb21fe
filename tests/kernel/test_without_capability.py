"""Root of a user namespace alone, as in many containers: the send buffer is bounded, and all of it works, in parts."""

from __future__ import annotations

import functools
import json
import socket
from random import Random
from typing import TYPE_CHECKING

import pytest

from gatewrit.kernel import endpoint
from gatewrit.kernel import socket as kernel_socket
from lab import Namespace
from support.gateway import Gateway, gateway_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: A third of what net.core.wmem_max is unless somebody raised it, so that a third of a large list meets it.
BOUND = 65_536
PREFIXES, ONE_IN, POLICIES = 100_000, 40, 400
_NETLINK_NETFILTER, _SO_SNDBUFFORCE = 12, 32


@pytest.fixture
def contained(_nftables: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A gateway where SO_SNDBUFFORCE is refused, and the send buffer has a small bound."""
    grow = endpoint.make_room
    monkeypatch.setattr(endpoint, "make_room", lambda held, size: grow(held, min(size, BOUND)))
    monkeypatch.setattr(kernel_socket, "_BOUNDLESS", BOUND)
    with Namespace(rootless=True) as space:
        assert space.run(_refused)
        with gateway_in(space, tmp_path) as gateway:
            yield gateway


def _refused() -> bool:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as opened:
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 1 << 20)
        except PermissionError:
            return True
    return False


def apply(gateway: Gateway) -> int:
    """Enforce once; gives how many objects, rules and elements were changed. What was read back is what is ordered."""
    done = gateway.cli("apply", "--json")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert gateway.cli("plan").returncode == 0
    changed: int = json.loads(done.stdout)["changed"]
    return changed


def test_all_of_it_is_enforced_in_parts(contained: Gateway) -> None:
    dice = Random(1)  # noqa: S311 - no secret
    # Some of each length, none that touch.
    lines = [f"{20 + at // 25_600}.{at // 100 % 256}.{at % 100 * 2}.0/{dice.randint(24, 30)}" for at in range(PREFIXES)]
    write = functools.partial(contained.write, "services/bulk.txt")
    write("\n".join(lines) + "\n")
    contained.order("bulk", "bulk.txt", "tcp/3101")
    assert apply(contained) > PREFIXES

    # So little of it anew that it would be changed in place, and more than one send buffer holds.
    for at in range(0, PREFIXES, ONE_IN):
        lines[at] = f"{120 + at // 25_600}.{at // 100 % 256}.{at % 100 * 2}.0/{dice.randint(24, 30)}"
    write("\n".join(lines) + "\n")
    assert apply(contained) >= PREFIXES // ONE_IN

    # As many small orders as are otherwise made in one go; then all of them end.
    names = [f"order-{number}" for number in range(POLICIES)]
    for number, name in enumerate(names):
        contained.order(name, [f"203.{number // 250}.{number % 250}.0/30"], f"tcp/{1000 + number}")
    assert apply(contained) > POLICIES * 4
    for name in names:
        contained.policy(name, revision=2, state="rescinded")
    assert apply(contained) > POLICIES * 3
    # What is left is what the proof says it is.
    assert contained.cli("verify").returncode == 0
