"""Rows about lists: loading a million, changing one entry, changing a thousandth, reading back, restarting, memory."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import lists, rivals
from bench.daemon import MOVING, STEADY, Standing
from bench.measure import Cgroup, Failed, Watch, forget_peak, percentile, ratios
from lab import Namespace, Packet
from lab.stream import Stream

if TYPE_CHECKING:
    from bench.asked import Asked
    from bench.measure import Table

_SUBSCRIBER = "100.64.9.9"


# -- a million loaded, side by side ----------------------------------------------------------------------------------


def rivals_load(table: Table, size: int, round_: int) -> None:
    """One round of nft and ipset, the list of `load` into an empty table; while no daemon of ours runs.

    Whoever listens to nftables' notifications in any network namespace slows every transaction of all others.
    """
    made, said = _round(size, round_)
    with tempfile.TemporaryDirectory() as folder, Namespace("nft") as space:
        rival = rivals.nft(space, rivals.write_nft(made, Path(folder, "nft")))
    table.row("load.nft", f"{said}: nft -f, one interval set", "s").values.append(rival.seconds)
    table.row("load.memory.nft", "… peak memory of nft", "MB").values.append(rival.peak)
    with tempfile.TemporaryDirectory() as folder, Namespace("ipset") as space:
        rival = rivals.ipset(space, rivals.write_ipset(made, Path(folder, "ipset")))
    table.row("load.ipset", f"{said}: ipset restore, hash:net", "s").values.append(rival.seconds)


def load(table: Table, asked: Asked, standing: Standing, round_: int) -> None:
    """One round of ours: a new list into an empty table."""
    made, said = _round(asked.size, round_)
    forget_peak(standing.pid)
    began = time.monotonic()
    with Watch(standing.pid, standing.group) as seen:
        with standing.polled() as took:
            ran = standing.load(made)
        whole = standing.until_whole() - began
    table.row("load.gatewrit", f"{said}: gatewrit, from file to enforced", "s").values.append(ran.seconds)
    table.row("load.whole", "… its guards made, too, which only spare packets look-ups", "s").values.append(whole)
    table.row("load.memory.gatewrit", "… peak memory of gatewrit's processes", "MB").values.append(seen.peak + ran.peak)
    table.row("status.p99", "/v1/status meanwhile, 99th percentile", "ms", 50).values.append(
        percentile(took, 0.99) * 1000
    )


def _round(size: int, round_: int) -> tuple[lists.Made, str]:
    """Give the list of a round, and what rows say of it."""
    return lists.mixed(size, seed=100 + round_), f"{size:,} mixed /24-/30"


def load_ratios(table: Table) -> None:
    """Compare the rounds of `load`."""
    for key, what, target, ours, theirs in (
        ("load.vs.nft", "load time, of nft's", 0.35, "load.gatewrit", "load.nft"),
        ("load.vs.ipset", "load time, of ipset's", 1.0, "load.gatewrit", "load.ipset"),
        ("load.memory.vs.nft", "peak memory, of nft's", 0.5, "load.memory.gatewrit", "load.memory.nft"),
    ):
        if ours in table and theirs in table:
            table.row(key, what, "x", target).values += ratios(table[ours].values, table[theirs].values)


def firewalld(table: Table, asked: Asked) -> None:
    """Load as much as firewalld bears, and the same by ours."""
    made = lists.mixed(asked.firewalld, seed=99)
    row = table.row("load.firewalld", f"{asked.firewalld:,} mixed: firewalld, --add-entries-from-file", "s")
    try:
        with tempfile.TemporaryDirectory() as folder, Namespace("firewalld") as space:
            row.values.append(rivals.firewalld(space, made, Path(folder)).seconds)
    except Failed as why:
        row.note = str(why)
    with Standing() as standing:
        ours = table.row("load.small.gatewrit", f"{asked.firewalld:,} mixed: gatewrit, from file to enforced", "s")
        ours.values.append(standing.load(made).seconds)
    table.row("load.vs.firewalld", "load time, of firewalld's", "x").values += ratios(ours.values, row.values)


# -- changes while it is loaded --------------------------------------------------------------------------------------


def one_prefix(table: Table, asked: Asked, standing: Standing) -> None:
    """Add and remove one prefix in another file: seen by packets, and by the answer to a reload."""
    flow = Packet(_SUBSCRIBER, MOVING, "udp", destination_port=9)
    moments = list[tuple[float, bool]]()
    with Stream(standing.lab, [flow], 0.002) as stream:
        for number in range(2 * asked.rounds):
            blocked = number % 2 == 0
            before = standing.gateway.status()["ruleset"]["generation"]
            moments.append((time.time(), blocked))
            standing.small(STEADY, *([MOVING] if blocked else []))
            time.sleep(0.3)
            _until_generation(standing, before + 1)
    row = table.row("one.seen", "one prefix added or removed: from rename to its effect on packets", "ms", 150)
    for at, blocked in moments:
        after = [sent for sent in stream.fates[flow] if sent.before >= at]
        first = next((sent for sent in after if sent.arrived != blocked), None)
        if first is None:
            row.note = "some changes had no effect on packets within the stream"
        else:
            row.values.append((first.after - at) * 1000)
    answered = table.row("one.reload", "… to the answer of a reload (control socket)", "ms", 150)
    for number in range(2 * asked.rounds):
        began = time.monotonic()
        standing.small(STEADY, *([MOVING] if number % 2 == 0 else []))
        standing.reload()
        answered.values.append((time.monotonic() - began) * 1000)


def _until_generation(standing: Standing, wanted: int) -> None:
    deadline = time.monotonic() + 20
    while standing.gateway.status()["ruleset"]["generation"] < wanted and time.monotonic() < deadline:
        time.sleep(0.1)


def thousandth(table: Table, asked: Asked, standing: Standing, made: lists.Made) -> lists.Made:
    """Replace a thousandth of the lines, round by round; gives what is loaded in the end."""
    each = max(1, asked.size // 2000)
    spare = lists.mixed(asked.size + asked.rounds * each * 2, seed=7).entries[asked.size :]
    for number in range(asked.rounds):
        new = lists.Made(made.name, made.what, 4, made.entries[each:] + spare[number * each :][:each])
        seconds, changed = standing.change(new)
        table.row("thousandth", "0.1 % of the lines changed: from rename to enforced", "s", 1.0).values.append(seconds)
        table.row("thousandth.changed", f"… changed in the kernel, of {2 * each:,} that differ", "").values.append(
            changed
        )
        made = new
    return made


def verify(table: Table, standing: Standing, rounds: int) -> None:
    """Read everything back and prove it."""
    row = table.row("verify", "gatewrit verify: read back and proved equal", "s", 3.0)
    for _ in range(rounds):
        ran = standing.cli("verify", may_fail=True)
        if ran.code:
            row.note = f"NOT EQUAL: {ran.output[:300]}"
            return
        row.values.append(ran.seconds)


def nft_later(table: Table, asked: Asked) -> None:
    """Measure what nft takes to add one element to its set, and to read it back; once each, and not for ever."""
    made = lists.mixed(asked.size, seed=100)
    with tempfile.TemporaryDirectory() as folder, Namespace("nft") as space:
        rivals.nft(space, rivals.write_nft(made, Path(folder, "nft")))
        for key, what, go in (
            ("one.nft", "nft add element, into its set", lambda: rivals.nft_add(space, MOVING, asked.limit)),
            ("verify.nft", "nft list set, its set", lambda: rivals.nft_list(space, asked.limit)),
        ):
            row = table.row(key, what, "s")
            try:
                row.values.append(go().seconds)
            except Failed as why:
                row.note = str(why)


# -- restart, memory, idleness ---------------------------------------------------------------------------------------


def memory(table: Table, standing: Standing, idle: float) -> None:
    """See what the daemon and the kernel hold afterwards, and what the daemon does when there is nothing to do."""
    table.row("memory.daemon", "resident memory of the daemon afterwards", "MB", 250).values.append(standing.resident())
    row = table.row("memory.kernel", "kernel memory of the sets", "MB", note=Cgroup.how)
    kernel = standing.kernel()
    row.values += [] if kernel is None else [kernel]
    before = standing.processor_seconds()
    began = time.monotonic()
    time.sleep(idle)
    share = (standing.processor_seconds() - before) / (time.monotonic() - began) * 100
    table.row("idle", f"processor when idle, over {idle:g} s", "% of a core", 0.5).values.append(share)


def switch(table: Table, asked: Asked, standing: Standing) -> None:
    """Change nearly all of the content, and see what the kernel needs at most.

    A twentieth stays: to lift or add more than all there is would be held.
    """
    row = table.row("memory.switch", "… kernel memory at most, while 95 % of it changes", "MB", 350, Cgroup.how)
    kept = lists.mixed(asked.size, seed=100 + asked.rounds - 1).entries[: asked.size // 20]
    made = lists.mixed(asked.size - len(kept), seed=50)
    made = lists.Made(made.name, made.what, 4, kept + made.entries)
    draft = standing.draft(made)
    with Watch(standing.pid, standing.group) as seen:
        began = time.monotonic()
        draft.replace(draft.with_name("million.txt"))
        standing.reload()
        table.row("switch", "95 % of the content changed: from rename to enforced", "s").values.append(
            time.monotonic() - began
        )
        standing.until_whole()
    standing.must_be_in_sync()
    if standing.empty is not None:
        row.values.append(seen.kernel_peak - standing.empty)


def restart(table: Table, asked: Asked, standing: Standing) -> None:
    """End the daemon and start it again, over what the kernel holds, while packets try to get through."""
    blocked = Packet(_SUBSCRIBER, STEADY, "udp", destination_port=9)
    free = Packet(_SUBSCRIBER, "10.200.0.9", "udp", destination_port=9)
    before = standing.changes()
    ready = table.row("restart", "restart with all of it in the kernel: ready", "s", 4.0)
    passed = table.row("restart.passed", "… blocked packets that passed meanwhile", "packets", 0)
    lost = table.row("restart.lost", "… packets to a neighbour that were lost meanwhile", "packets", 0)
    for _ in range(asked.rounds):
        with Stream(standing.lab, [blocked, free], 0.002) as stream:
            standing.gateway.end()
            ready.values.append(standing.start())
        passed.values.append(sum(sent.arrived for sent in stream.fates[blocked]))
        lost.values.append(sum(not sent.arrived for sent in stream.fates[free]))
        passed.note = f"of {len(stream.fates[blocked]):,} sent in the last round"
    standing.must_be_in_sync()
    row = table.row("restart.changed", "… changed in the kernel by it", "", 0)
    row.values.append(standing.changes() - before)


# -- every distribution ----------------------------------------------------------------------------------------------


def distributions(asked: Asked, deadline: float) -> list[dict[str, object]]:
    """Load each distribution into a fresh gateway, and prove it; a cliff would show here."""
    found = list[dict[str, object]]()
    for make in lists.everything(asked.size):
        made = make()
        if made is not None and time.monotonic() > deadline:
            found.append({"name": made.name, "note": "the run's time was up"})
            continue
        if made is None:
            found.append({"name": "BGP", "note": "python3-pyasn isn't installed"})
            continue
        entry: dict[str, object] = {"name": made.name, "what": made.what, "entries": len(made.entries)}
        found.append(entry)
        try:
            with Standing() as standing:
                with Watch(standing.pid, standing.group) as seen:
                    entry["load_s"] = standing.load(made).seconds
                    standing.until_whole()
                entry["peak_mb"], entry["kernel_mb"] = seen.peak, standing.kernel()
                entry["resident_mb"] = standing.resident()
                entry["segments"] = sum(standing.gateway.status()["ruleset"]["segments"].values())
                ran = standing.cli("verify", may_fail=True)
                entry["verify_s"], entry["equal"] = ran.seconds, ran.code == 0
        except Failed as why:
            entry["note"] = str(why)
    return found
