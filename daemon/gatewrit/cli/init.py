"""The verb that sets a gateway up: a settings file that says every key, and an example of an order beside it."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatewrit.cli.app import FINE, REFUSED, Quit, print_json, verb
from gatewrit.cli.outline import settings_file
from gatewrit.cli.scaffold import Draft, policy_text, service_text
from gatewrit.engine import durable
from gatewrit.engine.around import read_resolvers
from gatewrit.kernel.host import Host, Rtnetlink
from gatewrit.policy.files import RefusedFile, read_one
from gatewrit.policy.ranges import EntryError, parse_span
from gatewrit.settings import DEFAULT_FILE, SettingsError, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gatewrit.settings import Settings

#: What no order may ever cut off, as it is asked for and written as the reason.
_VITAL = (
    ("emergency calls and location", "Emergency call and location servers (E-CSCF, PSAP gateways, LRF)"),
    ("public warning", "Public warning (cell broadcast centre, siren gateways)"),
    ("DNS", "DNS resolvers"),
    ("NTP", "Time servers"),
    ("management", "Management of this gateway and of the network (your own way in)"),
)
_SHOWN = 6
_LARGEST = 1 << 20

_Protected = tuple[tuple[str, str], ...]


def _protect(_context: click.Context, _parameter: click.Parameter, values: Sequence[str]) -> _Protected:
    """Read --protect PREFIX=WHY."""
    found = []
    for value in values:
        prefix, sign, why = value.partition("=")
        if not sign or not why.strip():
            raise click.BadParameter(f"{value!r}: write PREFIX=WHY, as in 192.0.2.0/24=management")
        found.append((_entry(prefix), why.strip()))
    return tuple(found)


@verb("gatewrit init; gatewrit init --protect 192.0.2.0/24=management --protect 2001:db8::53=DNS", reads_settings=False)
@click.option("--protect", callback=_protect, multiple=True, metavar="PREFIX=WHY", help="What no policy may touch.")
@click.option("--gateway", metavar="NAME", help="This gateway's name [the host's].")
@click.option("--yes", is_flag=True, help="Don't ask anything.")
def init(config: Path | None, protect: _Protected, gateway: str | None, *, yes: bool, as_json: bool) -> int:
    """Write a settings file with every key, and an example of an order that isn't read from where it lies.

    On a terminal it asks what no order may ever cut off. Nothing that exists is overwritten; a settings file that sets
    nothing, as the package brings it, is put aside. With a --config elsewhere, policies and state are beside that file.
    """
    path = config or DEFAULT_FILE
    if os.path.lexists(path) and not _sets_nothing(path):
        raise Quit(f"{path} is there already, and stays as it is; edit it, or move it away first", REFUSED)
    ask = not yes and not protect
    if ask and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("nobody can be asked without a terminal: give --protect PREFIX=WHY, or --yes for none")
    if ask:
        gateway, protect = _ask(gateway)
    given = _given(path, gateway, protect)
    example = path.parent / "examples"
    texts = {path: settings_file(given), **_example(example)}
    _check(texts[path])
    settings = _write(path, texts)
    if as_json:
        print_json({"settings": str(path), "protected": len(protect), "written": [str(each) for each in texts]})
    else:
        _tell(path, settings, example, protect)
    return FINE


def _sets_nothing(path: Path) -> bool:
    """Whether a settings file has comments only."""
    try:
        lines = read_one(path, _LARGEST).splitlines()
    except RefusedFile:
        return False
    return not path.is_symlink() and all(not line.strip() or line.startswith(b"#") for line in lines)


def _entry(text: str) -> str:
    """Give a prefix as it was written, if it is one; raises click.BadParameter."""
    try:
        parse_span(text.strip())
    except EntryError as error:
        raise click.BadParameter(str(error)) from None
    return text.strip()


def _ask(gateway: str | None) -> tuple[str, _Protected]:
    """Ask for the gateway's name, and what must be protected; what is seen of this host is only a hint."""
    name: str = gateway or click.prompt("This gateway's name", default=socket.gethostname())
    hints = _hints()
    click.echo(
        "\nWhat must no order ever cut off? A policy that takes in any of it is refused.\n"
        "Addresses, prefixes or first-last ranges, with commas; Enter for none.\n"
    )
    found: list[tuple[str, str]] = []
    for why, question in _VITAL:
        if hint := hints.get(why):
            click.echo(f"  (seen on this host: {', '.join(hint)})")
        entries = click.prompt(question, default="", show_default=False, value_proc=_entries)
        found += [(entry, why) for entry in entries]
    if not found and not click.confirm("Nothing is protected then. Write the settings all the same?"):
        raise Quit("nothing was written")
    return name, tuple(found)


