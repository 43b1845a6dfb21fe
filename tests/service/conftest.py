"""A gateway in a namespace of its own: rules load there, nothing passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.gateway import Gateway, gateway_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab import Namespace


@pytest.fixture
def gateway(namespace: Namespace, tmp_path: Path) -> Iterator[Gateway]:
    """Settings and an empty policies directory; nothing runs yet."""
    with gateway_in(namespace, tmp_path) as gateway:
        yield gateway
