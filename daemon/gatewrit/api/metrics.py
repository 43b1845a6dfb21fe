"""A snapshot as Prometheus metrics: a few per gateway, a few per policy, never one per address.

The text is written from the snapshot alone, nothing is counted here: so a scrape can't disagree with the status, and
nothing that a library registers for the process slips in. It is written straight, since a gateway with a thousand
policies has twelve thousand lines: Prometheus text format 0.0.4, or OpenMetrics 1.0.0, which here differ in the lines
about a family and in the last one only. The tests have it read by Prometheus' own parsers.
"""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from gatewrit.engine.snapshot import Enforcement, PolicyState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gatewrit.engine.snapshot import Histogram, PolicyView, Snapshot

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Kind = Literal["gauge", "counter", "histogram", "info"]
#: What the names of samples end with; in the text format it belongs to the name of the family too.
_SUFFIXES: Mapping[Kind, str] = {"counter": "_total", "info": "_info"}
#: Stands for the policy's name in what is the same for all policies of one state.
_NAME = "\0"
_STATES: Mapping[PolicyState, str] = {
    state: "".join(
        f'gatewrit_policy_state{{policy="{_NAME}",state="{each}"}} {int(each is state)}\n' for each in PolicyState
    )
    for state in PolicyState
}


@dataclass(frozen=True, slots=True)
class _Family:
    """A metric: its name without suffix, and its samples, each a line or several."""

    name: str
    kind: Kind
    about: str
    samples: list[str] = field(default_factory=list)

    def add(self, value: float | None, **labels: str) -> None:
        """Add a sample; None is what there is no sample of."""
        if value is not None:
            told = ",".join(f'{name}="{escaped(each)}"' for name, each in labels.items())
            braced = f"{{{told}}}" if told else ""
            self.samples.append(f"{self.name}{_SUFFIXES.get(self.kind, '')}{braced} {value}\n")


def exposition(snapshot: Snapshot, *, openmetrics: bool = False) -> bytes:
    """Return the metrics in the format of `OPENMETRICS`, else of `TEXT`."""
    parts: list[str] = []
    for family in (*_gateway(snapshot), *_policies(snapshot.policies), _problems(snapshot)):
        name, kind = family.name, family.kind
        if not openmetrics:
            name += _SUFFIXES.get(kind, "")
            kind = "gauge" if kind == "info" else kind
        parts.append(f"# HELP {name} {family.about}\n# TYPE {name} {kind}\n")
        parts += family.samples
    if openmetrics:
        parts.append("# EOF\n")
    # A file name needn't be text, and the id of a policy that was never read may come from one.
    return "".join(parts).encode("utf-8", "replace")


def escaped(value: str) -> str:
    """Return a label's value as both formats write it between quotes."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _gateway(snapshot: Snapshot) -> Iterator[_Family]:
    build = _Family("gatewrit_build", "info", "What runs here.")
    build.add(1, python=platform.python_version(), version=snapshot.version)
    yield build
    enforcement = _Family("gatewrit_enforcement", "gauge", "1 for the verdict over this gateway, 0 for the others.")
    for state in Enforcement:
        enforcement.add(int(state is snapshot.enforcement), state=state.value)
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
    drift = _Family(
        "gatewrit_drift", "counter", "Repairs of a ruleset that somebody else had changed, since the start."
    )
    drift.add(snapshot.drift_total)
    yield drift


def _segments(snapshot: Snapshot) -> _Family:
    family = _Family(
        "gatewrit_segments",
        "gauge",
        "Ranges that the same policies cover: desired by the policies, installed in the kernel as read back.",
    )
    installed = (snapshot.ruleset.segments_ipv4, snapshot.ruleset.segments_ipv6)
    for state, counts in (("desired", snapshot.desired), ("installed", installed)):
        for name, count in zip(("ipv4", "ipv6"), counts or (), strict=False):
            family.add(count, family=name, state=state)
    return family


def _policies(views: tuple[PolicyView, ...]) -> tuple[_Family, ...]:
    packets = _Family("gatewrit_policy_packets", "counter", "Packets that the policy matched.")
    octets = _Family("gatewrit_policy_bytes", "counter", "Bytes of the packets that the policy matched.")
    states = _Family("gatewrit_policy_state", "gauge", "1 for the state that the policy is in, 0 for the others.")
    until = _Family(
        "gatewrit_policy_until_timestamp_seconds", "gauge", "When the policy ends; absent if no end is set."
    )
    review = _Family(
        "gatewrit_policy_review_timestamp_seconds", "gauge", "When somebody must look at the policy again."
    )
    addresses = _Family("gatewrit_policy_addresses", "gauge", "Distinct addresses that the policy names.")
    for view in views:
        name = escaped(view.id)
        if view.action is not None:
            labels = f'{{action="{view.action}",policy="{name}"}}'
            packets.samples.append(f"gatewrit_policy_packets_total{labels} {view.packets}\n")
            octets.samples.append(f"gatewrit_policy_bytes_total{labels} {view.bytes}\n")
        states.samples.append(_STATES[view.state].replace(_NAME, name))
        if view.effective is not None:
            addresses.samples.append(
                f'gatewrit_policy_addresses{{family="ipv4",policy="{name}"}} {view.addresses_ipv4}\n'
                f'gatewrit_policy_addresses{{family="ipv6",policy="{name}"}} {view.addresses_ipv6}\n'
            )
            for family, instant in ((until, view.effective.until), (review, view.effective.review_by)):
                if instant is not None:
                    family.samples.append(f'{family.name}{{policy="{name}"}} {instant.epoch}\n')
    return packets, octets, states, until, review, addresses


def _problems(snapshot: Snapshot) -> _Family:
    family = _Family("gatewrit_problems", "gauge", "Problems that somebody should look at, now.")
    counts = Counter((problem.code, problem.severity) for problem in snapshot.problems)
    for (code, severity), count in sorted(counts.items()):
        family.add(count, code=code, severity=severity)
    return family


def _gauge(name: str, about: str, value: int | None) -> _Family:
    family = _Family(name, "gauge", about)
    family.add(value)
    return family


def _histogram(name: str, about: str, histogram: Histogram) -> _Family:
    family = _Family(name, "histogram", about)
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
    for bound, count in zip(bounds, histogram.counts, strict=True):
        family.samples.append(f'{name}_bucket{{le="{bound}"}} {count}\n')
    family.samples.append(f"{name}_count {histogram.counts[-1]}\n{name}_sum {histogram.total}\n")
    return family
