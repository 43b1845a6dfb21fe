"""`gatewrit status --check`: one line with performance data, for Nagios, Icinga and whatever speaks as they do.

Exit codes and output are those of the Monitoring Plugins Development Guidelines, not those of the other verbs: 0 OK,
1 WARNING, 2 CRITICAL, 3 UNKNOWN. All that ends the verb is told this way, faulty settings and a daemon that is gone
included; only wrong usage exits with 64, which these programs take for UNKNOWN as well.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from gatewrit.api import client, words
from gatewrit.cli.app import Quit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
_NAMES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_ENFORCEMENT = {"in_sync": OK, "starting": WARNING, "degraded": WARNING, "drifted": CRITICAL, "failed": CRITICAL}
#: Nagios keeps so much of a line by default.
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From how many seconds on since the kernel was last verified somebody is called."""

    warning: int = 120
    critical: int = 600


@dataclass(frozen=True, slots=True)
class Result:
    """An exit code, a sentence, and performance data."""

    code: int
    sentence: str
    performance: str = ""

    def line(self) -> str:
        """Give the one line. A bar begins performance data, so a text can't have one."""
        said = " ".join(words.plain(self.sentence).replace("|", "/").split())[:_LONGEST]
        return f"GATEWRIT {_NAMES[self.code]} - {said}" + (f" | {self.performance}" if self.performance else "")


def judge(status: Mapping[str, Any], thresholds: Thresholds) -> Result:
    """Give what a status document comes to."""
    problems = sorted(status["problems"], key=lambda each: (each["severity"] != "error", each["since"]))
    age = words.seconds_between(status["ruleset"]["verified_at"], status["now"])
    verdict = words.verdict(status)
    code = max(
        _ENFORCEMENT.get(status["enforcement"], UNKNOWN),
        WARNING if problems else OK,
        _of_age(age, status["enforcement"], thresholds),
    )
    said = [verdict.headline, verdict.verified, *verdict.details]
    if problems:
        first = problems[0]
        said.append(f"{first['code']}{' ' + first['policy'] if first['policy'] else ''}: {first['message']}")
        said += [f"and {len(problems) - 1} more"] if len(problems) > 1 else []
    return Result(code, "; ".join(said), _performance(status, age, thresholds))


def _of_age(age: int | None, enforcement: str, thresholds: Thresholds) -> int:
    if age is None:
        return WARNING if enforcement == "starting" else CRITICAL
    return CRITICAL if age >= thresholds.critical else WARNING if age >= thresholds.warning else OK


def _performance(status: Mapping[str, Any], age: int | None, thresholds: Thresholds) -> str:
    """Give `label=value[unit];[warn];[crit];[min]`, U where a value isn't known."""
    policies, ruleset = status["policies"], status["ruleset"]
    errors = sum(each["severity"] == "error" for each in status["problems"])
    values = [f"verified_age={'U' if age is None else f'{max(age, 0)}s'};{thresholds.warning};{thresholds.critical};0"]
    values += [f"{state}={policies[state]};;;0" for state in words.STATES]
    values += [f"errors={errors};;;0", f"warnings={len(status['problems']) - errors};;;0"]
    values += [f"segments_{family}={count};;;0" for family, count in sorted(ruleset["segments"].items())]
    return " ".join(values)


def unanswered(error: client.ControlError) -> Result:
    """Give what it comes to that no status was to be had."""
    if isinstance(error, client.NoDaemonError | client.LostError):
        return Result(CRITICAL, f"{error}; the rules stay in the kernel, nobody repairs them or takes in changes")
    return Result(UNKNOWN, str(error))


def tell(result: Result) -> int:
    """Print the line, and give the exit code."""
    click.echo(result.line())
    return result.code


def told_as_plugin(command: click.Command) -> click.Command:
    """Have whatever ends a verb with `--check` told as UNKNOWN; its other exit codes mean something else there."""
    function: Callable[..., Any] | None = command.callback
    assert function is not None  # noqa: S101 - every verb has one

    @functools.wraps(function)
    def call(**arguments: Any) -> Any:
        try:
            return function(**arguments)
        except Quit as error:
            if not arguments["check"]:
                raise
            return tell(Result(UNKNOWN, error.message))

    command.callback = call
    return command
