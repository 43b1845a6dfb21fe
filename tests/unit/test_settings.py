from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gatewrit import settings as module
from gatewrit.settings import Settings, SettingsError, load_settings
from support import signers

ENFORCED = """\
gateway: {name: core-1, tags: [core]}
policies: /etc/gatewrit/policies
state: /var/lib/gatewrit
runtime: /run/gatewrit
listen: ["127.0.0.1:9451", "[::1]:9451", "unix:/run/gatewrit/http.sock", "127.0.0.53:0"]
control: {group: gatewrit}
hooks: [forward, output]
priority: -10
protected: []
nat64: []
limits: {widest_ipv4: 16, widest_ipv6: 32, total_share: 0.01, change_share: 0.5}
journal: {keep_days: 400, max_mb: 2000}
signatures: {required: 0, keys: []}
log: {format: auto, level: info}
"""


@pytest.fixture(autouse=True)
def _no_host_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEFAULT_FILE", tmp_path / "none.yaml")


def write(folder: Path, text: str) -> Path:
    path = folder / "gatewrit.yaml"
    path.write_text(text)
    return path


def told(path: Path | None, environ: dict[str, str] | None = None, flags: dict[str, object] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load_settings(path, environ or {}, flags)
    assert str(raised.value) == "\n".join(map(str, raised.value.faults))
    return [f"{Path(f.place.file).name}:{f.place.line}:{f.place.column}: {f.code}" for f in raised.value.faults]


def test_everything_has_a_default() -> None:
    found = load_settings(None, {})
    assert found == Settings()
    assert found.gateway.name == socket.gethostname()
    assert found.policies == Path("/etc/gatewrit/policies")
    assert (found.hooks, found.priority, found.listen) == (("forward",), -10, ("127.0.0.1:9451",))
    assert (found.log.format, found.log.level, found.control.group) == ("auto", "info", "gatewrit")


def test_the_whole_file_is_read(tmp_path: Path) -> None:
    found = load_settings(write(tmp_path, ENFORCED), {})
    assert (found.gateway.name, found.gateway.tags) == ("core-1", ("core",))
    assert found.hooks == ("forward", "output")
    assert found.listen[1:] == ("[::1]:9451", "unix:/run/gatewrit/http.sock", "127.0.0.53:0")


@pytest.mark.parametrize("text", ["", "# all commented out\n", "---\n"])
def test_a_file_that_says_nothing_is_fine(tmp_path: Path, text: str) -> None:
    assert load_settings(write(tmp_path, text), {}) == Settings()


def test_settings_cant_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().priority = 1


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    assert told(tmp_path / "nowhere.yaml") == ["nowhere.yaml:1:1: not_found"]
    assert told(tmp_path) == [f"{tmp_path.name}:1:1: not_regular"]


def test_a_file_that_every_user_can_write_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "priority: 1\n")
    path.chmod(0o666)
    assert told(path) == [f"{path.name}:1:1: writable_by_others"]
    path.chmod(0o664)
    assert load_settings(path, {}).priority == 1


def test_flags_go_before_the_environment_before_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "priority: 1\nstate: /file\nlog: {level: error, format: json}\ngateway: {name: file}\n")
    environ = {"GATEWRIT_PRIORITY": "2", "GATEWRIT_STATE": "/environment", "GATEWRIT_LOG__LEVEL": "warning"}
    found = load_settings(path, environ, {"priority": 3, "log": {"level": "debug"}})
    assert (found.priority, found.state, found.gateway.name) == (3, Path("/environment"), "file")
    assert (found.log.level, found.log.format) == ("debug", "json")


