"""`make deb`: a Debian package with all that gatewrit takes, for the Debian whose Python it is told.

The files lie as they will in a venv at /usr/lib/gatewrit, with the distribution's interpreter: nothing is fetched, and
nothing compiled, when it is installed. docs/packaging.md says why.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from gatewrit.cli import manual

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HOME = "usr/lib/gatewrit"
LAUNCHER = f"""#!/{HOME}/bin/python
from gatewrit.cli import main

main()
"""
UNITS = ("gatewrit.service", "gatewrit-http.service", "gatewrit-http.socket")


def main() -> None:
    """Build dist/gatewrit_VERSION_ARCHITECTURE.deb."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default="3.11", help="the Python of the Debian it is for: 3.11 (12), 3.13 (13)")
    parser.add_argument("--revision", default="1", help="the package's own revision")
    parser.add_argument("--wheels", type=Path, help="a folder with the wheels, instead of fetching them")
    given = parser.parse_args()
    os.umask(0o022)
    stage = ROOT / "build" / "deb"
    shutil.rmtree(stage, ignore_errors=True)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    full = f"{version}-{given.revision}~py{given.python}"
    lay_venv(stage, given.python, given.wheels)
    lay_files(stage, full)
    print(package(stage, full, given.python))


def lay_venv(stage: Path, python: str, wheels: Path | None) -> None:
    """Lay the venv, without a pip, and what belongs into it."""
    site = stage / HOME / "lib" / f"python{python}" / "site-packages"
    site.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
    into = [
        "install",
        "--no-deps",
        "--no-compile",
        "--only-binary=:all:",
        f"--python-version={python}",
        "--target",
        site,
    ]
    found = ["--no-index", f"--find-links={wheels}"] if wheels else []
    locked = ["--require-hashes", "--requirement", ROOT / "requirements-gateway.lock"]
    subprocess.run([*pip, *into, *found, *locked], check=True)
    ours = stage.parent / "wheel"
    shutil.rmtree(ours, ignore_errors=True)
    subprocess.run([*pip, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", ours, ROOT], check=True)
    # Scripts of the dependencies name the interpreter that installed them; hatchling and what it takes only builds.
    shutil.rmtree(site / "bin", ignore_errors=True)
    subprocess.run([*pip, *into, next(ours.glob("gatewrit-*.whl"))], check=True)
    shutil.rmtree(site / "bin")
    for name in ("hatchling", "pathspec", "pluggy", "packaging", "trove_classifiers", "editables"):
        for each in (site / name, *site.glob(f"{name}-*.dist-info")):
            shutil.rmtree(each, ignore_errors=True)
    for tests in [each for each in site.rglob("tests") if each.is_dir()]:
        shutil.rmtree(tests, ignore_errors=True)
    binaries = stage / HOME / "bin"
    binaries.mkdir()
    (binaries / "python").symlink_to(f"../../../bin/python{python}")
    (stage / HOME / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n"
    )
    (binaries / "gatewrit").write_text(LAUNCHER)
    (binaries / "gatewrit").chmod(0o755)


def lay_files(stage: Path, version: str) -> None:
    """Lay units, accounts, settings, man pages, completion and documents."""
    for name in UNITS:
        text = (ROOT / "systemd" / name).read_text().replace("/opt/gatewrit", f"/{HOME}")
        put(stage / "usr/lib/systemd/system" / name, text)
    for kind in ("sysusers", "tmpfiles"):
        put(stage / f"usr/lib/{kind}.d/gatewrit.conf", (ROOT / "systemd" / f"{kind}.conf").read_text())
    put(stage / "etc/gatewrit/gatewrit.yaml", (HERE / "gatewrit.yaml").read_text())
    (stage / "etc/gatewrit/policies/services").mkdir(parents=True)
    (stage / "usr/bin").mkdir()
    (stage / "usr/bin/gatewrit").symlink_to("../lib/gatewrit/bin/gatewrit")
    documents = stage / "usr/share/doc/gatewrit"
    for name in ("README.md", "SECURITY.md", "DESIGN.md", "CHANGELOG.md", "bench/README.md"):
        put(documents / name, (ROOT / name).read_text())
    shutil.copytree(ROOT / "docs", documents / "docs")
    for name, text in manual.pages().items():
        # Where Debian's zsh looks: not in the folder that zsh itself names for it.
        name = name.replace("zsh/site-functions", "zsh/vendor-completions")  # noqa: PLW2901
        # Man pages are compressed, says Debian's policy (12.1); what shells read isn't.
        lay = squeeze if name.startswith("man/") else put
        lay(stage / "usr/share" / (f"{name}.gz" if lay is squeeze else name), text)
    shutil.copytree(ROOT / "policies", documents / "examples/policies")
    (documents / "policies").symlink_to("examples/policies")
    for each in (documents / "examples/policies").rglob("*.yaml"):
        # Editors find the schema from wherever the example is copied to.
        put(each, re.sub(r"(\$schema=)[./]*docs/", rf"\1/{documents.relative_to(stage)}/docs/", each.read_text()))
    shutil.copytree(ROOT / "systemd/examples", documents / "examples/systemd")
    put(documents / "copyright", (HERE / "copyright").read_text())
    put(stage / "usr/share/lintian/overrides/gatewrit", (HERE / "lintian-overrides").read_text())
    squeeze(documents / "changelog.gz", (ROOT / "CHANGELOG.md").read_text())
    when = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime((ROOT / "CHANGELOG.md").stat().st_mtime))
    entry = "  * Built from the sources; see changelog.gz.\n\n -- The gatewrit authors <gatewrit@localhost>  "
    squeeze(documents / "changelog.Debian.gz", f"gatewrit ({version}) unstable; urgency=medium\n\n{entry}{when}\n")


def package(stage: Path, version: str, python: str) -> Path:
    """Write the control files, and make the package."""
    control = stage / "DEBIAN"
    control.mkdir()
    major, minor = map(int, python.split("."))
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
    ).stdout.strip()
    files = sorted(
        each for each in stage.rglob("*") if each.is_file() and not each.is_symlink() and control not in each.parents
    )
    known = {
        "VERSION": version,
        "ARCHITECTURE": architecture,
        "SIZE": str(sum(each.stat().st_size for each in files) // 1024),
        "PYTHON": python,
        "NEXT": f"{major}.{minor + 1}",
    }
    text = (HERE / "control").read_text()
    for name, value in known.items():
        text = text.replace(f"@{name}@", value)
    put(control / "control", text)
    put(control / "conffiles", "/etc/gatewrit/gatewrit.yaml\n")
    sums = [
        f"{hashlib.md5(each.read_bytes(), usedforsecurity=False).hexdigest()}  {each.relative_to(stage)}"
        for each in files
    ]
    put(control / "md5sums", "\n".join(each for each in sums if "  etc/" not in each) + "\n")
    put(control / "templates", (HERE / "templates").read_text())
    for name in ("postinst", "prerm", "postrm"):
        put(control / name, (HERE / name).read_text(), 0o755)
    for each in stage.rglob("*"):
        if not each.is_symlink():
            each.chmod(0o755 if each.is_dir() or each.stat().st_mode & 0o100 else 0o644)
    for each in (stage / HOME / "lib").rglob("*.so*"):
        each.chmod(0o644)
    target = ROOT / "dist" / f"gatewrit_{version}_{architecture}.deb"
    target.parent.mkdir(exist_ok=True)
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z6", "--build", stage, target],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return target


def put(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file of the package."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def squeeze(path: Path, text: str) -> None:
    """Write a compressed file, the same for the same text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
