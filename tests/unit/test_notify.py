"""What is said to the service manager, and the descriptors that it keeps."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from gatewrit.engine.notify import Notifier, passed

if TYPE_CHECKING:
    from pathlib import Path


def test_a_descriptor_is_handed_over_in_place_of_the_one_before(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        ours, theirs = os.pipe()
        notifier = Notifier(str(tmp_path / "notify"))
        notifier.keep("table", ours)
        assert manager.recv(100) == b"FDSTOREREMOVE=1\nFDNAME=table"
        data, descriptors, _, _ = socket.recv_fds(manager, 100, 2)
        assert data == b"FDSTORE=1\nFDNAME=table\nFDPOLL=0"
        (kept,) = descriptors
        assert os.path.sameopenfile(kept, ours)
        for each in (ours, theirs, kept):
            os.close(each)
        assert notifier._socket is not None
        notifier._socket.close()


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "table"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many", "LISTEN_FDNAMES": "table"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0", "LISTEN_FDNAMES": "table"},
    ],
)
def test_descriptors_that_are_for_somebody_else_are_left_alone(told: dict[str, str]) -> None:
    environ = {"HOME": "/", **told}
    assert passed(environ, "table") == []
    # Nobody that we start takes them for its own either.
    assert environ == {"HOME": "/"}
