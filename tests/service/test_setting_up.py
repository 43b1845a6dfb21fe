"""Setting a gateway up: `init` with and without a terminal, then `new policy`, up to packets' rules in the kernel."""

from __future__ import annotations

import json
import re
import stat
from typing import TYPE_CHECKING

import pytest
from pyroute2 import IPRoute

from gatewrit.settings import load_settings
from support.terminal import on_a_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from support.gateway import Gateway

ORDER = ("--authority", 'The "Authority": x', "--reference", "Order 17", "--from", "2015-12-01T00:00:00+05:00")
MADE = (*ORDER, "--until", "2199-01-01T00:00:00Z", "--prefix", "203.0.113.0/25", "--port", "tcp/3101")


@pytest.fixture
def bare(gateway: Gateway) -> Gateway:
    """A gateway of which nothing is there but the folder."""
    gateway.config.unlink()
    gateway.services.rmdir()
    gateway.policies.rmdir()
    return gateway


def test_init_asks_on_a_terminal_and_asks_again(bare: Gateway) -> None:

    def address() -> None:
        with IPRoute() as netlink:
            netlink.addr("add", index=1, address="198.51.100.7", prefixlen=24)

    bare.space.run(address)
    code, seen = on_a_terminal(
        bare.space,
        ["init", "--config", str(bare.config)],
        [
            ("name [", "core-7"),
            ("Emergency call", "192.0.2.300"),
            ("octet", "192.0.2.112, 192.0.2.113"),
            ("Public warning", ""),
            ("DNS", "2001:db8::53"),
            ("Time servers", ""),
            ("Management", "198.51.100.0/24"),
        ],
    )
    assert code == 0, seen
    assert "198.51.100.7" in seen, "what is seen of the host is a hint"
    found = load_settings(bare.config, {})
    assert found.gateway.name == "core-7"
    assert [each.why for each in found.protected] == [
        "emergency calls and location",
        "emergency calls and location",
        "DNS",
        "management",
    ]


def test_init_needs_a_terminal_or_to_be_told(bare: Gateway) -> None:
    assert bare.call("init", "--config", str(bare.config)).returncode == 64
    for faulty in ("192.0.2.0/24", "192.0.2.0/24= ", "192.0.2.300=x"):
        assert bare.cli("init", "--protect", faulty).returncode == 64
    unfit = bare.cli("init", "--protect", "192.0.2.0/24=\u202ex")
    assert (unfit.returncode, "U+202E" in unfit.stderr) == (2, True)
    assert sorted(bare.root.iterdir()) == []


def test_init_writes_what_every_verb_takes_and_overwrites_nothing(bare: Gateway) -> None:
    told = bare.cli("init", "--protect", "192.0.2.0/24=management", "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["settings"] == str(bare.config)
    assert [str(each.prefix) for each in load_settings(bare.config, {}).protected]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (bare.config, bare.policies, bare.services)}
    assert modes == {bare.config: 0o644, bare.policies: 0o755, bare.services: 0o755}
    assert bare.cli("check").stdout.endswith("policies: 0\n")
    assert bare.cli("check", str(bare.root / "examples")).stdout.endswith("policies: 1\n")
    before = bare.config.read_text()
    again = bare.cli("init", "--yes")
    assert (again.returncode, bare.config.read_text()) == (2, before)


def test_init_takes_the_place_of_settings_that_set_nothing(bare: Gateway) -> None:
    """As the Debian package lays them down: everything behind a #."""
    shipped = "# gatewrit's settings.\n\n# hooks: [forward]\n"
    bare.config.write_text(f"{shipped}priority: -10\n")
    refused = bare.cli("init", "--protect", "192.0.2.0/24=management")
    assert (refused.returncode, "stays as it is" in refused.stderr) == (2, True)
    bare.config.write_text(shipped)
    told = bare.cli("init", "--protect", "192.0.2.0/24=management")
    assert told.returncode == 0, told.stderr
    assert [each.why for each in load_settings(bare.config, {}).protected] == ["management"]
    assert bare.config.with_name(f"{bare.config.name}.before-init").read_text() == shipped
    assert bare.cli("init", "--yes").returncode == 2


