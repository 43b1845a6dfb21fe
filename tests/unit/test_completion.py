"""The Tab key in bash, zsh and fish themselves: verbs, options, policies, services, generations; quick and quiet."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from gatewrit.cli import completion, manual
from gatewrit.cli.completion import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: What stands before the Tab key, and what the word becomes that it is pressed in.
TYPED = {
    "ver": "verify",
    "plan --li": "--live",
    "suspend {config} bes-s": "bes-shutdown",
    "log {config} --policy bes-s": "bes-shutdown",
    "report {config} --policy=bes-s": "--policy=bes-shutdown",
    "rollback {config} 4": "41",
    "new {config} policy x --service black": "blackberry-enterprise",
    "import --format sp": "spamhaus",
}
PAGES = manual.pages()


class Desk:
    """Settings, policies and a state with something in them, and a program that says what it is called with."""

    def __init__(self, root: Path) -> None:
        for path, text in {
            "gatewrit.yaml": "{policies: policies, state: state}\n",
            "policies/a.yaml": "# an order\npolicy: bes-shutdown\n",
            "policies/b.yaml": "policy: 'other'\n",
            "policies/.c.yaml": "policy: bes-secret\n",
            "policies/services/a.yaml": "service: blackberry-enterprise\n",
            "policies/services/b.yaml": "\xff\xfeservice: \n",
            "state/policies/bes-kept.json": "{}",
            "state/generations/41.json": "{}",
            "state/generations/7.json": "{}",
        }.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        os.mkfifo(root / "policies/pipe.yaml")
        (root / "policies/gone.yaml").symlink_to("nowhere")
        self.root = root
        self.config = f"--config {root}/gatewrit.yaml"
        self.program(f"exec {sys.executable} -m gatewrit")
        for path, text in PAGES.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        self.environ = {"PATH": f"{root}/bin:{os.environ['PATH']}", "TERM": "dumb", "HOME": str(root)}
        self.environ |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}

    def program(self, asked: str) -> None:
        """Have the program answer a shell that completes like this, and else show its words."""
        path = self.root / "bin" / NAME
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"""#!/bin/sh
[ -z "$_GATEWRIT_COMPLETE" ] || {asked}
printf '<%s>' "$@"
echo END
""")
        path.chmod(0o755)

    def asked(self, words: str) -> list[str]:
        """Give what bash is offered for the last word."""
        typed = words.format(config=self.config)
        environ = {"COMP_WORDS": f"{NAME} {typed}", "COMP_CWORD": str(len(typed.split(" ")))}
        told = subprocess.run(
            [sys.executable, "-m", "gatewrit"],
            env={**self.environ, **environ, "_GATEWRIT_COMPLETE": "bash_complete"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stderr == ""
        return [each.removeprefix("plain,") for each in told.stdout.splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


class Terminal:
    """A shell at a terminal, that a person types into."""

    def __init__(self, desk: Desk, *words: str) -> None:
        self._master, slave = pty.openpty()
        self._shell = subprocess.Popen(
            words, stdin=slave, stdout=slave, stderr=slave, env=desk.environ, cwd=desk.root, start_new_session=True
        )
        os.close(slave)
        self._said = ""

    def type(self, keys: str, until: str) -> str:
        """Type, and give what is on the terminal up to where that comes; each thing is given once."""
        os.write(self._master, keys.encode())
        deadline = time.monotonic() + 30
        while (found := re.search(until, self._said, re.DOTALL)) is None:
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, self._said
            self._said += os.read(self._master, 1 << 16).decode(errors="replace")
        told, self._said = self._said[: found.end()], self._said[found.end() :]
        return told

    def close(self) -> None:
        self._shell.kill()
        self._shell.wait()
        os.close(self._master)


BEGIN = {
    "bash": (
        ("bash", "--norc", "--noprofile", "-i"),
        "PS1=; source share/bash-completion/completions/gatewrit; echo rea''dy\n",
    ),
    "zsh": (
        ("zsh", "-f", "-i"),
        "PS1=; fpath=(share/zsh/site-functions $fpath); autoload -U compinit; compinit -u -D; echo rea''dy\n",
    ),
}


@pytest.fixture
def terminal(desk: Desk, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    words, begin = BEGIN[request.param]
    (desk.root / "share").symlink_to(desk.root)
    shell = Terminal(desk, *words)
    try:
        shell.type(begin, r"ready\r\n")
        yield shell
    finally:
        shell.close()


@pytest.mark.parametrize("terminal", BEGIN, indirect=True)
def test_the_tab_key_at_a_terminal(desk: Desk, terminal: Terminal) -> None:
    for typed, word in TYPED.items():
        line = typed.format(config=desk.config)
        # A comma, which is no part of any of it, is typed once the word is complete.
        shown = terminal.type(f"{NAME} {line}\t,\n", r"<[^\n]*>END\r\n")
        # The shell puts a space behind it, or leaves that to the person.
        assert shown.endswith((f"<{word}><,>END\r\n", f"<{word},>END\r\n")), (typed, shown)


def test_the_tab_key_in_fish(desk: Desk) -> None:
    script = "source fish/vendor_completions.d/gatewrit.fish\n"
    lines = [typed.format(config=desk.config) for typed in TYPED]
    script += "".join(f"complete -C '{NAME} {line}' | string replace -r '\\t.*' ''; echo .\n" for line in lines)
    environ = {**desk.environ, "XDG_DATA_HOME": str(desk.root), "XDG_CONFIG_HOME": str(desk.root)}
    told = subprocess.run(
        ["fish", "--no-config", "-c", script],
        cwd=desk.root,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (told.stdout.split("\n.\n"), told.stderr) == ([*TYPED.values(), ""], "")


def test_what_cant_be_read_is_left_out(desk: Desk) -> None:
    assert desk.asked("suspend {config} ") == ["bes-kept", "bes-shutdown", "other"]
    assert desk.asked("rollback {config} ") == ["41", "7"]
    assert desk.asked("suspend --config /nowhere/no-such-file bes-") == []
    (desk.root / "gatewrit.yaml").write_text("{policies: [policies")
    assert desk.asked("suspend {config} bes-") == []
    desk.environ |= {"GATEWRIT_POLICIES": str(desk.root / "policies")}
    assert desk.asked("suspend {config} bes-") == ["bes-shutdown"]
    desk.environ |= {"GATEWRIT_POLICIES": "", "GATEWRIT_STATE": "/dev/null"}
    assert desk.asked("suspend {config} bes-") == []


def test_what_it_knows_of_the_verbs_is_current() -> None:
    assert completion.VERBS.read_text() == manual.verbs_json(), "`make reference` writes it anew"


def test_nothing_of_the_program_is_loaded_for_it(desk: Desk) -> None:
    heavy = {
        "gatewrit.cli.app",
        "gatewrit.settings",
        "numpy",
        "pydantic",
        "pyroute2",
        "structlog",
        "importlib.metadata",
    }
    code = (
        "import sys; from gatewrit.cli.completion import answer; answer('bash_complete'); "
        f"print(sorted(set(sys.modules) & {heavy}))"
    )
    environ = {**desk.environ, "COMP_WORDS": "gatewrit suspend bes-", "COMP_CWORD": "2"}
    told = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "[]"
