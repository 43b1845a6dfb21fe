"""HTTP is another process: without privileges, replaced when it dies, and honest about an enforcer that is gone."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatewrit.api import tokens
from gatewrit.api.tokens import Role
from support.gateway import PATIENCE, clean_environment, program, until

if TYPE_CHECKING:
    from support.gateway import Gateway

TLS = Path(__file__).parent.parent / "support" / "tls"
PREFIX = "203.0.113.0/24"
NOBODY = 65534


def about(pid: int | str) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_the_server_has_no_privilege_and_can_be_mad_or_dead(gateway: Gateway) -> None:
    gateway.order("alpha", PREFIX, "tcp/3101")
    gateway.start()
    assert gateway.get("/readyz")[0] == 200
    (pid,) = gateway.servers()
    for task in Path(f"/proc/{pid}/task").iterdir():
        assert about(f"{pid}/task/{task.name}")["NoNewPrivs"] == "1"
        assert int(about(f"{pid}/task/{task.name}")["CapPrm"], 16) == 0
    facts = about(pid)
    for field in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(facts[field], 16) == 0, field
    assert facts["NoNewPrivs"] == "1"
    assert set(facts["Uid"].split()) == {str(NOBODY)}
    assert set(facts["Gid"].split()) == {str(NOBODY)}
    assert facts["Groups"].strip() == ""
    kinds = [str(each.readlink()).partition(":")[0] for each in Path(f"/proc/{pid}/fd").iterdir()]
    assert kinds.count("socket") <= 5, "those it listens on, its feed and its loop's own"
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert "Max open files            1024" in limits
    assert "GATEWRIT" not in Path(f"/proc/{pid}/environ").read_text()
    # The control socket lets root, the daemon's own user and the control group do things; this is nobody of these.
    with pytest.raises(PermissionError):
        gateway.space.run(_connect_as_nobody, str(gateway.runtime / "control.sock"))

    # One that hangs holds nothing up.
    os.kill(pid, signal.SIGSTOP)
    gateway.order("beta", "198.51.100.0/24", "tcp/80")
    assert gateway.reload()["ok"]
    assert gateway.blocks("198.51.100.0/24")
    os.kill(pid, signal.SIGCONT)
    until(lambda: gateway.get("/v1/policies/beta")[0] == 200)

    # One that is killed is replaced; whoever asks meanwhile waits.
    os.kill(pid, signal.SIGKILL)
    until(lambda: gateway.logged("http.server_ended"))
    assert gateway.get("/readyz")[0] == 200
    (second,) = gateway.servers()
    assert second != pid

    # It doesn't outlive the daemon.
    gateway.end(signal.SIGKILL)
    until(lambda: not Path(f"/proc/{second}").exists() or about(second)["State"].startswith("Z"))


def _connect_as_nobody(path: str) -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(path)


def test_what_the_server_loads() -> None:
    loaded = _loaded(
        "import contextlib, runpy\n"
        "with contextlib.suppress(SystemExit): runpy.run_module('gatewrit.api', {}, '__main__')"
    )
    assert "gatewrit.api.http" in loaded
    none_of = "gatewrit.kernel", "gatewrit.cli", "pyroute2", "sqlite3", "numpy", "rich", "yaml", "cryptography", "click"
    assert not {each for each in loaded if each.startswith(none_of)}


def test_once_it_has_given_up_its_privileges_it_loads_nothing() -> None:
    # What is made at the first request only is made of what is there: our new user may see no file of Python's.
    assert "gatewrit.api.openapi" in _loaded(
        "import sys\nfrom gatewrit.api import openapi, server\nserver._rehearse('core-1')\n"
        "sys.meta_path.clear()\nassert openapi.description()"
    )


def test_what_the_enforcer_loads_has_nothing_that_reads_http() -> None:
    loaded = _loaded("import gatewrit.cli.act")
    assert "gatewrit.kernel.socket" in loaded
    assert not {"aiohttp", "jinja2", "gatewrit.api.http", "gatewrit.api.server"} & loaded


def _loaded(statement: str) -> set[str]:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{statement}\nimport sys\nprint(*(name for name, each in sys.modules.items() if each))",
        ],
        capture_output=True,
        text=True,
        check=True,
        env=dict(clean_environment()),
    )
    return set(told.stdout.split())


def enforce(gateway: Gateway) -> subprocess.Popen[Any]:
    return gateway.space.popen(
        [*program(), "run", "--without-http", "--config", str(gateway.config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=dict(clean_environment()),
    )


def test_served_apart_by_the_same_user(gateway: Gateway) -> None:
    """As in a unit of its own: nothing is given up that isn't there, and the feed lets it in."""
    gateway.order("alpha", PREFIX, "tcp/3101")
    script = (
        "import sys; from gatewrit.api import unprivileged; unprivileged.account = lambda _group: None;"
        "from gatewrit.cli import main; sys.argv = ['gatewrit', *sys.argv[1:]]; main()"
    )
    with (
        gateway.log.open("ab") as log,
        gateway.space.popen(
            [sys.executable, "-c", script, "serve", "--config", str(gateway.config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(clean_environment()),
        ) as server,
    ):
        until(gateway.web.exists)
        assert gateway.get("/livez")[0] == 503
        code, body = gateway.get("/metrics")
        assert (code, 'code="enforcer_silent"' in body) == (200, True)
        assert gateway.get("/v1/status")[1]["enforcement"] == "starting"
        daemon = enforce(gateway)
        until(lambda: gateway.get("/readyz")[0] == 200)
        assert gateway.get("/v1/policies/alpha")[1]["state"] == "in_force"
        assert gateway.get("/v1/explain?address=203.0.113.9&protocol=tcp&port=3101")[1]["blocked"] is True
        daemon.kill()
        daemon.wait(PATIENCE)
        until(lambda: gateway.get("/livez")[0] == 503)
        assert gateway.get("/readyz")[0] == 503
        _, shown = gateway.get("/v1/status")
        assert shown["enforcement"] == "degraded"
        assert shown["problems"][0]["code"] == "enforcer_silent"
        assert shown["policies"]["in_force"] == 1, "what it said last"
        assert gateway.get("/v1/explain?address=203.0.113.9")[0] == 503
        server.terminate()
        assert server.wait(PATIENCE) == 0


# -- TLS and tokens, on an address beyond loopback -----------------------------------------------------------------

ADDRESS = "192.0.2.1"


def ask(path: str, token: str | None, cert: str) -> tuple[int, Any]:
    context = ssl.create_default_context(cadata=cert)
    context.check_hostname = False
    connection = http.client.HTTPSConnection(ADDRESS, 9451, timeout=10, context=context)
    with closing(connection):
        connection.request("GET", path, headers={} if token is None else {"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())


@pytest.fixture
def open_gateway(gateway: Gateway) -> Gateway:
    """Settings to listen beyond loopback; certificate, key and an empty file of tokens are there."""
    for name in ("cert", "key"):
        shutil.copy(TLS / f"{name}.pem", gateway.root / f"{name}.pem")
    gateway.space.check(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"])
    gateway.set(listen=[f"{ADDRESS}:9451"], tls={"cert": "cert.pem", "key": "key.pem"}, tokens="tokens")
    return gateway


def test_it_doesnt_start_beyond_loopback_without_tls_and_a_token(open_gateway: Gateway) -> None:
    gateway = open_gateway
    refused = gateway.cli("run")
    assert refused.returncode == 2
    assert "gatewrit new token" in refused.stderr
    (gateway.root / "key.pem").unlink()
    refused = gateway.cli("run")
    assert (refused.returncode, "there is no" in refused.stderr) == (2, True)
    gateway.set(listen=[f"{ADDRESS}:9451"])
    for verb in ("run", "serve"):
        refused = gateway.cli(verb)
        assert refused.returncode == 2
        assert "TLS and a token are required" in refused.stderr


def test_tokens_and_certificate_from_elsewhere_and_what_a_reload_changes(open_gateway: Gateway) -> None:
    gateway = open_gateway
    made = gateway.cli("new", "token", "wall", "--role", "status", "--json")
    given = json.loads(made.stdout)
    detail, line = tokens.make("desk", Role.DETAIL)
    file = gateway.root / "tokens"
    file.write_text(f"{given['line']}\n{line}\n")
    file.chmod(0o600)
    gateway.order("alpha", PREFIX, "tcp/3101")
    gateway.start()
    cert = (TLS / "cert.pem").read_text()

    def get(path: str, token: str | None = None) -> int:
        code: int = gateway.space.run(ask, path, token, cert)[0]
        return code

    assert get("/readyz") == 200
    assert get("/v1/status") == 401
    assert get("/v1/status", given["token"]) == 200
    assert get("/v1/policies", given["token"]) == 403
    assert get("/v1/policies", detail) == 200
    assert gateway.problems() == []

    file.write_text(f"{given['line']}\n")
    gateway.reload()
    until(lambda: get("/v1/policies", detail) == 401)

    file.write_text("nonsense\n")
    shutil.copy(TLS / "expired.pem", gateway.root / "cert.pem")
    gateway.reload()
    assert gateway.problems() == [("certificate_unusable", None), ("tokens_unusable", None)]
    assert gateway.status()["enforcement"] == "in_sync", "nothing is blocked less for it"
    assert get("/v1/status", given["token"]) == 200, "what was good stays"

    text = gateway.log.read_text()
    assert given["token"] not in text
    assert detail not in text


def test_faulty_files_at_a_start_let_nobody_in_and_everything_is_enforced(open_gateway: Gateway) -> None:
    gateway = open_gateway
    gateway.set(
        listen=[f"unix:{gateway.web}", f"{ADDRESS}:9451"], tls={"cert": "cert.pem", "key": "key.pem"}, tokens="tokens"
    )
    token, line = tokens.make("wall", Role.DETAIL)
    (gateway.root / "tokens").write_text(f"{line}\n")
    (gateway.root / "tokens").chmod(0o644)
    gateway.order("alpha", PREFIX, "tcp/3101")
    gateway.start()
    assert gateway.blocks(PREFIX)
    assert gateway.problems() == [("tokens_unusable", None)]
    assert any("chmod 600" in each["message"] for each in gateway.status()["problems"])
    assert gateway.get("/v1/policies")[0] == 200, "through the Unix socket"
    assert gateway.space.run(ask, "/v1/status", token, (TLS / "cert.pem").read_text())[0] == 401
    (gateway.root / "tokens").chmod(0o600)
    gateway.send(signal.SIGHUP)
    until(lambda: gateway.space.run(ask, "/v1/status", token, (TLS / "cert.pem").read_text())[0] == 200)
