"""Cost against size, as a picture: `python -m bench.plot bench/results.json docs/packet-cost.svg`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

_LOOKS = {"gatewrit": ("#0b6e4f", "o"), "ipset": ("#c17c00", "s"), "nft": ("#a4243b", "^")}
_NAMES = {"gatewrit": "gatewrit", "ipset": "ipset hash:net", "nft": "nft, one interval set"}


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw what a forwarded packet costs more, by the number of prefixes."""
    import matplotlib as mpl  # noqa: PLC0415 - only this needs it, and it isn't always there

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    mpl.rcParams["svg.hashsalt"] = "gatewrit"
    figure, axes = plt.subplots(figsize=(7, 4))
    for who, points in results["curves"].items():
        colour, marker = _LOOKS[who]
        sizes, medians, least, most = zip(*sorted(points), strict=True)
        axes.plot(sizes, medians, color=colour, marker=marker, label=_NAMES[who])
        axes.fill_between(sizes, least, most, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("prefixes, /24 to /30 mixed, any port")
    axes.set_ylabel("more per forwarded packet, ns")
    machine = results["machine"]
    axes.set_title(
        "What a packet that matches nothing costs more\n"
        f"{machine['kernel']}, {machine['cpu']}, one core; median and spread",
        fontsize=9,
    )
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Draw a file's curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    asked = parser.parse_args()
    draw(json.loads(asked.results.read_text(encoding="utf-8")), asked.picture)


if __name__ == "__main__":
    main()
