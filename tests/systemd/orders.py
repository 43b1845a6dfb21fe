"""Orders for the machine to enforce, and packets of its own to try them with.

The addresses that orders are about lie behind a link with nobody at its other end; whatever isn't refused on the way
there is lost, and that tells the two apart. The hook is output, so that one machine will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from systemd.machine import until

if TYPE_CHECKING:
    from systemd.machine import Machine

SETTINGS = "gateway: {name: boot-test}\nhooks: [output]\n"
POLICIES = "/etc/gatewrit/policies"
#: Connects; prints `blocked` if it is refused, `passes` if nobody answers.
PROBE = """
import socket, sys
with socket.socket() as sock:
    sock.settimeout(0.5)
    try:
        sock.connect((sys.argv[1], int(sys.argv[2])))
    except ConnectionRefusedError:
        print("blocked")
    except TimeoutError:
        print("passes")
"""
#: What the network is, once it may come up: it notes what nftables holds by then.
NETWORK = """
[Unit]
DefaultDependencies=no
Wants=network-pre.target network.target
After=network-pre.target
Before=network.target shutdown.target
Conflicts=shutdown.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'nft list ruleset >/run/ruleset-when-the-network-starts'
ExecStart=/sbin/ip link add service type veth peer name nobody
ExecStart=/sbin/ip address add 198.51.100.1/24 dev service
ExecStart=/sbin/ip link set service up
ExecStart=/sbin/ip link set nobody up
ExecStart=/sbin/ip route add 203.0.113.0/24 dev service
[Install]
WantedBy=multi-user.target
"""


def place(machine: Machine, name: str, octet: int, port: int) -> None:
    """Order that 203.0.113.OCTET's port be refused."""
    machine.write(
        f"{POLICIES}/services/{name}.yaml",
        f"service: {name}\ntitle: {name}\nendpoints:\n  - prefixes: [203.0.113.{octet}/32]\n    ports: [tcp/{port}]\n",
    )
    machine.write(
        f"{POLICIES}/{name}.yaml",
        f"policy: {name}\ntitle: {name}\nrevision: 1\n"
        "order: {authority: An authority, reference: A 1, issued: 2015-07-24}\n"
        "effective: {from: 2015-12-01T00:00:00Z, until: 2100-01-01T00:00:00Z}\n"
        f"state: active\nblock: {{services: [{name}], action: reject, direction: to}}\n",
    )


def probe(machine: Machine, octet: int, port: int = 3101) -> str:
    """Send a packet: `blocked` or `passes`."""
    return machine.check("python3", "-c", PROBE, f"203.0.113.{octet}", str(port)).strip()


def owned(machine: Machine) -> bool:
    """Whether the kernel's table belongs to one process alone (Linux 6.9)."""
    return "progname" in _listing(machine)


def _listing(machine: Machine) -> str:
    return machine.ask("nft", "-a", "-t", "list", "table", "inet", "gatewrit")


def table(machine: Machine) -> str:
    """Give the handle of the kernel's table, which tells it from one that was made anew."""
    lines = _listing(machine).splitlines()
    return lines[0].rpartition("# handle ")[2].split()[0] if lines else "none"


def ready(machine: Machine) -> int:
    """Wait until HTTP says that the orders are programmed, and give its status, 200."""
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9451/readyz').status)"
    until(lambda: machine.ask("python3", "-c", ask) == "200", "/readyz answers 200 through gatewrit-http.socket")
    return 200


def packets(machine: Machine, name: str) -> int:
    """Give how many packets were counted for an order, once there are any."""
    ready(machine)
    ask = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:9451/v1/policies/{name}').read().decode())"

    def counted() -> int:
        return int(machine.json("python3", "-c", ask)["counters"]["packets"])

    until(counted, f"packets are counted for {name}")
    return counted()