def test_the_environment_says_text_as_text_and_lists_as_json() -> None:
    environ = {
        "GATEWRIT_GATEWAY__NAME": "no",
        "GATEWRIT_GATEWAY__TAGS": '["core", "1.10"]',
        "GATEWRIT_HOOKS": '["prerouting", "output"]',
        "GATEWRIT_LOG": '{"format": "json", "level": "error"}',
        "GATEWRIT_LOG__LEVEL": "debug",
        "GATEWRIT_LIMITS__TOTAL_SHARE": "0.01",
        "HOME": "/root",
    }
    found = load_settings(None, environ)
    assert (found.gateway.name, found.gateway.tags) == ("no", ("core", "1.10"))
    assert found.hooks == ("prerouting", "output")
    assert (found.log.format, found.log.level) == ("json", "debug")


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("GATEWRIT_PRIORTY", "1", "unknown_key"),
        ("GATEWRIT_LIMITS__WIDEST", "1", "unknown_key"),
        ("GATEWRIT_", "1", "unknown_key"),
        ("GATEWRIT_PRIORITY", "low", "wrong_type"),
        ("GATEWRIT_PRIORITY", "", "yaml_trap"),
        ("GATEWRIT_PRIORITY", "0x10", "yaml_trap"),
        ("GATEWRIT_HOOKS", "forward", "bad_value"),
        ("GATEWRIT_HOOKS", '"forward"', "wrong_type"),
        ("GATEWRIT_HOOKS", "[" * 100_000, "bad_value"),
        ("GATEWRIT_HOOKS", "[1, null]", "wrong_type"),
        ("GATEWRIT_LOG__LEVEL", "loud", "bad_value"),
        ("GATEWRIT_STATE", "", "bad_value"),
        ("GATEWRIT_TOKENS", "", "bad_value"),
    ],
)
def test_faults_of_the_environment_name_the_variable(name: str, value: str, code: str) -> None:
    assert f"{name}:1:1: {code}" in told(None, {name: value})


def test_a_fault_on_the_command_line_says_so() -> None:
    assert told(None, {}, {"log": {"level": "loud"}, "prority": 1}) == [
        "command line:1:1: bad_value",
        "command line:1:1: unknown_key",
    ]


def test_all_faults_of_all_layers_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "prority: 1\nlog: {level: loud}\nlog: {}\nhooks: []\ngateway: {name: no}\nlisten: 1\n")
    assert told(path, {"GATEWRIT_X": "1"}) == [
        "gatewrit.yaml:1:1: unknown_key",
        "gatewrit.yaml:2:14: bad_value",
        "gatewrit.yaml:3:1: duplicate_key",
        "gatewrit.yaml:4:8: list_empty",
        "gatewrit.yaml:5:17: yaml_trap",
        "gatewrit.yaml:6:9: wrong_type",
        "GATEWRIT_X:1:1: unknown_key",
    ]


@pytest.mark.parametrize("listen", ["0.0.0.0:9451", "[2001:db8::1]:9451", "[::]:9451", "[::ffff:192.0.2.1]:80"])
def test_beyond_loopback_there_must_be_tls(tmp_path: Path, listen: str) -> None:
    assert told(write(tmp_path, f"listen: ['{listen}']")) == ["gatewrit.yaml:1:9: bad_value"]
    found = load_settings(write(tmp_path, f"listen: ['{listen}']\ntls: {{cert: a.pem, key: /b.pem}}\ntokens: t"), {})
    assert found.listen == (listen,)
    assert found.tls is not None
    assert (found.tls.cert, found.tls.key, found.tokens) == (tmp_path / "a.pem", Path("/b.pem"), tmp_path / "t")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "hooks: [forward, forward]",
            "hooks: [prerouting, forward]",
            "hooks: [input, prerouting]",
            "hooks: [ingress]",
        ),
        *("listen: [localhost:80]", "listen: ['127.0.0.1']", "listen: ['127.0.0.1:65536']", "listen: ['::1:80']"),
        *("listen: ['unix:http.sock']", "listen: ['[127.0.0.1]:80']", "listen: [':80']", "listen: ['']"),
        *("priority: 2147483648", "limits: {total_share: 0}", "limits: {total_share: 1.1}", "limits: {widest_ipv4: 0}"),
        *("nat64: [nonsense]", "nat64: ['64:ff9b::/95']", "nat64: [10.0.0.0/8]", "nat64: ['64:ff9b::1-64:ff9b::2']"),
        *("protected: [192.0.2.1/24]", "gateway: {name: ''}", "log: {level: INFO}"),
    ],
)
def test_values_that_cant_be(tmp_path: Path, text: str) -> None:
    (only,) = told(write(tmp_path, text))
    assert only.startswith("gatewrit.yaml:1:")


