"""The control socket from both sides: who may, what is refused, and what happens when one end dies."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatewrit.api import client, control, listen
from gatewrit.api.control import Caller, Verb, VerbError, may_control
from support.users import can_be

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

NOBODY = 65534


as_root = pytest.mark.skipif(not can_be(NOBODY), reason="becoming another user takes root")


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Return a directory that every user can reach, unlike pytest's own, with a path short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="gw-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


async def echo(arguments: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    return {"arguments": dict(arguments), "uid": caller.uid, "pid": caller.pid, "name": caller.name}


async def fail(arguments: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    raise RuntimeError("the inside")


async def decline(arguments: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    raise VerbError("held", "it is held")


VERBS = {
    "echo": Verb(echo, {"reason": str, "number": int, "all": bool}),
    "fail": Verb(fail),
    "decline": Verb(decline),
}


async def exchange(runtime: Path, request: bytes) -> list[dict[str, Any]]:
    """Send bytes and return every line that comes back."""
    reader, writer = await asyncio.open_unix_connection(control.socket_path(runtime))
    try:
        writer.write(request)
        writer.write_eof()
        return [json.loads(line) for line in (await asyncio.wait_for(reader.read(), 10)).splitlines()]
    finally:
        writer.close()


async def test_a_verb_is_called_with_its_arguments_and_who_asks(runtime: Path) -> None:
    async with control.serve(runtime, VERBS):
        answer = await client.call(runtime, "echo", reason="so", number=3, all=True)
    assert answer["arguments"] == {"reason": "so", "number": 3, "all": True}
    assert (answer["uid"], answer["pid"]) == (os.getuid(), os.getpid())
    assert answer["name"]


async def test_what_is_none_is_not_sent(runtime: Path) -> None:
    async with control.serve(runtime, VERBS):
        assert (await client.call(runtime, "echo", reason=None))["arguments"] == {}


async def test_the_protocol_is_one_object_a_line_each_way(runtime: Path) -> None:
    async with control.serve(runtime, VERBS):
        answers = await exchange(runtime, b'{"verb": "echo"}\n{"verb": "decline"}\n')
    assert answers[0]["ok"] is True
    assert answers[0]["answer"]["arguments"] == {}
    assert answers[1] == {"ok": False, "code": "held", "message": "it is held"}


@pytest.mark.parametrize(
    ("request_line", "code", "words"),
    [
        (b'{"verb": "reboot"}', "unknown_verb", "it knows decline, echo, fail"),
        (b'{"verb": "echo", "resaon": "x"}', "unknown_key", "it takes reason, number, all"),
        (b'{"verb": "fail", "reason": "x"}', "unknown_key", "it takes nothing else"),
        (b'{"verb": "echo", "reason": 1}', "bad_value", "reason as str"),
        (b'{"verb": "echo", "number": true}', "bad_value", "number as int"),
        (b'{"verb": 7}', "bad_request", "JSON object"),
        (b"{}", "bad_request", "JSON object"),
        (b"[]", "bad_request", "JSON object"),
        (b"", "bad_request", "JSON object"),
        (b"reload", "bad_request", "JSON object"),
        (b"\xff\xfe", "bad_request", "JSON object"),
        (b"[" * 60000, "bad_request", "JSON object"),
    ],
)
async def test_what_is_not_understood_is_refused_and_the_next_request_served(
    runtime: Path, request_line: bytes, code: str, words: str
) -> None:
    async with control.serve(runtime, VERBS):
        refusal, answer = await exchange(runtime, request_line + b'\n{"verb": "echo"}\n')
    assert refusal["ok"] is False
    assert refusal["code"] == code
    assert words in refusal["message"]
    assert answer["ok"] is True


async def test_a_request_without_its_end_is_refused(runtime: Path) -> None:
    async with control.serve(runtime, VERBS):
        (refusal,) = await exchange(runtime, b'{"verb": "echo"}')
    assert refusal["code"] == "bad_request"


@pytest.mark.parametrize("end", [b"", b"\n"])
async def test_a_request_that_is_too_large_is_refused(runtime: Path, end: bytes) -> None:
    async with control.serve(runtime, VERBS):
        (refusal,) = await exchange(runtime, b'{"verb": "echo", "reason": "' + b"x" * 300_000 + b'"}' + end)
    assert refusal["code"] == "too_large"


async def test_who_is_too_slow_is_hung_up_on(runtime: Path) -> None:
    async with control.serve(runtime, VERBS, patience=0.2):
        reader, writer = await asyncio.open_unix_connection(control.socket_path(runtime))
        writer.write(b'{"verb"')
        answer = json.loads(await asyncio.wait_for(reader.read(), 5))
        writer.close()
    assert answer["code"] == "timeout"


async def test_a_fault_of_ours_tells_the_caller_nothing(runtime: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with control.serve(runtime, VERBS):
        with pytest.raises(client.RefusedError, match="its log says more") as caught:
            await client.call(runtime, "fail")
        assert (await client.call(runtime, "echo"))["arguments"] == {}
    assert caught.value.code == "internal"
    assert "the inside" in capsys.readouterr().out


async def test_a_refusal_reaches_the_caller_with_its_code(runtime: Path) -> None:
    async with control.serve(runtime, VERBS):
        with pytest.raises(client.RefusedError, match=r"^it is held$") as caught:
            await client.call(runtime, "decline")
    assert caught.value.code == "held"


async def test_several_clients_at_once(runtime: Path) -> None:
    started = asyncio.Semaphore(0)
    gate = asyncio.Event()

    async def wait(arguments: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        started.release()
        await gate.wait()
        return {}

    async with control.serve(runtime, {**VERBS, "wait": Verb(wait)}):
        slow = [asyncio.create_task(client.call(runtime, "wait")) for _ in range(10)]
        for _ in slow:
            await started.acquire()
        assert (await client.call(runtime, "echo"))["arguments"] == {}, (
            "a slow reload doesn't keep status from answering"
        )
        gate.set()
        assert await asyncio.gather(*slow) == [{}] * 10


async def test_of_too_many_clients_the_newest_is_refused(runtime: Path) -> None:
    async with control.serve(runtime, VERBS):
        path = control.socket_path(runtime)
        kept = [await asyncio.open_unix_connection(path) for _ in range(80)]
        await asyncio.sleep(0.1)
        with pytest.raises(client.RefusedError, match="too many") as caught:
            await client.call(runtime, "echo")
        for _, writer in kept:
            writer.close()
        await asyncio.sleep(0.1)
        assert await client.call(runtime, "echo")
    assert caught.value.code == "busy"


@as_root
async def test_whoever_keeps_the_seats_taken_does_not_keep_root_out(runtime: Path) -> None:
    group = some_group(runtime)
    async with control.serve(runtime, VERBS, group=group.gr_name):
        path = control.socket_path(runtime)
        kept = [await asyncio.open_unix_connection(path) for _ in range(64)]
        # Each has its seat once it is answered.
        for reader, writer in kept:
            writer.write(b'{"verb": "echo"}\n')
            await asyncio.wait_for(reader.readline(), 10)
        assert json.loads(await as_user(NOBODY, [group.gr_gid], lambda: ask(runtime)))["code"] == "busy"
        assert (await client.call(runtime, "echo"))["uid"] == os.geteuid()
        for _, writer in kept:
            writer.close()


async def test_a_caller_that_leaves_does_not_stop_what_it_asked_for(runtime: Path) -> None:
    started, gate, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def reload(arguments: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        started.set()
        await gate.wait()
        done.set()
        return {}

    async with control.serve(runtime, {"reload": Verb(reload)}):
        task = asyncio.create_task(client.call(runtime, "reload"))
        await started.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.wait_for(done.wait(), 2)


async def test_at_the_end_a_verb_under_way_gets_its_grace(runtime: Path) -> None:
    async def slow(arguments: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        await asyncio.sleep(arguments["number"] / 1000)
        return {"done": True}

    async with control.serve(runtime, {"slow": Verb(slow, {"number": int})}, grace=0.5):
        soon = asyncio.create_task(client.call(runtime, "slow", number=200))
        late = asyncio.create_task(client.call(runtime, "slow", number=60_000))
        idle = await asyncio.open_unix_connection(control.socket_path(runtime))
        await asyncio.sleep(0.05)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 2
    assert await soon == {"done": True}
    with pytest.raises(client.LostError, match="the daemon ended before it answered slow"):
        await late
    idle[1].close()
    assert not control.socket_path(runtime).exists()


async def test_no_daemon_is_a_sentence(runtime: Path) -> None:
    with pytest.raises(
        client.NoDaemonError, match=f"^no daemon is running here: nobody answers at {runtime}/control.sock. What was in"
    ):
        await client.call(runtime, "status")
    with pytest.raises(client.NoDaemonError):
        await client.call(runtime / "nowhere", "status")
    listen.listen_unix(control.socket_path(runtime), 0o600).close()
    with pytest.raises(client.NoDaemonError):
        await client.call(runtime, "status")


async def test_a_daemon_that_hangs_is_told_from_one_that_works(runtime: Path) -> None:
    with (
        listen.listen_unix(control.socket_path(runtime), 0o600),
        pytest.raises(client.LostError, match=r"within 0\.2 s"),
    ):
        await client.call(runtime, "status", within=0.2)


@pytest.mark.parametrize("answer", [b"hello\n", b"{}\n", b"[]\n", b"\xff\n", b'{"ok": false}\n'])
async def test_what_is_not_our_daemon_is_noticed(runtime: Path, answer: bytes) -> None:
    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(stranger, control.socket_path(runtime)):
        with pytest.raises(client.LostError, match="isn't a gatewrit"):
            await client.call(runtime, "status")


async def test_a_large_answer_arrives_whole(runtime: Path) -> None:
    async def large(arguments: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        return {"items": ["x" * 1000] * 20_000}

    async with control.serve(runtime, {"large": Verb(large)}):
        assert len((await client.call(runtime, "large"))["items"]) == 20_000


async def test_a_second_daemon_is_refused_by_name(runtime: Path) -> None:
    async with control.serve(runtime, VERBS):
        with pytest.raises(
            control.HeldError,
            match=rf"^another gatewrit \(pid {os.getpid()}\) holds {runtime}/control.sock$",
        ):
            async with control.serve(runtime, VERBS):
                pass
        assert await client.call(runtime, "echo"), "and the first isn't disturbed"


async def test_a_killed_daemon_s_socket_is_taken_over(runtime: Path) -> None:
    code = textwrap.dedent(f"""
        import asyncio, os, pathlib, signal
        from gatewrit.api import control
        async def main():
            async with control.serve(pathlib.Path({str(runtime)!r}), {{}}):
                print("up", flush=True)
                await asyncio.sleep(60)
        asyncio.run(main())
    """)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as daemon:  # noqa: ASYNC220
        assert daemon.stdout
        assert await asyncio.to_thread(daemon.stdout.readline) == b"up\n"
        with pytest.raises(control.HeldError, match=rf"pid {daemon.pid}\)"):
            async with control.serve(runtime, VERBS):
                pass
        daemon.kill()
        daemon.wait()
    assert control.socket_path(runtime).exists()
    with pytest.raises(client.NoDaemonError):
        await client.call(runtime, "echo")
    async with control.serve(runtime, VERBS):
        assert await client.call(runtime, "echo")


async def test_the_socket_is_its_owner_s_alone_without_a_group(runtime: Path) -> None:
    async with control.serve(runtime, VERBS, group="no-such-group-here"):
        status = control.socket_path(runtime).stat()
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert status.st_uid == os.geteuid()


def some_group(runtime: Path) -> grp.struct_group:
    """Return a group that this process may give a file to: for root one it isn't in, or it would prove nothing."""
    own = {os.getegid(), *os.getgroups()}
    probe = runtime / "probe"
    probe.touch()
    for entry in grp.getgrall():
        wanted = entry.gr_gid not in own if os.geteuid() == 0 else entry.gr_gid in own
        if wanted and entry.gr_gid != NOBODY:
            with contextlib.suppress(OSError):
                os.chown(probe, -1, entry.gr_gid)
                return entry
    pytest.skip("there is no group here that a file may be given to")