def test_init_never_follows_a_link_or_leaves_a_draft(bare: Gateway) -> None:
    bare.config.symlink_to(bare.root / "elsewhere")
    assert bare.cli("init", "--yes").returncode == 2
    assert sorted(bare.root.iterdir()) == [bare.config]


def test_a_new_policy_passes_check_and_blocks_once_it_is_active(gateway: Gateway) -> None:
    written = gateway.cli("new", "policy", "order-17", *MADE, "--json")
    assert written.returncode == 0, written.stderr
    assert json.loads(written.stdout)["active"] is False
    assert gateway.cli("check").returncode == 0
    assert gateway.cli("apply").returncode == 0
    assert not gateway.blocks("203.0.113.0/25")
    text = (gateway.policies / "order-17.yaml").read_text()
    # As the comments in it say.
    text = text.replace("state: suspended", "state: active").replace("revision: 1", "revision: 2")
    gateway.write("order-17.yaml", text)
    assert gateway.cli("apply").returncode == 0
    assert gateway.blocks("203.0.113.0/25")

    active = gateway.cli(
        "new", "policy", "order-18", *ORDER, "--review-by", "2199-01-01", "--service", "order-17", "--active"
    )
    assert active.returncode == 0
    assert gateway.cli("apply").returncode == 0
    assert "order-18" in gateway.listing()


def test_a_new_policy_takes_nobodys_place(gateway: Gateway) -> None:
    gateway.order("order-17", "203.0.113.0/24", "tcp/3101")
    gateway.order("gone", "203.0.113.0/24", "tcp/3101")
    gateway.write("under-another-name.yaml", (gateway.policies / "gone.yaml").read_text().replace("gone", "hidden"))
    gateway.cli("apply")
    (gateway.policies / "gone.yaml").unlink()
    before = files(gateway.policies)
    told = [gateway.cli("new", "policy", name, *MADE) for name in ("order-17", "gone", "hidden", "under-another-name")]
    assert [each.returncode for each in told] == [2, 2, 2, 2]
    assert ["forget gone" in each.stderr for each in told] == [False, True, False, False]
    # A service's neither.
    service = gateway.cli("new", "policy", "order-18", *MADE, "--service", "order-17")
    assert (service.returncode, "there is a service order-17" in service.stderr) == (2, True)
    assert files(gateway.policies) == before


def files(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (MADE[:-2], 64),
        (MADE[:6], 64),
        ((*ORDER, "--review-by", "2199-01-01"), 64),
        ((*ORDER, "--review-by", "2199-01-01", "--service", "nobody-knows"), 2),
        ((*ORDER, "--review-by", "yesterday", "--prefix", "203.0.113.1", "--port", "tcp/1"), 2),
        ((*ORDER, "--until", "2015-01-01T00:00:00Z", "--prefix", "203.0.113.1", "--port", "tcp/1"), 2),
        ((*MADE[:-2], "--port", "3101"), 2),
        # Protected: refused at once, though it would be written as suspended.
        ((*ORDER, "--review-by", "2199-01-01", "--prefix", "192.0.2.0/25", "--port", "any"), 2),
    ],
)
def test_what_would_not_pass_is_not_written(gateway: Gateway, words: tuple[str, ...], code: int) -> None:
    gateway.set(protected=["192.0.2.0/24"])
    told = gateway.cli("new", "policy", "order-17", *words)
    assert told.returncode == code, told.stderr
    assert told.stderr
    assert files(gateway.policies) == {}


def test_signed_directories_are_told_of(gateway: Gateway) -> None:
    gateway.write("MANIFEST", "")
    told = gateway.cli("new", "policy", "order-17", *MADE)
    assert re.search("gatewrit manifest", told.stdout)
