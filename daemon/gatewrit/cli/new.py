"""The verbs that write something new: `new policy`, with a service where need be, and `new token`."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from gatewrit.api import tokens
from gatewrit.api.tokens import Role
from gatewrit.cli.app import FINE, REFUSED, Quit, group, print_faults, print_json, refuse, verb
from gatewrit.cli.completion import Known
from gatewrit.cli.scaffold import Draft, policy_text, service_text
from gatewrit.cli.service import rails
from gatewrit.compile.rails import Judge
from gatewrit.engine import durable
from gatewrit.engine.store import Store
from gatewrit.policy.document import Broken
from gatewrit.policy.files import MANIFEST
from gatewrit.policy.load import parse_policy, parse_service, read_directory, resolve
from gatewrit.policy.model import Policy
from gatewrit.policy.terms import State

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gatewrit.policy.document import ServiceDocument
    from gatewrit.policy.load import Reading
    from gatewrit.settings import Settings

_MEANING = "nothing was written; put right what was given"


@group
def new(**_: object) -> None:
    """Write a policy, or make a token for HTTP."""


@verb("gatewrit new token noc-wall --role status >> /etc/gatewrit/tokens && gatewrit reload", under=new)
@click.argument("name")
@click.option("--role", type=click.Choice([each.value for each in Role]), required=True, help="What it allows.")
def new__token(settings: Settings, name: str, role: str, *, as_json: bool) -> int:
    """Make a token for HTTP: prints the line for the tokens file, and on standard error, once, the token itself.

    `status` may see how enforcement is and ask about one address; `detail` also what the policies say.
    """
    try:
        secret, line = tokens.make(name, Role(role))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        print_json({"name": name, "role": role, "token": secret, "line": line})
        return FINE
    click.echo(line)
    click.echo(
        f"The token, which is shown only now and stored nowhere:\n\n  {secret}\n\n"
        f"The line above it belongs into {settings.tokens} (mode 600); then: gatewrit reload",
        err=True,
    )
    return FINE


@verb(
    "gatewrit new policy order-17 --authority 'The Authority' --reference 17 --from 2027-01-01T00:00:00Z "
    "--review-by 2027-03-01 --prefix 203.0.113.0/24 --port tcp/3101",
    under=new,
)
@click.argument("name")
@click.option("--authority", required=True, help="Who gave the order.")
@click.option("--reference", required=True, help="What the paper is called.")
@click.option("--issued", metavar="DATE", help="The date on the paper [today].")
@click.option("--from", "begins", metavar="TIME", required=True, help="When it comes into force.")
@click.option("--until", metavar="TIME", help="When it ends.")
@click.option("--review-by", metavar="DATE", help="Or when to look at it again.")
@click.option("--title", help="One line that says what is ordered.")
@click.option(
    "--service",
    "services",
    multiple=True,
    metavar="NAME",
    type=Known("services"),
    help="A service to block, or several.",
)
@click.option("--prefix", "prefixes", multiple=True, help="Its addresses: writes it, too,")
@click.option("--port", "ports", multiple=True, help="with these ports: tcp/80, icmp, any.")
@click.option(
    "--action",
    type=click.Choice(["drop", "reject", "observe"]),
    default="reject",
    metavar="WORD",
    help="drop, reject or observe [reject].",
)
@click.option(
    "--direction",
    type=click.Choice(["to", "from", "both"]),
    default="to",
    metavar="WORD",
    help="to, from or both [to].",
)
@click.option("--active", is_flag=True, help="In force when it is read, not suspended.")
def new__policy(settings: Settings, name: str, *, as_json: bool, **given: Any) -> int:
    """Write a policy that passes `check`; nothing is ever overwritten.

    It is suspended: raise its revision and write `state: active` when all is as ordered.
    """
    prefixes, ports, services, draft = _draft(name, given)
    reading = read_directory(settings.policies)
    if reading.missing:
        refuse(reading.faults, as_json=as_json, meaning="nothing was written; gatewrit init makes the directory")
    _refuse_known(settings, reading, name)
    texts: dict[Path, str] = {}
    known = dict(reading.services)
    if prefixes:
        made = services[0]
        if made in known or made in reading.broken_services or made in reading.duplicate_services:
            raise Quit(f"there is a service {made} already; leave --prefix and --port out to block that", REFUSED)
        path = settings.policies / "services" / f"{made}.yaml"
        texts[path] = service_text(made, f"What {name} is about", prefixes, ports)
        document = parse_service(texts[path].encode(), str(path), {})
        if isinstance(document, Broken):
            refuse(document.faults, as_json=as_json, meaning=_MEANING)
        known[made] = document
    path = settings.policies / f"{name}.yaml"
    texts[path] = policy_text(draft)
    _judge(settings, texts[path], path, known, as_json=as_json)
    _write(texts)
    return _tell(settings, texts, active=draft.state == "active", as_json=as_json)


def _draft(name: str, given: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], Draft]:
    """Put together what was given; raises click.UsageError where something is missing."""
    if given["until"] is None and given["review_by"] is None:
        raise click.UsageError("say when it ends (--until) or when somebody is to look at it again (--review-by)")
    prefixes, ports, services = given["prefixes"], given["ports"], given["services"]
    if bool(prefixes) != bool(ports):
        raise click.UsageError("a service needs addresses (--prefix) and what reaches it there (--port), both")
    if prefixes and len(services) > 1:
        raise click.UsageError("--prefix and --port write one service; name that one with --service, or none")
    if not prefixes and not services:
        raise click.UsageError("say what it blocks: --service NAME, or a new one with --prefix and --port")
    services = services or (name,)
    issued = given["issued"] or time.strftime("%Y-%m-%d")
    title = given["title"] or f"Block {', '.join(services)}"
    words = {each: given[each] for each in ("authority", "reference", "begins", "until", "review_by")}
    block = {each: given[each] for each in ("action", "direction")}
    state = "active" if given["active"] else "suspended"
    draft = Draft(name=name, title=title, issued=issued, services=services, state=state, **words, **block)
    return prefixes, ports, services, draft


def _refuse_known(settings: Settings, reading: Reading, name: str) -> None:
    """Refuse a name that a policy has here, or had when its file was still there."""
    files = [each.source.file for each in reading.loaded.values() if each.kind == "policy" and each.handle == name]
    if files:
        raise Quit(f"there is a policy {name} already, in {files[0]}; to amend it, raise its revision", REFUSED)
    try:
        kept, _ = Store(settings.state).load()
    except OSError:
        # Who writes policies needn't be allowed to read the state; `check` and the daemon still look at it.
        return
    if name in kept:
        raise Quit(
            f"a policy {name} is known here, though its file is gone; put that back, or end it first: "
            f"gatewrit forget {name} --reason TEXT",
            REFUSED,
        )


def _judge(
    settings: Settings, text: str, path: Path, services: Mapping[str, ServiceDocument], *, as_json: bool
) -> None:
    """Have the policy judged as `check` does, and as if it were active; refuse what wouldn't pass."""
    document = parse_policy(text.encode(), str(path))
    if isinstance(document, Broken):
        refuse(document.faults, as_json=as_json, meaning=_MEANING)
    policy = resolve(document, services)
    judge = Judge(rails(settings))
    faults = judge.faults(replace(policy, state=State.ACTIVE), document) if isinstance(policy, Policy) else policy
    if any(fault.severity == "error" for fault in faults):
        refuse(faults, as_json=as_json, meaning=_MEANING)
    if not as_json:
        print_faults((*document.warnings, *faults))


