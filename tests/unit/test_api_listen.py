"""Addresses are read strictly, and a socket is put in place without pushing a living one aside."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from gatewrit.api.listen import (
    ListenError,
    TcpAddress,
    UnixAddress,
    identity,
    listen_tcp,
    listen_unix,
    parse,
    remove_own,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9451", TcpAddress("127.0.0.1", 9451)),
        ("127.255.0.1:1", TcpAddress("127.255.0.1", 1)),
        ("[::1]:9451", TcpAddress("::1", 9451)),
        ("0.0.0.0:9451", TcpAddress("0.0.0.0", 9451)),  # noqa: S104 - the settings see to TLS
        ("[2001:db8::1]:80", TcpAddress("2001:db8::1", 80)),
        ("[0:0:0:0:0:0:0:1]:9451", TcpAddress("::1", 9451)),
        ("unix:/run/gatewrit/http.sock", UnixAddress(Path("/run/gatewrit/http.sock"))),
    ],
)
def test_addresses_are_read(text: str, address: TcpAddress | UnixAddress) -> None:
    assert parse(text) == address
    assert parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9451",
        ":9451",
        "localhost:9451",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:٩",
        "::1:9451",
        "[::1]",
        "[127.0.0.1]",
        "[127.0.0.1]:80",
        "127.1:80",
        "unix:",
        "unix:http.sock",
        "unix:@abstract",
        "unix:/a\0b",
        "127.0.0.1:9451 ",
        "127.0.0.1:9451\n",
    ],
)
def test_what_is_not_an_address_is_refused(text: str) -> None:
    with pytest.raises(ListenError):
        parse(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_named(host: str) -> None:
    with listen_tcp(TcpAddress(host, 0)) as first:
        address = TcpAddress(host, first.getsockname()[1])
        with pytest.raises(ListenError, match="another process listens there") as caught:
            listen_tcp(address)
        assert str(address) in str(caught.value)


def test_a_unix_socket_has_its_mode_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.sock"
    with listen_unix(path, 0o640):
        status = path.lstat()
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o640
        assert list(path.parent.iterdir()) == [path]


def test_a_dead_process_s_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    listen_unix(path, 0o600).close()
    before = identity(path)
    with listen_unix(path, 0o600), socket.socket(socket.AF_UNIX) as client:
        assert identity(path) != before
        client.connect(str(path))


@pytest.mark.parametrize("full", [False, True])
def test_a_living_one_is_left_alone(tmp_path: Path, full: bool) -> None:  # noqa: FBT001
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen(0)
        clients = []
        for _ in range(2 * full):
            clients.append(socket.socket(socket.AF_UNIX))
            clients[-1].setblocking(False)
            clients[-1].connect_ex(str(path))
        before = identity(path)
        with pytest.raises(ListenError, match="another process listens there"):
            listen_unix(path, 0o600)
        assert identity(path) == before
        for client in clients:
            client.close()
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    path.write_text("mine")
    with pytest.raises(ListenError, match="isn't a socket"):
        listen_unix(path, 0o600)
    assert path.read_text() == "mine"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "x.sock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ListenError, match="isn't a socket"):
        listen_unix(tmp_path / "x.sock", 0o600)
    assert not (tmp_path / "elsewhere").exists()


def test_a_path_that_is_too_long_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="too long for a Unix socket"):
        listen_unix(tmp_path / ("x" * 100), 0o600)


def test_a_group_that_cannot_be_given_leaves_the_socket_to_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with listen_unix(tmp_path / "x.sock", 0o660, 4):
        assert stat.S_IMODE((tmp_path / "x.sock").lstat().st_mode) == 0o600


def test_a_group_that_it_has_already_takes_no_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "chown", None)
    with listen_unix(tmp_path / "x.sock", 0o660, tmp_path.stat().st_gid):
        assert stat.S_IMODE((tmp_path / "x.sock").lstat().st_mode) == 0o660


def test_only_the_own_socket_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    listen_unix(path, 0o600).close()
    own = identity(path)
    listen_unix(path, 0o600).close()
    remove_own(path, own)
    assert path.exists(), "a successor's"
    remove_own(path, identity(path))
    assert not path.exists()
    remove_own(path, own)
