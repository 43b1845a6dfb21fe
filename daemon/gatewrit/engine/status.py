"""What the engine knows, in the words of the contract: states, problems with what to do, the snapshot. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import gatewrit
from gatewrit.compile.acting import PLAIN, Local, acting, in_scope, unseen, unseen_text
from gatewrit.compile.ladder import pending
from gatewrit.engine.ledger import Count
from gatewrit.engine.snapshot import (
    Enforcement,
    Histogram,
    PolicyState,
    PolicyView,
    Problem,
    RulesetView,
    Snapshot,
)
from gatewrit.policy.terms import State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from gatewrit.compile.conflicts import Conflict
    from gatewrit.engine.intake import Finding, Intake
    from gatewrit.policy.model import Policy
    from gatewrit.policy.terms import Family, Severity

#: What to do about a problem, by code; the rest is answered by DEFAULT_ACTION.
ACTIONS: Mapping[str, str] = {
    "policy_missing": (
        "Put the file back. If the order has ended, say so on the record: the file with `state: rescinded` and a "
        "higher revision. Then: gatewrit reload"
    ),
    "revision_not_raised": "Raise `revision` if the amendment is meant, or restore the file. Then: gatewrit reload",
    "interface_unseen": (
        "Set `hooks: [forward]` and restart the daemon, or amend the policy to go without `scope.interfaces`; then: "
        "gatewrit reload"
    ),
    "review_overdue": "Ask the authority whether the order stands; then amend it with a new `review_by`, or rescind it",
    "directory_missing": "Put the directory back, or correct `policies` in the settings; then: gatewrit reload",
    "writable_by_others": (
        "See what it says now and who has written there; then take that right away (chmod o-w) and: gatewrit reload"
    ),
    "orders_conflict": (
        "Ask the authorities which order stands; then amend one of them: `except` these addresses, or no longer "
        "`must_continue` this service"
    ),
    "not_signed": (
        "Have as many as signatures.required look at the files (`gatewrit check`) and sign the manifest: ssh-keygen -Y "
        "sign -n gatewrit -f KEY < MANIFEST > MANIFEST.NAME.sig; then: gatewrit reload"
    ),
    "not_as_signed": (
        "Put the files back as they were signed. If the change is meant: gatewrit manifest, have it signed, then: "
        "gatewrit reload"
    ),
    "manifest_invalid": "Write it anew with `gatewrit manifest`, have it signed, then: gatewrit reload",
    "manifest_old": (
        "Put the newer manifest back with its files. If the older content is meant, write a new manifest of it: "
        "gatewrit manifest, have it signed, then: gatewrit reload"
    ),
    "manifest_unknown": (
        "Find out who changed the file named here. To accept the manifest that lies there as the newest: delete that "
        "file, then: gatewrit reload; `gatewrit log --kind manifest` shows which ones were accepted"
    ),
    "signature_ignored": "Nothing is blocked less for it; ask who put it there, and take it away",
    "kernel_refused": "See the daemon's log; it goes on trying, and what was in force stays in force",
    "memory_short": (
        "Give the daemon more memory (`systemctl set-property gatewrit MemoryMax=4G`; the host, if that is short) or "
        "shorten the list, then: gatewrit reload"
    ),
    "table_held": (
        "Find who holds it (`nft list table inet gatewrit` names the program) and end that; if it is a gatewrit that "
        "systemd keeps starting: systemctl stop gatewrit. It is taken over within seconds then"
    ),
    "table_unowned": (
        "Leave it until the next reboot, or make it anew at a quiet hour, as nothing is blocked in between: systemctl "
        "stop gatewrit; gatewrit remove; systemctl start gatewrit. `table_owner: false` says that it is to be open"
    ),
    "bypass_flowtable": (
        "Keep out of the flowtable what orders may name (a rule ahead of `flow add`), or end the connections when an "
        "order begins: conntrack -D -d ADDRESS; or do without flowtables on this gateway"
    ),
    "bypass_nat": (
        "See whether the rewritten destinations are ones that orders name. If so: `hooks: [prerouting]` with a "
        "`priority` before that chain's (below -100), and restart the daemon"
    ),
    "bypass_tproxy": "Add `input` to `hooks` and restart the daemon, or have the proxy refuse what orders name",
    "bypass_ingress": "Find out who set that up (`nft list ruleset`) and have them leave out what orders name",
    "bypass_bridge": (
        "Route between these ports; or load br_netfilter and set net.bridge.bridge-nf-call-iptables and "
        "-ip6tables to 1, if what is bridged there is meant by orders"
    ),
    "bypass_xdp": (
        "Ask who loaded them (`ip link`, `bpftool net`) whether they redirect or send out packets; if not, all is well"
    ),
    "table_contested": (
        "Find who changes it (`nft monitor` shows each change) and have them stop; only gatewrit may write its table"
    ),
    "clock_untrusted": (
        "Set the clock right and have it synchronised (NTP). If it is right, and what was seen before was wrong: stop "
        "gatewrit, delete the file named here, start it again; the table stays meanwhile"
    ),
    "clock_unsynchronised": "Have NTP or PTP keep the clock (chrony, systemd-timesyncd); see `timedatectl`",
    "protected_overlap": (
        "Ask whether the order means these addresses; if not, except them. What the gateway itself sends to them and "
        "gets from them is never blocked"
    ),
    "host_unreadable": "See the daemon's log; it goes on trying twice a minute",
    "state_unwritable": "Free or remount the state directory; until then a restart can't know the last good policies",
    "change_held": (
        "See `gatewrit plan`. If the change is meant: gatewrit release POLICY --reason TEXT. If not, restore the file"
    ),
    "suspended_by_hand": (
        "What its file says counts again by itself then; sooner: gatewrit resume POLICY. To suspend or lift the order "
        "for good, raise `revision` and write `state: suspended` or `state: rescinded`"
    ),
    "unconfirmed": "If all is as it should be: gatewrit confirm. If not, wait, or at once: gatewrit rollback",
    "rolled_back": ("Correct the policy files, see with `gatewrit plan` what they would change, then: gatewrit apply"),
    "by_hand_lost": "Suspend again what must be; then, or after `gatewrit resume --all`, this is settled",
    "journal_unwritable": "Free or remount the state directory; what happens waits in memory and is written down then",
    "journal_damaged": "Keep that file elsewhere for whoever looks into it, and restart; a new journal was begun",
    "journal_broken": "See `gatewrit log verify`; keep journal.db elsewhere as evidence, and restart: a new one begins",
    "certificate_expires": "Renew the certificate, put it where `tls` in the settings says, then: gatewrit reload",
    "certificate_unusable": "Put the certificate right (`tls` in the settings), then: gatewrit reload",
    "tokens_unusable": "Put the file right (`tokens` in the settings), then: gatewrit reload",
    "state_damaged": "Reload with every policy file in place, so that the state is written anew",
}
DEFAULT_ACTION = "Correct the file, try it with `gatewrit check`, then: gatewrit reload"
WARNING_ACTION = "Nothing is blocked less for it; look at the file when there is time"


#: Codes whose messages say themselves what is enforced meanwhile.
_TELL_THEMSELVES = {"policy_missing", "service_broken", "change_held", "revision_not_raised"}

#: Before the first pass.
UNKNOWN_RULESET = RulesetView(0, None, None, None, 0, 0)
NO_PASSES = Histogram()
_NOTHING_COUNTED = Count()


@dataclass(frozen=True, slots=True)
class Trouble:
    """A problem before it has a beginning: what `Problems` tells apart and dates."""

    code: str
    severity: Severity
    message: str
    policy: str | None = None
    place: str | None = None

    def dated(self, since: int) -> Problem:
        """Make the problem that is shown."""
        default = DEFAULT_ACTION if self.severity == "error" else WARNING_ACTION
        action = ACTIONS.get(self.code, default)
        return Problem(self.code, self.severity, self.message, action, since, self.policy, self.place)


def date(troubles: Iterable[Trouble], before: Iterable[Problem], now: int) -> tuple[Problem, ...]:
    """Date problems: one that was there before keeps its beginning. Errors first, then by policy."""
    known = {(each.code, each.policy, each.place): each.since for each in before}
    distinct = dict.fromkeys(troubles)
    dated = [each.dated(known.get((each.code, each.policy, each.place), now)) for each in distinct]
    return tuple(sorted(dated, key=lambda each: (each.severity != "error", each.policy or "", each.place or "")))


def troubles_of(intake: Intake) -> list[Trouble]:
    """Give the problems that a reading of the files found, each with what is enforced meanwhile."""
    return [
        Trouble(each.fault.code, each.fault.severity, _with_effect(each, intake), each.policy, str(each.fault.place))
        for each in intake.findings
    ]


def _with_effect(finding: Finding, intake: Intake) -> str:
    fault, name = finding.fault, finding.policy
    if fault.severity != "error" or name is None or fault.code in _TELL_THEMSELVES:
        return fault.message
    kept = intake.kept.get(name)
    if kept is None:
        return f"{fault.message}; nothing of {name} is enforced"
    return f"{fault.message}; revision {kept.document.revision} of {name} stays as it last was good"


def overdue(policies: Iterable[Policy], now: int, local: Local = PLAIN) -> list[Trouble]:
    """Give the orders that somebody should have looked at again by now."""
    return [
        Trouble(
            "review_overdue",
            "warning",
            f"{policy.id} was to be reviewed by {policy.effective.review_by.text}; it stays in force until lifted",
            policy.id,
            str(policy.place),
        )
        for policy in policies
        if policy.effective.review_by is not None
        and policy.effective.review_by.epoch <= now
        and state_of(policy, now, local) is PolicyState.IN_FORCE
    ]


def blind(policies: Iterable[Policy], hooks: Collection[str], now: int, local: Local = PLAIN) -> list[Trouble]:
    """Give the orders of which the hooks in the settings can't enforce a part: errors, as it isn't as ordered."""
    meant = (each for each in policies if pending(each, now) and in_scope(each, local.names))
    return [
        Trouble("interface_unseen", "error", unseen_text(policy), policy.id, str(policy.place))
        for policy in unseen(meant, hooks)
    ]


def contradicted(conflicts: Iterable[Conflict]) -> list[Trouble]:
    """Give the orders that contradict each other.

    Warnings: what is enforced is what was ordered, and only people can settle it.
    """
    return [
        Trouble("orders_conflict", "warning", str(each), each.policy.id, str(each.policy.place)) for each in conflicts
    ]


def state_of(policy: Policy, now: int, local: Local = PLAIN) -> PolicyState:
    """Say what a good policy amounts to on this gateway at `now`; the first that fits."""
    effective = policy.effective
    if policy.state is State.RESCINDED:
        return PolicyState.RESCINDED
    if effective.until is not None and effective.until.epoch <= now:
        return PolicyState.LAPSED
    if not in_scope(policy, local.names):
        return PolicyState.OUT_OF_SCOPE
    if policy.state is State.SUSPENDED or local.suspended_until(policy.id, now) is not None:
        return PolicyState.SUSPENDED
    return PolicyState.SCHEDULED if now < effective.start.epoch else PolicyState.IN_FORCE


def next_change(policies: Iterable[Policy], now: int, local: Local = PLAIN) -> int | None:
    """Give the next instant at which an active policy starts or ends on this gateway, or its suspension does."""
    instants = [
        instant.epoch
        for policy in acting(policies, local, now).values()
        if policy.state is State.ACTIVE
        for instant in (policy.effective.start, policy.effective.until)
        if instant is not None and instant.epoch > now
    ]
    return min(instants, default=None)


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """All that the snapshot is made of, as the engine last had it."""

    gateway: str
    started_at: int
    intake: Intake | None = None
    local: Local = PLAIN
    ruleset: RulesetView = UNKNOWN_RULESET
    addresses: Mapping[str, Mapping[Family, int]] = field(default_factory=lambda: MappingProxyType({}))
    conflicts: Sequence[Conflict] = ()
    counts: Mapping[str, Count] = field(default_factory=lambda: MappingProxyType({}))
    installed: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    problems: tuple[Problem, ...] = ()
    failed: bool = False
    drifted: bool = False
    drift_total: int = 0
    apply_duration: Histogram = NO_PASSES
    desired: tuple[int, int] | None = None


def snapshot(standing: Standing, now: int) -> Snapshot:
    """Make what every face of the daemon shows."""
    policies = standing.intake.policies if standing.intake else {}
    rejected = standing.intake.rejected if standing.intake else ()
    # Errors stand first, so the first of a policy is its worst.
    worst = {problem.policy: problem for problem in reversed(standing.problems) if problem.policy}
    views = [_view(policy, standing, worst.get(policy.id), now) for policy in policies.values()]
    views += [_rejected(name, worst.get(name)) for name in rejected]
    return Snapshot(
        gateway=standing.gateway,
        version=gatewrit.__version__,
        started_at=standing.started_at,
        enforcement=_enforcement(standing),
        ruleset=standing.ruleset,
        policies=tuple(sorted(views, key=lambda view: view.id)),
        problems=standing.problems,
        next_change=next_change(policies.values(), now, standing.local),
        drift_total=standing.drift_total,
        apply_duration=standing.apply_duration,
        desired=standing.desired,
    )


def _enforcement(standing: Standing) -> Enforcement:
    if standing.failed:
        return Enforcement.FAILED
    if standing.drifted:
        return Enforcement.DRIFTED
    if any(problem.severity == "error" for problem in standing.problems):
        return Enforcement.DEGRADED
    return Enforcement.STARTING if standing.ruleset.verified_at is None else Enforcement.IN_SYNC


def _view(policy: Policy, standing: Standing, problem: Problem | None, now: int) -> PolicyView:
    return shown(
        policy,
        state_of(policy, now, standing.local),
        standing.counts.get(policy.id, _NOTHING_COUNTED),
        standing.addresses.get(policy.id, {}),
        _in_force_since(policy, standing),
        problem,
    )


def shown(  # noqa: PLR0913, PLR0917 - what is known of it beside what it says itself
    policy: Policy,
    state: PolicyState,
    count: Count = _NOTHING_COUNTED,
    addresses: Mapping[Family, int] = MappingProxyType({}),
    since: int | None = None,
    problem: Problem | None = None,
) -> PolicyView:
    """Give how a policy is shown; `since` is when it began to act here, if it is in force."""
    return PolicyView(
        id=policy.id,
        title=policy.title,
        revision=policy.revision,
        order=policy.order,
        effective=policy.effective,
        state=state,
        action=policy.block.action,
        direction=policy.block.direction,
        services=policy.block.services,
        packets=count.packets,
        bytes=count.bytes,
        addresses_ipv4=addresses.get(4, 0),
        addresses_ipv6=addresses.get(6, 0),
        in_force_since=since if state is PolicyState.IN_FORCE else None,
        problem=problem,
        labels=dict(policy.labels),  # read-only mappings don't travel between processes
    )


def _in_force_since(policy: Policy, standing: Standing) -> int | None:
    """Give since when it acts here: its start, or the moment at which its rules came, if that was later."""
    installed = standing.installed.get(policy.id)
    return None if installed is None else max(installed, policy.effective.start.epoch)


def _rejected(name: str, problem: Problem | None) -> PolicyView:
    return PolicyView(
        id=name,
        title=None,
        revision=None,
        order=None,
        effective=None,
        state=PolicyState.REJECTED,
        action=None,
        direction=None,
        services=(),
        packets=0,
        bytes=0,
        addresses_ipv4=0,
        addresses_ipv6=0,
        in_force_since=None,
        problem=problem,
        labels={},
    )
