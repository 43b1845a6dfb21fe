"""`gatewrit doctor` on hosts where something is amiss: each finding is provoked for real, where this kernel can."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pyroute2 import IPRoute

from gatewrit.kernel import trial
from gatewrit.kernel.beside import read_tables
from gatewrit.kernel.ruleset import IP_DADDR, Chain, Hook, InSet, Rule, Ruleset
from lab import Namespace
from lab.namespace import sysctl
from support import gateway as support
from support.terminal import on_a_terminal

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from support.gateway import Gateway

Found = dict[str, dict[str, Any]]


def examined(gateway: Gateway) -> tuple[int, Found]:
    """Give the exit code, and findings by code; for codes told twice the worse one."""
    return told(gateway.cli("doctor", "--json"))


def told(ended: subprocess.CompletedProcess[str]) -> tuple[int, Found]:
    findings = json.loads(ended.stdout)["findings"]
    ranked = sorted(findings, key=lambda each: ("ok", "note", "warning", "error").index(each["severity"]))
    assert all(set(each) == {"code", "severity", "message", "action"} for each in findings)
    lacking = [each["code"] for each in findings if each["severity"] in {"warning", "error"} and not each["action"]]
    assert lacking == []
    assert (ended.returncode == 1) == any(each["severity"] == "error" for each in findings)
    return ended.returncode, {each["code"]: each for each in ranked}


def severity(found: Found, code: str) -> str | None:
    return found[code]["severity"] if code in found else None


def test_a_gateway_before_its_first_start_has_no_error(gateway: Gateway) -> None:
    before = gateway.space.run(read_tables)
    code, found = examined(gateway)
    assert code == 0, found
    assert {each for each in found if found[each]["severity"] == "warning"} <= {
        "clock_unsynchronised",
        "no_daemon",
        "not_forwarding",
        "protected_empty",
        "send_buffer",
        "disk_small",
    }
    assert {"no_daemon", "not_forwarding", "protected_empty"} <= set(found)
    assert (severity(found, "kernel_fit"), severity(found, "not_forwarding")) == ("ok", "warning")
    # It has tried whole tables, and none of it here.
    assert gateway.space.run(read_tables) == before == ()


def test_a_gateway_that_forwards_and_is_in_sync(gateway: Gateway) -> None:
    gateway.set(protected=["192.0.2.0/24"], journal={"max_mb": 1})
    gateway.order("alpha", "203.0.113.0/24", "tcp/3101")

    def forward() -> None:
        sysctl("ipv4/ip_forward", 1)
        sysctl("ipv6/conf/all/forwarding", 1)

    gateway.space.run(forward)
    gateway.start()
    code, found = examined(gateway)
    assert code == 0, found
    fine = {"forwarding", "daemon", "protected", "table_there", "state", "journal", "policies", "disk", "no_bypass"}
    assert {each for each in fine if severity(found, each) == "ok"} == fine
    # Not for every reason that there may be: a policy that can't be used is one.
    gateway.write("bravo.yaml", "policy: bravo\n")
    gateway.reload()
    code, found = examined(gateway)
    assert (code, severity(found, "not_in_sync"), severity(found, "policies_faulty")) == (1, "error", "error")
    # Whoever has another runtime directory meets the claim.
    gateway.set(runtime=str(gateway.runtime.with_name("other")))
    code, found = examined(gateway)
    assert gateway.process is not None
    assert f"process {gateway.process.pid}" in found["other_instance"]["message"]


def test_other_programs_tables(gateway: Gateway) -> None:
    gateway.nft(
        """
        add table inet firewalld
        add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }
        add table ip filter
        add chain ip filter FORWARD { type filter hook forward priority 0; }
        add chain ip filter ufw-before-forward
        add table ip nat
        add chain ip nat DOCKER
        add chain ip nat PREROUTING { type nat hook prerouting priority -100; }
        add rule ip nat PREROUTING dnat to 192.0.2.1
        add table ip mine
        add table inet squid
        add chain inet squid c { type filter hook prerouting priority -150; }
        add rule inet squid c tcp dport 80 tproxy to :3129
        """
    )
    ended = gateway.cli("doctor", "--json")
    _, found = told(ended)
    whose = [
        each["message"].split(" has ")[0]
        for each in json.loads(ended.stdout)["findings"]
        if each["code"] == "other_tables"
    ]
    assert sorted(whose) == ["Docker", "another program", "firewalld", "ufw"]
    assert (severity(found, "bypass_nat"), severity(found, "bypass_tproxy")) == ("warning", "warning")
    assert "no_bypass" not in found


def test_bridges_tunnels_and_translators(gateway: Gateway) -> None:
    def build() -> None:
        with IPRoute() as netlink:
            netlink.link("add", ifname="br0", kind="bridge")
            netlink.link("add", ifname="p1", kind="veth", peer="p2")
            master = netlink.link_lookup(ifname="br0")[0]
            for port in ("p1", "p2"):
                netlink.link("set", index=netlink.link_lookup(ifname=port)[0], master=master, state="up")
            netlink.link("add", ifname="vx5", kind="vxlan", vxlan_id=5, vxlan_local="127.0.0.1")
            netlink.link("set", index=netlink.link_lookup(ifname="vx5")[0], state="up")
            netlink.link("add", ifname="vx6", kind="vxlan", vxlan_id=6, vxlan_local="127.0.0.1")
            netlink.link("add", ifname="l2tpeth0", kind="veth", peer="l2tpeth1")
            netlink.route("add", dst="64:ff9b::/96", oif=1)
        for family in ("iptables", "ip6tables"):
            # Where br_netfilter is loaded, it shows what is bridged unless told otherwise.
            with contextlib.suppress(FileNotFoundError):
                sysctl(f"bridge/bridge-nf-call-{family}", 0)

    gateway.space.run(build)
    _, found = examined(gateway)
    assert severity(found, "bypass_bridge") == "warning"
    # One that is down leads nowhere; and the name alone isn't it where the kernel says what kind it is.
    assert re.findall(r"\w+ \(\w+\)", found["tunnels"]["message"]) == ["vx5 (vxlan)"]
    assert "64:ff9b::/96" in found["nat64_unknown"]["message"]
    gateway.set(nat64=["64:ff9b::/96"])
    _, found = examined(gateway)
    assert (severity(found, "nat64"), "nat64_unknown" in found) == ("ok", False)


def test_settings_that_cannot_be_used_keep_nobody_from_the_rest(gateway: Gateway) -> None:
    gateway.set(hooks=["forward", "prerouting"], colour="red")
    code, found = examined(gateway)
    assert (code, severity(found, "settings_refused"), severity(found, "kernel_fit")) == (1, "error", "ok")
    assert "protected_empty" not in found
    gateway.config.unlink()
    assert examined(gateway)[0] == 1


@pytest.mark.parametrize(
    ("code", "damage"),
    [
        ("state_damaged", lambda gateway: (gateway.state / "byhand.json").write_text("{")),
        ("state_damaged", lambda gateway: next((gateway.state / "policies").glob("*.json")).write_text("[]")),
        ("journal_broken", lambda gateway: rewrite(gateway.state / "journal.db")),
        ("journal_damaged", lambda gateway: scribble(gateway.state)),
        ("writable_by_others", lambda gateway: gateway.policies.chmod(0o777)),
        ("writable_by_others", lambda gateway: (gateway.policies / "alpha.yaml").chmod(0o646)),
        ("writable_by_others", lambda gateway: gateway.services.chmod(0o777)),
        ("writable_by_others", lambda gateway: gateway.state.chmod(0o770)),
        ("writable_by_others", lambda gateway: gateway.config.chmod(0o664)),
        ("directory_missing", lambda gateway: gateway.policies.rename(gateway.root / "elsewhere")),
        ("no_directory", lambda gateway: gateway.runtime.write_text("")),
        ("http_open", lambda gateway: gateway.set(listen=["0.0.0.0:0"], tls={"cert": "no.pem", "key": "no.key"})),
        ("not_signed", lambda gateway: gateway.set(signatures={"required": 1, "keys": [KEY]})),
        ("clock_untrusted", lambda gateway: later(gateway.state / "clock.json")),
    ],
)
def test_what_lies_on_the_disk(gateway: Gateway, code: str, damage: Callable[[Gateway], object]) -> None:
    gateway.order("alpha", "203.0.113.0/24", "tcp/3101")
    assert gateway.cli("apply").returncode == 0
    damage(gateway)
    ended, found = examined(gateway)
    assert (ended, severity(found, code)) == (1, "error"), [each["message"] for each in found.values()]


def test_a_certificate_that_ends_soon(gateway: Gateway) -> None:
    cert, key = issued(ends_in=20)
    (gateway.root / "cert.pem").write_bytes(cert)
    (gateway.root / "key.pem").write_bytes(key)
    gateway.set(tls={"cert": "cert.pem", "key": "key.pem"})
    ended, found = examined(gateway)
    assert (ended, severity(found, "certificate_expires")) == (0, "warning")
    assert "will refuse it then" in found["certificate_expires"]["message"]
    assert "cert.pem" in found["certificate_expires"]["message"]
    assert "gatewrit reload" in found["certificate_expires"]["action"]
    assert "certificate" not in found


def test_a_key_that_only_root_may_read(gateway: Gateway) -> None:
    """Root examines the host; the daemon is somebody else, whose the state is."""
    cert, key = issued(ends_in=100)
    (gateway.root / "cert.pem").write_bytes(cert)
    (gateway.root / "key.pem").write_bytes(key)
    (gateway.root / "key.pem").chmod(0o600)
    gateway.set(tls={"cert": "cert.pem", "key": "key.pem"})
    gateway.state.mkdir()
    os.chown(gateway.state, 65534, 65534)
    ended, found = examined(gateway)
    assert (ended, severity(found, "unreadable_to_daemon")) == (1, "error")
    assert "key.pem" in found["unreadable_to_daemon"]["message"]
    assert "cert.pem" not in found["unreadable_to_daemon"]["message"]


def issued(*, ends_in: int) -> tuple[bytes, bytes]:
    """Issue a certificate of half a year that ends in some days; give it and its key, PEM."""
    private = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    end = datetime.now(UTC) + timedelta(days=ends_in)
    made = x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
    made = made.not_valid_before(end - timedelta(days=180)).not_valid_after(end)
    return made.sign(private, None).public_bytes(Encoding.PEM), private.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIDhNUjIf2Vyq+NJMPs3LMJ4qPzY6GmhqfpYNpkGuB3v alice"


def rewrite(journal: Path) -> None:
    with sqlite3.connect(journal) as connection:
        connection.execute("UPDATE rows SET data = replace(data, 'alpha', 'omega') WHERE seq = 2")
    connection.close()


def scribble(state: Path) -> None:
    for path in state.glob("journal.db*"):
        # What isn't in the file itself yet would make it whole again.
        path.unlink()
    (state / "journal.db").write_bytes(b"no journal" * 1000)


def later(clock: Path) -> None:
    value = json.loads(clock.read_text())
    clock.write_text(json.dumps({**value, "latest": 9_000_000_000}))


def test_without_any_right_it_says_what_it_could_not_see(gateway: Gateway) -> None:
    words = ["doctor", "--config", str(gateway.config), "--json"]
    ended, out, _ = gateway.space.run(_without_rights, words)
    found = {each["code"]: each for each in json.loads(out)["findings"]}
    assert ended == 0, found
    assert {"no_capability", "kernel_untried"} <= set(found)
    assert {"kernel_fit", "capability"} & set(found) == set()
    assert "root" in found["kernel_untried"]["action"]


def _without_rights(words: list[str]) -> tuple[int, str, str]:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()) == 0
    return support._in_place(words)


@pytest.mark.usefixtures("_nftables")
def test_in_a_user_namespace_the_send_buffer_has_an_end(tmp_path: Path) -> None:
    with Namespace(rootless=True) as space, support.gateway_in(space, tmp_path) as gateway:
        code, found = examined(gateway)
    # As in many containers; all else is as for root.
    assert (code, severity(found, "capability"), severity(found, "kernel_fit")) == (0, "ok", "ok")
    assert re.search(r"may have \d+ bytes here, some \d+000 addresses", found["send_buffer"]["message"])


def test_a_kernel_that_refuses_something(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Chain("trial", (Rule((InSet((IP_DADDR,), "no-such-set"),)),), Hook("forward", -10))
    monkeypatch.setattr(trial, "PARTS", {**trial.PARTS, "what it can't know": Ruleset({"trial": nowhere})})
    code, found = examined(gateway)
    assert (code, "kernel_fit" in found) == (1, False)
    assert "refuses what it can't know" in found["kernel_lacks"]["message"]


def test_on_a_terminal_it_has_colours_unless_nobody_wants_them(gateway: Gateway) -> None:
    words = ["doctor", "--config", str(gateway.config)]
    coloured = re.compile(r"\x1b\[[0-9;]*3[0-9]m")
    code, seen = on_a_terminal(gateway.space, words)
    assert (code, bool(coloured.search(seen))) == (0, True), seen
    _, plain = on_a_terminal(gateway.space, words, NO_COLOR="1")
    assert not coloured.search(plain)
    piped = gateway.cli("doctor").stdout
    assert "\x1b" not in piped
    for title in ("Settings", "Kernel", "Network", "Files", "Running"):
        assert f"\n{title}\n" in f"\n{piped}"
