"""A rule's expressions from the kernel: values, or the one error; what was read writes and reads back alike."""

from __future__ import annotations

from gatewrit.kernel import expressions, wire
from gatewrit.kernel.expressions import Unknown


def one_input(data: bytes) -> None:
    try:
        read = expressions.decode(data)
    except wire.WireError as error:
        assert str(error)
        return
    assert expressions.decode(expressions.encode(read)) == read
    for each in read:
        assert isinstance(each, Unknown) or each.__class__.__name__ in expressions.__dict__
