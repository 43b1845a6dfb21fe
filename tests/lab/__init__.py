"""The lab: real packets through real namespaces, on nobody's network.

    with Lab() as lab:                                  # subscriber ═ gateway ═ internet; about 0.1 s
        lab.listen()                                    # at every address of the internet: listeners.PORTS
        lab.gateway.nft("table inet t { ... }")         # nft -f - in there; LabError with nft's complaint
        daemon = lab.gateway.popen(["gatewrit", "run", "--config", path])        # subprocess.Popen, inside
        text = lab.gateway.check(["nft", "list", "ruleset"])                     # to its end; its output
        value = lab.gateway.run(function, argument)     # in a child inside; its result or its exception comes back
        task = lab.gateway.start(function, argument)    # the same in the background: .result(timeout), .stop()
        sock = lab.gateway.socket(AF_INET, SOCK_STREAM) # made inside, used out here
        lab.try_one("206.51.26.1", "tcp/3101")          # -> Verdict.REACHED
        lab.probe([Probe("2607:ffc0::1", "udp/443"), Probe("8.8.8.8", "icmp", source="100.64.9.9")])
                                                        # -> {Probe: Verdict}; 3 ms, and 0.2 ms for each
        lab.exchange([Packet("100.64.9.9", "206.51.26.1", "sctp", destination_port=3101), Packet(..., offset=1480)])
                                                        # -> [Verdict]: raw packets of any shape, both ends hushed so
                                                        #    that counters are exact; 5 ms, and 0.05 ms for each

    with Namespace() as ns:                             # one fresh namespace, loopback up: enough to load rules
        ns.run(load, ruleset)

`probe` and `exchange` go from the subscriber to the internet; `origin=lab.internet, target=lab.subscriber` turns them
round, and `lab.gateway` may be either end. Sources may be any address of the origin (of anybody, for raw packets).

As pytest fixtures: `lab` and `namespace`, fresh for each test. A function for `run` may be a closure or a lambda (it is
forked, not pickled); its result must pickle. `ns.run(asyncio.run, coroutine())` runs asynchronous code inside. A test's
whole body can run inside: its assertions fail out here. As root the namespaces are root's own; others get a user
namespace (`Lab(rootless=True)` tries that as root).

Addresses: the internet answers at *every* address that isn't a subscriber's; subscribers have all of 100.64.0.0/10 and
2001:db8:64::/48 (`Lab(subscribers=[...])` for others). The gateway's interfaces are gn0, towards the subscribers, and
gi0, towards the internet. 198.18.0.0/15 and 2001:db8:ffff::/48 belong to the lab: policies under test leave them alone.

Verdicts: reached, reset (TCP RST on the way), prohibited (ICMP administratively prohibited), silent (dropped), closed
(got there, nobody listens), unreachable. No verdict waits for a timeout: a dropped packet is known by an echo that was
sent after it and came back. Nothing outlives the process that made the lab, however it ends, and no sender sends
anything before it has made sure that it is in the lab.
"""

from lab.guard import Refused, require_lab
from lab.lab import Lab
from lab.namespace import Namespace
from lab.packets import Packet
from lab.probe import Probe, Verdict
from lab.process import LabError, Task

__all__ = ["Lab", "LabError", "Namespace", "Packet", "Probe", "Refused", "Task", "Verdict", "require_lab"]
