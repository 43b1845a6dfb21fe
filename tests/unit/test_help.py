"""What the command line says of itself: help that fits a screen, and man pages made from the same words."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from gatewrit import settings
from gatewrit.cli import manual
from gatewrit.cli.app import WRONG_USAGE, app
from gatewrit.cli.completion import NAME
from support.inplace import invoke

if TYPE_CHECKING:
    from pathlib import Path

VERBS = app.list_commands(click.Context(app))
COMMANDS = dict(manual.verbs())
#: What every terminal has.
LINES, COLUMNS = 24, 80


def help_of(*words: str) -> str:
    told = CliRunner().invoke(app, [*words, "--help"], prog_name=NAME, terminal_width=COLUMNS)
    assert told.exit_code == 0
    return told.output


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_help_of_each_verb_fits_a_screen_and_has_an_example(verb: str) -> None:
    told = help_of(*verb.split())
    lines = told.splitlines()
    # What writes a policy is filled in like a form.
    assert len(lines) <= (LINES if verb != "new policy" else LINES + 4)
    assert max(map(len, lines)) <= COLUMNS
    assert re.search(rf"^  Example: .*gatewrit {verb}\b", told, re.MULTILINE)
    described = [each for each in COMMANDS[verb].params if isinstance(each, click.Option) and not each.hidden]
    assert all(each.help for each in described)


def test_the_list_of_verbs_says_what_each_does_in_a_line() -> None:
    told = help_of()
    assert "..." not in told.split("Verbs:")[1]
    for verb in VERBS:
        assert re.search(rf"^  {verb} +[A-Z].*\w$", told, re.MULTILINE)


def test_the_man_pages_say_what_help_says(tmp_path: Path) -> None:
    pages = manual.pages()
    for path in ("man/man1/gatewrit.1", "man/man5/gatewrit.yaml.5"):
        page = tmp_path / path.rpartition("/")[2]
        page.write_text(pages[path])
        shown = subprocess.run(
            ["groff", "-man", "-Tascii", "-P-cbou", "-ww", "-rLL=200n", str(page)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert shown.stderr == ""
        words = " ".join(shown.stdout.split())
        if path.endswith(".1"):
            for verb, command in COMMANDS.items():
                assert f"{verb} [options]" in words
                told = [
                    each.help or "" for each in command.params if isinstance(each, click.Option) and not each.hidden
                ]
                assert all(" ".join(each.split()) in words for each in told)
                assert command.epilog is not None
                assert command.epilog.removeprefix("Example: ") in words
        else:
            # Just those variables that set something, so that none is missing and none is made up.
            assert set(re.findall(r"Variable: (\w+)", words)) == set(settings._variables())
            assert "protected[].why" in words


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_colours_are_for_terminals_whose_user_wants_them(
    tmp_path: Path, environ: dict[str, str], coloured: object
) -> None:
    (tmp_path / "bad.yaml").write_text("policy: bad\n")
    ours, theirs = pty.openpty()
    given = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    with subprocess.Popen(
        [sys.executable, "-m", "gatewrit", "check", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**given, "TERM": "xterm", **environ},
    ) as program:
        os.close(theirs)
        told = b""
        # The other end is closed with the program, which Linux tells as an error.
        while part := _read(ours):
            told += part
        assert program.wait() == 2
    os.close(ours)
    assert b"bad.yaml" in told
    assert (b"\x1b[31m" in told) is coloured
    assert (b"\x1b" in told) is coloured


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:
        return b""


@pytest.mark.parametrize("verb", ["status", "reload"])
def test_without_a_daemon_it_says_what_that_means_and_what_to_do(tmp_path: Path, verb: str) -> None:
    config = tmp_path / "gatewrit.yaml"
    config.write_text("runtime: run\nstate: state\npolicies: policies\n")
    told = CliRunner().invoke(app, [verb, "--config", str(config)], prog_name=NAME)
    assert told.exit_code == 1
    assert "stays so in the kernel" in told.output
    assert "systemctl start gatewrit" in told.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sttus"], "there is no verb sttus; did you mean status?"),
        (["xyzzy"], "there is no verb xyzzy"),
        (["apply", "--confirm-within", "25h"], "25h is too long: a change waits 24 h at most"),
        (["reload", "--confirm-within", "soon"], "'soon' isn't a length of time"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage_and_says_what_would(words: list[str], said: str) -> None:
    code, _, complaint = invoke(*words)
    assert code == WRONG_USAGE
    assert said in complaint
