"""Search for inputs that break a target, guided by what they cover: `make fuzz` runs it, docs/fuzzing.md explains.

    python -m fuzz.run TARGET [--seconds N] [--keep DIRECTORY] [--merge] [INPUT…]

An input that breaks the target, takes longer than 10 s or more than 1 GiB ends the run with another exit code than 0,
and lies in `DIRECTORY/TARGET/` as `crash-…`, `timeout-…` or `oom-…`. Given inputs are just run, which takes no atheris.
What else is said goes to libFuzzer.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
TARGETS = sorted(path.stem for path in (HERE / "targets").glob("[a-z]*.py"))
#: Longer inputs only repeat what shorter ones do, which a target can say of less; large ones have tests of their own.
LARGEST = 4096
#: atheris 3.0 keeps the result of each comparison that it follows, for ever: of arrays that is too much. There is not
#: much to follow in there, as every line takes the same way.
_LEAKING = ["gatewrit.policy.bulk"]


def main() -> None:
    """Run one target as the command line says."""
    parser = argparse.ArgumentParser(description="Search for inputs that break a target.", allow_abbrev=False)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("inputs", nargs="*", type=Path, metavar="INPUT", help="run these and search nothing")
    parser.add_argument("--seconds", type=int, default=60, help="how long to search")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="where what was found is kept")
    parser.add_argument("--merge", action="store_true", help="make the corpus anew of what covers most in fewest bytes")
    asked, more = parser.parse_known_args()
    logging.disable(logging.WARNING)
    if asked.inputs and not more:
        target = importlib.import_module(f"fuzz.targets.{asked.target}")
        for path in asked.inputs:
            target.one_input(path.read_bytes())
        return
    import atheris  # noqa: PLC0415 - see above

    with atheris.instrument_imports(include=["gatewrit"], exclude=_LEAKING):
        target = importlib.import_module(f"fuzz.targets.{asked.target}")
    found, corpus = asked.keep / asked.target, HERE / "corpus" / asked.target
    for folder in (found, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    options = [f"-max_len={getattr(target, 'LARGEST', LARGEST)}", "-timeout=10", "-rss_limit_mb=1024"]
    options += [f"-artifact_prefix={found}/", "-print_final_stats=1", *more]
    if asked.merge:
        fresh = _by_hand(corpus, Path(tempfile.mkdtemp(dir=found.parent)))
        # By lines alone: how often each was met would make the corpus ten times as large.
        options += ["-merge=1", "-use_counters=0", str(fresh), str(corpus), str(found)]
        _afterwards(fresh, corpus)
    elif asked.inputs:
        options += map(str, asked.inputs)
    else:
        options += [f"-max_total_time={asked.seconds}", str(found), str(corpus)]
    # libFuzzer merges in processes that it starts by this name.
    own_name = f"{sys.executable} -m fuzz.run {asked.target} --keep {asked.keep}"
    atheris.Setup([own_name, *options], target.one_input)
    atheris.Fuzz()


def _by_hand(corpus: Path, fresh: Path) -> Path:
    """Begin a corpus with what was put into the old one by hand; what merges put there has a SHA-1 for a name."""
    for path in corpus.iterdir():
        if not re.fullmatch(r"[0-9a-f]{40}", path.name):
            shutil.copy(path, fresh)
    return fresh


def _afterwards(fresh: Path, corpus: Path) -> None:
    """Put what a merge gives in the corpus's place once it is through: libFuzzer ends the process itself."""
    if os.fork() == 0:
        return
    _, status = os.wait()
    if status == 0:
        shutil.rmtree(corpus)
        fresh.chmod(0o755)
        shutil.move(fresh, corpus)
    else:
        shutil.rmtree(fresh)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
