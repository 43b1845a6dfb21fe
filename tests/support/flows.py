"""What floods go to while something changes: what a list always blocks, and beside each what it never does."""

from __future__ import annotations

from lab import Packet

PORT = 3101
SUBSCRIBER = {4: "100.64.9.9", 6: "2001:db8:64::9"}
#: A single address, a prefix, and a range that is none.
PROBES = {
    "81.2.69.142/32": ("81.2.69.142", "81.2.69.143"),
    "81.2.70.16/28": ("81.2.70.31", "81.2.70.32"),
    "81.2.71.3-81.2.71.201": ("81.2.71.201", "81.2.71.202"),
}


def flow(address: str, port: int = PORT) -> Packet:
    return Packet(SUBSCRIBER[6 if ":" in address else 4], address, "udp", 40000, port)