ALICE, BOB = signers.ed25519("alice").line, signers.ed25519("bob").line


def test_who_may_sign_is_named_by_public_keys() -> None:
    found = load_settings(None, {}, {"signatures": {"required": 2, "keys": [ALICE, BOB]}})
    assert (found.signatures.required, found.signatures.keys) == (2, (ALICE, BOB))
    environ = {"GATEWRIT_SIGNATURES__REQUIRED": "1", "GATEWRIT_SIGNATURES__KEYS": json.dumps([signers.rsa_().line])}
    assert load_settings(None, environ).signatures.required == 1


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"required": 1}, "1 signatures are required, but keys has 0"),
        ({"required": 2, "keys": [ALICE]}, "2 signatures are required, but keys has 1"),
        ({"required": 1, "keys": [ALICE, BOB, ALICE]}, "key 3 is the same as key 1"),
        ({"required": 1, "keys": [ALICE, ALICE.replace(" alice", " bob")]}, "key 2 is the same as key 1"),
        ({"required": 0, "keys": ["abc"]}, "key 1: this isn't a public key"),
        ({"required": 1, "keys": [BOB, "/etc/gatewrit/allowed_signers"]}, "key 2: this isn't a public key"),
        ({"required": 1, "keys": [""]}, "the text is empty"),
        ({"required": -1, "keys": [ALICE]}, "it must be at least 0"),
        ({"required": 1, "keys": ALICE}, "must be a list"),
    ],
)
def test_who_cant_sign_is_told_at_once(tmp_path: Path, said: dict[str, object], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        load_settings(write(tmp_path, json.dumps({"signatures": said})), {})


def test_a_relative_path_starts_where_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab").mkdir()
    path = write(tmp_path / "lab", "policies: policies\nstate: ./state\nruntime: /run/x\n")
    found = load_settings(path, {"GATEWRIT_STATE": "here"})
    assert (found.policies, found.state, found.runtime) == (tmp_path / "lab/policies", Path("here"), Path("/run/x"))
    monkeypatch.chdir(tmp_path)
    assert load_settings(Path("lab/gatewrit.yaml"), {}).policies == Path("lab/policies")


@given(st.binary(max_size=120))
def test_no_bytes_crash_the_reader(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.yaml"
    path.write_bytes(junk)
    try:
        load_settings(path, {})
    except SettingsError as error:
        assert error.faults  # noqa: PT017 - some junk is a comment and so is fine


@given(st.sampled_from(sorted(module._variables())), st.text(max_size=30).filter(lambda text: "\0" not in text))
def test_no_variable_crashes_the_reader(name: str, value: str) -> None:
    for said in (value, json.dumps(value), json.dumps([value]), json.dumps({value: [value]})):
        try:
            load_settings(None, {name: said})
        except SettingsError as error:
            assert error.faults  # noqa: PT017 - some text is right


@pytest.mark.parametrize("name", ["GATEWRIT_LISTEN", "GATEWRIT_GATEWAY__TAGS", "GATEWRIT_NAT64", "GATEWRIT_PROTECTED"])
def test_an_environment_that_is_not_text_is_a_fault(name: str) -> None:
    # os.environ has half a surrogate pair for each byte that isn't UTF-8.
    (fault,) = told(None, {name: '["\udcff"]'})
    assert fault.startswith(f"{name}:1:1: ")
