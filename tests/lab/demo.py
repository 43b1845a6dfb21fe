"""The founding order's life, in miniature and for real: `make demo`.

The shipped policies, dated anew, are enforced by the real daemon in the lab's gateway. Real services listen at real
addresses on the other side, and a subscriber tries them all: before the order, in force, and after its rescission.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.lab import Lab
from lab.probe import Probe, Verdict
from lab.process import PATIENCE, LabError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import NoReturn

ROOT = Path(__file__).parents[2]
ORDER = "bes-shutdown.yaml"
BLOCKED_PORT = "tcp/3101"
PAGE = ("127.0.0.1", 9451)
PLAIN_WIDTH = 100
"""Columns when there is no terminal to ask."""

SERVICES = {
    "tcp/3101": "BES",
    "tcp/25": "mail",
    "tcp/443": "BIS",
    "tcp/8443": "BBM",
    "udp/443": "calls",
    "udp/3101": "",
    "icmp": "ping",
}
LEGEND = """\
BES is what the order is about. BlackBerry Internet Service (mail at 25, devices at 443) and
Messenger (8443, calls over UDP) have the same addresses and are to continue. Tried are the
first, a middle and the last address of each AS18705 prefix of 2015; others are those just
beyond each prefix, and a few well-known ones."""


# -- what is tried, and what ought to come of it -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Group:
    """Addresses of which the same is expected."""

    title: str
    subtitle: str
    addresses: tuple[str, ...]
    ordered: bool
    """Whether the order is about them."""

    def expected(self, port: str, *, in_force: bool) -> Verdict:
        """What the order says, written down here by hand: that port of those addresses, and nothing else."""
        return Verdict.RESET if in_force and self.ordered and port == BLOCKED_PORT else Verdict.REACHED


def groups(prefixes: Sequence[IPv4Network | IPv6Network]) -> list[Group]:
    """The first, a middle and the last address of each prefix; and elsewhere, the first thing beyond either end."""
    chosen = {
        version: tuple(
            str(net[i]) for net in prefixes if net.version == version for i in (0, net.num_addresses // 2, -1)
        )
        for version in (4, 6)
    }
    beyond = [net[0] - 1 for net in prefixes] + [net[-1] + 1 for net in prefixes]
    elsewhere = [str(address) for address in beyond if not any(address in net for net in prefixes)]
    # 204.187.87.0/24 is often listed as BlackBerry's, and wasn't in 2015.
    elsewhere += ["204.187.87.1", "8.8.8.8", "2001:4860:4860::8888"]
    return [
        Group("AS18705", "IPv4: ", chosen[4], ordered=True),
        Group("AS18705", "IPv6: ", chosen[6], ordered=True),
        Group("others", "both: ", tuple(elsewhere), ordered=False),
    ]


def read_prefixes(path: Path) -> list[IPv4Network | IPv6Network]:
    """The shipped list, read without gatewrit's help."""
    lines = (re.split("[#;]", line)[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [ip_network(line) for line in lines if line]


# -- the stage ---------------------------------------------------------------------------------------------------------


class Stage:
    """The lab with the daemon in its gateway, and a folder for its files that is gone afterwards."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gatewrit-demo-"))
        self._sweeper = _sweep_when_we_are_gone(self.folder)
        self._stack = contextlib.ExitStack()
        self.settings = self.folder / "gatewrit.yaml"
        self.socket = self.folder / "http.sock"
        self.log = self.folder / "daemon.log"
        self.daemon: subprocess.Popen[Any] | None = None

    def __enter__(self) -> Self:
        try:
            self.lab = self._stack.enter_context(Lab())
            self.lab.listen([port for port in SERVICES if port != "icmp"])
            shutil.copytree(ROOT / "policies", self.folder / "policies")
            self.settings.write_text(
                "gateway: {name: demo-gateway}\n"
                f"policies: {self.folder}/policies\n"
                f"state: {self.folder}/state\n"
                f"runtime: {self.folder}/run\n"
                f'listen: ["unix:{self.socket}"]\n',
                encoding="utf-8",
            )
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.daemon is not None:
            self.daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.daemon.wait(timeout=5)
        self._stack.close()
        os.close(self._sweeper)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def prefixes(self) -> list[IPv4Network | IPv6Network]:
        """What the order is about."""
        return read_prefixes(self.folder / "policies/services/as18705-2015-11-01.txt")

    def amend(self, **fields: object) -> None:
        """Write the order anew, with these fields changed, and renamed into place."""
        path = self.folder / "policies" / ORDER
        text = path.read_text(encoding="utf-8")
        for field, value in fields.items():
            text, times = re.subn(rf"(?m)^( *){field}: .*$", rf"\g<1>{field}: {value}", text)
            if times != 1:
                raise LabError(f"{ORDER} has {times} lines `{field}:`; the demo knows how to change one")
        fresh = path.with_suffix(".tmp~")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)

    def start(self) -> None:
        """Run the daemon in the gateway, until it says that it is ready."""
        address = self.folder / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, self.log.open("w", encoding="utf-8") as log:
            told.bind(str(address))
            told.settimeout(0.2)
            self.daemon = self.lab.gateway.popen(
                self._command("run"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**_environment(), "NOTIFY_SOCKET": str(address)},
                start_new_session=True,  # so that Ctrl-C is ours to handle
            )
            deadline = time.monotonic() + PATIENCE
            while self.daemon.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(TimeoutError):
                    if b"READY=1" in told.recv(4096).split(b"\n"):
                        return
        raise LabError(f"the daemon did not become ready:\n{self.log.read_text(encoding='utf-8')}")

    def reload(self) -> None:
        """Have the daemon read everything again, and wait for the outcome, as an operator would."""
        done = subprocess.run(
            self._command("reload"), capture_output=True, text=True, check=False, timeout=PATIENCE, env=_environment()
        )
        if done.returncode != 0:
            raise LabError(f"gatewrit reload: exit {done.returncode}: {done.stdout}{done.stderr}")

    def ask(self, path: str) -> Any:
        """The API, over its socket."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(self.socket))
            client.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    @property
    def status_command(self) -> list[str]:
        """What the user may type, as it works from out here too."""
        return self._command("status")

    def _command(self, verb: str) -> list[str]:
        return [str(Path(sys.executable).with_name("gatewrit")), verb, "--config", str(self.settings)]


def _environment() -> dict[str, str]:
    """Ours, without what would override the demo's own settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GATEWRIT_")}


def _sweep_when_we_are_gone(folder: Path) -> int:
    """Have a child remove the folder even if we are killed: it ends when the descriptor that this gives is closed."""
    watched, held = os.pipe()
    if os.fork() == 0:
        try:
            os.setsid()  # out of reach of what is sent to our terminal's processes
            os.close(held)
            os.read(watched, 1)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os._exit(0)
    os.close(watched)
    return held


# -- the play ----------------------------------------------------------------------------------------------------------


def matrix(
    console: Console, title: str, tried: Sequence[Group], seen: Mapping[Probe, Verdict], *, in_force: bool
) -> bool:
    """Print expected beside seen; True if they are the same everywhere."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("\nport", no_wrap=True)
    table.add_column("", no_wrap=True)
    for group in tried:
        table.add_column(f"{group.title}\nexpected", no_wrap=True)
        table.add_column(f"{group.subtitle}{len(group.addresses)}\nseen", no_wrap=True)
    right = True
    for port, service in SERVICES.items():
        cells: list[str | Text] = [port, service]
        for group in tried:
            expected = group.expected(port, in_force=in_force)
            counts = Counter(seen[Probe(address, port)] for address in group.addresses)
            fits = set(counts) == {expected}
            right = right and fits
            usual = "green" if expected is Verdict.REACHED else "yellow"
            cells.append(Text(expected, style=usual))
            said = ", ".join(f"{number} {verdict}" for verdict, number in counts.most_common())
            cells.append(Text(f"{said} {'✓' if fits else '✗'}", style=usual if fits else "bold white on red"))
        table.add_row(*cells)
    console.rule(f"[bold]{title}", align="left", style="none")
    console.print(table)
    return right


@dataclass(slots=True)
class Play:
    """The order's life, act by act; `right` as long as everything was as expected."""

    console: Console
    stage: Stage
    right: bool = True
    _refused: int = 0

    def run(self) -> bool:
        """All acts; True if every cell and every count was as expected."""
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        review = tomorrow.date() + timedelta(days=31)
        self.stage.amend(**{"from": stamp(tomorrow), "review_by": review})
        self.stage.start()
        self._look("1. Before the order: revision 1, which starts tomorrow, is loaded", in_force=False)
        self.console.print(f"[dim]{LEGEND}[/]\n")

        begins = math.ceil(time.time()) + 2
        start = datetime.fromtimestamp(begins, UTC)
        self.stage.amend(revision=2, **{"from": stamp(start)})
        self.stage.reload()
        self.console.print(f"[dim]Revision 2 starts at {start:%H:%M:%S} UTC; its rules wait in the kernel.[/]\n")
        time.sleep(max(0.0, begins - time.time()) + 0.05)
        self._look("2. In force: BES is refused, its neighbours are not", in_force=True)

        self.stage.amend(revision=3, state="rescinded")
        self.stage.reload()
        self._look("3. Rescinded: revision 3 has lifted the block", in_force=False)
        return self.right

    def _look(self, title: str, *, in_force: bool) -> None:
        tried = groups(self.stage.prefixes)
        probes = [Probe(address, port) for group in tried for address in group.addresses for port in SERVICES]
        seen = self.stage.lab.probe(probes)
        self._refused += sum(verdict is Verdict.RESET for verdict in seen.values())
        cells = matrix(self.console, title, tried, seen, in_force=in_force)
        policy = self._settled()
        counted = policy["counters"]["packets"]
        self.right = self.right and cells and counted == self._refused
        status = self.stage.ask("/v1/status")["enforcement"]
        self.console.print(
            f"gatewrit: {status}; revision {policy['revision']} is {policy['state']}; it has counted {counted} packets,"
            f" {self._refused} were refused so far {'✓' if counted == self._refused else '✗'}\n",
            highlight=False,
        )

    def _settled(self) -> Any:
        """The order as the daemon shows it, once its counters, which it reads from time to time, have caught up."""
        deadline = time.monotonic() + 10
        while True:
            policy = self.stage.ask("/v1/policies/bes-shutdown")
            if policy["counters"]["packets"] >= self._refused or time.monotonic() > deadline:
                return policy
            time.sleep(0.05)


def stamp(instant: datetime) -> str:
    """An instant as policies write it, in the order's own zone."""
    return instant.astimezone(datetime.fromisoformat("2015-12-01T00:00:00+05:00").tzinfo).isoformat(timespec="seconds")


# -- afterwards --------------------------------------------------------------------------------------------------------


async def keep_open(console: Console, stage: Stage) -> NoReturn:
    """Show the page to the user's own browser, while a subscriber goes on trying, until Ctrl-C."""
    server = await _listen(stage.socket)
    host, port = server.sockets[0].getsockname()
    if port != PAGE[1]:
        console.print(f"[dim]Port {PAGE[1]} is taken here.[/]")
    console.print(
        "The order is back in force (revision 4), and a subscriber tries BES once a second, for you to see.\n"
        f"\n    [bold]http://{host}:{port}/[/]\n"
        f"    {' '.join(stage.status_command)}\n"
        f"    the order to edit: {stage.folder / 'policies' / ORDER} (raise its revision)\n"
        "\nCtrl-C ends it and leaves nothing behind.",
        soft_wrap=True,
        highlight=False,
    )
    address = str(stage.prefixes[0][1])
    while True:
        stage.lab.try_one(address, BLOCKED_PORT)
        await asyncio.sleep(1)


async def _listen(behind: Path) -> asyncio.Server:
    """Pass bytes between a port out here and the daemon's socket: the networks stay apart."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_unix_connection(str(behind))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pump(reader, inner_writer))
                tasks.create_task(_pump(inner_reader, writer))
        writer.close()

    try:
        return await asyncio.start_server(serve, *PAGE)
    except OSError:
        return await asyncio.start_server(serve, PAGE[0], 0)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def main() -> int:
    """Run the demo; 0 only if every cell was as expected."""
    arguments = argparse.ArgumentParser(prog="make demo", description="The founding case in a lab of namespaces.")
    arguments.add_argument("--once", action="store_true", help="end after the last matrix")
    once = arguments.parse_args().once
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have it ignored in the background
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    right = False
    try:
        with Stage() as stage:
            right = Play(console, stage).run()
            console.print("[bold green]All as expected.[/]\n" if right else "[bold red]Not as expected: see ✗.[/]\n")
            if not once:
                stage.amend(revision=4, state="active")
                stage.reload()
                asyncio.run(keep_open(console, stage))
    except KeyboardInterrupt:
        console.print("\nEnded; nothing is left.")
    except LabError as error:
        console.print("[bold red]The demo cannot go on:[/]", Text(str(error)), soft_wrap=True)
        return 1
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
