"""A service file with lists: below `%list` stands what `fuzzed.txt` holds; other names are looked for on the disk."""

from __future__ import annotations

from pathlib import Path

from fuzz.holding import faults_stand_inside, home, sections
from gatewrit.policy import files
from gatewrit.policy.document import compose_service, list_file
from gatewrit.policy.lists import Lists
from gatewrit.policy.load import Broken
from gatewrit.policy.ranges import AddressList, parse_list

FILE = "policies/services/fuzzed.yaml"
LIST = "fuzzed.txt"

_POLICIES = Path(home(), "policies")
(_POLICIES / "services").mkdir(parents=True)
(_POLICIES / "services" / "good.txt").write_bytes(b"192.0.2.0/24\n2001:db8::/48\n")
(_POLICIES / "services" / "out.txt").symlink_to("/etc/hostname")


def one_input(data: bytes) -> None:
    text, listed = sections(data, b"%list")
    texts = {FILE: text, list_file(FILE, LIST): listed}
    with files.open_folder(_POLICIES) as folder:
        lists = Lists(folder, {}, None)

        def fetch(name: str) -> AddressList:
            called = list_file(FILE, name)
            part = parse_list(listed, called) if name == LIST else lists.fetch(name, called)
            texts[called] = part.data
            return part

        read = compose_service(text, FILE, fetch)
    if isinstance(read, Broken):
        assert read.faults
        faults_stand_inside(read.faults, texts)
        return
    for endpoint in read.service.endpoints:
        assert endpoint.transports
        assert endpoint.ranges
        for part in endpoint.ranges:
            assert (part.first <= part.last).all() if part.family == 4 else len(part) > 0
