"""A subscriber and a BlackBerry server, in network namespaces of the machine's, which forwards between them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from systemd.machine import until

if TYPE_CHECKING:
    from systemd.machine import Machine

#: In the list that README's policy blocks. Blocked is one port of it; mail goes by the other and must continue.
SERVER, BLOCKED, MAIL = "206.51.26.33", 3101, 443
_ROAD = f"""
ip netns add subscriber
ip netns add server
ip link add to-subscriber type veth peer name eth0 netns subscriber
ip link add to-server type veth peer name eth0 netns server
ip address add 100.64.0.1/30 dev to-subscriber
ip address add 198.18.0.1/30 dev to-server
ip -n subscriber address add 100.64.0.2/30 dev eth0
ip -n server address add 198.18.0.2/30 dev eth0
ip -n server address add {SERVER}/32 dev lo
ip link set to-subscriber up
ip link set to-server up
ip -n subscriber link set eth0 up
ip -n server link set eth0 up
ip -n server link set lo up
ip -n subscriber route add default via 100.64.0.1
ip -n server route add default via 198.18.0.1
ip route add {SERVER}/32 via 198.18.0.2
"""
_SERVE = """
import selectors, socket, sys
ready = selectors.DefaultSelector()
for port in sys.argv[2:]:
    ready.register(socket.create_server((sys.argv[1], int(port)), backlog=1024), selectors.EVENT_READ)
while True:
    for key, _ in ready.select():
        key.fileobj.accept()[0].close()
"""
#: Tries the ports in turn, the given number of times or until the file is there, and prints what became of it.
_TRY = """
import collections, json, os, socket, struct, sys, time
address, most, end, *ports = sys.argv[1:]
seen = {port: collections.Counter() for port in ports}
for _ in range(int(most)):
    for port in ports:
        with socket.socket() as sock:
            sock.settimeout(1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                sock.connect((address, int(port)))
                seen[port]["passes"] += 1
            except ConnectionRefusedError:
                seen[port]["blocked"] += 1
            except OSError as error:
                seen[port][str(error)] += 1
    if os.path.exists(end):
        break
    time.sleep(0.002)
print(json.dumps(seen))
"""
_END, _SEEN = "/run/traffic-ends", "/run/traffic.json"


def lay(machine: Machine) -> None:
    """Lay the road, and start the server."""
    for line in _ROAD.strip().splitlines():
        machine.check(*line.split())
    machine.check("tee", "/proc/sys/net/ipv4/ip_forward", stdin="1\n")
    inside = ("ip", "netns", "exec", "server", "python3", "-c", _SERVE, SERVER, str(BLOCKED), str(MAIL))
    machine.check("systemd-run", "--quiet", "--unit=server", *inside)
    until(lambda: probe(machine, MAIL) == "passes", "the subscriber reaches the server")


def probe(machine: Machine, port: int) -> str:
    """Try a port of the server's once, from the subscriber: `passes`, `blocked`, or why neither."""
    inside = ("ip", "netns", "exec", "subscriber", "python3", "-c", _TRY, SERVER, "1", _END, str(port))
    (seen,) = json.loads(machine.check(*inside))[str(port)]
    return str(seen)


def begin(machine: Machine) -> None:
    """Have the subscriber try both ports over and over, until `end`."""
    machine.check("rm", "-f", _END, _SEEN)
    inside = ("ip", "netns", "exec", "subscriber", "python3", "-c", _TRY, SERVER, "1000000", _END)
    output = ("--property", f"StandardOutput=file:{_SEEN}")
    machine.check("systemd-run", "--quiet", "--unit=traffic", *output, *inside, str(BLOCKED), str(MAIL))


def end(machine: Machine) -> Any:
    """End it, and give by port (a string) how often it was `passes` and `blocked`."""
    machine.check("touch", _END)
    until(lambda: machine.ask("cat", _SEEN), "the traffic ends")
    machine.check("rm", _END)
    return machine.json("cat", _SEEN)