def _entries(text: str) -> tuple[str, ...]:
    return tuple(_entry(each) for each in text.replace(",", " ").split())


def _hints() -> Mapping[str, Sequence[str]]:
    """Give addresses that this host shows: whether they are what is asked for, only people know."""
    try:
        host = Rtnetlink().read()
    except OSError:
        host = Host()
    own = [each for each in sorted(host.addresses) if not each.startswith("127.") and each != "::1"]
    return {"DNS": _few(read_resolvers()), "management": _few([*own, *sorted(host.next_hops)])}


def _few(found: Iterable[str]) -> list[str]:
    every = list(found)
    return [*every[:_SHOWN], *(["and more"] if len(every) > _SHOWN else [])]


def _given(path: Path, gateway: str | None, protect: _Protected) -> dict[tuple[str, ...], object]:
    given: dict[tuple[str, ...], object] = {}
    if gateway is not None:
        given["gateway", "name"] = gateway
    if protect:
        given["protected",] = [{"prefix": prefix, "why": why} for prefix, why in protect]
    if path.absolute() != DEFAULT_FILE:
        # Two gateways on one host must not share their files.
        given |= {("policies",): "policies", ("state",): "state", ("runtime",): "run", ("tokens",): "tokens"}
    return given


def _example(folder: Path) -> dict[Path, str]:
    """Give an order as it may look, with addresses that RFC 5737 and RFC 3849 keep for documentation."""
    draft = Draft(
        name="example-order",
        title="Block the example service",
        authority="The Authority",
        reference="Order 17/2027",
        issued="2027-01-02",
        begins="2027-02-01T00:00:00+00:00",
        review_by="2027-05-01",
        services=("example-service",),
    )
    service = service_text("example-service", "An example", ("203.0.113.0/24", "2001:db8::/48"), ("tcp/3101",))
    return {
        folder / "example-order.yaml": policy_text(draft),
        folder / "services" / "example-service.yaml": service,
    }


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.before-init")


def _check(text: str) -> None:
    """Read the settings as every verb will, before anything is written."""
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "settings"
        draft.write_text(text, encoding="utf-8")
        try:
            load_settings(draft, {})
        except SettingsError as error:
            told = "\n".join(each.message for each in error.faults)
            raise Quit(f"nothing was written, as this can't be set:\n{told}", REFUSED) from None


def _write(path: Path, texts: Mapping[Path, str]) -> Settings:
    """Write everything, the settings last: with them there, all is. Gives them as every verb will read them."""
    try:
        for folder in dict.fromkeys(each.parent for each in (*texts, path)):
            durable.make_folder(folder)
        if os.path.lexists(path):
            path.rename(_aside(path))
        for each, text in reversed(list(texts.items())):
            if each == path or not os.path.lexists(each):
                durable.create(each, text.encode())
        settings = load_settings(path, {})
        for folder in (settings.policies, settings.policies / "services"):
            durable.make_folder(folder)
    except FileExistsError:
        raise Quit(f"{path} is there by now, and stays as it is", REFUSED) from None
    except OSError as error:
        raise Quit(f"{error.filename or path} can't be written: {error.strerror}") from None
    return settings


def _tell(path: Path, settings: Settings, example: Path, protect: _Protected) -> None:
    protected = f"{len(protect)} protected" if protect else "nothing is protected yet: see `protected` in it"
    click.echo(f"{path}: written, with every key ({protected})")
    click.echo(f"{settings.policies}: policies go here, services in its folder services/; nothing is blocked yet")
    click.echo(f"{example}: an order as it may look; it is not read there")
    option = "" if path.absolute() == DEFAULT_FILE else f" --config {path}"
    click.echo("a daemon that runs already reads the settings when it starts: systemctl restart gatewrit")
    click.echo(f"next: gatewrit doctor{option}; gatewrit new policy NAME{option} …")
