"""A gateway as its operator has it: settings, policies, the real `gatewrit run` in a namespace, the real command line.

    gateway = Gateway(namespace, folder)
    gateway.order("order-a", "203.0.113.0/24", "tcp/3101")     # a policy and its service, renamed into place
    gateway.start()                                            # returns at READY=1
    gateway.reload(); gateway.status(); gateway.cli("plan")    # asked over the control socket; as a program

Everything is asked for with a deadline, and nothing is slept for: see `until`.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gatewrit.api import client
from gatewrit.cli.app import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lab import Namespace

T = TypeVar("T")

#: Seconds that anything may take on a busy machine before a test gives up.
PATIENCE = 30.0
NFT = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin") or "nft"
_PROGRAM = Path(sys.executable).with_name("gatewrit")
#: An orphan's flags are empty where nft is older than NFT_TABLE_F_PERSIST.
_OWNER = re.compile(r" # progname \S+(?=\n)|(?<=\n)\tflags (?:owner|persist|,| )*\n(?:\n(?=\t))?")
_COUNTS = re.compile(r"packets \d+ bytes \d+")


def until(what: Callable[[], T], *, seconds: float = PATIENCE, every: float = 0.02) -> T:
    """Ask again and again until the answer is true, and give it; the last answer is told when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        answer = what()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s; the last answer was {answer!r}")
        time.sleep(every)