async def test_the_socket_is_given_to_the_group_if_there_is_one(runtime: Path) -> None:
    group = some_group(runtime)
    async with control.serve(runtime, VERBS, group=group.gr_name):
        status = control.socket_path(runtime).stat()
        assert stat.S_IMODE(status.st_mode) == 0o660
        assert status.st_gid == group.gr_gid


@pytest.mark.parametrize(
    ("uid", "groups", "own", "group", "may"),
    [
        (0, (), 990, None, True),
        (990, (), 990, None, True),
        (1000, (), 990, None, False),
        (1000, (1000, 27), 990, None, False),
        (1000, (1000, 27), 990, 27, True),
        (1000, (1000, 27), 990, 28, False),
        (NOBODY, (NOBODY,), 0, None, False),
    ],
)
def test_who_may(uid: int, groups: tuple[int, ...], own: int, group: int | None, may: bool) -> None:  # noqa: FBT001
    assert may_control(uid, groups, own, group) is may


async def as_user(uid: int, groups: list[int], action: Callable[[], bytes]) -> bytes:
    """Return what `action` returns in a child process of another user."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child does nothing that threads could hurt
        child = os.fork()
    if child == 0:  # pragma: no cover
        status = 1
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            os.write(write, action())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    try:
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert status == 0
        return os.read(read, 65536)
    finally:
        os.close(read)


def ask(runtime: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        try:
            sock.connect(str(control.socket_path(runtime)))
        except PermissionError:
            return b'{"code": "EACCES"}'
        sock.sendall(b'{"verb": "echo"}\n')
        return sock.recv(65536)


@as_root
async def test_the_kernel_says_who_calls_whatever_the_socket_s_mode(runtime: Path) -> None:
    async with control.serve(runtime, VERBS):
        assert json.loads(await as_user(NOBODY, [], lambda: ask(runtime)))["code"] == "EACCES"
        control.socket_path(runtime).chmod(0o666)
        refusal = json.loads(await as_user(NOBODY, [], lambda: ask(runtime)))
    assert refusal["ok"] is False
    assert refusal["code"] == "not_allowed"
    assert refusal["message"].startswith(f"user {NOBODY} may not control this daemon")


@as_root
async def test_a_member_of_the_control_group_may(runtime: Path) -> None:
    group = some_group(runtime)
    async with control.serve(runtime, VERBS, group=group.gr_name):
        answer = json.loads(await as_user(NOBODY, [group.gr_gid], lambda: ask(runtime)))
        assert answer["answer"]["uid"] == NOBODY
        assert json.loads(await as_user(NOBODY, [NOBODY], lambda: ask(runtime)))["code"] == "EACCES"


@as_root
async def test_whom_the_socket_s_mode_keeps_out_is_told_who_may(runtime: Path) -> None:
    async with control.serve(runtime, VERBS):
        # Another interpreter, because an event loop doesn't survive a fork.
        code = f"""
