"""The verb that answers the phone: is this blocked, by whom, since when."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from gatewrit.api import client
from gatewrit.api.answer import answer_document, lines
from gatewrit.api.question import QuestionError, read_question
from gatewrit.cli.app import FINE, Quit, print_json, run, unreadable, verb
from gatewrit.cli.service import nat64, rails
from gatewrit.compile.acting import Local
from gatewrit.compile.rails import carved
from gatewrit.compile.surroundings import Surroundings
from gatewrit.engine import byhand, memory
from gatewrit.engine.answer import NotKeptError
from gatewrit.engine.explain import Facts
from gatewrit.engine.explain import explain as judge
from gatewrit.engine.past import explain_past
from gatewrit.engine.places import Index
from gatewrit.engine.store import Store
from gatewrit.policy.load import join

if TYPE_CHECKING:
    from gatewrit.engine.answer import Answer, Question
    from gatewrit.settings import Settings


@verb("gatewrit explain 206.51.26.33 --protocol tcp --port 3101")
@click.argument("address")
@click.option("--protocol", metavar="NAME", help="tcp, udp, sctp or icmp [all].")
@click.option("--port", metavar="NUMBER", help="The service's port [all].")
@click.option("--source", metavar="ADDRESS", help="The subscriber's address [all].")
@click.option("--interface", metavar="NAME", help="The interface on the service's side [all].")
@click.option("--at", metavar="TIME", help="At an instant [now], e.g. 2026-12-01T00:00:00+05:00.")
def explain(settings: Settings, *, as_json: bool, **given: str | None) -> int:
    """Say whether ADDRESS is blocked here, by whose order, and since when.

    Asks the running daemon, or what was last good without one. Exits with 0 whatever the answer.
    """
    asked = {name: value for name, value in given.items() if value is not None}
    try:
        question = read_question(asked)
    except QuestionError as error:
        raise click.UsageError(str(error)) from None
    told = _ask(settings, asked, question)
    if as_json:
        print_json(told["answer"])
    else:
        click.echo("\n".join(told["lines"]))
    return FINE


def _ask(settings: Settings, asked: dict[str, str], question: Question) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = run(client.call(settings.runtime, "explain", within=30, **asked))
    except client.NoDaemonError:
        click.echo("gatewrit: no daemon answers here; this is what the policies that were last good say", err=True)
        try:
            offline = _offline(settings, question)
        except NotKeptError as error:
            raise Quit(f"not kept: {error}") from None
        return {"answer": answer_document(offline), "lines": lines(offline)}
    except client.RefusedError as error:
        if error.code == "not_kept":
            raise Quit(f"not kept: {error}") from None
        raise
    return answer


def _offline(settings: Settings, question: Question) -> Answer:
    """Answer from what the state directory keeps; what can't be read of it is said by whoever enforces."""
    now = int(time.time())
    around = Surroundings(nat64(settings))
    if question.at is not None and question.at.epoch < now:
        return explain_past(settings.state, question, settings.hooks, around)
    kept, _ = Store(settings.state).load()
    joined = (join(each.document, {name: one.service for name, one in each.services.items()}) for each in kept.values())
    policies = tuple(carved(joined, rails(settings)))
    try:
        suspended = byhand.load(settings.state).suspended
        counts = memory.load_ledger(settings.state).totals
        installed = memory.load_record(settings.state).installed
    except (OSError, ValueError) as error:
        raise unreadable(f"the state in {settings.state} can't be read, so nothing can be answered", error) from None
    local = Local((settings.gateway.name, *settings.gateway.tags), suspended)
    facts = Facts(settings.gateway.name, policies, local, settings.hooks, counts, installed, None, around)
    return judge(Index(policies), facts, question, now)
