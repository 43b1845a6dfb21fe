"""`gatewrit new token`: make a token for HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gatewrit.api import tokens
from gatewrit.api.tokens import Role
from gatewrit.cli.app import FINE, print_json, verb

if TYPE_CHECKING:
    from gatewrit.settings import Settings


@verb("gatewrit new token noc-wall --role status >> /etc/gatewrit/tokens && gatewrit reload")
@click.argument("what", type=click.Choice(["token"]))
@click.argument("name")
@click.option("--role", type=click.Choice([each.value for each in Role]), required=True, help="What it allows.")
def new(settings: Settings, what: str, name: str, role: str, *, as_json: bool) -> int:
    """Make a token for HTTP: prints the line for the tokens file, and on standard error, once, the token itself.

    `status` may see how enforcement is and ask about one address; `detail` also what the policies say.
    """
    del what
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
