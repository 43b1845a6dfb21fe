"""`make test-systemd`: boot Debian with the units in it, and see what they do. Exit 0 only if all rows hold."""

from __future__ import annotations

import os
import shutil
import sys

from systemd import package, units
from systemd.report import Report

PARTS = {"bookworm": units.bookworm, "trixie": units.trixie, "package": package.on_12, "package-13": package.on_13}
NEEDS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "nsenter": "util-linux",
    "lintian": "lintian",
}


def main(names: list[str]) -> int:
    """Run the parts that are named, all of them if none is."""
    if unknown := set(names) - PARTS.keys():
        print(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 64
    if os.geteuid() != 0:
        print("booting a tree takes root: sudo make test-systemd", file=sys.stderr)
        return 1
    if lacking := [package for program, package in NEEDS.items() if shutil.which(program) is None]:
        print(f"this needs: apt-get install {' '.join(lacking)}", file=sys.stderr)
        return 1
    if os.environ.get("GATEWRIT_TEST_MOUNTS") != str(os.getppid()):
        # Overlays are laid in a mount namespace of our own, so that none is left whatever happens.
        os.environ["GATEWRIT_TEST_MOUNTS"] = str(os.getppid())
        words = ["unshare", "--mount", "--propagation=private", sys.executable, "-m", "systemd", *names]
        os.execvp(words[0], words)  # noqa: S606 - itself again, no shell
    report = Report()
    for name in names or PARTS:
        with report.goes_on(name):
            PARTS[name](report)
    failed = len(report.failed)
    print(f"\n{report.held} hold, {failed} failed{': ' + '; '.join(report.failed) if failed else ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
