"""A snapshot as Prometheus metrics: a few per gateway, a few per policy, never one per address.

The metrics are made anew from each snapshot, in a registry of their own: nothing is counted here, so that a scrape
can't disagree with the status, and nothing that the process or a library registers globally slips in.
"""

from __future__ import annotations

import platform
from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gatewrit.engine.snapshot import Enforcement, PolicyState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from gatewrit.engine.snapshot import Histogram, PolicyView, Snapshot


def exposition(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """Return the metrics in the format that `accept` asks for (Prometheus text or OpenMetrics), and its media type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_OneSnapshot(snapshot))
    encoder, media_type = choose_encoder(accept)
    return encoder(registry), media_type


class _OneSnapshot(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield from _gateway(self._snapshot)
        yield from _policies(self._snapshot.policies)
        yield _problems(self._snapshot)


def _gateway(snapshot: Snapshot) -> Iterator[Metric]:
    yield InfoMetricFamily(
        "gatewrit_build",
        "What runs here.",
        {"version": snapshot.version, "python": platform.python_version()},
    )
    enforcement = GaugeMetricFamily(
        "gatewrit_enforcement", "1 for the verdict over this gateway, 0 for the others.", labels=["state"]
    )
    for state in Enforcement:
        enforcement.add_metric([state.value], int(state is snapshot.enforcement))
    yield enforcement
    yield _gauge(
        "gatewrit_verified_timestamp_seconds",
        "When the kernel was last read back and found to hold what is desired.",
        snapshot.ruleset.verified_at,
    )
    yield _gauge(
        "gatewrit_applied_timestamp_seconds", "When the kernel last took a change.", snapshot.ruleset.applied_at
    )
    yield _gauge("gatewrit_start_timestamp_seconds", "When the daemon was started.", snapshot.started_at)
    yield _gauge("gatewrit_ruleset_generation", "How often the ruleset has changed.", snapshot.ruleset.generation)
    yield _segments(snapshot)
    yield _gauge(
        "gatewrit_next_change_timestamp_seconds",
        "When a policy next starts or ends; absent if none will.",
        snapshot.next_change,
    )
    yield _gauge(
        "gatewrit_manifest_serial",
        "Serial of the newest signed manifest that was accepted; absent where no signatures are required.",
        snapshot.manifest.serial if snapshot.manifest else None,
    )
    yield _histogram(
        "gatewrit_apply_duration_seconds",
        "How long it took until the kernel had taken a change and was read back.",
        snapshot.apply_duration,
    )
    drift = CounterMetricFamily(
        "gatewrit_drift", "Repairs of a ruleset that somebody else had changed, since the start."
    )
    drift.add_metric([], snapshot.drift_total)
    yield drift


def _segments(snapshot: Snapshot) -> Metric:
    family = GaugeMetricFamily(
        "gatewrit_segments",
        "Ranges that the same policies cover: desired by the policies, installed in the kernel as read back.",
        labels=["family", "state"],
    )
    installed = (snapshot.ruleset.segments_ipv4, snapshot.ruleset.segments_ipv6)
    for state, counts in (("desired", snapshot.desired), ("installed", installed)):
        for name, count in zip(("ipv4", "ipv6"), counts or (), strict=False):
            family.add_metric([name, state], count)
    return family


def _policies(views: tuple[PolicyView, ...]) -> Iterator[Metric]:
    packets = CounterMetricFamily(
        "gatewrit_policy_packets", "Packets that the policy matched.", labels=["policy", "action"]
    )
    octets = CounterMetricFamily(
        "gatewrit_policy_bytes", "Bytes of the packets that the policy matched.", labels=["policy", "action"]
    )
    states = GaugeMetricFamily(
        "gatewrit_policy_state",
        "1 for the state that the policy is in, 0 for the others.",
        labels=["policy", "state"],
    )
    until = GaugeMetricFamily(
        "gatewrit_policy_until_timestamp_seconds", "When the policy ends; absent if no end is set.", labels=["policy"]
    )
    review = GaugeMetricFamily(
        "gatewrit_policy_review_timestamp_seconds", "When somebody must look at the policy again.", labels=["policy"]
    )
    addresses = GaugeMetricFamily(
        "gatewrit_policy_addresses", "Distinct addresses that the policy names.", labels=["policy", "family"]
    )
    for view in views:
        # A file name needn't be text, and the id of a policy that was never read may come from one.
        name = view.id.encode("utf-8", "replace").decode()
        if view.action is not None:
            packets.add_metric([name, view.action], view.packets)
            octets.add_metric([name, view.action], view.bytes)
        for state in PolicyState:
            states.add_metric([name, state.value], int(state is view.state))
        if view.effective is not None:
            addresses.add_metric([name, "ipv4"], view.addresses_ipv4)
            addresses.add_metric([name, "ipv6"], view.addresses_ipv6)
            for family, instant in ((until, view.effective.until), (review, view.effective.review_by)):
                if instant is not None:
                    family.add_metric([name], instant.epoch)
    yield from (packets, octets, states, until, review, addresses)


def _problems(snapshot: Snapshot) -> Metric:
    family = GaugeMetricFamily(
        "gatewrit_problems", "Problems that somebody should look at, now.", labels=["code", "severity"]
    )
    counts = Counter((problem.code, problem.severity) for problem in snapshot.problems)
    for (code, severity), count in sorted(counts.items()):
        family.add_metric([code, severity], count)
    return family


def _gauge(name: str, documentation: str, value: int | None) -> Metric:
    family = GaugeMetricFamily(name, documentation)
    if value is not None:
        family.add_metric([], value)
    return family


def _histogram(name: str, documentation: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(name, documentation)
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
    buckets: list[tuple[str, float]] = list(zip(bounds, histogram.counts, strict=True))
    family.add_metric([], buckets, histogram.total)
    return family
