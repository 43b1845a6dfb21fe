"""A policy file: read, or refused with faults that stand in it."""

from __future__ import annotations

from fuzz.holding import faults_stand_inside
from gatewrit.policy.faults import CAP
from gatewrit.policy.load import Broken, parse_policy

FILE = "policies/fuzzed.yaml"


def one_input(data: bytes) -> None:
    read = parse_policy(data, FILE)
    if isinstance(read, Broken):
        assert read.faults
        assert len(read.faults) <= CAP + 1
        faults_stand_inside(read.faults, {FILE: data})
    else:
        faults_stand_inside(read.warnings, {FILE: data})
        # Line breaks of another system mean the same.
        again = parse_policy(data.replace(b"\n", b"\r\n"), FILE) if b"\r" not in data else read
        assert not isinstance(again, Broken)
        assert again.meaning == read.meaning