def instant(epoch: float) -> str:
    """Give an instant as a policy writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


class Gateway:
    """One gateway in one network namespace; its files are in a folder of its own."""

    def __init__(self, space: Namespace, root: Path, *, short: Path, **settings: Any) -> None:
        self.space = space
        self.root = root
        self.policies = root / "policies"
        self.services = self.policies / "services"
        self.state = root / "state"
        self.config = root / "gatewrit.yaml"
        # Unix sockets have short paths only, and pytest's folders are long.
        self.runtime = short / "run"
        self.web = short / "http"
        #: What is started as the daemon.
        self.program = program()
        self.process: subprocess.Popen[Any] | None = None
        self.heard: list[tuple[float, str]] = []
        #: Descriptors that are kept over restarts, as systemd would; None: no such store.
        self.stored: dict[str, int] | None = None
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify_path = short / "notify"
        self._notify.bind(str(self._notify_path))
        self._notify.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.services.mkdir(parents=True, exist_ok=True)
        self.set(**settings)

    # -- files ---------------------------------------------------------------------------------------------------

    def set(self, **settings: Any) -> None:
        """Write the settings file."""
        given = {
            "gateway": {"name": "lab-1"},
            "policies": "policies",
            "state": "state",
            "runtime": str(self.runtime),
            "listen": [f"unix:{self.web}"],
            **settings,
        }
        # JSON is YAML.
        self.config.write_text(json.dumps(given))

    def write(self, name: str, text: str) -> Path:
        """Put a file below the policies as an editor does: written beside, renamed into place."""
        path = self.policies / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.new")
        draft.write_text(text)
        draft.replace(path)
        return path

    def service(self, name: str, *endpoints: tuple[Iterable[str] | str, str]) -> None:
        """Write a service of (prefixes or list file, ports) pairs."""
        self.write(f"services/{name}.yaml", service(name, *endpoints))

    def policy(self, name: str, *services: str, **fields: Any) -> None:
        """Write a policy that blocks these services (one of its own name if none is given)."""
        self.write(f"{name}.yaml", policy(name, *(services or (name,)), **fields))

    def order(self, name: str, prefixes: Iterable[str] | str, ports: str, **fields: Any) -> None:
        """Write a policy together with its service."""
        self.service(name, (prefixes, ports))
        self.policy(name, **fields)

    # -- the daemon ----------------------------------------------------------------------------------------------

    def start(self, *, ready: bool = True, **environ: str) -> subprocess.Popen[Any]:
        """Start the daemon, and wait until it says that it is ready."""
        environ = {"NOTIFY_SOCKET": str(self._notify_path), **environ}
        with self.log.open("ab") as log:
            self.process = self.space.popen(
                [*self._handing_back(), *self.program, "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**clean_environment(), **environ},
                pass_fds=tuple((self.stored or {}).values()),
            )
        if ready:
            self.hear("READY=1")
        return self.process

    def _handing_back(self) -> list[str]:
        """Give what passes on the descriptors that were stored (sd_listen_fds(3)), from 3 on."""
        if not self.stored:
            return []
        told = f"LISTEN_PID=str(os.getpid()), LISTEN_FDS='{len(self.stored)}', LISTEN_FDNAMES='{':'.join(self.stored)}'"
        moved = "; ".join(
            f"os.dup2({each}, {at}); {each} == {at} or os.close({each})"
            for at, each in enumerate(self.stored.values(), 3)
        )
        code = f"import os, sys; {moved}; os.environ.update({told}); os.execv(sys.argv[1], sys.argv[1:])"
        return [sys.executable, "-c", code]

    def hear(self, what: str, after: int = 0) -> str:
        """Wait for a notification with this line, after the first `after` ones; gives the whole message."""
        return until(lambda: self._heard(what, after), every=0.005)

    def _heard(self, what: str, after: int) -> str | None:
        self.listen()
        if self.process is not None and self.process.poll() is not None and what != "STOPPING=1":
            raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
        return next((text for _, text in self.heard[after:] if what in text.split("\n")), None)

    def listen(self) -> None:
        """Take in what the daemon notified."""
        with contextlib.suppress(BlockingIOError):
            while True:
                # Not recv_fds(), which Python 3.11 leaves without its flags.
                data, rights, _, _ = self._notify.recvmsg(4096, socket.CMSG_LEN(4), socket.MSG_DONTWAIT)
                descriptors = [int.from_bytes(each, sys.byteorder) for _, _, each in rights]
                self.heard.append((time.monotonic(), data.decode()))
                self._store(dict(line.split("=", 1) for line in data.decode().split("\n")), descriptors)

    def _store(self, told: Mapping[str, str], descriptors: list[int]) -> None:
        """Keep descriptors, and let go of them, as the daemon says."""
        name = told.get("FDNAME", "")
        stored = {} if self.stored is None else self.stored
        if "FDSTOREREMOVE" in told and name in stored:
            os.close(stored.pop(name))
        for each in descriptors:
            if self.stored is None:
                os.close(each)
            else:
                self.stored[name] = each

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the daemon."""
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the daemon, wait for it, and give its exit code."""
        assert self.process is not None
        self.send(number)
        code = self.process.wait(PATIENCE)
        self.listen()
        self.heard.clear()
        self.process = None
        return code

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon and start it again."""
        self.end(number)
        self.start()

    @property
    def log(self) -> Path:
        """What the daemon wrote to standard error."""
        return self.root / "log"

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Give the log's lines of one event."""
        lines = [json.loads(re.sub(r"^<\d>", "", line)) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line.get("event") == event]

    # -- asking --------------------------------------------------------------------------------------------------

    def ask(self, verb: str, **given: object) -> dict[str, Any]:
        """Ask over the control socket."""
        return asyncio.run(client.call(self.runtime, verb, within=PATIENCE, **given))

    def connect(self) -> socket.socket:
        """Open the control socket, to misbehave on it."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(self.runtime / "control.sock"))
        return connection

    def servers(self) -> list[int]:
        """Give the processes that speak HTTP for the daemon, which are children of it."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"gatewrit.api" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def reload(self) -> dict[str, Any]:
        """Have everything read again; the outcome."""
        return self.ask("reload")

    def status(self) -> dict[str, Any]:
        """Give what /v1/status shows."""
        answer: dict[str, Any] = self.ask("status")["status"]
        return answer

    def views(self) -> dict[str, dict[str, Any]]:
        """Give the items of /v1/policies, by id."""
        return {view["id"]: view for view in self.ask("status")["policies"]}

    def counts(self) -> dict[str, int]:
        """Give the packets of each policy, read from the kernel now."""
        self.reload()
        return {name: view["counters"]["packets"] for name, view in self.views().items()}

    def problems(self) -> list[tuple[str, str | None]]:
        """Give code and policy of each problem, but for that of a machine whose clock nothing synchronises."""
        problems = [(each["code"], each["policy"]) for each in self.status()["problems"]]
        return [each for each in problems if each != ("clock_unsynchronised", None)]

    def codes(self) -> list[str]:
        """Give the codes of these problems, in their order."""
        return [code for code, _ in self.problems()]

    def get(self, path: str) -> tuple[int, Any]:
        """Ask over HTTP; gives the status and the body, JSON decoded."""
        connection = UnixHTTP(self.web)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Host": "localhost"})
            response = connection.getresponse()
            body = response.read()
        kind = response.headers.get_content_type()
        return response.status, json.loads(body) if kind.endswith("json") else body.decode()

    def cli(self, verb: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a verb with this gateway's settings, to its end: the whole program but for its start."""
        words = [verb, "--config", str(self.config), *args]
        code, out, complaint = self.space.run(_in_place, words)
        return subprocess.CompletedProcess(words, code, out, complaint)

    def told(self, verb: str, *args: str) -> tuple[int, dict[str, Any]]:
        """Run a verb with --json; its exit code, and what it printed."""
        ended = self.cli(verb, *args, "--json")
        return ended.returncode, json.loads(ended.stdout)

    def call(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run the program itself inside the namespace, to its end."""
        with self.space.popen(
            [*program(), *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(clean_environment()),
        ) as process:
            out, complaint = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(list(args), process.returncode, out, complaint)

    # -- the kernel, as nft sees it ------------------------------------------------------------------------------

    def nft(self, script: str) -> None:
        """Change something by hand, behind the daemon's back."""
        self.space.nft(script)

    def listing(self) -> str:
        """Give `nft list ruleset` under TZ=UTC, but for what was counted."""
        return listing(self.space)

    def blocks(self, *prefixes: str) -> bool:
        """Say whether the kernel's maps hold each of these prefixes, written as nft writes them."""
        words = set(re.split(r"[\s,]+", self.listing()))
        return all(prefix in words for prefix in prefixes)

    def close(self) -> None:
        """Let go of what isn't the namespace's."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for each in (self.stored or {}).values():
            os.close(each)
        self._notify.close()


def listing(space: Namespace) -> str:
    """Give `nft list ruleset` under TZ=UTC, but for what was counted, and for whose tables are."""
    text = space.check([NFT, "list", "ruleset"], env={**clean_environment(), "TZ": "UTC"})
    return _OWNER.sub("", _COUNTS.sub("packets 0 bytes 0", text))


def _in_place(words: list[str]) -> tuple[int, str, str]:
    """Run the command line in this process, which is a fork made for it; gives exit code, output, complaints."""
    for name in set(os.environ) - set(clean_environment()):
        del os.environ[name]
    sys.argv = ["gatewrit", *words]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as complaint:
        sys.stdout, sys.stderr = out, complaint
        code: str | int | None = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        texts = []
        for file in (out, complaint):
            file.flush()
            file.seek(0)
            texts.append(file.read())
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    assert isinstance(code, int), code
    return code, texts[0], texts[1]


def program() -> list[str]:
    """Give how to run gatewrit."""
    return [str(_PROGRAM)] if _PROGRAM.exists() else [sys.executable, "-m", "gatewrit"]


def clean_environment() -> Mapping[str, str]:
    """Give the environment without what would set something for the daemon."""
    mine = ("GATEWRIT_", "NOTIFY_SOCKET", "JOURNAL_STREAM", "WATCHDOG")
    return {name: value for name, value in os.environ.items() if not name.startswith(mine)}


def service(name: str, *endpoints: tuple[Iterable[str] | str, str]) -> str:
    """Write a service of (prefixes or list file, ports) pairs."""
    lines = [f"service: {name}", f"title: Service {name}", "endpoints:"]
    for prefixes, ports in endpoints:
        if isinstance(prefixes, str) and prefixes.endswith(".txt"):
            lines.append(f"  - prefixes_from: {prefixes}")
        else:
            given = [prefixes] if isinstance(prefixes, str) else list(prefixes)
            lines.append(f"  - prefixes: {json.dumps(given)}")
        lines.append(f"    ports: [{ports}]")
    return "\n".join(lines) + "\n"


def policy(
    name: str,
    *services: str,
    action: str = "reject",
    direction: str = "to",
    revision: int = 1,
    state: str = "active",
    start: float | str = "2015-12-01T00:00:00+05:00",
    until: float | str = "2199-01-01T00:00:00Z",
) -> str:
    """Write a policy; instants may be epoch seconds."""
    begins, ends = (each if isinstance(each, str) else instant(each) for each in (start, until))
    return (
        f"policy: {name}\n"
        f"title: Order {name}\n"
        f"revision: {revision}\n"
        "order: {authority: An authority, reference: 'No. 1', issued: 2015-07-24}\n"
        f"effective: {{from: '{begins}', until: '{ends}'}}\n"
        f"state: {state}\n"
        f"block: {{services: [{', '.join(services)}], action: {action}, direction: {direction}}}\n"
    )


class UnixHTTP(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@contextlib.contextmanager
def gateway_in(space: Namespace, root: Path, **settings: Any) -> Iterator[Gateway]:
    """Put a gateway's settings and an empty policies directory into a namespace; nothing runs yet."""
    with short_folder() as short, contextlib.closing(Gateway(space, root, short=short, **settings)) as gateway:
        yield gateway


@contextlib.contextmanager
def short_folder() -> Any:
    """Make a folder with a short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="gw-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
