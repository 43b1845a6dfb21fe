"""The table in Markdown, from what `make bench` wrote: `python -m bench.table bench/results.json`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

_PARTS = {
    "load": "Loading",
    "status": "Loading",
    "one": "Changing",
    "thousandth": "Changing",
    "switch": "Changing",
    "verify": "Reading back",
    "restart": "Restarting",
    "memory": "Holding",
    "idle": "Holding",
    "path4": "Packets, IPv4",
    "path6": "Packets, IPv6",
}


def number(value: float | None) -> str:
    """Write a figure with three digits that say something."""
    if value is None:
        return "-"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(values: list[float], unit: str) -> str:
    """Write the median with the least and the most."""
    if not values:
        return "not measured"
    ordered = sorted(values)
    half = len(ordered) // 2
    median = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    around = f" ({number(ordered[0])} … {number(ordered[-1])})" if len(ordered) > 1 else ""
    return f"{number(median)}{' ' + unit if unit else ''}{around}"


def markdown(results: dict[str, Any]) -> str:
    """Write all of it."""
    lines = [head(results), "", "| what | median (least … most) | target | |", "|---|---|---|---|"]
    part = ""
    rows = {row["key"]: row for row in results["rows"]}
    for row in sorted(rows.values(), key=lambda row: order(row["key"])):
        if row["key"].rsplit(".", 1)[0] in rows and row["key"].endswith((".ns", ".share")):
            continue
        here = _PARTS.get(row["key"].split(".")[0], "Failed")
        if here != part:
            lines.append(f"| **{here}** | | | |")
            part = here
        lines.append(_line(row, rows))
    if results["distributions"]:
        lines += ["", *distributions(results["distributions"])]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any], rows: dict[str, Any]) -> str:
    target = "" if row["target"] is None else f"≤ {number(row['target'])} {row['unit']}".rstrip()
    met = {True: "met", False: "**missed**", None: ""}[row["met"]]
    said = spread(row["values"], row["unit"])
    if f"{row['key']}.ns" in rows:
        nanoseconds, share = (number(rows[f"{row['key']}.{kind}"]["median"]) for kind in ("ns", "share"))
        said += f"; {nanoseconds} ns, {share} % of the gateway's part"
    said += f"; {row['note']}" if row["note"] else ""
    return f"| {row['what']} | {said} | {target} | {met} |"


def order(key: str) -> int:
    """Say where the part that a row belongs to stands."""
    part = key.split(".", maxsplit=1)[0]
    return list(_PARTS).index(part) if part in _PARTS else len(_PARTS)


def head(results: dict[str, Any]) -> str:
    """Name the machine and how much was measured."""
    machine = results["machine"]
    mode = "A QUICK run, of smaller sizes and few rounds" if results["quick"] else "A full run"
    return (
        f"{mode}, {results['at'][:10]}, {results['minutes']:.1f} minutes. {machine['kernel']}, {machine['cores']} "
        f"cores of {machine['cpu']}, {machine['memory']}; Python {machine['python']}; {machine['nft']}; "
        f"{machine['ipset']}; {machine['iptables']}; firewalld {machine['firewalld']}."
    )


def distributions(entries: list[dict[str, Any]]) -> list[str]:
    """Write the table of distributions."""
    lines = [
        "| list | entries | enforced after | verify | peak, resident, kernel memory | |",
        "|---|---|---|---|---|---|",
    ]
    for entry in entries:
        if "verify_s" not in entry:
            lines.append(f"| {entry['name']} | {entry.get('entries', '-')} | | | | not measured: {entry['note']} |")
            continue
        memory = " / ".join(number(entry[key]) for key in ("peak_mb", "resident_mb", "kernel_mb"))
        proved = "equal" if entry["equal"] else "**NOT EQUAL**"
        lines.append(
            f"| {entry['name']}: {entry['what']} | {entry['entries']:,} | {number(entry['load_s'])} s | "
            f"{number(entry['verify_s'])} s | {memory} MB | {proved} |"
        )
    return lines


def main() -> None:
    """Print the table of a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=Path(__file__).with_name("results.json"))
    print(markdown(json.loads(parser.parse_args().results.read_text(encoding="utf-8"))), end="")


if __name__ == "__main__":
    main()
