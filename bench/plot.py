"""Cost against size, as a picture: `python -m bench.plot bench/results.json docs/packet-cost.svg`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

_LOOKS = {
    "nft": ("nft, one interval set", "#a4243b", "^"),
    "ipset": ("ipset hash:net", "#c17c00", "s"),
    "gatewrit": ("gatewrit, any port", "#0b6e4f", "o"),
    "gatewrit ports": ("gatewrit, limited to a port", "#2c6fbb", "v"),
}


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw what a forwarded packet costs more, by the number of prefixes."""
    import matplotlib as mpl  # noqa: PLC0415 - only this needs it, and it isn't always there

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    mpl.rcParams.update({"svg.hashsalt": "gatewrit", "svg.fonttype": "none"})
    figure, axes = plt.subplots(figsize=(7, 4))
    for who in filter(results["curves"].get, _LOOKS):
        label, colour, marker = _LOOKS[who]
        sizes, medians, least, most = zip(*sorted(results["curves"][who]), strict=True)
        axes.plot(sizes, medians, color=colour, marker=marker, label=label)
        axes.fill_between(sizes, least, most, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("prefixes, /24 to /30 mixed")
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
