"""A tracked connection from the kernel: what is in it, or the one error; read beside another as by itself."""

from __future__ import annotations

from gatewrit.kernel import connections, wire

FAMILIES = (4, 6)


def one_input(data: bytes) -> None:
    for family in FAMILIES:
        try:
            alone = connections.decode([data], family)
        except wire.WireError as error:
            assert str(error)
            continue
        twice = connections.decode([data, data], family)
        assert len(twice) == 2 * len(alone)
        for end in ("original", "reply"):
            one, two = getattr(alone, end), getattr(twice, end)
            for name in ("source", "destination", "first", "second"):
                assert getattr(two, name)[: len(alone)].tolist() == getattr(one, name).tolist()
