"""The daemon in the lab's gateway, between subscribers and an internet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.gateway import Gateway, short_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab import Lab


@pytest.fixture
def gateway(lab: Lab, tmp_path: Path) -> Iterator[Gateway]:
    """Settings and an empty policies directory at the lab's gateway; nothing runs yet."""
    with short_folder() as short:
        gateway = Gateway(lab.gateway, tmp_path, short=short)
        yield gateway
        gateway.close()