def _write(texts: Mapping[Path, str]) -> None:
    """Write the files, the service first: a policy without it would be a fault for a moment."""
    for path in texts:
        if os.path.lexists(path):
            raise Quit(f"{path} is there already, and stays as it is", REFUSED)
    for path, text in texts.items():
        try:
            durable.make_folder(path.parent)
            durable.create(path, text.encode())
        except FileExistsError:
            raise Quit(f"{path} is there by now, and stays as it is", REFUSED) from None
        except OSError as error:
            raise Quit(f"{path} can't be written: {error.strerror}") from None


def _tell(settings: Settings, texts: Mapping[Path, str], *, active: bool, as_json: bool) -> int:
    signed = bool(settings.signatures.required) or (settings.policies / MANIFEST).exists()
    if as_json:
        print_json({"written": [str(path) for path in texts], "active": active, "signatures_needed": signed})
        return FINE
    for path in texts:
        click.echo(f"{path}: written")
    if not active:
        click.echo("Nothing is blocked by it: when all is as ordered, write `state: active` and `revision: 2`.")
    if signed:
        click.echo("Policies are signed here: gatewrit manifest, have it signed, then: gatewrit reload")
    else:
        click.echo("See it through: gatewrit check; gatewrit plan; gatewrit reload")
    return FINE
