"""README's own commands: what it says is what is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from systemd import tree

if TYPE_CHECKING:
    from collections.abc import Iterator


def commands(heading: str) -> Iterator[str]:
    """Give the lines of the blocks under a heading, as they stand there; raises LookupError if there are none."""
    _, found, after = (tree.ROOT / "README.md").read_text().partition(f"\n{heading}\n")
    blocks = after.split("\n#", 1)[0].split("\n```\n")[1::2]
    if not found or not blocks:
        raise LookupError(f"README has no commands under {heading!r}")
    for block in blocks:
        yield from block.splitlines()


def spoken(line: str) -> str:
    """Give a command without what is said of it."""
    return line.partition("  #")[0].strip()
