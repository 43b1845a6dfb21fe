"""The metrics as a scraper reads them: names from the contract, values from the snapshot."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import generate_latest as in_text
from prometheus_client.openmetrics.exposition import generate_latest as in_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from gatewrit.api.metrics import exposition
from gatewrit.engine.snapshot import Accepted, PolicyState
from unit.api_samples import DEGRADED, NOW, SHUTDOWN, STARTING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

    from gatewrit.engine.snapshot import Snapshot

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(snapshot: Snapshot) -> Samples:
    return read(parse_text(exposition(snapshot).decode()))


def read(families: Iterable[Metric]) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


@pytest.fixture
def samples() -> Samples:
    return scraped(DEGRADED)


def test_exactly_one_verdict_holds(samples: Samples) -> None:
    verdicts = {
        dict(labels)["state"]: number for (name, labels), number in samples.items() if name == "gatewrit_enforcement"
    }
    assert verdicts == {"failed": 0, "drifted": 0, "degraded": 1, "starting": 0, "in_sync": 0}


def test_counters_are_by_policy_and_action(samples: Samples) -> None:
    assert value(samples, "gatewrit_policy_packets_total", policy="bes-shutdown", action="reject") == 120433
    assert value(samples, "gatewrit_policy_bytes_total", policy="bes-shutdown", action="reject") == 7226011
    counted = {dict(labels)["policy"] for (name, labels) in samples if name == "gatewrit_policy_packets_total"}
    assert counted == {"bes-shutdown", "court-118"}, "a policy that was never read counts nothing"


def test_exactly_one_state_of_a_policy_holds(samples: Samples) -> None:
    states = {
        dict(labels)["state"]: number
        for (name, labels), number in samples.items()
        if name == "gatewrit_policy_state" and dict(labels)["policy"] == "unread"
    }
    assert states.pop("rejected") == 1
    assert states == dict.fromkeys(["rescinded", "lapsed", "out_of_scope", "suspended", "scheduled", "in_force"], 0)


def test_the_rest_is_there(samples: Samples) -> None:
    assert value(samples, "gatewrit_problems", code="policy_rejected", severity="error") == 1
    assert value(samples, "gatewrit_verified_timestamp_seconds") == NOW - 12
    assert value(samples, "gatewrit_next_change_timestamp_seconds") == NOW + 7200
    assert value(samples, "gatewrit_drift_total") == 2
    (build,) = (dict(labels) for (name, labels) in samples if name == "gatewrit_build_info")
    assert build["version"] == "0.1.0"


def test_segments_are_those_that_are_wanted_and_those_that_are_there() -> None:
    samples = scraped(replace(DEGRADED, desired=(14, 3)))
    assert value(samples, "gatewrit_segments", family="ipv4", state="desired") == 14
    assert value(samples, "gatewrit_segments", family="ipv4", state="installed") == 13
    assert value(samples, "gatewrit_segments", family="ipv6", state="installed") == 3
    assert value(scraped(DEGRADED), "gatewrit_segments", family="ipv4", state="desired") is None


def test_a_policy_s_end_review_and_size(samples: Samples) -> None:
    assert value(samples, "gatewrit_policy_until_timestamp_seconds", policy="bes-shutdown") == 1483124400
    assert value(samples, "gatewrit_policy_until_timestamp_seconds", policy="court-118") is None
    assert value(samples, "gatewrit_policy_review_timestamp_seconds", policy="court-118") == NOW + 86400
    assert value(samples, "gatewrit_policy_addresses", policy="bes-shutdown", family="ipv6") == 3 * 2**96
    assert value(samples, "gatewrit_policy_addresses", policy="unread", family="ipv4") is None


def test_there_are_a_few_series_for_each_policy_however_many_addresses_it_has(samples: Samples) -> None:
    several = scraped(replace(DEGRADED, policies=tuple(replace(SHUTDOWN, id=f"p{n}") for n in range(10))))
    assert len(several) - len(scraped(replace(DEGRADED, policies=()))) == 10 * 13


def test_durations_are_a_histogram(samples: Samples) -> None:
    bucket = "gatewrit_apply_duration_seconds_bucket"
    assert value(samples, bucket, le="0.025") == 0
    assert value(samples, bucket, le="0.05") == 1
    assert value(samples, bucket, le="10.0") == 2
    assert value(samples, bucket, le="+Inf") == 2
    assert value(samples, "gatewrit_apply_duration_seconds_count") == 2
    assert value(samples, "gatewrit_apply_duration_seconds_sum") == pytest.approx(7.03)


def test_what_has_not_happened_is_absent_not_zero() -> None:
    samples = scraped(STARTING)
    assert value(samples, "gatewrit_verified_timestamp_seconds") is None
    assert value(samples, "gatewrit_next_change_timestamp_seconds") is None
    assert value(samples, "gatewrit_manifest_serial") is None
    accepted = replace(STARTING, manifest=Accepted(8, "sha256:x", NOW, ("alice",), NOW))
    assert value(scraped(accepted), "gatewrit_manifest_serial") == 8


def test_nothing_registered_globally_slips_in(samples: Samples) -> None:
    assert list(prometheus_client.REGISTRY.collect())
    assert {name.partition("_")[0] for name, _ in samples} == {"gatewrit"}


def test_openmetrics_on_request() -> None:
    body = exposition(DEGRADED, openmetrics=True)
    names = {family.name for family in parse_openmetrics(body.decode())}
    assert names == {
        "gatewrit_applied_timestamp_seconds",
        "gatewrit_apply_duration_seconds",
        "gatewrit_build",
        "gatewrit_drift",
        "gatewrit_enforcement",
        "gatewrit_manifest_serial",
        "gatewrit_next_change_timestamp_seconds",
        "gatewrit_policy_addresses",
        "gatewrit_policy_bytes",
        "gatewrit_policy_packets",
        "gatewrit_policy_review_timestamp_seconds",
        "gatewrit_policy_state",
        "gatewrit_policy_until_timestamp_seconds",
        "gatewrit_problems",
        "gatewrit_ruleset_generation",
        "gatewrit_segments",
        "gatewrit_start_timestamp_seconds",
        "gatewrit_verified_timestamp_seconds",
    }


@given(st.lists(st.text(), max_size=4, unique=True), st.integers(0, 2**63))
def test_both_formats_say_the_same_and_labels_are_what_they_were(names: list[str], count: int) -> None:
    views = tuple(replace(SHUTDOWN, id=name, packets=count, state=PolicyState.SUSPENDED) for name in names)
    snapshot = replace(DEGRADED, policies=views, desired=(14, 3))
    samples = scraped(snapshot)
    assert read(parse_openmetrics(exposition(snapshot, openmetrics=True).decode())) == samples
    for name in names:
        assert value(samples, "gatewrit_policy_packets_total", policy=name, action="reject") == count
        assert value(samples, "gatewrit_policy_state", policy=name, state="suspended") == 1
        assert value(samples, "gatewrit_policy_until_timestamp_seconds", policy=name) == 1483124400


@pytest.mark.parametrize("openmetrics", [False, True])
def test_names_types_and_texts_are_those_of_prometheus_own_client(*, openmetrics: bool) -> None:
    # What the client library writes of the very same families, but for numbers, which it makes floats of.
    parse, write = (parse_openmetrics, in_openmetrics) if openmetrics else (parse_text, in_text)
    body = exposition(replace(DEGRADED, desired=(14, 3)), openmetrics=openmetrics).decode()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Families(tuple(parse(body))))
    theirs = write(registry).decode()
    assert [bare(line) for line in body.splitlines()] == [bare(line) for line in theirs.splitlines()]


class Families(Collector):
    """Gives what was read."""

    def __init__(self, families: tuple[Metric, ...]) -> None:
        self._families = families

    def collect(self) -> tuple[Metric, ...]:
        return self._families


def bare(line: str) -> str:
    return line if line.startswith("#") else line.rpartition(" ")[0]


def test_a_hostile_id_stays_a_label() -> None:
    hostile = 'x"} 1\ngatewrit_drift_total 99\\'
    samples = scraped(replace(DEGRADED, policies=(replace(SHUTDOWN, id=hostile), replace(SHUTDOWN, id="z\udcff"))))
    assert value(samples, "gatewrit_drift_total") == 2
    assert value(samples, "gatewrit_policy_packets_total", policy=hostile, action="reject") == 120433
    assert value(samples, "gatewrit_policy_packets_total", policy="z?", action="reject") == 120433
