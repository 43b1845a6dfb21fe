"""Debian's trees to boot, kept between runs; what a run changes in one lies in an overlay and goes with it."""

from __future__ import annotations

import functools
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
#: `make clean` removes it.
CACHE = Path("/var/tmp/gatewrit-test-systemd")  # noqa: S108 - trees outlive a reboot, and are root's own
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,nftables,iproute2"


def base(suite: str) -> Path:
    """Give the tree of a release, made with debootstrap from where this host gets its own packages."""
    tree = CACHE / suite
    if not tree.exists():
        making = CACHE / f"{suite}.making"
        subprocess.run(["rm", "-rf", "--one-file-system", making], check=True)
        making.mkdir(mode=0o700, parents=True)
        print(f"Making {tree} with debootstrap", flush=True)
        options = ["--variant=minbase", f"--include={PACKAGES}"]
        subprocess.run(["debootstrap", *options, suite, making, _mirror()], check=True, stdout=subprocess.DEVNULL)
        making.rename(tree)
    return tree


@contextmanager
def changeable(suite: str) -> Iterator[Path]:
    """Give a tree of a release that may be changed; the caller has a mount namespace of its own."""
    lower = base(suite)
    with TemporaryDirectory(prefix=f"run-{suite}-", dir=CACHE, ignore_cleanup_errors=True) as name:
        upper, work, merged = (Path(name, each) for each in ("upper", "work", "merged"))
        for each in (upper, work, merged):
            each.mkdir()
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", merged], check=True)
        try:
            yield merged
        finally:
            subprocess.run(["umount", merged], check=True)


@functools.cache
def wheels(python: str) -> Path:
    """Give a folder with the wheels that a gateway needs for a version of Python (3.11), and a fresh one of ours."""
    folder = CACHE / f"wheels-{python}"
    pip = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
    chosen = ["--only-binary=:all:", "--no-deps", "--python-version", python]
    locked = ["--require-hashes", "--requirement", ROOT / "requirements-gateway.lock"]
    subprocess.run([*pip, "download", *chosen, *locked, "--dest", folder], check=True, stderr=subprocess.DEVNULL)
    for old in folder.glob("gatewrit-*.whl"):
        old.unlink()
    ours = ["wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", folder, ROOT]
    subprocess.run([*pip, *ours], check=True, stderr=subprocess.DEVNULL)
    return folder


def _mirror() -> str:
    """Give the address of the archive that this host's apt uses first."""
    words = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
    sites = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    if not sites:
        raise SystemExit("apt knows no archive here: there is nothing to make a tree from")
    return sites[0]