import asyncio, os, pathlib
from gatewrit.api import client
os.setgid({NOBODY}); os.setuid({NOBODY})
try: asyncio.run(client.call(pathlib.Path({str(runtime)!r}), "echo"))
except client.NotAllowedError as error: print(error)
"""
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        assert out.decode().startswith(f"not allowed to open {runtime}/control.sock: root,")
        control.socket_path(runtime).chmod(0o666)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        assert out.decode().startswith(f"user {NOBODY} may not control this daemon")


def serve_once(runtime: Path, owner: int | None = None) -> None:
    async def once() -> None:
        async with control.serve(runtime, {}, owner=owner):
            pass

    asyncio.run(once())


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_directory_that_others_can_write_to_is_refused(runtime: Path, mode: int) -> None:
    runtime.chmod(mode)
    with pytest.raises(listen.ListenError, match="others can write to it"):
        serve_once(runtime)
    assert list(runtime.iterdir()) == []


@as_root
def test_a_directory_of_somebody_else_s_is_refused(runtime: Path) -> None:
    os.chown(runtime, 4711, -1)
    with pytest.raises(listen.ListenError, match="user 4711 owns it"):
        serve_once(runtime)


@as_root
def test_a_directory_of_whose_the_state_is_will_do(runtime: Path) -> None:
    os.chown(runtime, 4711, -1)
    serve_once(runtime, owner=4711)
    with pytest.raises(listen.ListenError, match="user 4711 owns it"):
        serve_once(runtime, owner=4712)
